"""What the store shows of a study."""

import dataclasses
import json
import math
import shutil

from mlflow.entities import ViewType

from tests.observers.mlflow.followed_studies import Study, make_curve, make_task, wait_for
from tune_bn.records.record import CONFIRM, SEARCH
from tune_bn.training.points import epoch_point

PLAN = "b" * 64


def test_a_study_is_a_parent_run_and_every_run_a_child_with_tags_params_scores_and_curves(study: Study) -> None:
    observer = study.observer()
    observer.stage_started(SEARCH, planned_runs=2, done_runs=0)
    searched, confirmed = make_task(7, 101), make_task(None, 1, stage=CONFIRM)
    observer.task_started(searched)
    observer.task_progress(searched, {101: make_curve(2)})
    study.finish(observer, searched, make_curve(3))
    study.finish(
        observer, confirmed, make_curve(3), scores={"val_accuracy": 91.0, "test_accuracy": 88.5}, plan_sha256=PLAN
    )
    observer.study_finished("FINISHED", {"verdict": "supported", "effect": 0.75, "p_value": 0.002})

    parent, children = study.runs()
    assert (parent.info.run_name, parent.info.status) == ("first", "FINISHED")
    assert parent.data.metrics == {"effect": 0.75, "p_value": 0.002}
    assert parent.data.tags["verdict"] == "supported"
    assert parent.data.tags["versions.torch"] == "2.15"
    assert set(children) == {searched.key, confirmed.key}
    tags = children[searched.key].data.tags
    expected = {"stage": "search", "arm": "candidate", "seed": "101", "trial": "7", "gamma": "0.2", "c": "100"}
    expected |= {"commit": "c0ffee", "space_sha256": "a" * 64, "status": "completed", "reason": "all epochs"}
    expected |= {"run_key": searched.key, "study": "first"}
    assert {name: tags.get(name) for name in expected} == expected
    assert "plan_sha256" not in tags
    assert children[searched.key].data.params == {"gamma": "0.2", "c": "100"}
    tags = children[confirmed.key].data.tags
    assert tags["plan_sha256"] == PLAN
    assert "trial" not in tags

    info, scores = children[confirmed.key].info, children[confirmed.key].data.metrics
    assert info.end_time - info.start_time == 6000
    assert (scores["test_accuracy"], scores["best_val_accuracy"], scores["val_accuracy"]) == (88.5, 91.0, 23.0)
    for key in (searched.key, confirmed.key):
        for metric in ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr"):
            history = study.client.get_metric_history(children[key].info.run_id, metric)
            points = [(point.step, point.value) for point in sorted(history, key=lambda point: point.step)]
            assert points == [(point.step, point[metric]) for point in make_curve(3)]
    assert study.warnings == []


def test_statuses_say_what_became_of_a_run(study: Study) -> None:
    observer = study.observer()
    outcomes = {"completed": "FINISHED", "pruned": "FINISHED", "diverged": "FINISHED", "failed": "FAILED"}
    keys = {}
    for trial, status in enumerate(outcomes):
        task = make_task(trial, 101)
        keys[status] = task.key
        curve = make_curve(2) if status != "diverged" else (*make_curve(1), epoch_point(2, math.nan, 0, math.inf, 0, 1))
        study.finish(observer, task, curve, status=status, reason=f"because {status}", scores={})
    observer.study_finished("FAILED", {})
    parent, children = study.runs()
    assert parent.info.status == "FAILED"
    assert study.statuses() == {keys[status]: shown for status, shown in outcomes.items()}
    assert children[keys["pruned"]].data.tags["reason"] == "because pruned"
    assert study.steps(keys["diverged"], "train_loss") == [1]
    assert study.steps(keys["diverged"], "lr") == [1, 2]


def test_a_run_is_seen_while_it_is_trained_with_one_child_per_seed(study: Study) -> None:
    observer = study.observer()
    task = make_task(0, 201, 202)
    observer.task_started(task)
    observer.task_progress(task, {201: make_curve(1), 202: make_curve(1)})
    wait_for(lambda: study.shows(task.run_key(201)) and study.shows(task.run_key(202)))
    assert study.runs()[0].info.status == "RUNNING"
    assert study.statuses() == {task.run_key(201): "RUNNING", task.run_key(202): "RUNNING"}
    observer.task_killed(task)
    observer.study_finished("KILLED", {})
    assert study.runs()[0].info.status == "KILLED"
    assert set(study.statuses().values()) == {"KILLED"}


