"""The HTML page: whole by itself, safe, and in the same words as the Markdown."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import pytest
from matplotlib.figure import Figure

from tests.analysis.synthetic_claims import in_settings, sequential
from tune_bn.analysis import write_verdict
from tune_bn.records.files import write_json
from tune_bn.report import write_report
from tune_bn.report.blocks import Bullets, Code, Gallery, Heading, Mono, Picture, Strong, Verdict, paragraph, table
from tune_bn.report.markdown import to_markdown
from tune_bn.report.page import to_html
from tune_bn.report.study import load
from tune_bn.report.writing import contents

VOID = {"meta", "img", "br", "input"}
ADDRESSES = {"src", "href", "action", "data", "poster", "srcset", "background", "cite", "formaction"}
EVIL = "<script>alert(1)</script> \"' & | ` * _x_ [a](http://b) ![c](http://d)\n# e"


class Page(HTMLParser):
    """Tags, attributes and text of a page; complains where a tag is not closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture(autouse=True)
def no_importance(monkeypatch):
    """The forests of the importance take their time; test_importance.py has them."""
    monkeypatch.setattr("tune_bn.report.process.importances", lambda study: [])


def page_of(blocks, draw=lambda picture: b"<svg/>"):
    return to_html(blocks, title="title", draw=draw)


def folder_of(study, folder):
    study.write(folder)
    write_verdict(folder)
    return folder


@pytest.fixture(scope="module")
def written(synthetic_study, tmp_path_factory):
    """A whole report, drawn once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tune_bn.report.process.importances", lambda study: [])
        folder = folder_of(synthetic_study(effect=1.5, candidates=2), tmp_path_factory.mktemp("page") / "digits-1")
        write_report(folder)
    return folder


@pytest.mark.long
def test_the_page_needs_nothing_from_outside(written):
    text = (written / "report.html").read_text()
    page = Page(text)
    for tag, attributes in page.tags:
        for name in ADDRESSES & set(attributes):
            assert attributes[name].startswith(("#", "data:")), (tag, name)
        assert not [name for name in attributes if name.startswith("on")]
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.tags}
    assert "url(" not in text
    assert "@import" not in text
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    for image in page.all("img"):
        drawn = base64.b64decode(image["src"].partition("base64,")[2]).decode()
        assert drawn.startswith("<?xml")
        assert not re.findall(r"""(?:href|src)\s*=\s*["'](?!#|data:image/png)""", drawn)
    assert len(text) < 3_000_000


@pytest.mark.long
def test_the_page_is_well_formed_and_can_be_heard(written):
    page = Page((written / "report.html").read_text())
    assert page.all("html") == [{"lang": "en"}]
    assert "digits-1" in page.text.partition("digits-1: report of tune_bn")[1]
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert set(levels[1:]) == {2}
    targets = {attributes["id"] for tag, attributes in page.tags if tag == "h2"}
    assert [link["href"].removeprefix("#") for link in page.all("a")] == sorted(targets, key=lambda t: int(t[1:]))
    assert all(image["alt"] for image in page.all("img"))
    assert {cell["scope"] for cell in page.all("th")} == {"col", "row"}
    regions = [box for box in page.all("div") if box.get("role") == "region"]
    assert len(regions) == len(page.all("table")) > 4
    assert all(box["aria-label"] and box["tabindex"] == "0" for box in regions)


@pytest.mark.long
def test_the_page_says_what_the_markdown_says(written):
    page = Page((written / "report.html").read_text())
    markdown = (written / "report.md").read_text()
    for heading in re.findall(r"^## (.*)$", markdown, re.MULTILINE):
        assert heading in page.text
    cells = re.findall(r"(?<=\| )[^|]+(?= \|)", markdown)
    for cell in cells:
        plain = re.sub(r"\\(.)", r"\1", cell).strip("*")
        assert set(plain) <= set("-:") or plain in page.text, cell
    bold = re.findall(r"\*\*(.+?)\*\*", markdown)
    assert len(page.all("strong")) == len(bold) > 8
    assert len(page.all("img")) == markdown.count("![")
    assert page.text.index("Supported:") < page.text.index("Result")


@pytest.mark.long
def test_the_same_study_gives_the_same_bytes(written):
    before = {path.name: path.read_bytes() for path in written.rglob("*") if path.is_file()}
    write_report(written)
    assert {path.name: path.read_bytes() for path in written.rglob("*") if path.is_file()} == before


