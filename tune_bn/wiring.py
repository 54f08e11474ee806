"""Wires the adapters to a study: Ray Tune, Optuna, MLflow and the console. Only the command line imports it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tune_bn.analysis.verdict import write_verdict
from tune_bn.console.observer import ConsoleObserver, console_log
from tune_bn.driver import Driver
from tune_bn.errors import Interrupted
from tune_bn.report import write_report
from tune_bn.runners.ray_tune import RayOptions, RayTuneRunner, connect
from tune_bn.samplers.base import Outcome
from tune_bn.samplers.optuna_sampler import OptunaSampler
from tune_bn.spec import Space
from tune_bn.stop_request import StopRequest
from tune_bn.study import Study
from tune_bn.study_folder import StudyFolder
from tune_bn.tracking.fanout import Observers
from tune_bn.tracking.mlflow_observer import MlflowObserver
from tune_bn.tracking.mlflow_uri import store_uri
from tune_bn.training.data import load_dataset


def sampler_of(space: Space, folder: StudyFolder, arm: str, outcomes: Mapping[int, Outcome]) -> OptunaSampler:
    """The Optuna sampler of an arm. The baseline searches the nuisance keys alone."""
    return OptunaSampler(
        folder.journal,
        f"{folder.name}/{arm}",
        space.searched_by(arm).distributions,
        name=space.sampler.name,
        seed=space.sampler.seed,
        points=space.start_points(arm),
        finished=outcomes,
    )


def run_study(
    open_folder: Callable[[], StudyFolder],
    space: Space,
    *,
    address: str | None,
    console: ConsoleObserver,
    stages: Callable[[Study], None] = Study.run,
    ray_init: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Run a study's stages, then verify and report. Returns the verdict.

    ``open_folder`` makes or opens the study's folder; it is called once data and cluster are known to be good, so that
    bad input leaves nothing behind.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; what had finished is kept.
        TuneBNError: the study cannot be run.
    """
    dataset = load_dataset(space.data, progress=console.decoding)
    resources = space.resources
    options = RayOptions(
        address=address,
        cpu=resources.cpu,
        gpu=resources.gpu,
        max_concurrent=resources.max_concurrent,
        elastic=resources.elastic,
        max_failures=space.budget.max_failures,
        checkpoint_seconds=resources.checkpoint_seconds,
        archs=space.archs,
        init=ray_init or {},
        tell=console.warn,
    )
    connect(options)
    folder = open_folder()
    output = folder.path.parent
    stop = StopRequest()
    driver = Driver(folder, space.budget, resources, stop=stop.ask)
    with folder.locked(), stop.on_sigterm(), driver.watching(), console_log(folder.log_file) as log:

        def warn(message: str) -> None:
            console.warn(message)
            log.warn(message)

        runner = RayTuneRunner(dataset, options, folder.checkpoints, warn=warn, stop=stop)
        store = store_uri(space.tracking.uri, output)
        mlflow = MlflowObserver(store, artifact_root=output.absolute() / "mlartifacts", warn=warn)
        observer = Observers(driver, console, log, mlflow)
        status, summary = "FAILED", dict[str, float | str]()
        try:
            study = Study(
                folder,
                space,
                runner=runner,
                make_sampler=lambda arm, outcomes: sampler_of(space, folder, arm, outcomes),
                observer=observer,
                num_classes=dataset.num_classes,
            )
            observer.study_started(study.info, study.recorder.records)
            observer.artifacts_changed(folder.artifacts())
            stages(study)
            verdict = conclude(folder)
            observer.artifacts_changed(folder.artifacts())
            status, summary = "FINISHED", _summary(verdict)
            log.note(f"verdict: {verdict['verdict']}: {verdict['reason']}")
            return verdict
        except (Interrupted, KeyboardInterrupt):
            status = "KILLED"
            log.note(driver.reason or "interrupted")
            raise Interrupted(driver.reason or "interrupted") from None
        except BaseException as error:
            log.note(f"error: {type(error).__name__}: {error}")
            raise
        finally:
            runner.close()
            observer.study_finished(status, summary)


def conclude(folder: StudyFolder) -> dict[str, Any]:
    """Verify the study and write its report, from its folder alone."""
    verdict = write_verdict(folder.path)
    write_report(folder.path)
    return verdict


def _summary(verdict: Mapping[str, Any]) -> dict[str, float | str]:
    summary: dict[str, float | str] = {"verdict": verdict["verdict"], "reason": verdict["reason"]}
    for candidate in verdict["candidates"]:
        for key in ("effect", "ci_low", "p_value", "p_adjusted", "d_z", "mean"):
            if candidate.get(key) is not None:
                summary[f"{candidate['arm']}.{key}"] = candidate[key]
    return summary
