"""Blocks as one HTML page that needs nothing beside it: no script, no font, no style or image from elsewhere."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from html import escape
from typing import TypeGuard

from tune_bn.report.blocks import (
    PLOTS,
    Block,
    Bullets,
    Code,
    Gallery,
    Heading,
    Mono,
    Paragraph,
    Picture,
    Span,
    Strong,
    Table,
    Verdict,
    spans,
    typeset,
)

# No line ends within what is read as one: c = 933, p = 0.083 > 0.05, 95.86 ± 0.57, 90 %, +0.21 pp.
_SIGNED = re.compile(r"(?<=[^\s,;:]) ([=≈≥≤<>±×]) (?=[+−]?[\d.])")
_UNIT = re.compile(r"(?<=\d) (?=(?:%|pp)(?!\w))")

# Whatever a name might smuggle in, the browser loads and runs nothing.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem clamp(1rem, 4vw, 3rem) 4rem; max-width: 72rem; background: #fff; color: #1a1a1a;
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, "DejaVu Sans", sans-serif;
  overflow-wrap: anywhere; }
p, ul { max-width: 46rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 1rem; }
h2 { font-size: 1.3rem; line-height: 1.25; margin: 2.75rem 0 .75rem; padding-top: .75rem; border-top: 1px solid #ddd; }
.verdict { max-width: none; margin: 0 0 1rem; padding: .9rem 1.1rem; border-left: .5rem solid #6e6e6e;
  background: #f4f4f4; font-size: 1.1rem; }
.verdict.supported { border-color: #009e73; background: #eef8f4; }
.verdict.mixed { border-color: #e69f00; background: #fdf6e3; }
.verdict.worse { border-color: #d55e00; background: #fdf2ea; }
.verdict.invalid { border-color: #d55e00; background: #fdf2ea; }
.verdict.open { border-left-style: dashed; }
nav { font-size: .9rem; margin: 0 0 1rem; }
nav a { color: #005a8f; display: inline-block; padding: .15rem 0; margin-right: 1rem; }
/* Shadows at the sides that go on: a table that scrolls shows it. */
.scroll { overflow-x: auto; margin: 0 0 1rem;
  background: linear-gradient(to right, #fff 30%, #fff0) 0 0 / 3rem 100% local,
    linear-gradient(to left, #fff 30%, #fff0) 100% 0 / 3rem 100% local,
    linear-gradient(to right, #0005, #0000) 0 0 / 1rem 100% scroll,
    linear-gradient(to left, #0005, #0000) 100% 0 / 1rem 100% scroll;
  background-repeat: no-repeat; background-color: #fff; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: .35rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #e2e2e2; }
th:first-child { text-align: left; padding-left: 0; }
thead th { border-bottom: 2px solid #1a1a1a; vertical-align: bottom; white-space: normal; }
tbody th { font-weight: normal; }
figure { margin: 0 0 1.5rem; overflow-x: auto; }
figure label { display: block; }
figure img { display: block; max-width: 100%; height: auto; }
figcaption { max-width: 46rem; margin-top: .5rem; font-size: .9rem; color: #444; }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: .875em; }
pre { overflow-x: auto; padding: .75rem 1rem; background: #f4f4f4; overflow-wrap: normal; }
/* On a phone a picture is seen whole first; a tap enlarges it until it is read, and then it scrolls. */
figure input { display: none; }
figure label::before { display: none; margin-bottom: .25rem; font-size: .8rem; color: #444;
  content: "Tap the picture to enlarge it"; position: sticky; left: 0; width: max-content; max-width: 100%; }
figure label:has(:checked)::before { content: "Swipe to see all of it →, tap to make it small"; }
@media screen and (max-width: 36rem) { figure label { cursor: zoom-in; } figure label::before { display: block; }
  figure input { display: block; position: absolute; opacity: 0; pointer-events: none; }
  figure input:focus-visible + img { outline: 2px solid #005a8f; }
  figure img { width: 100%; } figure :checked + img { max-width: none; width: 44rem; cursor: zoom-out; }
  figcaption { position: sticky; left: 0; max-width: 100%; } }
@media (max-width: 30rem) { table { font-size: .8rem; } th, td { padding: .3rem .4rem; } }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav { display: none; }
  .scroll { overflow: visible; }
  table { font-size: 7.5pt; }
  th, td { padding: .2rem .3rem; white-space: normal; }
  thead { display: table-header-group; }
  tr, figure, .verdict { break-inside: avoid; }
  h2 { break-after: avoid; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; }
  .verdict { border: 1px solid #1a1a1a; border-left-width: .5rem; }
}
"""


