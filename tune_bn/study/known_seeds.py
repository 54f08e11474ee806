"""Confirmation seeds of a new study on which the outcome of a run may be known already."""

from __future__ import annotations

from collections.abc import Sequence

from tune_bn.analysis.plan import read_plan
from tune_bn.errors import TuneBNError, listed
from tune_bn.records.record import fresh_seeds, ranges
from tune_bn.space.space import Space
from tune_bn.study.folder import StudyFolder

LOOKED_AT = 100
"""Studies whose space is read, the latest first: a remark must not hold up a search beside thousands of them."""
NAMED = 3


def remark(space: Space, studies: Sequence[StudyFolder]) -> str | None:
    """A line where other studies confirm the same baseline on the same seeds; None where none is seen to.

    Its runs are then the same runs. Two verdicts that share them are not independent, and whoever has read one of them
    knows half of the other. That is no error: a study may be repeated on purpose.

    Args:
        space: of the new study.
        studies: the others, the one that was worked on last at the end.
    """
    own, shared, names, looks = space.run_config(space.baseline), set[int](), list[str](), 0
    taken = {*space.seeds.search, *space.seeds.select, *space.seeds.confirm, *space.seeds.earlier}
    for study in reversed(studies):
        try:
            if not study.plan_file.exists():
                continue
            plan = read_plan(study.plan_file)
            taken |= set(plan.seeds)
            same = set(plan.seeds) & set(space.seeds.confirm)
            if not same:
                continue
            if plan.space_sha256 != space.sha256:
                looks += 1
                if looks > LOOKED_AT:
                    break
                other = study.space()
                if other.run_config(other.baseline) != own:
                    continue
        except TuneBNError:
            # What became of another study's files is no concern of this one.
            continue
        names.append(study.name)
        shared |= same
    if not names:
        return None
    confirms = "confirms" if len(names) == 1 else "confirm"
    return (
        f"remark: {listed(names, limit=NAMED)} {confirms} the same baseline on the seeds {ranges(shared)} of "
        "seeds.confirm: its runs will be the same, so the verdicts are not independent, and whoever has read one knows "
        f"the seeds of the other; fresh ones: --set 'seeds.confirm={fresh_seeds(len(space.seeds.confirm), taken)}'"
    )