def test_no_text_can_break_a_page():
    blocks = [
        Heading(EVIL, level=1),
        Verdict("supported", EVIL, EVIL),
        Heading(EVIL),
        paragraph(EVIL, Strong(EVIL), Mono(EVIL)),
        Bullets(((EVIL,),)),
        table(EVIL, [EVIL, "n"], [[EVIL, Strong(EVIL)]]),
        Picture("p.png", EVIL, EVIL, Figure()),
        Gallery(EVIL, (Picture("q.png", EVIL, EVIL, Figure()),)),
        Code(EVIL),
    ]
    page = Page(page_of(blocks))
    assert not page.all("script")
    assert page.all("img") == [{"src": "data:image/svg+xml;base64,PHN2Zy8+", "alt": EVIL}]
    assert page.text.count("<script>alert(1)</script>") == 15
    assert [link["href"] for link in page.all("a")] == ["#s0"]


def test_no_text_can_break_a_markdown_page():
    from markdown_it import MarkdownIt

    blocks = [
        Verdict("supported", EVIL, EVIL),
        paragraph(EVIL, Strong(EVIL), Mono(EVIL)),
        Bullets(((EVIL,), ("1. a",), ("# b",), ("- c",))),
        table(EVIL, [EVIL, "n"], [[EVIL, Strong(EVIL)], [Mono(EVIL), EVIL]]),
        Code(f"```\n{EVIL}"),
    ]
    page = Page(MarkdownIt("commonmark").enable("table").render(to_markdown(blocks)))
    assert not {"script", "a", "img", "h1", "em"} & {tag for tag, _ in page.tags}
    assert len(page.all("li")) == 4
    assert not page.all("ol")
    assert (len(page.all("tr")), len(page.all("td"))) == (3, 4)
    flat = " ".join(EVIL.split())
    assert page.text.count(flat) == 12


@pytest.mark.long
@pytest.mark.parametrize("outcome", ["supported", "not_supported", "invalid", "open"])
def test_every_outcome_has_its_sentence_first(synthetic_study, tmp_path, outcome):
    study = synthetic_study(effect={"supported": 1.5}.get(outcome, 0.1))
    if outcome == "invalid":
        study = study.with_records(study.records[:-3])
    folder = study.write(tmp_path / "one")
    if outcome != "open":
        assert write_verdict(folder)["verdict"] == outcome
    page = Page(page_of(contents(load(folder))))
    # Under the title stands the verdict, and then what was trained.
    sentence = page.all("p")[0]
    assert sentence["class"] == f"verdict {outcome}"
    word = {"not_supported": "Not supported:", "open": "Not confirmed yet:"}.get(outcome, f"{outcome.capitalize()}:")
    assert page.words[3] == word or word in page.text.split("Result")[0]


@pytest.mark.long
def test_names_of_arms_and_reasons_are_escaped_in_a_whole_report(synthetic_study, tmp_path):
    folder = folder_of(synthetic_study(candidates=2), tmp_path / "one")
    verdict = write_verdict(folder)
    verdict["candidates"][0]["arm"] = "<img src=http://a>"
    verdict |= {"reason": "<b>no</b>", "problems": ["<i>1</i>", "[2](http://b)"], "verdict": "invalid"}
    write_json(folder / "verdict.json", verdict)
    blocks = contents(load(folder))
    text = page_of(blocks)
    page = Page(text)
    assert not {"b", "i"} & {tag for tag, _ in page.tags}
    assert all(image["src"].startswith("data:") for image in page.all("img"))
    assert "&lt;img src=http://a&gt;" in text
    assert "\\<img src=http://a\\>" in to_markdown(blocks)


@pytest.mark.long
def test_claims_of_every_shape_become_pages(synthetic_study, tmp_path):
    settings = {"a": {"lr": 0.1}, "b": {"lr": 0.01}}
    shapes = {
        "looks": sequential(synthetic_study(effect=1.0)),
        "settings": in_settings(synthetic_study(), settings, {"Ours": [1.0, 0.2]}),
        "many": synthetic_study(candidates=20, trials=60),
    }
    pictures = {
        name: {
            image["alt"].partition(": ")[0]
            for image in Page(page_of(contents(load(folder_of(study, tmp_path / name))))).all("img")
        }
        for name, study in shapes.items()
    }
    assert pictures["looks"] >= {"Boundaries and paths", "Forest of effects", "Landscape of the search"}
    assert pictures["settings"] == {"Forest of effects", "Paired scores"}
    assert "Boundaries and paths" not in pictures["many"]
