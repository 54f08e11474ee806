"""``report.md`` and ``report.html``: one description of the sections, printed twice."""

from __future__ import annotations

from pathlib import Path

from tune_bn.errors import StudyError
from tune_bn.records.files import write_text
from tune_bn.report import citing, early_order, looks, pairs, process, results, sensitivity
from tune_bn.report.blocks import PLOTS, Block, Heading, pictures_in
from tune_bn.report.figures.canvas import save, svg_of
from tune_bn.report.markdown import to_markdown
from tune_bn.report.page import to_html
from tune_bn.report.setup import trained
from tune_bn.report.study import StudyFiles, load

MARKDOWN_FILE, HTML_FILE = "report.md", "report.html"


def contents(study: StudyFiles) -> list[Block]:
    """Every section that the study has data for, the verdict first."""
    return [
        Heading(study.name, level=1),
        *results.headline(study),
        *trained(study),
        *results.beside(study),
        *results.result(study),
        *process.stages(study),
        *early_order.early_order(study),
        *pairs.pairs(study),
        *pairs.effects(study),
        *looks.looks(study),
        *process.learning_curves(study),
        *process.importance(study),
        *process.finalists(study),
        *sensitivity.sensitivity(study),
        *process.layers(study),
        *pairs.scores(study),
        *process.provenance(study),
        *citing.citation(study),
    ]


def write_report(folder: Path) -> list[Path]:
    """Write ``report.md``, ``report.html`` and ``plots/*.png`` into the study ``folder``, from the files in it.

    The page holds its pictures and needs no other file. A study that is not confirmed yet gets a report that says so.
    Each file is written whole or not at all; the same study gives the same bytes.

    Returns:
        The files written, the reports first.

    Raises:
        StudyError: there is no study in ``folder``, or nothing can be written there.
        RecordError: ``verdict.json`` cannot be read.
    """
    study = load(folder)
    blocks = contents(study)
    pictures = {picture.name: picture for picture in pictures_in(blocks)}
    try:
        if pictures:
            (folder / PLOTS).mkdir(exist_ok=True)
        for name, picture in pictures.items():
            save(picture.figure, folder / PLOTS / name)
        write_text(folder / MARKDOWN_FILE, to_markdown(blocks))
        title = f"{study.name}: report of tune_bn"
        write_text(folder / HTML_FILE, to_html(blocks, title=title, draw=lambda picture: svg_of(picture.figure)))
    except OSError as error:
        raise StudyError(f"{folder}: cannot be written ({error.strerror}); accepted: a folder that can") from None
    return [folder / MARKDOWN_FILE, folder / HTML_FILE, *(folder / PLOTS / name for name in pictures)]
