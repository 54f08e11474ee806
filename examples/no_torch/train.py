"""Ridge regression by gradient descent with momentum, without torch: the score is a loss, the searched key is no γ."""

import json
import random

import tune_bn


def data(seed, count):
    rng = random.Random(seed)
    weights = [3.0, -2.0, 0.5, 0.0, 1.0, 0.0]
    rows = [[rng.gauss(0, 1) for _ in weights] for _ in range(count)]
    return [(row, sum(w * x for w, x in zip(weights, row, strict=True)) + rng.gauss(0, 0.5)) for row in rows]


def error(weights, row, target):
    return sum(w * x for w, x in zip(weights, row, strict=True)) - target


def loss(weights, rows):
    return sum(error(weights, row, target) ** 2 for row, target in rows) / len(rows)


def main():
    run = tune_bn.current_run(momentum=0.0, lr=0.02, steps=12)
    train, validation, test = data(1, 160), data(2, 80), data(3, 400)
    rng = random.Random(run.seed)
    weights, speed = [rng.gauss(0, 1) for _ in range(6)], [0.0] * 6
    if run.checkpoint:
        state = json.loads(run.checkpoint.read_text())
        weights, speed = state["weights"], state["speed"]
        rng.setstate((state["rng"][0], tuple(state["rng"][1]), state["rng"][2]))

    def save(path):
        path.write_text(json.dumps({"weights": weights, "speed": speed, "rng": rng.getstate()}))

    for step in range(run.start, run.steps):
        rng.shuffle(order := list(range(len(train))))
        for first in range(0, len(order), 32):
            batch = [train[index] for index in order[first : first + 32]]
            for place in range(6):
                gradient = sum(2 * error(weights, row, target) * row[place] for row, target in batch)
                speed[place] = run.momentum * speed[place] - run.lr * gradient / len(batch)
            weights = [w + s for w, s in zip(weights, speed, strict=True)]
        if not run.report(step, save=save, val_loss=loss(weights, validation), train_loss=loss(weights, train)):
            return
    if run.wants_test:
        run.finish(test_loss=loss(weights, test))


main()
