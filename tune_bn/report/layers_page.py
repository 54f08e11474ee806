"""The BN layers of one network as files: numbers, a page and a picture."""

from __future__ import annotations

from pathlib import Path

from tune_bn.analysis.wording import config_words
from tune_bn.records.diagnostics import Diagnostics, to_json
from tune_bn.records.files import write_json, write_text
from tune_bn.report.blocks import Block, Heading, paragraph, table
from tune_bn.report.figures.canvas import save
from tune_bn.report.figures.layers import COLUMNS, FIGURE_EXPLAINED, columns_explained, layer_figure
from tune_bn.report.markdown import to_markdown

JSON_FILE, PAGE_FILE, PICTURE_FILE = "diagnostics.json", "diagnostics.md", "layers.png"


def heading(found: Diagnostics) -> str:
    """What was looked at, in one line."""
    weights = {None: "weights of a checkpoint", 0: "before the first step"}.get(
        found.epoch, f"after epoch {found.epoch}"
    )
    config = dict(found.config)
    name = found.arm or found.run or config.pop("arch")
    return f"{name}: {config_words(config)}, seed {found.seed}, {weights}"


def write_files(found: Diagnostics, folder: Path) -> list[Path]:
    """Write ``diagnostics.json``, ``diagnostics.md`` and ``layers.png``, each whole or not at all; returns them."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers, page, picture = (folder / name for name in (JSON_FILE, PAGE_FILE, PICTURE_FILE))
    figure = layer_figure(found, heading(found))
    write_json(numbers, to_json(found))
    rows = [[cell(layer) for cell in COLUMNS.values()] for layer in found.layers]
    blocks: list[Block] = [
        Heading(heading(found), level=1),
        paragraph(
            f"Activations of {found.images} training images, gradients of {found.gradient_images}. "
            f"{columns_explained(COLUMNS)}"
        ),
        table("BN layers", list(COLUMNS), rows),
    ]
    # The picture lies beside the page, not in a folder of plots.
    write_text(page, f"{to_markdown(blocks)}\n![BN layers]({PICTURE_FILE})\n\n*{FIGURE_EXPLAINED}*\n")
    if figure is None:
        return [numbers, page]
    save(figure, picture)
    return [numbers, page, picture]
