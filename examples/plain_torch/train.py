"""A small convolutional network on scikit-learn's digits, AdamW, and a loop of its own."""

import numpy as np
import torch
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


def network():
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(128, 10)),
    )


@torch.no_grad()
def accuracy(model, images, labels):
    model.eval()
    return 100 * (model(images).argmax(1) == labels).float().mean().item()


def main():
    run = tune_bn.current_run(gamma=1.0, c=1.0, lr=0.01, steps=8)
    tune_bn.seed_everything(run.seed, deterministic=True)
    torch.set_num_threads(1)
    (images, labels), validation, test = digits()
    model = tune_bn.scale_batchnorm(network(), gamma=run.gamma)
    optimizer = torch.optim.AdamW(tune_bn.parameter_groups(model, lr=run.lr, c=run.c, weight_decay=0.01))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, run.steps)
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    if run.checkpoint:
        state = torch.load(run.checkpoint)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        torch.set_rng_state(state["random"])

    def save(path):
        torch.save({name: part.state_dict() for name, part in parts.items()} | {"random": torch.get_rng_state()}, path)

    for step in range(run.start, run.steps):
        model.train()
        for batch in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
            loss.backward()
            optimizer.step()
        schedule.step()
        score = accuracy(model, *validation)
        print(f"step {step}: validation accuracy {score:.2f} %")
        if not run.report(step, save=save, val_accuracy=score, train_loss=loss.item()):
            return
    if run.wants_test:
        run.finish(test_accuracy=accuracy(model, *test))


if __name__ == "__main__":
    main()
