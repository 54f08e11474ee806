"""The ways to a wrong verdict in silence, planted in a script that is right otherwise: `tune_bn check` names each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.trainers.scripts import TEST, WALK
from tune_bn.protocols.trainer import Place
from tune_bn.space.loading import load_space
from tune_bn.trainers.check import Checker
from tune_bn.trainers.checked import OK, WRONG, Checked
from tune_bn.trainers.choose import trainer_of
from tune_bn.trainers.opened_files import is_own

RIGHT = WALK.replace("rng = random", "open(str(run.data) + '/rows.txt').read()\nrng = random")
TEST_COMMAND = ["python", "test.py", "{checkpoint}", "{data}"]
READS = "open(str(run.data) + '/../outer/test.txt').read()\n"

TRAPS: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "the test set is read": (RIGHT.replace("rng = r", READS + "rng = r", 1), {}, "1", "training reads test data"),
    "a copy of it is read": (
        RIGHT.replace("rng = random", "open(str(run.data) + '/copy.txt').read()\nrng = random", 1),
        {},
        "1",
        "which equals",
    ),
    "the seed does nothing": (RIGHT.replace("run.seed", "1"), {}, "2", "the seed does nothing"),
    "there is no seed": (RIGHT.replace("random.Random(run.seed)", "random.Random()"), {}, "2", "the same seed twice"),
    "a key does nothing": (RIGHT.replace("* run.gamma", ""), {}, "3", "gamma changes nothing"),
    "a key was never asked for": (
        RIGHT.replace("gamma=1.0, c=1.0", "c=1.0").replace("* run.gamma", ""),
        {},
        "3",
        "gamma changes nothing and was never asked for",
    ),
    "gamma is something else": (RIGHT, {"meaning": {}}, "3", "does not call tune_bn.scale_batchnorm"),
    "random numbers are not restored": (
        RIGHT.replace('rng.setstate((state["rng"][0], tuple(state["rng"][1]), state["rng"][2]))', "pass"),
        {},
        "4",
        "it goes on otherwise",
    ),
    "it goes on from nothing": (RIGHT.replace('value = state["value"]', "pass"), {}, "4", "it goes on otherwise"),
    "runs share a file": (
        RIGHT.replace("rng = r", "open(run.data / 'shared', 'a').write('x' * 99)\nrng = r", 1),
        {},
        "5",
        "it writes outside its run's folder",
    ),
    "the test looks elsewhere": (
        RIGHT,
        {"test": "import tune_bn\ntune_bn.current_run().finish(test=0.5)\n"},
        "",
        "the same score",
    ),
    "it does not start": ("import no_such_module\n", {}, "it", "No module named 'no_such_module'"),
}


def checked(
    folder: Path, script: str, log: Path | None = None, *, test: str = TEST, meaning: dict[str, str] | None = None
) -> Checked:
    """What the check says of a script."""
    (folder / "data/inner").mkdir(parents=True)
    (folder / "data/outer").mkdir()
    (folder / "data/inner/rows.txt").write_text("rows " * 50)
    (folder / "data/outer/test.txt").write_text("test " * 50)
    (folder / "data/inner/copy.txt").write_text("test " * 50)
    (folder / "train.py").write_text(script)
    (folder / "test.py").write_text(test)
    content = {
        "name": "trap",
        "trainer": {
            "command": ["python", "train.py"],
            "code": ["train.py", "test.py"],
            "steps": 6,
            "grace": 2,
            "score": {"validation": "val", "test": "test", "goal": "max"},
            "data": {"search": "data/inner", "test": "data/outer"},
            "test_command": TEST_COMMAND,
            "meaning": {"gamma": "the length of a step"} if meaning is None else meaning,
        },
        "search": {"gamma": {"uniform": [0.1, 1.0]}},
        "claim": {"about": ["gamma"], "baseline": {"gamma": 1.0}},
        "seeds": {"search": [101], "select": [201], "confirm": [1, 2, 3]},
    }
    (folder / "space.yaml").write_text(yaml.safe_dump(content))
    space = load_space(folder / "space.yaml")
    # Not in the folder for temporary files, which a script may write to.
    return Checker(space, trainer_of(space), Place(threads=1), folder / "runs", log=log).run()


TAPPED = """
import json, pathlib, random, sys, time
options = dict(word.split("=") for word in sys.argv[1:])
rng, value, first = random.Random(int(options["seed"])), 0.0, 0
if "resume" in options:
    import zipfile
    first, value = json.loads(zipfile.ZipFile(options["resume"]).read("state"))
    RESTORE
