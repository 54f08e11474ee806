"""What to cite, and the versions that a study was made with."""

from __future__ import annotations

from collections.abc import Iterator

from tune_bn.report.blocks import Block, Code, Heading, paragraph
from tune_bn.report.paper_text import METHOD, tool_entry
from tune_bn.report.study import StudyFiles


def versions_of(study: StudyFiles) -> dict[str, list[str]]:
    """By name every version that a run was made with."""
    names = sorted({name for record in study.records for name in record.versions})
    return {name: sorted({str(record.versions.get(name)) for record in study.records}) for name in names}


def citation(study: StudyFiles) -> Iterator[Block]:
    """What to cite: the method, and the tool in the version that trained."""
    found = versions_of(study).get("tune_bn", [])
    commits = sorted({record.commit for record in study.records if record.commit is not None})
    yield Heading("How to cite")
    yield paragraph("The method is that of the paper; the search, the confirmation and this report are by tune_bn.")
    tool = tool_entry(found[0] if len(found) == 1 else None, commits[0] if len(commits) == 1 else None)
    yield Code(f"{METHOD}\n\n{tool}")
