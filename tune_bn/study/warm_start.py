"""Start points from the searches of other studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from statistics import fmean
from typing import Any

from tune_bn.analysis.plan import read_plan
from tune_bn.errors import StudyError
from tune_bn.records.record import CANDIDATE, COMPLETED, FAILED, SEARCH, SELECT, Record, fresh_seeds, ranges
from tune_bn.records.score import Score, read_score
from tune_bn.space.loading import parse_space
from tune_bn.space.search import Point, owner
from tune_bn.space.space import Space
from tune_bn.study.folder import StudyFolder

MOST_STARTS = 5
"""Configurations that one study gives at most: its best region is wanted, not its whole history. With the seven of the
paper's grid they fill the 12 trials that the default budget leaves each arm where nuisance keys are searched."""


@dataclass(frozen=True)
class _Trial:
    config: Mapping[str, Any]
    search: float
    """Mean objective over the search seeds."""
    select: tuple[float, ...]
    """The same on each selection seed that it was run on."""

    @property
    def rank(self) -> tuple[int, float, float]:
        """The least is the best: those that the selection kept longest, by their mean over its seeds.

        The selection seeds did not choose them. Means are only compared where they are over the same seeds.
        """
        return -len(self.select), -fmean(self.select or [self.search]), -self.search


def warm_started(space: Space, source: str, studies: Sequence[StudyFolder]) -> tuple[Space, list[str]]:
    """A space that begins with the best configurations of other studies, and a line for each that says what was taken.

    The points become an explicit list in ``sampler.points``, study by study and best first, before those that the space
    has already. So its hash covers them, and a resume needs no other study. The seeds of these studies go to
    ``seeds.earlier``, so that no later study confirms on one of them either: those that chose the points, and those
    of their confirmations, run or yet to run, of which whoever starts from them knows the outcome or may come to know
    it. On the same seeds the baseline's runs would be the same again.

    Args:
        space: the space of the new study.
        source: what errors call it.
        studies: where the points come from.

    Raises:
        StudyError: this space takes no start points, or a study has none for it.
    """
    if not space.search or space.sampler.name == "grid":
        found = "sampler.name: grid" if space.search else "claim.arms"
        raise StudyError(
            f"--warm-start: got {studies[0].name} for a space with {found}; accepted: a space that samples"
        )
    points: list[Point] = []
    lines = []
    _require_fresh_seeds(space, studies)
    for study in studies:
        taken, line = _taken_over(space, study, points)
        points += taken
        lines.append(line)
    own = [{key: value for key, value in point.items() if key in space.search} for point in space.points]
    # The paper's grid is meant as far as it lies in the space; in a list every point must.
    points += [point for point in own if point not in points and space.searched.start_points([point])]
    content = space.to_dict()
    content["sampler"]["points"] = points
    earlier = {*space.seeds.earlier}.union(*map(_used, studies))
    content["seeds"]["earlier"] = sorted(earlier)
    return parse_space(content, source), lines


