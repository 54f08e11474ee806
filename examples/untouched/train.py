"""Somebody's script, which knows nothing of tune_bn: options, a CSV log, checkpoints, and a validation of its own."""

import argparse
import csv
import os
import random

import numpy as np


def read(path):
    rows = np.loadtxt(path, delimiter=",")
    return rows[:, :-1], rows[:, -1]


def loss(weights, inputs, targets):
    return float(np.mean((inputs @ weights - targets) ** 2))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--momentum", type=float, default=0.0)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume", default="")
    options = parser.parse_args()
    random.seed(options.seed)
    rng = np.random.default_rng(options.seed)
    inputs, targets = read(os.path.join(options.data, "train.csv"))
    validation = read(os.path.join(options.data, "val.csv"))
    weights, speed, first = rng.normal(size=inputs.shape[1]), np.zeros(inputs.shape[1]), 0
    if options.resume:
        state = np.load(options.resume)
        weights, speed, first = state["weights"], state["speed"], int(state["epoch"])
        for _ in range(first):
            rng.permutation(len(targets))
    os.makedirs("out", exist_ok=True)
    with open("out/log.csv", "a", newline="") as log:
        writer = csv.writer(log)
        if not first:
            writer.writerow(["epoch", "train_loss", "val_loss"])
        for epoch in range(first, options.epochs):
            for batch in np.array_split(rng.permutation(len(targets)), 8):
                gradient = 2 * inputs[batch].T @ (inputs[batch] @ weights - targets[batch]) / len(batch)
                speed = options.momentum * speed - options.lr * gradient
                weights = weights + speed
            writer.writerow([epoch, loss(weights, inputs, targets), loss(weights, *validation)])
            log.flush()
            np.savez("out/new.npz", weights=weights, speed=speed, epoch=epoch + 1)
            os.replace("out/new.npz", "out/last.npz")


main()
