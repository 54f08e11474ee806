"""Wires the adapters to a study: a runner, Optuna, MLflow and the console. Only the command line imports it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Thread
from typing import cast

from tune_bn.analysis.wording import spoken
from tune_bn.errors import Interrupted
from tune_bn.front.asking import conclude as conclude
from tune_bn.front.asking import sampler_of as sampler_of
from tune_bn.front.runners import Runners
from tune_bn.observers.console.observer import ConsoleObserver, console_log
from tune_bn.observers.fanout import Observers
from tune_bn.observers.mlflow.models import ModelOf, TrainedModel
from tune_bn.observers.mlflow.observer import MlflowObserver
from tune_bn.observers.mlflow.uri import store_uri
from tune_bn.protocols.observer import Observer, StudyInfo
from tune_bn.protocols.stop_request import INTERRUPTED, StopRequest
from tune_bn.protocols.trainer import Trainer, data_remarks_of
from tune_bn.records.commands import IN_PROCESS
from tune_bn.records.identity import identity_of, is_copy
from tune_bn.records.record import SEARCH, Record
from tune_bn.records.score import read_score
from tune_bn.records.verdict import Verdict
from tune_bn.space.space import Space
from tune_bn.study.continuity import require_same
from tune_bn.study.driver import Driver
from tune_bn.study.folder import StudyFolder
from tune_bn.study.study import Study
from tune_bn.trainers.choose import trainer_of
from tune_bn.trainers.command.from_space import keep_code
from tune_bn.training.changes import code_changes
from tune_bn.training.versions import commit, commit_remark


def run_study(
    open_folder: Callable[[], StudyFolder],
    space: Space,
    *,
    runners: Runners,
    console: ConsoleObserver,
    going_on: StudyFolder | None = None,
    stages: Callable[[Study], None] = Study.run,
    remarks: Sequence[str] = (),
    stop: StopRequest | None = None,
) -> Verdict:
    """Run a study's stages, then verify and report. Returns the verdict.

    ``open_folder`` makes or opens the study's folder; it is called once data and cluster are known to be good, so that
    bad input leaves nothing behind. ``runners`` knows where the runs are trained. ``going_on`` is the study's folder
    where it holds a study already: what that began with is compared before a cluster is reached. ``remarks`` are told
    on the console and in the driver's log. At a request to ``stop`` the study ends.

    Raises:
        Interrupted: it was told to stop; what had finished is kept.
        TuneBNError: the study cannot be run.
    """
    trainer = trainer_of(space, progress=console.decoding, study=None if going_on is None else going_on.path)
    if going_on is not None:
        require_same(going_on, space, trainer, commit=commit())
    stop = StopRequest() if stop is None else stop
    make_runner = runners.reach(trainer)
    stop.listen()
    folder = open_folder()
    output = folder.path.parent
    driver = Driver(folder, space.budget, space.resources, stop=stop, address=runners.address or "")
    with folder.locked(), driver.watching(), console_log(folder.log_file) as log:

        def warn(message: str) -> None:
            console.warn(message)
            log.warn(message)

        for line in filter(None, (*remarks, *data_remarks_of(trainer), commit_remark())):
            warn(line)
        keep_code(trainer, folder.path)
        runner = make_runner(folder, warn, stop)
        store = store_uri(space.tracking.uri, output)
        elsewhere = runners.address not in (None, IN_PROCESS)
        if space.tracking.system_metrics and elsewhere:
            warn("tracking.system_metrics: none, since runs of a cluster are on machines that this process cannot see")
        mlflow = MlflowObserver(
            store,
            artifact_root=output.absolute() / "mlartifacts",
            warn=warn,
            system_metrics=space.tracking.system_metrics and not elsewhere,
            model_of=_models(space, folder, trainer),
        )
        observer = Observers(driver, console, log, mlflow, cast(Observer, _Ahead()))
        status, summary = "FAILED", dict[str, float | str]()
        if is_copy(folder.path):
            warn(f"{folder.path} is a copy of a study; it goes on as a study of its own")
        try:
            study = Study(
                folder,
                space,
                runner=runner,
                make_sampler=lambda arm, outcomes: sampler_of(space, folder, arm, outcomes, trainer.score.goal),
                observer=observer,
                trainer=trainer,
                commit=commit(),
                changes=lambda: code_changes(trainer.code),
            )
            observer.study_started(study.info, study.recorder.records)
            observer.artifacts_changed(folder.artifacts())
            stages(study)
            console.concluding("report  verdict, pages and pictures …")
            verdict = conclude(folder)
            observer.artifacts_changed(folder.artifacts())
            if space.tracking.log_models != "none":
                console.note("mlflow  models of the confirmed runs …")
            status, summary = "FINISHED", _summary(verdict)
            log.note(f"verdict: {spoken(verdict)}: {verdict.reason}")
            return verdict
        except (Interrupted, KeyboardInterrupt):
            status = "KILLED"
            log.note(stop.reason or INTERRUPTED)
            raise Interrupted(stop.reason or INTERRUPTED) from None
        except BaseException as error:
            log.note(f"error: {type(error).__name__}: {error}")
            raise
        finally:
            # Not in a thread beside the report: a driver whose Ray ends so may end itself, in silence.
            runner.close()
            observer.study_finished(status, summary)


def _load_report() -> None:
    # What is missing or broken is told where it is needed.
    with suppress(Exception):
        from tune_bn.report.figures.importance import load_evaluator

        load_evaluator()


class _Ahead:
    """Loads what draws the report once the workers have all that they need, so that nobody waits for it at the end."""

    def stage_started(self, stage: str, planned_runs: int, done_runs: int) -> None:
        if stage != SEARCH:
            Thread(target=_load_report, name="report-ahead").start()

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *given: None


def _models(space: Space, folder: StudyFolder, trainer: Trainer) -> ModelOf | None:
    """The networks of the study's confirmed runs, where they are to become models of MLflow."""
    if space.tracking.log_models == "none":
        return None

    def model_of(record: Record) -> TrainedModel | None:
        from tune_bn.trainers.builtin import BuiltinTrainer
        from tune_bn.trainers.builtin_model import trained_network

        file = folder.weights / f"{record.key}.pt"
        if not file.exists() or not isinstance(trainer, BuiltinTrainer):
            return None
        return TrainedModel(*trained_network(trainer, space.run_config(record.config), record.seed, file))

    return model_of


