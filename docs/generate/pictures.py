"""The pictures of the README, from a study's folder: ``python -m docs.generate.pictures studies/digits-1``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tune_bn.front.study import open_study

PICTURES = {"landscape.png": "landscape.png", "paired.png": "verdict.png"}
"""Plots of a report, and what they are called in docs/pictures."""


def main(study: str) -> None:
    """Write the report of the study anew, and take its plots."""
    plots = open_study(study).report().parent / "plots"
    for plot, picture in PICTURES.items():
        shutil.copyfile(plots / plot, Path(__file__).parents[1] / "pictures" / picture)


if __name__ == "__main__":
    main(sys.argv[1])
