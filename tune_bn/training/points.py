"""What the built-in loop measures after each epoch, and what a run of it is scored by."""

from __future__ import annotations

from tune_bn.records.curves import Point
from tune_bn.records.score import Score, accuracy

VAL_ACCURACY = "val_accuracy"
TEST_ACCURACY, FINAL_TEST_ACCURACY = "test_accuracy", "final_test_accuracy"


def epoch_point(
    epoch: int, train_loss: float, train_accuracy: float, val_loss: float, val_accuracy: float, lr: float
) -> Point:
    """One point of a learning curve. Losses are mean cross-entropies, accuracies in percent, ``lr`` that of weights."""
    return Point(
        epoch,
        {
            "train_loss": train_loss,
            "train_accuracy": train_accuracy,
            "val_loss": val_loss,
            VAL_ACCURACY: val_accuracy,
            "lr": lr,
        },
    )


def accuracy_score(metric: str = TEST_ACCURACY, num_classes: int | None = None) -> Score:
    """Accuracy in percent. A diverged run scores as guessing does; None: how many classes there are is not known."""
    return accuracy(metric, None if num_classes is None else 100.0 / num_classes)
