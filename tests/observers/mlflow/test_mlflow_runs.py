"""Runs that other code logged to a real MLflow on SQLite, judged by what a user types."""

from __future__ import annotations

import json
import random
import shutil
import time
from pathlib import Path

import pytest

from tune_bn.cli import main
from tune_bn.observers.mlflow.uri import sqlite_uri

mlflow = pytest.importorskip("mlflow")

GAMMA = ("--arm", "params.gamma", "--seed", "params.seed")


@pytest.fixture(scope="module")
def store(tmp_path_factory, fresh_database):
    """A store and its client; its path holds what a URI would read otherwise."""
    path = tmp_path_factory.mktemp("a%20b c") / "runs?.db"
    shutil.copy(fresh_database, path)
    return path, mlflow.MlflowClient(sqlite_uri(path))


@pytest.fixture
def log(store):
    """Logs a run: params, metrics, how it ended; returns its id."""
    client = store[1]

    def run(experiment, params, metrics, status="FINISHED", tags=None, step=0):
        made = client.create_run(experiment, tags=tags or {})
        # At once: each call is a transaction of its own.
        client.log_batch(
            made.info.run_id,
            metrics=[
                mlflow.entities.Metric(name, value, int(1000 * time.time()), step) for name, value in metrics.items()
            ],
            params=[mlflow.entities.Param(name, str(value)) for name, value in params.items()],
        )
        if status != "RUNNING":
            client.set_terminated(made.info.run_id, status=status)
        return made.info.run_id

    return run


@pytest.fixture
def experiment(store, log, request):
    """A fresh experiment of three seeds and two arms: its name and id."""
    name = request.node.name
    identity = store[1].create_experiment(name)
    rng = random.Random(0)
    for gamma, mean in (("1.0", 94.0), ("0.1", 95.0)):
        for seed in range(1, 7):
            params = {"gamma": gamma, "seed": seed, "out": f"runs/{gamma}-{seed}"}
            log(identity, params, {"test_accuracy": mean + round(rng.gauss(0, 0.2), 2)})
    return name, identity


@pytest.fixture
def typed(store, capsys):
    """Types the command: exit status, stdout, stderr."""

    def run(experiment: str, *arguments: str, uri: str | None = None) -> tuple[int, str, str]:
        given = ["verify", "--mlflow", uri or str(store[0]), "--experiment", experiment, *arguments]
        with pytest.raises(SystemExit) as caught:
            main([*given, *(() if "--metric" in arguments else ("--metric", "test_accuracy"))])
        out, err = capsys.readouterr()
        return caught.value.code, out, err

    return run


def test_runs_are_judged_and_what_is_left_out_is_said(store, typed, log, experiment):
    name, identity = experiment
    log(identity, {"gamma": "0.1", "seed": 1}, {"test_accuracy": 1.0}, status="FAILED")
    log(identity, {"gamma": "0.1", "seed": 2}, {}, status="RUNNING")
    log(identity, {"gamma": "0.1", "seed": 9}, {"loss": 1.0})
    log(identity, {"note": "the parent"}, {"best": 95.0})
    store[1].delete_run(log(identity, {"gamma": "0.1", "seed": 3}, {"test_accuracy": 2.0}))
    for uri in (sqlite_uri(store[0]), str(store[0])):
        status, out, err = typed(name, *GAMMA, "--baseline", "1", uri=uri)
        assert (status, err) == (0, "")
        assert out.startswith("verdict: supported\n0.1 raises test_accuracy by ")
        assert "n = 6 pairs by seed" in out
        assert "1 failed, 1 running, 1 deleted" in out
        assert "1 finished run without metric test_accuracy left out" in out
        assert "1 finished run without params.gamma, params.seed, metric test_accuracy left out" in out


def test_two_runs_of_one_arm_and_seed_are_refused_with_their_ids(store, typed, log, experiment):
    name, identity = experiment
    again = log(identity, {"gamma": "0.1", "seed": 2}, {"test_accuracy": 99.0}, tags={"kind": "again"})
    status, out, err = typed(name, *GAMMA, "--baseline", "1.0")
    assert (status, out) == (2, "")
    assert "several runs of one arm and seed (arm 0.1, params.seed 2: " in err
    assert again in err
    assert len(err.splitlines()) == 1
    status, out, _ = typed(name, *GAMMA, "--baseline", "1.0", "--filter", "params.out != 'x'")
    assert status == 0
    assert "n = 6 pairs" in out


def test_one_number_in_two_spellings_is_no_second_arm(typed, log, experiment):
    name, identity = experiment
    for seed in range(1, 7):
        log(identity, {"gamma": "0.10", "seed": seed}, {"test_accuracy": 95.5 + 0.1 * (seed % 4)})
    status, out, _ = typed(name, *GAMMA, "--baseline", "1.0")
    assert status == 1
    assert "arms 0.1, 0.10 are spellings of one name" in out


def test_what_else_differs_is_said(typed, log, experiment):
    name, identity = experiment
    rng = random.Random(1)
    for seed in range(1, 7):
        params = {"gamma": "0.5", "seed": seed, "lr": 0.2, "c": seed % 2}
        log(identity, params, {"test_accuracy": round(rng.gauss(94, 0.3), 2)}, step=seed)
    status, out, _ = typed(name, *GAMMA, "--baseline", "1.0")
    assert status == 0
    assert "runs of one arm differ in params c" in out
    assert "the arms differ in params lr too" in out
    assert "test_accuracy was logged last at steps 0 to 6" in out