def test_a_resume_goes_on_under_the_same_run_ids_and_sends_no_epoch_twice(study: Study) -> None:
    observer = study.observer()
    done, interrupted, lost = make_task(0, 101), make_task(1, 101), make_task(2, 101)
    study.finish(observer, done, make_curve(3))
    observer.task_started(interrupted)
    observer.task_progress(interrupted, {101: make_curve(2)})
    observer.task_started(lost)
    observer.study_finished("KILLED", {})
    parent, children = study.runs()
    assert study.statuses() == {done.key: "FINISHED", interrupted.key: "KILLED", lost.key: "KILLED"}

    observer = study.observer()
    observer.task_started(interrupted)
    observer.task_progress(interrupted, {101: make_curve(1)})
    observer.task_progress(interrupted, {101: make_curve(3, start=2)})
    study.finish(observer, interrupted, make_curve(3))
    observer.study_finished("FINISHED", {})

    parent_again, children_again = study.runs()
    assert parent_again.info.run_id == parent.info.run_id
    assert parent_again.info.status == "FINISHED"
    assert {k: r.info.run_id for k, r in children_again.items()} == {k: r.info.run_id for k, r in children.items()}
    assert study.statuses() == {done.key: "FINISHED", interrupted.key: "FINISHED", lost.key: "KILLED"}
    assert study.steps(interrupted.key) == [1, 2, 3]
    assert study.steps(done.key) == [1, 2, 3]


def test_the_store_catches_up_with_records_that_a_dead_process_left(study: Study) -> None:
    """A process died by SIGKILL: a run of it is RUNNING for ever, and records were written that MLflow never saw."""
    observer = study.observer()
    seen, half, unseen = make_task(0, 101), make_task(1, 101), make_task(2, 101)
    study.finish(observer, seen, make_curve(3))
    observer.task_started(half)
    observer.task_progress(half, {101: make_curve(1)})
    observer.study_finished("KILLED", {})
    run = study.runs()[1][half.key]
    study.client.update_run(run.info.run_id, status="RUNNING")
    study.write(half, make_curve(3))
    study.write(unseen, make_curve(2), status="pruned", reason="asha")
    stale = make_task(3, 101)
    study.client.create_run(
        run.info.experiment_id,
        run_name=stale.key,
        tags={name: run.data.tags[name] for name in ("study", "study_id", "mlflow.parentRunId")}
        | {"run_key": stale.key},
    )

    observer = study.observer()
    observer.study_finished("FINISHED", {})
    _, children = study.runs()
    assert study.statuses() == {
        seen.key: "FINISHED",
        half.key: "FINISHED",
        unseen.key: "FINISHED",
        stale.key: "KILLED",
    }
    assert children[half.key].info.run_id == run.info.run_id
    assert study.steps(half.key) == [1, 2, 3]
    assert study.steps(unseen.key) == [1, 2]
    assert children[unseen.key].data.tags["status"] == "pruned"
    assert children[unseen.key].data.metrics["best_val_accuracy"] == 90.0


def test_a_failed_run_and_its_retry_are_one_run_that_shows_the_last_record(study: Study) -> None:
    observer = study.observer()
    task = make_task(0, 101)
    study.finish(observer, task, make_curve(1), status="failed", reason="out of memory", scores={})
    observer.study_finished("FAILED", {})
    assert study.statuses() == {task.key: "FAILED"}
    study.write(task, make_curve(3))
    study.observer().study_finished("FINISHED", {})
    child = study.runs()[1][task.key]
    assert child.info.status == "FINISHED"
    assert child.data.tags["status"] == "completed"
    assert study.steps(task.key) == [1, 2, 3]


def test_a_curve_longer_than_one_call_takes_arrives_whole(study: Study) -> None:
    observer = study.observer()
    task = make_task(0, 101)
    study.finish(observer, task, make_curve(400))
    observer.study_finished("FINISHED", {})
    for metric in ("train_loss", "lr"):
        assert study.steps(task.key, metric) == list(range(1, 401))


