"""Bundles at the command line: beside the verdict, whether their space is the one that the plan was made for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tune_bn.errors import StudyError, TuneBNError, first_line
from tune_bn.records.verdict import Verdict


def verdict_on_bundle(path: Path) -> Verdict:
    """The verdict on a bundle, with a remark where its space is another, or cannot be read here.

    Raises:
        StudyError: the bundle cannot be trusted.
    """
    from tune_bn.analysis.bundles import verify_bundle

    verdict = verify_bundle(path)
    remark = _of_the_space(path, verdict)
    return verdict if remark is None else replace(verdict, remarks=(*verdict.remarks, remark))


def require_same_space(path: Path, verdict: Verdict) -> None:
    """Raises :class:`StudyError` unless the space of the bundle is that of its plan: what it says would be trained."""
    remark = _of_the_space(path, verdict)
    if remark is not None:
        raise StudyError(f"{path}: {remark}; accepted: a bundle as `tune_bn bundle` wrote it")


def _of_the_space(path: Path, verdict: Verdict) -> str | None:
    # Loaded by a verb alone.
    from tune_bn.records.bundle import unpacked
    from tune_bn.space.file import parse_yaml
    from tune_bn.space.loading import parse_space

    if verdict.space_sha256 is None:
        return None
    try:
        with unpacked(path) as folder:
            content = parse_yaml(folder / "space.yaml")
        found = parse_space(content, "space.yaml").sha256
    except TuneBNError as error:
        return f"its space.yaml cannot be compared with the plan ({first_line(error)})"
    if found != verdict.space_sha256:
        return (
            f"its space.yaml is not the space that the plan was made for (its hash is {found[:12]}…, and the plan has "
            f"{verdict.space_sha256[:12]}…)"
        )
    return None


def beside(verdict: Verdict) -> Iterator[str]:
    """What a reader of the verdict on a bundle must know: whose word it is, and what was not looked at."""
    if not verdict.seal:
        yield (
            "seal:    none: that the plan was there before the runs, and that no run was left out, is the word of "
            "whoever made the bundle"
        )
    yield "beside:  report and pictures are as they were packed; unpacked, `tune_bn report` writes them anew"
