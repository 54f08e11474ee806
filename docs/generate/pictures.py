"""The pictures of the README, from a finished study: ``python -m docs.generate.pictures studies/digits-1``.

Two are plots of its report. The third is the screen of ``tune_bn watch`` as it was when three quarters of the search
were done: a copy of the study is cut back to there, and its files alone are shown.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from tune_bn.cli.watch import still
from tune_bn.front.study import open_study
from tune_bn.records.log import RecordLog
from tune_bn.records.record import SEARCH
from tune_bn.study.folder import StudyFolder

PICTURES = {"landscape.png": "landscape.png", "paired.png": "verdict.png"}
"""Plots of a report, and what they are called in docs/pictures."""
AFTERWARDS = ("plan.json", "verdict.json", "driver.json", "live.json", "report.html", "report.md")
"""Files of a study that were not there, or were others, during its search."""


def cut_back(study: Path, place: Path) -> StudyFolder:
    """A copy of a study with the first three quarters of its search alone."""
    folder = Path(shutil.copytree(study, place / study.name, ignore=shutil.ignore_patterns(*AFTERWARDS)))
    records = [record for record in RecordLog(folder / "records.jsonl").read() if record.stage == SEARCH]
    (folder / "records.jsonl").unlink()
    log = RecordLog(folder / "records.jsonl")
    for record in records[: 3 * len(records) // 4]:
        log.append(record)
    return StudyFolder(folder)


def screen_as_svg(text: str, title: str) -> str:
    """A terminal of 80 columns as a picture that loads no font from elsewhere."""
    console = Console(width=80, record=True, file=StringIO())
    console.print(Text(f"{text}\n"), soft_wrap=True)
    return re.sub(r"@font-face \{.*?\}", "", console.export_svg(title=title, theme=MONOKAI), flags=re.DOTALL)


def main(study: str) -> None:
    """Write the report of the study anew, take its plots, and draw its search."""
    pictures = Path(__file__).parents[1] / "pictures"
    plots = open_study(study).report().parent / "plots"
    for plot, picture in PICTURES.items():
        shutil.copyfile(plots / plot, pictures / picture)
    with tempfile.TemporaryDirectory() as place:
        folder = cut_back(Path(study), Path(place))
        with folder.locked():
            text = still(folder)
        svg = screen_as_svg(text, f"tune_bn watch {folder.name}")
        (pictures / "watch.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
