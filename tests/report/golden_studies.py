"""Studies of many kinds, and everything that is printed of each: what must stay as it is, whatever is moved inside.

``python -m tests.report.golden_studies`` writes ``golden/`` anew, which is right only after a change that was meant.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

from tests.analysis.synthetic_claims import in_settings, sequential, with_rivals
from tests.analysis.test_circumstances import DATA, ENVIRONMENT, UNTESTED
from tests.analysis.test_failed_runs import failing
from tests.analysis.test_harm import SETTINGS
from tests.analysis.test_other_goals import LOSS, stating
from tests.conftest import SyntheticStudy, make_study
from tests.report.rendering import render
from tune_bn.analysis.verdict import renew_verdict, write_verdict
from tune_bn.cli.common import say_verdict
from tune_bn.errors import TuneBNError
from tune_bn.host.version import __version__
from tune_bn.records.files import write_json
from tune_bn.report.paperkit import write_paperkit
from tune_bn.report.study import load

GOLDEN = Path(__file__).parent / "golden"
OLD = Path(__file__).parent.parent / "study" / "old_studies"


def _of_today() -> SyntheticStudy:
    """Its records tell their data and environment, its plan everything that a plan may."""
    made = make_study(effect=2.0, trials=12, candidates=2)
    told = [replace(r, data=DATA if r.stage == "confirm" else UNTESTED, environment=ENVIRONMENT) for r in made.records]
    stated = stating(made.with_records(told), replace(LOSS, goal="max", low=0, high=100, unit="%", diverged=10))
    return stated.with_plan(
        data=DATA,
        correction="max_t",
        failed="worst",
        alpha=0.05 * 6 / (3.141592653589793**2 * 4),
        alpha_spending={"rule": "budget", "total": 0.05, "place": 2},
        earlier_claims=[{"study": "earlier-1", "plan_sha256": "ab" * 32}],
        code_diff="cd" * 32,
    )


def _margins(kind: str) -> SyntheticStudy:
    return make_study(effect=0.1, n=15).with_plan(kind=kind, margin=1)


def _in_settings(**plan: Any) -> SyntheticStudy:
    return in_settings(make_study(), SETTINGS, {"Ours": [1.2, -2.0, 0.9, 1.4]}).with_plan(**plan)


def _edited() -> SyntheticStudy:
    made = make_study()
    return replace(made, plan=made.plan | {"alpha": 0.2})


STUDIES: dict[str, Callable[[], SyntheticStudy]] = {
    "gain": make_study,
    "nothing": lambda: make_study(effect=0.0, candidates=2),
    "looks": lambda: sequential(make_study(effect=1.5, candidates=2)),
    "loss": lambda: stating(make_study(effect=1.0), LOSS, lambda value: -value),
    "today": _of_today,
    "noninferior": lambda: _margins("noninferior"),
    "equivalent": lambda: _margins("equivalent"),
    "all_settings": lambda: _in_settings(holds="all", correction="none"),
    "pooled": lambda: _in_settings(holds="pooled"),
    "rivals": lambda: sequential(with_rivals(make_study(effect=1.2), [-2.0, 0.2])),
    "failed": lambda: failing(make_study(effect=2.0), [("candidate-1", 4)]),
    "invalid": lambda: failing(make_study(), [("candidate-1", 4)], plan={}),
    "edited": _edited,
}
OLD_STUDIES = ("fixed", "sequential", "network")


def places(parent: Path) -> Iterator[tuple[str, Path]]:
    """Every study as a folder of its own."""
    for name, make in STUDIES.items():
        yield name, make().write(parent / name)
    for name in OLD_STUDIES:
        yield f"old_{name}", Path(shutil.copytree(OLD / name, parent / f"old_{name}"))


# No longer than they have to be: shapes of plans that are refused, each with the one line that says so.
MALFORMED: tuple[dict[str, Any], ...] = (
    {"schema_version": 4},
    {"schema_version": 3},
    {"schema_version": True},
    {"alpha": 0},
    {"alpha": "0.05"},
    {"seeds": [1, 2.5]},
    {"seeds": []},
    {"study": ""},
    {"candidates": []},
    {"candidates": [1]},
    {"candidates": [{"arm": "a"}]},
    {"candidates": [{"arm": "a", "trial": "x", "config": {}, "selection": {}}]},
    {"candidates": [{"arm": "a", "trial": 1, "config": {}, "against": "b"}]},
    {"candidates": [{"arm": "a", "trial": 1, "config": {}, "against": ""}]},
    {"candidates": [{"arm": "a", "trial": 1, "config": {}, "rivals": ["b"]}]},
    {"candidates": [{"arm": "a", "trial": 1, "config": {}, "rivals": []}]},
    {"rivals": [{"arm": "baseline-2", "trial": None, "config": {}}]},
    {"baseline": {"arm": "baseline", "trial": None, "config": {}, "against": "baseline"}},
    {"baseline": {"arm": "base", "trial": None, "config": {}}},
    {"baselines": []},
    {"baselines": [{"arm": "baseline.b", "trial": None, "config": {}}]},
    {"direction": "minimize"},
    {"test": "welch"},
    {"correction": None},
    {"correction": "none"},
    {"correction": "max_t", "seeds": [1, 2]},
    {"used_seeds": [101]},
    {"used_seeds": {"search": [True]}},
    {"diverged": {"rule": "chance", "score": 101}},
    {"diverged": {"rule": "chance"}},
    {"commit": 5},
    {"commit": ""},
    {"colour": "blue"},
    {"versions": None},
    {"data": {}},
    {"kind": "superior", "margin": 0},
    {"kind": "equivalent", "margin": 0},
    {"kind": "noninferior"},
    {"kind": "noninferior", "margin": -1},
    {"margin": 10**400, "kind": "superior"},
    {"holds": "any"},
    {"holds": "all"},
    {"failed": "best"},
    {"stopping": "group_sequential"},
    {"stopping": "fixed", "design": {}},
    {"stopping": "group_sequential", "design": {}},
    {"stopping": "group_sequential", "design": {"looks": [5, 15], "alpha": 0.05, "futility": 0.1}},
    {"stopping": "group_sequential", "design": {"looks": [5, 10], "alpha": 0.05, "futility": None}},
    {"stopping": "group_sequential", "design": {"looks": "x", "alpha": 0.05, "futility": None}},
    {"earlier_claims": []},
    {"earlier_claims": [{"study": "a"}]},
    {"alpha_spending": {"rule": "budget", "total": 0.05, "place": 2}},
    {"alpha_spending": {"rule": "budget", "total": 0.9, "place": 1}},
    {"alpha_spending": {"rule": "budget", "total": 0.2, "place": 1}},
    {"code_diff": 1},
    {"schema_version": 3, "data": {}, "device_kind": "tpu", "score": {}},
    {"schema_version": 3, "data": {}, "device_kind": "cpu", "score": {}},
    {"schema_version": 3, "data": {}, "device_kind": "cpu", "score": LOSS.to_json()},
    {"schema_version": 3, "data": {}, "device_kind": "cpu", "score": {**LOSS.to_json(), "range": [1, 0]}},
    {"schema_version": 2, "data": [], "device_kind": "cpu"},
)


def refusals(parent: Path) -> str:
    """What is said of each of :data:`MALFORMED`."""
    made, lines = make_study(n=5, trials=12), []
    folder = made.write(parent / "malformed")
    for changes in MALFORMED:
        plan = made.plan | changes
        if plan["schema_version"] == 3 and "score" in changes:
            plan = {key: value for key, value in plan.items() if key not in ("direction", "diverged")}
        write_json(folder / "plan.json", plan)
        lines.append(f"{json.dumps(changes)[:200]}\n    {write_verdict(folder)['reason']}")
    return "\n".join(lines) + "\n"


def printed(folder: Path) -> str:
    """The verdict as JSON and in words, the report, and the paper kit, of a study in its folder."""
    said = StringIO()
    verdict = renew_verdict(folder)
    with redirect_stdout(said):
        say_verdict(verdict)
    with mock.patch("tune_bn.report.process.importances", return_value=[]):
        parts = [json.dumps(verdict.to_json(), ensure_ascii=False), said.getvalue(), render(load(folder))]
    with mock.patch("tune_bn.report.paperkit._figures", return_value=[]):
        try:
            kit = write_paperkit(folder, folder / "kit")
            kept = [path for path in kit if path.name not in ("references.bib", "paper.tex", "methods.tex")]
            parts += [path.read_text(encoding="utf-8") for path in kept]
        except TuneBNError as error:
            parts.append(str(error))
    text = "\n=====\n".join(parts).replace(f"tune_bn {__version__}", "tune_bn VERSION")
    # Where the study lies: as a whole path, and as a short one in lines to be typed.
    text = text.replace(str(folder.parent), "").replace(folder.parent.name, "PARENT")
    return _DIGITS.sub(_shorter, text) + "\n"


_DIGITS = re.compile(r"-?\d+\.\d{9,}(e[-+]\d+)?")


def _shorter(number: re.Match[str]) -> str:
    """Without the digits that another processor may round differently."""
    return f"{float(number[0]):.8g}"


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        for kind, folder in places(Path(name)):
            (GOLDEN / f"{kind}.txt").write_text(printed(folder), encoding="utf-8")
        (GOLDEN / "malformed.txt").write_text(refusals(Path(name)), encoding="utf-8")


if __name__ == "__main__":
    main()