def catch_up(folder: StudyFolder, space: Space, verdict: Verdict, warn: Callable[[str], None]) -> None:
    """Show the tracker what it may have missed of a finished study, from its folder alone; of a copy nothing."""
    if is_copy(folder.path):
        return
    output, identity, records = folder.path.parent, identity_of(folder.path), folder.records.read()
    store = store_uri(space.tracking.uri, output)
    asked = space.tracking.log_models == "confirmed"
    models = _models(space, folder, trainer_of(space, study=folder.path)) if asked else None
    mlflow = MlflowObserver(store, artifact_root=output.absolute() / "mlartifacts", warn=warn, model_of=models)
    info = StudyInfo(
        name=identity.name,
        space_name=space.name,
        folder=folder.path,
        space_sha256=space.sha256,
        commit=commit(),
        versions=records[-1].versions if records else {},
        study_id=identity.study_id,
        score=read_score(folder.path),
    )
    mlflow.study_started(info, ())
    mlflow.artifacts_changed(folder.artifacts())
    mlflow.study_finished("FINISHED", _summary(verdict))


def _summary(verdict: Verdict) -> dict[str, float | str]:
    summary: dict[str, float | str] = {key: getattr(verdict, key) for key in ("verdict", "headline", "reason")}
    summary["worse"] = ", ".join(verdict.worse) or "none"
    keys = ("effect", "p_value", "p_two_sided", "p_worse", "p_adjusted", "p_worse_adjusted", "d_z", "mean")
    for candidate in verdict.candidates:
        numbers = {key: getattr(candidate, key) for key in keys}
        # The interval that belongs to the one-sided test, and the one that belongs to the decision.
        for name, ends in (("ci", candidate.ci), ("ci_adjusted", candidate.ci_adjusted)):
            numbers |= dict(zip((f"{name}_low", f"{name}_high"), ends or (None, None), strict=True))
        summary |= {f"{candidate.arm}.{key}": value for key, value in numbers.items() if value is not None}
    return summary