def to_html(blocks: Sequence[Block], *, title: str, draw: Callable[[Picture], bytes]) -> str:
    """The page.

    Args:
        blocks: its content; the section headings become its table of contents, below the verdict.
        title: what the browser shows as the name of the page.
        draw: gives a picture as SVG.
    """
    sections = [block.text for block in blocks if _is_section(block)]
    links = "".join(f'<a href="#s{number}">{_text(text)}</a>' for number, text in enumerate(sections))
    parts: list[str] = []
    begun = 0
    for block in blocks:
        if _is_section(block):
            if begun == 0:
                parts.append(f'<nav aria-label="Contents">{links}</nav>')
            parts.append(f'<h2 id="s{begun}">{_text(block.text)}</h2>')
            begun += 1
        else:
            parts.append(_block(block, draw))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def _text(text: str) -> str:
    """Running text, escaped. Names, hashes and lines to be typed are not running text."""
    found = _UNIT.sub("\N{NO-BREAK SPACE}", _SIGNED.sub("\N{NO-BREAK SPACE}\\1\N{NO-BREAK SPACE}", typeset(text)))
    return escape(found)


def _is_section(block: Block) -> TypeGuard[Heading]:
    return isinstance(block, Heading) and block.level == 2


def _block(block: Block, draw: Callable[[Picture], bytes]) -> str:
    match block:
        case Heading():
            return f"<h{block.level}>{_text(block.text)}</h{block.level}>"
        case Verdict():
            return (
                f'<p class="verdict {escape(block.outcome)}"><strong>{_text(block.word)}:</strong> '
                f"{_spans(spans(block.sentence))}</p>"
            )
        case Paragraph():
            return f"<p>{_spans(block.spans)}</p>"
        case Bullets():
            return f"<ul>{''.join(f'<li>{_spans(item)}</li>' for item in block.items)}</ul>"
        case Table():
            return _table(block)
        case Picture():
            return (
                '<figure><label><input type="checkbox" aria-label="Enlarge the picture">'
                f'<img src="data:image/svg+xml;base64,{base64.b64encode(draw(block)).decode()}" '
                f'alt="{_text(block.alternative)}"></label><figcaption>{_text(block.caption)}</figcaption></figure>'
            )
        case Gallery():
            names = ", ".join(f"<code>{escape(f'{PLOTS}/{picture.name}')}</code>" for picture in block.pictures)
            return f"<p>{_text(block.text)} {names}.</p>"
        case Code():
            return f'<pre tabindex="0"><code>{escape(block.text)}</code></pre>'


def _table(block: Table) -> str:
    head = "".join(f'<th scope="col">{_text(cell)}</th>' for cell in block.header)
    rows = "\n".join(
        f'<tr><th scope="row">{_span(first)}</th>{"".join(f"<td>{_span(cell)}</td>" for cell in others)}</tr>'
        for first, *others in block.rows
    )
    # A box that scrolls must be within reach of the keyboard.
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{_text(block.title)}"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>"
    )


def _spans(spans: Sequence[Span]) -> str:
    return "".join(map(_span, spans))


def _span(span: Span) -> str:
    match span:
        case Strong():
            return f"<strong>{_text(span.text)}</strong>"
        case Mono():
            return f"<code>{escape(span.text)}</code>"
        case str():
            return _text(span)
