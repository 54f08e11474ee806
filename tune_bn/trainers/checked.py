"""What a check of a trainer found, what it says of the cost of a study, and where it is kept."""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tune_bn.protocols.distributions import Cases, Choice
from tune_bn.protocols.trainer import Trainer
from tune_bn.records.files import write_json
from tune_bn.space.space import Space

OK, WRONG, UNKNOWN = "ok", "WRONG", "not tried"


@dataclass(frozen=True)
class Finding:
    """A line of the table."""

    trap: str
    verdict: str
    words: str


@dataclass
class Checked:
    """What the check has found."""

    findings: list[Finding] = field(default_factory=list)
    seconds_per_step: float = math.nan
    seconds_to_start: float = math.nan
    commands: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing was wrong."""
        return all(finding.verdict != WRONG for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """As it is kept."""
        numbers = {
            name: value if math.isfinite(value) else None
            for name, value in (("per_step", self.seconds_per_step), ("to_start", self.seconds_to_start))
        }
        return {"ok": self.ok, "findings": [asdict(finding) for finding in self.findings], "seconds": numbers}


def nuisance_middles(space: Space) -> dict[str, Any]:
    """A value in the middle of each nuisance key, which the baseline leaves to its own search."""
    found: dict[str, Any] = {}
    for name, distribution in space.searched.only(space.nuisance).distributions.items():
        if isinstance(distribution, Cases):
            distribution = distribution.cases[0][1]
        if isinstance(distribution, Choice):
            found[name] = distribution.values[0]
            continue
        low, high = distribution.low, distribution.high
        middle = math.sqrt(low * high) if distribution.log else (low + high) / 2
        found[name] = round(middle) if distribution.integer else middle
    return found


def forecast_hours(space: Space, trainer: Trainer, checked: Checked, runs: int, at_once: int) -> float:
    """Hours of a whole study without early stopping."""
    steps = trainer.steps(space.run_config({**nuisance_middles(space), **space.baseline}))
    return runs * (checked.seconds_to_start + steps * checked.seconds_per_step) / 3600 / max(1, at_once)


def check_file(output: Path, space: Space, trainer: Trainer) -> Path:
    """Where the outcome for the runs of this space and this code is kept."""
    key = hashlib.sha256(f"{space.runs_sha256} {dict(trainer.versions()).get('trainer', '')}".encode()).hexdigest()[:16]
    return output / "checks" / f"{space.name}-{key}.json"


def keep(output: Path, space: Space, trainer: Trainer, checked: Checked) -> Path:
    """Keep the outcome, for the search and its report."""
    path = check_file(output, space, trainer)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {**checked.to_json(), "space": space.sha256})
    return path
