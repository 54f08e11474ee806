"""The Optuna study of a search, on a journal file: opened, or refused where it belongs to another search."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tune_bn.errors import StudyError
from tune_bn.protocols.distributions import Cases, Choice, Distribution, Range
from tune_bn.records.files import not_linked, writing
from tune_bn.records.score import MAX
from tune_bn.samplers.optuna.compat import start_point

_GIVEN = " given "


def to_optuna(distribution: Range | Choice) -> BaseDistribution:
    """A searched key's distribution as Optuna's; both ends stay included."""
    if isinstance(distribution, Choice):
        return CategoricalDistribution(distribution.values)
    if distribution.integer:
        return IntDistribution(int(distribution.low), int(distribution.high), log=distribution.log)
    return FloatDistribution(distribution.low, distribution.high, log=distribution.log)


def stored_name(name: str, values: Mapping[str, Any], distributions: Mapping[str, Distribution]) -> str:
    """The parameter of a key. Optuna knows each case of a conditional key as one of its own: their ranges differ."""
    distribution = distributions[name]
    if not isinstance(distribution, Cases):
        return name
    # The choice as it was declared: 1 and 1.0 are one value, and must be one name.
    chosen = next(value for value in distributions[distribution.key].corners if value == values[distribution.key])
    return f"{name}{_GIVEN}{distribution.key}={chosen!r}"


def key_of(stored: str) -> str:
    """The key that a parameter belongs to: ``gamma`` of ``gamma given lr=0.1``."""
    return stored.partition(_GIVEN)[0]


def open_study(journal: Path, name: str, distributions: Mapping[str, Distribution], goal: str = MAX) -> optuna.Study:
    """The study of this name and goal; it is created where the journal has none.

    The caller is the only writer: a last line that was torn by a crash is cut off.

    Raises:
        StudyError: the file is no journal, the study has another direction, or a trial of it has other parameters or
            other distributions than these; or the file cannot be written.
    """
    try:
        with writing(journal):
            _cut_torn_line(journal)
            storage = JournalStorage(JournalFileBackend(str(journal)))
    except (ValueError, KeyError, TypeError) as error:
        raise StudyError(
            f"{journal}: is no journal of Optuna ({type(error).__name__}: {error}); accepted: the study's own file"
        ) from None
    if all(study.study_name != name for study in storage.get_all_studies()):
        with writing(journal):
            return optuna.create_study(storage=storage, study_name=name, direction=f"{goal}imize")
    study = optuna.load_study(storage=storage, study_name=name)
    # Opened for another direction, it would keep its old one without a word.
    if study.directions != [StudyDirection.MAXIMIZE if goal == MAX else StudyDirection.MINIMIZE]:
        found = ", ".join(direction.name.lower() for direction in study.directions)
        raise StudyError(f"{journal}: direction of {name}: got {found}; accepted: {goal}imize")
    declared = _parameters(distributions)
    translated = {stored: to_optuna(distribution) for stored, distribution in declared.items()}
    for trial in study.get_trials(deepcopy=False):
        _check_parameters(f"{journal}: trial {trial.number} of {name}", trial, translated, distributions)
        _check_start_point(f"{journal}: trial {trial.number} of {name}", trial, declared)
    return study


def _cut_torn_line(journal: Path) -> None:
    # Optuna reads past a torn line, but would write the next one behind it.
    if not os.path.lexists(journal):
        return
    if not stat.S_ISREG(os.lstat(journal).st_mode):
        raise StudyError(f"{journal}: is no regular file; accepted: the study's own file")
    with open(journal, "r+b", opener=not_linked) as handle:
        data = handle.read()
        if data and not data.endswith(b"\n"):
            handle.truncate(data.rfind(b"\n") + 1)
            os.fsync(handle.fileno())


def _parameters(distributions: Mapping[str, Distribution]) -> dict[str, Range | Choice]:
    found: dict[str, Range | Choice] = {}
    for name, distribution in distributions.items():
        if isinstance(distribution, Cases):
            for value in distributions[distribution.key].corners:
                found[stored_name(name, {distribution.key: value}, distributions)] = distribution.given(value)
        else:
            found[name] = distribution
    return found


def _check_parameters(
    place: str,
    trial: FrozenTrial,
    declared: Mapping[str, BaseDistribution],
    distributions: Mapping[str, Distribution],
) -> None:
    for stored, found in trial.distributions.items():
        if stored in declared and found != declared[stored]:
            raise StudyError(f"{place}: {stored}: got {found}; accepted: {declared[stored]}")
    keys = [key_of(stored) for stored in trial.distributions]
    # A trial that a crash interrupted, and one that failed after it, may lack some.
    whole = trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
    if set(trial.distributions) - set(declared) or (whole and sorted(keys) != sorted(distributions)):
        accepted = ", ".join(sorted(distributions))
        raise StudyError(f"{place}: got the keys {', '.join(sorted(trial.distributions))}; accepted: {accepted}")


def _check_start_point(place: str, trial: FrozenTrial, declared: Mapping[str, Range | Choice]) -> None:
    # Optuna takes a start point outside its distribution, with no more than a warning.
    point = start_point(trial) if trial.state == TrialState.WAITING else {}
    for stored, value in point.items():
        if stored not in declared or not declared[stored].contains(value):
            accepted = to_optuna(declared[stored]) if stored in declared else ", ".join(declared)
            raise StudyError(f"{place}: start point: got {stored} = {value!r}; accepted: {accepted}")