with open("log.csv", "a") as log:
    if not first: log.write("epoch,val\\n")
    for epoch in range(first, 40):
        value += rng.random() * float(options["gamma"])
        log.write(f"{epoch},{value}\\n"); log.flush()
        import zipfile
        with zipfile.ZipFile("new.zip", "w") as out: out.writestr("state", json.dumps([epoch + 1, value]))
        pathlib.Path("new.zip").rename("last.zip")
        time.sleep(0.05)
"""


@pytest.mark.parametrize(("restore", "verdict"), [("for _ in range(first): rng.random()", OK), ("pass", WRONG)])
def test_a_script_that_is_ahead_is_compared_beyond_where_it_was_cut(restore: str, verdict: str, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TAPPED.replace("RESTORE", restore).replace("\\\\", "\\"))
    content = {
        "name": "tapped",
        "trainer": {
            "command": ["python", "train.py", "seed={seed}", "gamma={gamma}"],
            "code": ["train.py"],
            "steps": 40,
            "score": {"validation": "val", "test": "test", "goal": "max"},
            "metrics": {"csv": "log.csv", "step": "epoch"},
            "checkpoint": "last.zip",
            "resume": ["resume={checkpoint}"],
            "meaning": {"gamma": "the length of a step"},
        },
        "search": {"gamma": {"uniform": [0.1, 1.0]}},
        "claim": {"about": ["gamma"], "baseline": {"gamma": 1.0}},
        "seeds": {"search": [101], "select": [201], "confirm": [1, 2, 3]},
    }
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(content))
    space = load_space(tmp_path / "space.yaml")
    found = Checker(space, trainer_of(space), Place(threads=1), tmp_path / "runs").run().findings
    assert {one.trap[:1]: one.verdict for one in found}["4"] == verdict, found


def test_a_script_that_is_right_passes_every_line(tmp_path: Path) -> None:
    found = checked(tmp_path, RIGHT)
    assert [finding.verdict for finding in found.findings] == [OK] * 7, found.findings
    assert found.seconds_per_step < 5
    assert len(found.commands) == 2


@pytest.mark.parametrize("trap", TRAPS)
def test_a_planted_trap_is_found(trap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script, options, line, words = TRAPS[trap]
    monkeypatch.setattr("tune_bn.trainers.opened_files._TEMPORARY", ())
    monkeypatch.setattr("tune_bn.trainers.opened_files._NAME_TEMPORARY", ())
    found = checked(tmp_path, script, **options)
    wrong = {finding.trap: finding.words for finding in found.findings if finding.verdict == WRONG}
    assert not found.ok
    assert any(name.strip().startswith(line) and words in said for name, said in wrong.items()), found.findings


def test_a_temporary_folder_is_whichever_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Python itself tries a temporary folder by a file in it, and a cluster's lies anywhere.
    monkeypatch.setattr("tune_bn.trainers.opened_files._TEMPORARY", ())
    places = {name: tmp_path / name for name in ("job", "space", "data")}
    for place in places.values():
        place.mkdir()
    (tmp_path / "link").symlink_to(places["job"])
    monkeypatch.setenv("TMPDIR", str(tmp_path / "link"))
    given = {"TMP": f"{places['space']}/"}
    own = {name for name, place in places.items() if is_own(f"{place}/x49g_ye5", tmp_path / "runs", given)}
    assert own == {"job", "space"}
