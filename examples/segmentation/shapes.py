"""Segmentation: discs and squares on noise, a small U-Net, and mean IoU (0 to 1) in place of accuracy."""

import numpy as np
import torch
from torch import nn

import tune_bn

SIDE, CLASSES = 16, 3  # background, disc, square


def pictures(count, seed):
    """Images (N, 1, 16, 16) and the class of each pixel (N, 16, 16); always the same for a seed."""
    rng = np.random.RandomState(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    images = rng.normal(0, 0.7, (count, 1, SIDE, SIDE)).astype(np.float32)
    masks = np.zeros((count, SIDE, SIDE), dtype=np.int64)
    for image, mask in zip(images, masks, strict=True):
        for label in (1, 2):
            row, column, radius = rng.randint(3, SIDE - 3), rng.randint(3, SIDE - 3), rng.randint(2, 4)
            apart = np.abs(rows - row), np.abs(columns - column)
            inside = np.hypot(*apart) <= radius if label == 1 else np.maximum(*apart) <= radius
            mask[inside] = label
            image[0, inside] += 1
    return torch.tensor(images), torch.tensor(masks)


def block(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.middle, self.up = block(1, 8), block(8, 16), block(24, 8)
        self.pool, self.grow = nn.MaxPool2d(2), nn.Upsample(scale_factor=2)
        self.last = nn.Conv2d(8, CLASSES, 1)

    def forward(self, images):
        fine = self.down(images)
        coarse = self.grow(self.middle(self.pool(fine)))
        return self.last(self.up(torch.cat((fine, coarse), dim=1)))


@torch.no_grad()
def mean_iou(model, images, masks):
    """Intersection over union of each class over all pixels, averaged over the classes."""
    model.eval()
    found = model(images).argmax(1)
    overlaps = []
    for label in range(CLASSES):
        both = ((found == label) & (masks == label)).sum().item()
        either = ((found == label) | (masks == label)).sum().item()
        overlaps.append(both / either if either else 1.0)
    return sum(overlaps) / CLASSES


def train(run):
    tune_bn.seed_everything(run.seed, deterministic=True)
    torch.set_num_threads(1)
    (images, masks), validation = pictures(96, 1), pictures(64, 2)
    model = tune_bn.scale_batchnorm(UNet(), gamma=run.gamma)
    optimizer = torch.optim.SGD(tune_bn.parameter_groups(model, lr=run.lr, c=run.c), momentum=0.9)
    if run.checkpoint:
        state = torch.load(run.checkpoint)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])

    def save(path):
        parts = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "random": torch.get_rng_state()}
        torch.save(parts, path)

    for step in range(run.start, run.steps):
        model.train()
        for batch in torch.randperm(len(images)).split(16):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images[batch]), masks[batch])
            loss.backward()
            optimizer.step()
        if not run.report(step, save=save, val_miou=mean_iou(model, *validation), train_loss=loss.item()):
            return
    if run.wants_test:
        run.finish(test_miou=mean_iou(model, *pictures(64, 3)))


if __name__ == "__main__":
    train(tune_bn.current_run(gamma=1.0, c=1.0, lr=0.1, steps=6))
