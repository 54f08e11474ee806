"""A Hydra script: its configuration comes from conf/config.yaml and from the words behind it on the command line."""

import hydra
import numpy as np
import torch
from omegaconf import DictConfig
from sklearn.datasets import load_digits
from torch import nn

import tune_bn


def digits():
    """Images (N, 1, 8, 8) and labels: 900 to train, 300 to validate; the rest is the test set."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(labels))
    images = torch.tensor(images[order], dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    labels = torch.tensor(labels[order])
    return [(images[part], labels[part]) for part in (slice(0, 900), slice(900, 1200), slice(1200, None))]


def network(width):
    return nn.Sequential(
        *(nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(width, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(128, 10)),
    )


@torch.no_grad()
def accuracy(model, images, labels):
    model.eval()
    return 100 * (model(images).argmax(1) == labels).float().mean().item()


@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(config: DictConfig) -> None:
    run = tune_bn.current_run(seed=config.seed, steps=config.epochs)
    tune_bn.seed_everything(config.seed, deterministic=True)
    torch.set_num_threads(1)
    (images, labels), validation, test = digits()
    model = tune_bn.scale_batchnorm(network(config.model.width), gamma=config.model.gamma)
    groups = tune_bn.parameter_groups(model, lr=config.optimizer.lr, c=config.model.c)
    optimizer = torch.optim.SGD(groups, lr=config.optimizer.lr, momentum=config.optimizer.momentum)
    if run.checkpoint:
        state = torch.load(run.checkpoint)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])

    def save(path):
        parts = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "random": torch.get_rng_state()}
        torch.save(parts, path)

    for epoch in range(run.start, config.epochs):
        model.train()
        for batch in torch.randperm(len(images)).split(config.batch_size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
        if not run.report(epoch, save=save, val_accuracy=accuracy(model, *validation)):
            return
    if run.wants_test:
        run.finish(test_accuracy=accuracy(model, *test))


if __name__ == "__main__":
    main()