def test_artifacts_keep_their_place_and_their_last_state(study: Study) -> None:
    observer = study.observer()
    (study.folder / "plots").mkdir()
    files = {"space.yaml": "name: digits", "plots/paired.svg": "<svg/>", "report.md": "draft"}
    for name, text in files.items():
        (study.folder / name).write_text(text)
    paths = [study.folder / name for name in files]
    observer.artifacts_changed([*paths, study.folder / "gone.json"])
    (study.folder / "report.md").write_text("final")
    observer.artifacts_changed(paths)
    observer.study_finished("FINISHED", {})
    parent, _ = study.runs()
    root = study.folder.parent / "artifacts" / parent.info.run_id / "artifacts"
    assert {str(p.relative_to(root)): p.read_text() for p in root.rglob("*") if p.is_file()} == files | {
        "report.md": "final"
    }
    assert study.warnings == []


def test_another_study_of_the_space_and_a_fresh_folder_of_the_same_name_get_parents_of_their_own(study: Study) -> None:
    task = make_task(0, 101)
    ids = []
    for folder in (study.folder, study.folder.parent / "second", study.folder):
        shutil.rmtree(study.folder, ignore_errors=True)
        other = Study(folder, study.uri)
        observer = other.observer()
        other.finish(observer, task, make_curve(1))
        observer.study_finished("FINISHED", {})
        identity = json.loads((folder / "study.json").read_text())["study_id"]
        experiment = other.client.get_experiment_by_name("digits")
        assert experiment is not None
        found = other.client.search_runs([experiment.experiment_id], f"tags.study_id = '{identity}'")
        assert sorted(run.info.run_name for run in found) == sorted([folder.name, task.key])
        ids += [run.info.run_id for run in found]
    assert len(set(ids)) == 6


def test_an_experiment_that_was_deleted_in_the_ui_comes_back(study: Study) -> None:
    study.observer().study_finished("FINISHED", {})
    experiment = study.client.get_experiment_by_name("digits")
    assert experiment is not None
    study.client.delete_experiment(experiment.experiment_id)
    task = make_task(0, 101)
    observer = study.observer()
    study.finish(observer, task, make_curve(1))
    observer.study_finished("FINISHED", {})
    assert study.statuses() == {task.key: "FINISHED"}
    assert study.warnings == []


def test_a_run_that_was_deleted_while_it_was_trained_is_made_again(study: Study) -> None:
    observer = study.observer()
    task = make_task(0, 101)
    observer.task_started(task)
    observer.task_progress(task, {101: make_curve(1)})
    wait_for(lambda: study.shows(task.key))
    study.client.delete_run(study.runs()[1][task.key].info.run_id)
    study.finish(observer, task, make_curve(2))
    observer.study_finished("FINISHED", {})
    assert study.statuses() == {task.key: "FINISHED"}
    assert study.steps(task.key) == [1, 2]


def test_a_run_that_the_store_refuses_is_left_out_and_the_others_are_shown(study: Study) -> None:
    observer = study.observer()
    bad, good = make_task(0, 101), make_task(1, 101)
    bad = dataclasses.replace(bad, overrides={"no:such\nname": 1})
    study.finish(observer, bad, make_curve(1))
    study.finish(observer, good, make_curve(1))
    observer.study_finished("FINISHED", {})
    assert study.statuses()[good.key] == "FINISHED"
    assert any(f"refuses run {bad.key}" in line for line in study.warnings)


def test_a_duplicate_that_a_lost_answer_left_behind_is_removed(study: Study) -> None:
    observer = study.observer()
    task = make_task(0, 101)
    study.finish(observer, task, make_curve(1))
    observer.study_finished("KILLED", {})
    child = study.runs()[1][task.key]
    study.client.create_run(child.info.experiment_id, run_name=task.key, tags=dict(child.data.tags))
    study.observer().study_finished("FINISHED", {})
    assert study.statuses() == {task.key: "FINISHED"}
    deleted = study.client.search_runs([child.info.experiment_id], run_view_type=ViewType.DELETED_ONLY)
    assert len(deleted) == 1
