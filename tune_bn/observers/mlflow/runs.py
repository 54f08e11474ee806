"""Runs that somebody's own code logged to MLflow, read as a table of scores, and their verdict written back as tags."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from tune_bn.analysis.claims import OUTCOMES, outcome_of
from tune_bn.analysis.columns import Scores
from tune_bn.errors import ConfigError, ScoresError, TrackingError, TuneBNError, listed
from tune_bn.observers.mlflow.compat import FILE_STORE_VARIABLE, apply, client_settings, hush
from tune_bn.observers.mlflow.uri import check_tracking_uri, for_mlflow, shown, sqlite_path, sqlite_uri
from tune_bn.records.score_verdict import ScoreVerdict, TableArm, TableCandidate

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

PREFIX = "tune_bn."
_OWN_TAGS = (
    *("verdict", "role", "arm", "against", "metric", "goal", "alpha", "n"),
    *("outcome", "effect", "p_value", "p_adjusted"),
)

_FINISHED = "FINISHED"
_RUNS_PER_PAGE = 1000
_MOST_IN_A_TAG = 4000
_COMMIT = "mlflow.source.git.commit"
_SETTINGS = client_settings(retries=2, seconds=30)


class RunTable:
    """The runs of one experiment. Nothing is written but by :meth:`write`."""

    def __init__(self, client: MlflowClient, experiment: Experiment) -> None:
        self._client = client
        self._experiment = experiment
        self._runs: list[Run] = []
        self._judged: dict[str, list[str]] = {}

    @classmethod
    @contextmanager
    def opened(cls, uri: str, experiment: str) -> Iterator[RunTable]:
        """The table of an experiment, by its name. No store is made or upgraded.

        Raises:
            ConfigError: there is no such experiment.
            TrackingError: there is no such store, or it does not answer.
        """
        accepted = _accepted_uri(uri)
        apply(_SETTINGS)
        if urlsplit(accepted).scheme == "file":
            # MLflow would rather have it migrated, and reads it where this is set.
            os.environ[FILE_STORE_VARIABLE] = "true"
        hush(logging.ERROR)
        from mlflow import MlflowClient

        with _answering(uri):
            client = MlflowClient(accepted)
            found = client.get_experiment_by_name(experiment)
            if found is None or found.lifecycle_stage == "deleted":
                names = [one.name for one in client.search_experiments(max_results=50)]
                what = f"an experiment of {shown(uri)} ({listed(names)})"
                raise ConfigError(
                    "experiment", experiment, what if found is None else f"one that is not deleted: {what}"
                )
            yield cls(client, found)

    def scores(self, *, arm: str, seed: Sequence[str], metric: str, condition: str | None = None) -> Scores:
        """One score for each finished run: the latest value of ``metric``.

        Args:
            arm: ``params.NAME`` or ``tags.NAME``; a bare name is a parameter.
            seed: what makes a pair, named alike; without any, every run stands for itself.
            metric: a name, with or without ``metrics.`` before it.
            condition: a filter of MLflow's.

        Raises:
            ConfigError: no run has such a value.
            ScoresError: no run is left, or two share arm and seed.
        """
        metric = metric.removeprefix("metrics.")
        keys = {"arm": _key(arm, "arm"), **{name: _key(name, "seed") for name in seed}}
        self._runs = self._matching(condition)
        finished = [run for run in self._runs if run.info.status == _FINISHED]
        remarks = self._left_out(condition)
        if not finished:
            raise ScoresError(
                f"experiment {listed([self._experiment.name])}: no run that is {_FINISHED}"
                f"{' and matches --filter' if condition else ''}{_counted(remarks)}; accepted: an experiment with runs"
            )
        self._require(finished, keys, arm, seed, metric)
        rows, chosen, lacking = [], [], defaultdict[str, list[str]](list)
        of: dict[tuple[str, str], list[str]] = defaultdict(list)
        for run in finished:
            name = _value(run, keys["arm"])
            parts = [_value(run, keys[key]) for key in seed]
            missing = [key for key, value in zip([arm, *seed], [name, *parts], strict=True) if value is None]
            if metric not in run.data.metrics:
                missing.append(f"metric {metric}")
            if missing or name is None:
                lacking[listed(missing)].append(run.info.run_id)
                continue
            pair = "/".join(part for part in parts if part is not None) if seed else run.info.run_id
            of[name, pair].append(run.info.run_id)
            rows.append((name, pair, float(run.data.metrics[metric])))
            chosen.append((name, run))
        twice = {key: ids for key, ids in of.items() if len(ids) > 1}
        if twice:
            words = "; ".join(
                f"arm {listed([name])}, {listed(['/'.join(seed)])} {listed([pair])}: {listed(ids)}"
                for (name, pair), ids in list(twice.items())[:3]
            )
            more = f" and {len(twice) - 3} more" if len(twice) > 3 else ""
            raise ScoresError(
                f"experiment {listed([self._experiment.name])}: several runs of one arm and seed ({words}{more}); "
                "accepted: one run each, by --filter or after the others are deleted"
            )
        remarks += [
            f"{len(ids)} finished {'run' if len(ids) == 1 else 'runs'} without {what} left out ({listed(ids, limit=3)})"
            for what, ids in lacking.items()
        ]
        if not rows:
            raise ScoresError(
                f"experiment {listed([self._experiment.name])}: no finished run has all of "
                f"{listed([arm, *seed, metric])}{_counted(remarks)}; accepted: runs that have"
            )
        remarks += _mixed(chosen, {key[1] for key in keys.values() if key[0] == "params"}, metric)
        self._judged = defaultdict(list)
        for name, run in chosen:
            self._judged[name].append(run.info.run_id)
        return Scores(
            source=self._experiment.name,
            paired_by="/".join(_short(name) for name in seed) if seed else "run",
            rows=tuple(rows),
            metric=metric,
            remarks=tuple(remarks),
        )

    def write(self, verdict: ScoreVerdict) -> int:
        """Write the verdict to the experiment and to every run that it judges; returns how many runs.

        Tags of an earlier verdict are replaced, and taken from runs that are not judged any more.

        Raises:
            TrackingError: the store does not take them; some may have been written.
        """
        from mlflow.entities import RunTag

        baseline = verdict.baseline
        shared = {
            "verdict": verdict.verdict,
            "metric": str(verdict.metric),
            "goal": verdict.goal,
            "alpha": f"{verdict.alpha:g}",
            "against": f"{verdict.threshold:g}" if baseline is None else baseline.arm,
        }
        tags: dict[str, dict[str, str]] = {}
        arms: list[TableArm | TableCandidate] = [*([] if baseline is None else [baseline]), *verdict.candidates]
        for arm in arms:
            own = {**shared, "arm": arm.arm, "n": str(arm.n)}
            if isinstance(arm, TableCandidate):
                own |= {"role": "candidate", **_outcome(arm)}
            else:
                own |= {"role": "baseline"}
            for run_id in self._judged[arm.arm]:
                tags[run_id] = own
        for run in self._runs:
            run_id, now = run.info.run_id, tags.get(run.info.run_id, {})
            for name in _OWN_TAGS:
                if f"{PREFIX}{name}" in run.data.tags and name not in now:
                    self._client.delete_tag(run_id, f"{PREFIX}{name}")
            if now:
                self._client.log_batch(run_id, tags=[RunTag(f"{PREFIX}{name}", text) for name, text in now.items()])
        for name, text in {**shared, "reason": verdict.reason[:_MOST_IN_A_TAG]}.items():
            self._client.set_experiment_tag(self._experiment.experiment_id, f"{PREFIX}{name}", text)
        return len(tags)

    def _matching(self, condition: str | None) -> list[Run]:
        from mlflow.exceptions import MlflowException

        try:
            return list(self._search(condition))
        except MlflowException as error:
            if not condition or error.error_code not in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST"):
                raise
            words = " ".join(str(error).split())[:300]
            raise ConfigError("filter", condition, f"a filter of MLflow's ({words})") from None

    def _search(self, condition: str | None, *, deleted: bool = False) -> Iterator[Run]:
        from mlflow.entities import ViewType

        view, token = ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY, None
        while True:
            page = self._client.search_runs(
                [self._experiment.experiment_id],
                condition or "",
                run_view_type=view,
                max_results=_RUNS_PER_PAGE,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            yield from page
            token = page.token
            if not token:
                return

    def _left_out(self, condition: str | None) -> list[str]:
        counts = Counter(run.info.status for run in self._runs if run.info.status != _FINISHED)
        deleted = sum(1 for _ in self._search(condition, deleted=True))
        words = [f"{count} {status.lower()}" for status, count in sorted(counts.items())]
        words += [f"{deleted} deleted"] if deleted else []
        return [f"runs left out because they are not finished: {', '.join(words)}"] if words else []

    def _require(
        self, runs: Sequence[Run], keys: Mapping[str, tuple[str, str]], arm: str, seed: Sequence[str], metric: str
    ) -> None:
        for key, name in (("arm", arm), *(("seed", name) for name in seed)):
            place = keys["arm" if key == "arm" else name]
            if all(_value(run, place) is None for run in runs):
                names = sorted({f"params.{name}" for run in runs for name in run.data.params})
                names += sorted(
                    {f"tags.{n}" for run in runs for n in run.data.tags if not n.startswith(("mlflow.", PREFIX))}
                )
                raise ConfigError(key, name, f"what a run of {self._experiment.name} has ({listed(names, limit=12)})")
        if all(metric not in run.data.metrics for run in runs):
            names = sorted({name for run in runs for name in run.data.metrics})
            raise ConfigError("metric", metric, f"a metric of {self._experiment.name} ({listed(names, limit=12)})")


def _outcome(arm: TableCandidate) -> dict[str, str]:
    if arm.effect is None:
        return {"outcome": "invalid"}
    outcome = OUTCOMES[outcome_of(arm)]
    numbers = {"effect": arm.effect, "p_value": arm.p_value, "p_adjusted": arm.p_adjusted}
    return {"outcome": outcome, **{name: f"{value:.6g}" for name, value in numbers.items() if value is not None}}


def _key(name: str, option: str) -> tuple[str, str]:
    """Where a value of a run stands, and its name there."""
    kind, dot, rest = name.partition(".")
    if dot and kind in ("params", "param", "parameters"):
        kind, name = "params", rest
    elif dot and kind in ("tags", "tag"):
        kind, name = "tags", rest
    elif dot and kind in ("metrics", "attributes"):
        raise ConfigError(option, name, "params.NAME or tags.NAME")
    else:
        kind = "params"
    name = name.strip("`\"'")
    if not name:
        raise ConfigError(option, name, "params.NAME or tags.NAME")
    return kind, name


def _short(name: str) -> str:
    return _key(name, "seed")[1]


def _value(run: Run, place: tuple[str, str]) -> str | None:
    kind, name = place
    found = (run.data.params if kind == "params" else run.data.tags).get(name)
    return found.strip() or None if isinstance(found, str) else found


def _counted(remarks: Iterable[str]) -> str:
    words = "; ".join(remarks)
    return f" ({words})" if words else ""


def _mixed(chosen: Sequence[tuple[str, Run]], known: set[str], metric: str) -> list[str]:
    """In what else the runs differ: within an arm, or from arm to arm."""
    remarks = []
    values: dict[str, dict[str, set[str | None]]] = defaultdict(lambda: defaultdict(set))
    names = {name for _, run in chosen for name in run.data.params} - known
    for arm, run in chosen:
        for name in names:
            values[name][arm].add(run.data.params.get(name))
    # A value of its own for every run, such as a folder, is no setting.
    counts = {name: len({run.data.params.get(name) for _, run in chosen}) for name in names}
    within = sorted(
        name for name in names if counts[name] < len(chosen) and any(len(found) > 1 for found in values[name].values())
    )
    between = sorted(
        name for name in names if all(len(found) == 1 for found in values[name].values()) and counts[name] > 1
    )
    if within:
        remarks.append(f"runs of one arm differ in params {listed(within)}")
    if between:
        remarks.append(f"the arms differ in params {listed(between)} too")
    commits = {run.data.tags.get(_COMMIT) for _, run in chosen} - {None}
    if len(commits) > 1:
        remarks.append(f"the runs are of {len(commits)} commits")
    steps = {item.step for _, run in chosen for item in run.data.to_proto().metrics if item.key == metric}
    if len(steps) > 1:
        remarks.append(
            f"{metric} was logged last at steps {min(steps)} to {max(steps)}: runs of different lengths, or stopped "
            "early"
        )
    return remarks


def _accepted_uri(uri: str) -> str:
    """The URI as MLflow takes it; a path may be an SQLite file or a folder of runs.

    Raises:
        TrackingError: there is no such store. MLflow would make one.
    """
    try:
        return _store_uri(uri)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TrackingError(f"--mlflow: got {shown(uri)!r}: {reason}; accepted: {_STORES}") from None


def _store_uri(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.scheme in ("", "file") or (len(parts.scheme) == 1 and not parts.netloc):
        path = Path(unquote(parts.path)) if parts.scheme == "file" else Path(uri)
        if path.is_dir() and (path / "mlflow.db").is_file() and not any(path.glob("*/meta.yaml")):
            path = path / "mlflow.db"
        if path.is_dir():
            if not any(path.glob("*/meta.yaml")):
                raise TrackingError(
                    f"--mlflow: got {shown(uri)!r}, a folder without experiments of MLflow; accepted: {_STORES}"
                )
            return path.absolute().as_uri()
        uri = sqlite_uri(path.absolute())
    file = sqlite_path(uri)
    if file is not None and not file.is_file():
        raise TrackingError(f"--mlflow: got {shown(uri)!r}: there is no file {file}; accepted: {_STORES}")
    check_tracking_uri(uri, "--mlflow")
    if file is not None:
        try:
            with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as base:
                tables = {name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        except sqlite3.Error as error:
            raise TrackingError(f"--mlflow: {file} cannot be read ({error}); accepted: {_STORES}") from None
        if not {"experiments", "runs"} <= tables:
            raise TrackingError(f"--mlflow: {file} holds no runs of MLflow; accepted: {_STORES}")
    return for_mlflow(uri)


_STORES = "sqlite:///PATH of a store that exists, http://HOST:PORT, or the path of mlflow.db or mlruns"


@contextmanager
def _answering(uri: str) -> Iterator[None]:
    """What a store, its driver or the network raises becomes one line that names the store."""
    try:
        yield
    except TuneBNError:
        raise
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("mlflow", "requests", "urllib3", "sqlalchemy", "sqlite3"):
            raise
        words = " ".join(str(error).split())
        raise TrackingError(f"--mlflow: {shown(uri)}: {words[:600]}; accepted: a store that answers") from None
