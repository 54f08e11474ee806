"""The energy of a study's runs, from what each record says that a device used while the run was on it.

``environment["energy"]`` of a record is a list of entries with ``source`` (``gpu:UUID``, or ``cpu:HOST:PACKAGE``), the
times ``from`` and ``to`` (seconds since 1970), ``joules`` of the whole device in between, and ``estimated`` where that
is no reading of a counter but power limit × time. Runs that share a device tell of the same joules, so nothing is
counted twice: each moment has the mean power of the runs that were there. Measured and estimated are never added.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tune_bn.records.record import Record

KINDS = {"gpu": "GPUs", "cpu": "CPU packages"}
KEY = "energy"
Span = tuple[float, float, float]
"""From, to, joules."""


def energy_of(records: Sequence[Record]) -> dict[str, Any]:
    """Joules of all runs together.

    Returns:
        ``measured`` and ``estimated``, each by kind (``gpu``, ``cpu``); ``runs``, how many tell of any; ``of``, how
        many there are.
    """
    spans: dict[tuple[str, bool], list[Span]] = {}
    telling = 0
    for record in records:
        own = [(entry, span) for entry in _entries(record) if (span := _span(entry)) is not None]
        telling += bool(own)
        for entry, span in own:
            spans.setdefault((str(entry["source"]), bool(entry.get("estimated"))), []).append(span)
    found: dict[str, Any] = {"measured": {}, "estimated": {}, "runs": telling, "of": len(records)}
    for (source, estimated), found_there in spans.items():
        kind = source.partition(":")[0]
        if kind in KINDS:
            part = found["estimated" if estimated else "measured"]
            part[kind] = part.get(kind, 0.0) + over_time(found_there)
    return found


def energy_words(records: Sequence[Record]) -> str:
    """One or two sentences on the energy of the runs; what is not known is said once."""
    found = energy_of(records)
    if not found["runs"]:
        return "Energy was not measured: no counter of a GPU (NVML) or of the CPU (RAPL) could be read."
    counted = f"{found['runs']} of {found['of']} runs"
    sentences = []
    if found["measured"]:
        sentences.append(
            f"Energy, measured while {counted} were there, whatever else was: {_listed(found['measured'])}."
        )
    if found["estimated"]:
        sentences.append(
            f"Estimated apart, as power limit × time, which is the most that it can be: {_listed(found['estimated'])}."
        )
    return " ".join(sentences)


def over_time(spans: Iterable[Span]) -> float:
    """Joules of one device over the time that spans cover; where several overlap, with the mean of their powers.

    Args:
        spans: each with its length above 0.
    """
    changes: dict[float, list[tuple[int, float]]] = {}
    for since, to, joules in spans:
        power = joules / (to - since)
        changes.setdefault(since, []).append((1, power))
        changes.setdefault(to, []).append((-1, -power))
    total, there, power, before = 0.0, 0, 0.0, 0.0
    for moment in sorted(changes):
        if there:
            total += (moment - before) * power / there
        there += sum(step for step, _ in changes[moment])
        # What is left of powers that have ended is rounding.
        power = power + math.fsum(own for _, own in changes[moment]) if there else 0.0
        before = moment
    return total


def _entries(record: Record) -> list[Mapping[str, Any]]:
    found = record.environment.get(KEY) if isinstance(record.environment, Mapping) else None
    return [entry for entry in found if isinstance(entry, Mapping)] if isinstance(found, list) else []


def _span(entry: Mapping[str, Any]) -> Span | None:
    values: list[Any] = [entry.get(key) for key in ("from", "to", "joules")]
    if not all(type(value) in (int, float) and abs(value) < 1e15 for value in values):
        return None
    since, to, joules = map(float, values)
    return (since, to, joules) if to > since and joules >= 0 and isinstance(entry.get("source"), str) else None


def _listed(joules: Mapping[str, float]) -> str:
    return " and ".join(f"{value / 3.6e6:.3g} kWh of {KINDS[kind]}" for kind, value in sorted(joules.items()))
