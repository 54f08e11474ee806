"""The Trainer of Hugging Face: it trains, saves and resumes, and a callback of tune_bn reports each epoch."""

import argparse

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from transformers import Trainer, TrainingArguments

import tune_bn
from tune_bn.script.hugging_face import ReportCallback


def digits():
    """Rows of pixels (1, 8, 8) and a label: 900 to train, 300 to validate; the rest is the test set."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(labels))
    images = torch.tensor(images[order], dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    rows = [{"pixels": image, "labels": int(label)} for image, label in zip(images, labels[order], strict=True)]
    return rows[:900], rows[900:1200], rows[1200:]


class Digits(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(128, 10)),
        )

    def forward(self, pixels, labels=None):
        logits = self.network(pixels)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def accuracy(prediction):
    return {"accuracy": 100 * float((prediction.predictions.argmax(1) == prediction.label_ids).mean())}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--resume")
    resume = parser.parse_args().resume
    run = tune_bn.current_run(gamma=1.0, c=1.0, lr=0.05, steps=6)
    tune_bn.seed_everything(run.seed, deterministic=True)
    torch.set_num_threads(1)
    train, validation, test = digits()
    model = tune_bn.scale_batchnorm(Digits(), gamma=run.gamma)
    optimizer = torch.optim.SGD(tune_bn.parameter_groups(model, lr=run.lr, c=run.c), momentum=0.9)
    trainer = Trainer(
        model,
        TrainingArguments(
            "out",
            num_train_epochs=run.steps,
            per_device_train_batch_size=64,
            per_device_eval_batch_size=300,
            eval_strategy="epoch",
            save_strategy="epoch",
            save_total_limit=2,
            seed=run.seed,
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
            lr_scheduler_type="constant",
        ),
        train_dataset=train,
        eval_dataset=validation,
        compute_metrics=accuracy,
        optimizers=(optimizer, None),
        callbacks=[ReportCallback(run)],
    )
    trainer.train(resume_from_checkpoint=resume)
    if run.wants_test and not run.should_stop:
        trainer.callback_handler.callbacks = []  # the test is no evaluation of an epoch
        run.finish(test_accuracy=trainer.evaluate(test)["eval_accuracy"])


if __name__ == "__main__":
    main()
