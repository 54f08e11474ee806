"""PyTorch Lightning: its Trainer trains, and a callback of tune_bn reports each epoch."""

import numpy as np
import pytorch_lightning as lightning
import torch
from sklearn.datasets import load_digits
from torch import nn

import tune_bn
from tune_bn.script.lightning import ReportCallback


def digits():
    """Images (N, 1, 8, 8) and labels: 900 to train, 300 to validate; the rest is the test set."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(labels))
    images = torch.tensor(images[order], dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    data = torch.utils.data.TensorDataset(images, torch.tensor(labels[order]))
    return [torch.utils.data.Subset(data, range(*part)) for part in ((0, 900), (900, 1200), (1200, len(data)))]


class Shuffled(torch.utils.data.Sampler):
    """The order of one epoch, however often its loader is begun: after a resume Lightning does so twice."""

    def __init__(self, size, seed):
        self.size, self.seed = size, seed

    def __len__(self):
        return self.size

    def __iter__(self):
        yield from torch.randperm(self.size, generator=torch.Generator().manual_seed(self.seed)).tolist()


class Digits(lightning.LightningModule):
    def __init__(self, run):
        super().__init__()
        self.run, (self.train_part, self.val_part, self.test_part) = run, digits()
        network = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(128, 10)),
        )
        self.network = tune_bn.scale_batchnorm(network, gamma=run.gamma)

    def configure_optimizers(self):
        return torch.optim.SGD(tune_bn.parameter_groups(self.network, lr=self.run.lr, c=self.run.c), momentum=0.9)

    def train_dataloader(self):
        order = Shuffled(len(self.train_part), 1000 * self.run.seed + self.current_epoch)
        return torch.utils.data.DataLoader(self.train_part, batch_size=64, sampler=order)

    def training_step(self, batch, _):
        images, labels = batch
        return nn.functional.cross_entropy(self.network(images), labels)

    def validation_step(self, batch, _):
        images, labels = batch
        self.log("val_accuracy", 100 * (self.network(images).argmax(1) == labels).float().mean())

    @torch.no_grad()
    def test_accuracy(self):
        self.eval()
        images, labels = next(iter(torch.utils.data.DataLoader(self.test_part, batch_size=len(self.test_part))))
        return 100 * (self.network(images).argmax(1) == labels).float().mean().item()


def main():
    run = tune_bn.current_run(gamma=1.0, c=1.0, lr=0.05, steps=6)
    tune_bn.seed_everything(run.seed, deterministic=True)
    torch.set_num_threads(1)
    model = Digits(run)
    trainer = lightning.Trainer(
        max_epochs=run.steps,
        callbacks=[ReportCallback(run, ["val_accuracy"])],
        reload_dataloaders_every_n_epochs=1,
        accelerator="cpu",
        **dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False),
        num_sanity_val_steps=0,
    )
    validation = torch.utils.data.DataLoader(model.val_part, batch_size=300)
    trainer.fit(model, val_dataloaders=validation, ckpt_path=run.checkpoint)
    if run.wants_test and not run.should_stop:
        run.finish(test_accuracy=model.test_accuracy())


if __name__ == "__main__":
    main()