def _taken_over(space: Space, study: StudyFolder, known: Sequence[Point]) -> tuple[list[Point], str]:
    other, trials = study.space(), _trials(study.records.read())
    finished = _ranked(trials, other, read_score(study.path))
    if not finished:
        raise StudyError(
            f"--warm-start: got {study.name}, where no candidate trial of a search ran to its end on every seed; "
            "accepted: a study that has one"
        )
    taken: list[Point] = []
    by_selection = outside = repeated = 0
    dropped: dict[str, None] = {}
    for trial in finished:
        if len(taken) == MOST_STARTS:
            break
        values = _values(other, trial.config)
        point = {key: values[key] for key in space.search}
        if not space.searched.start_points([point]):
            outside += 1
        elif point in taken or point in known:
            repeated += 1
        else:
            taken.append(point)
            by_selection += bool(trial.select)
            here = _values(space, {})
            keys = {owner(name): None for name in trial.config}
            dropped |= {key: None for key in keys if key not in space.search and values[key] != here[key]}
    if not taken and not repeated:
        raise StudyError(
            f"--warm-start: got {study.name}, of whose {len(finished)} finished trials none lies in this space; "
            f"accepted: a study with points of {space.search}"
        )
    beyond = len(finished) - len(taken) - outside - repeated
    unfinished = len({trial for stage, trial in trials if stage == SEARCH}) - len(finished)
    reasons = [
        f"{count} {words}"
        for count, words in (
            (outside, "outside the ranges of this space"),
            (repeated, "equal to a point before them"),
            (beyond, f"beyond the best {MOST_STARTS}"),
            (unfinished, "stopped early, failed or diverged"),
        )
        if count
    ]
    number = "1 start point" if len(taken) == 1 else f"{len(taken)} start points"
    line = (
        f"warm start: {number} from {study.name}, best first ({by_selection} by their mean over the selection seeds, "
        f"{len(taken) - by_selection} over the search seeds)"
    )
    line += f", without {', '.join(dropped)}, which this space does not search" if dropped else ""
    return taken, line + (f"; left out: {', '.join(reasons)}" if reasons else "")


def _require_fresh_seeds(space: Space, studies: Sequence[StudyFolder]) -> None:
    """Nothing may be confirmed on a seed whose outcome had a part in its coming about, or is known."""
    own, used = space.seeds, {study.name: _used(study) for study in studies}
    taken = {*own.search, *own.select, *own.confirm, *own.earlier}.union(*used.values())
    for name, seeds in used.items():
        if known := sorted(seeds.intersection(own.confirm)):
            raise StudyError(
                f"--warm-start: got {name}, which searches, selects or confirms on the seeds {ranges(known)} of "
                f"seeds.confirm; accepted: fresh ones, such as --set 'seeds.confirm="
                f"{fresh_seeds(len(own.confirm), taken)}'"
            )


def _used(study: StudyFolder) -> set[int]:
    """The seeds of a study, those of studies that it started from included. A plan may have been locked on others."""
    seeds = study.space().seeds
    planned = read_plan(study.plan_file).seeds if study.plan_file.exists() else ()
    return {*seeds.search, *seeds.select, *seeds.earlier, *seeds.confirm, *planned}


def _trials(records: Sequence[Record]) -> dict[tuple[str, int], dict[int, Record]]:
    """The candidates' runs of search and selection by stage and trial, then by seed; the last attempt counts."""
    found: dict[tuple[str, int], dict[int, Record]] = {}
    for record in records:
        if record.arm == CANDIDATE and record.stage in (SEARCH, SELECT) and record.trial is not None:
            found.setdefault((record.stage, record.trial), {})[record.seed] = record
    return found


def _ranked(trials: Mapping[tuple[str, int], Mapping[int, Record]], space: Space, score: Score) -> list[_Trial]:
    """Trials that ran to their end on every search seed, best first."""
    found = []
    for (stage, number), runs in sorted(trials.items()):
        statuses = [run.status for run in runs.values()]
        if stage == SEARCH and set(runs) == set(space.seeds.search) and set(statuses) == {COMPLETED}:
            # A selection seed that failed ends the row, as in the selection itself.
            row = takewhile(_has_score, map(trials.get((SELECT, number), {}).get, space.seeds.select))
            select = tuple(score.objective_of(run.scores) for run in row if run is not None)
            search = fmean(score.objective_of(run.scores) for run in runs.values())
            found.append(_Trial(next(iter(runs.values())).config, search, select))
    return sorted(found, key=lambda trial: trial.rank)


def _has_score(run: Record | None) -> bool:
    return run is not None and run.status != FAILED


def _values(space: Space, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Every key of a configuration, those that its space holds fixed too."""
    config = space.run_config(overrides)
    return {**asdict(config.model), **asdict(config.train)}
