"""A check starts a script as seldom as it can, and still says which of its ways was wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainers.test_check_finds_traps import RIGHT, checked
from tests.trainers.test_check_hard_cases import told
from tune_bn.trainers.checked import OK, WRONG
from tune_bn.trainers.short_runs import ShortRuns

BEGIN = "rng = random"


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the runs that were started."""
    names: list[str] = []
    inner = ShortRuns.start

    def start(self: ShortRuns, config: object, seed: int, name: str, *rest: object, **options: object) -> object:
        names.append(name)
        return inner(self, config, seed, name, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(ShortRuns, "start", start)
    return names


def test_a_right_script_is_started_no_more_than_is_needed(tmp_path: Path, starts: list[str]) -> None:
    found = checked(tmp_path, RIGHT)
    assert found.ok, found.findings
    # One run, it and another side by side, two other seeds, the other key; one that is cut thrice; three to test.
    assert len(starts) == 1 + 2 + 2 + 1 + 4 + 3
    words = told(found, "4")[1]
    assert words == (
        "bit for bit after a stop at step 1 from step 1, after SIGTERM at step 2 from step 2, "
        "after SIGKILL at step 3 from step 3"
    )


@pytest.mark.parametrize("way", ["SIGTERM", "SIGKILL", "a stop"])
def test_the_way_after_which_a_run_goes_on_otherwise_is_named(way: str, tmp_path: Path) -> None:
    """The script forgets its value where a run before it was ended in that way."""
    note = {
        "SIGTERM": "import signal\nsignal.signal(signal.SIGTERM, lambda *_: open('mark', 'w').close())\n",
        "SIGKILL": "open('mark', 'w').close()\nimport atexit, os, signal\natexit.register(os.remove, 'mark')\n",
        "a stop": "import atexit\natexit.register(lambda: run.should_stop and not tune_bn.script.signals.asked() and "
        "open('mark', 'w').close())\n",
    }[way]
    begin = "import os\nforgets = os.path.exists('mark')\n" + note
    script = RIGHT.replace("run = tune_bn", begin + "run = tune_bn", 1)
    script = script.replace('value = state["value"]', 'value = 0.0 if forgets else state["value"]')
    verdict, words = told(checked(tmp_path, script), "4")
    assert verdict == WRONG
    assert words.count("it goes on otherwise") == 1, words
    assert words.startswith(f"after {way} it goes on otherwise")


@pytest.mark.parametrize("metric", ["val", "loss"])
def test_a_run_that_another_disturbs_is_told_from_one_without_a_seed(metric: str, tmp_path: Path) -> None:
    # The second run of the baseline is the one beside another.
    begun = tmp_path / "begun"
    count = f"if run.gamma == 1.0 and run.seed == 101: open({str(begun)!r}, 'a').write('x')\n"
    script = RIGHT.replace(BEGIN, f"{count}shift = open({str(begun)!r}).read() == 'xx'\n{BEGIN}", 1)
    number = "value" if metric == "val" else "1 / (1 + value)"
    script = script.replace(f"{metric}={number}", f"{metric}={number} + shift")
    found = checked(tmp_path, script)
    assert told(found, "2")[0] == OK, found.findings
    verdict, words = told(found, "5")
    assert verdict == WRONG
    assert words.startswith("started beside another it gives")