def test_the_goal_is_asked_for(typed, log, store):
    identity = store[1].create_experiment("losses")
    for gamma, mean in (("1", 3.28), ("0.1", 3.27)):
        for seed in range(5):
            log(identity, {"gamma": gamma, "seed": seed}, {"val/nll": mean + 0.001 * ((seed * seed) % 7)})
    arguments = (*GAMMA, "--metric", "val/nll", "--baseline", "1")
    status, out, err = typed("losses", *arguments)
    assert (status, out) == (2, "")
    assert "is a lower score better?" in err


def test_the_verdict_is_written_as_tags_where_asked(store, typed, experiment, log):
    name, identity = experiment
    stale = log(identity, {"gamma": "1.0"}, {"test_accuracy": 1.0}, tags={"tune_bn.outcome": "supported", "mine": "x"})

    def tags():
        runs = store[1].search_runs([identity])
        return {run.info.run_id: {k: v for k, v in run.data.tags.items() if k.startswith("tune_bn.")} for run in runs}

    before = tags()
    status, out, err = typed(name, *GAMMA, "--baseline", "1.0", "--json")
    assert status == 0
    assert tags() == before
    status, out, err = typed(name, *GAMMA, "--baseline", "1.0", "--json", "--write-tags")
    verdict = json.loads(out)
    assert status == 0
    assert "written to 12 runs" in err
    after = tags()
    assert after.pop(stale) == {}
    assert store[1].get_run(stale).data.tags["mine"] == "x"
    assert {found["tune_bn.role"] for found in after.values()} == {"baseline", "candidate"}
    candidate = next(found for found in after.values() if found["tune_bn.role"] == "candidate")
    assert candidate["tune_bn.outcome"] == "supported"
    assert float(candidate["tune_bn.p_value"]) == pytest.approx(verdict["candidates"][0]["p_value"], rel=1e-5)
    told = store[1].get_experiment(identity).tags
    assert told["tune_bn.verdict"] == "supported"
    assert told["tune_bn.reason"] == verdict["reason"]


def test_ten_thousand_runs_come_in_pages(monkeypatch, typed, experiment):
    monkeypatch.setattr("tune_bn.observers.mlflow.runs._RUNS_PER_PAGE", 5)
    status, out, _ = typed(experiment[0], *GAMMA, "--baseline", "1.0")
    assert status == 0
    assert "n = 6 pairs" in out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--arm", "params.gama", "--seed", "params.seed"), "--arm: got 'params.gama'; accepted: what a run of "),
        (("--arm", "metrics.x", "--seed", "seed"), "--arm: got "),
        (("--arm", "gamma"), "--seed: missing beside --mlflow; accepted: "),
        ((*GAMMA, "--metric", "accuracy"), "--metric: got 'accuracy'; accepted: a metric of "),
        ((*GAMMA, "--filter", "params.gamma = '1' or params.gamma = '2'"), "--filter: got "),
        ((*GAMMA, "--score", "x"), "--score: got 'x' without --scores; "),
        ((*GAMMA, "--filter", "params.gamma = 'none'"), "experiment "),
        ((*GAMMA, "--baseline", "7"), "--baseline: got '7'; accepted: an arm of "),
    ],
)
def test_bad_input_is_refused_in_one_line(typed, experiment, arguments, problem):
    status, out, err = typed(experiment[0], *arguments)
    assert (status, out) == (2, "")
    assert err.removeprefix("error: ").startswith(problem), err
    assert len(err.splitlines()) == 1


def test_a_store_that_is_none_is_refused_and_not_made(typed, tmp_path, store, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    text = tmp_path / "text.db"
    text.write_text("no database")
    absent = [f"sqlite:///{tmp_path / 'new.db'}", str(tmp_path / "absent.db"), str(tmp_path / ("a" * 300))]
    for uri in (*absent, str(text), str(tmp_path), "ftp://x", "http://[x", "x\0y"):
        status, out, err = typed("x", *GAMMA, uri=uri)
        assert (status, out) == (2, "")
        assert err.startswith("error: --mlflow: ")
        assert len(err.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == [text]
    status, _, err = typed("x", *GAMMA, uri="http://127.0.0.1:9")
    assert status == 2
    assert err.startswith("error: --mlflow: http://127.0.0.1:9")
    status, _, err = typed("no such experiment", *GAMMA)
    assert err.startswith("error: --experiment: got 'no such experiment'; accepted: an experiment of ")


def test_a_folder_of_runs_is_read(typed, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    client = mlflow.MlflowClient((tmp_path / "mlruns").as_uri())
    identity = client.create_experiment("old")
    for arm, seed, score in [("a", s, 90 + 0.1 * ((s * 5) % 7)) for s in range(5)] + [
        ("b", s, 91 + 0.1 * ((s * 3) % 5)) for s in range(5)
    ]:
        made = client.create_run(identity, tags={"arm": arm, "seed": str(seed)})
        client.log_metric(made.info.run_id, "acc", score)
        client.set_terminated(made.info.run_id)
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE")
    names = ("--arm", "tags.arm", "--seed", "tags.seed", "--metric", "acc", "--baseline", "a")
    status, out, _ = typed("old", *names, uri=str(Path(tmp_path / "mlruns")))
    assert status == 0
    assert "b raises acc by " in out
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
