"""What decides a score beside configuration and seed: how records tell it, and how much a difference weighs.

Nothing but the standard library, so that it is judged alike at the door of a resume and on any machine that verifies.

*Data* is a mapping: ``classes`` holds ``count`` and ``sha256`` of the names in their order; ``train``, ``val`` and
``test`` hold ``count``, and ``images`` and ``labels``, hashes of the arrays in their order; where each run draws its
split, ``pool`` holds them instead, and ``train`` and ``val`` are counts ``of`` it. So a search, which never
sees the test images, is compared with a confirmation in the splits that both saw.

*Environment* is a mapping of single values; :data:`FACTS` says what each of them means for a pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SPLITS: Mapping[str, str] = {"train": "training images", "val": "validation images", "test": "test images"}
POOL = "pool"
"""The images that each run divides into training and validation by its own seed; those two are then counts alone."""
CLASSES = "classes"


@dataclass(frozen=True)
class Fact:
    """One key of a record's environment."""

    key: str
    words: str
    """What it is called where two runs differ in it: "ran on different …"."""
    breaks: bool
    """Whether runs that differ in it are no pair. Otherwise the verdict says it, and counts the pair."""
    stated_by: str | None = None
    """The key of a configuration that explains a difference between two arms: it is then part of what is compared."""


FACTS: Sequence[Fact] = (
    # These change what is computed.
    Fact("device_kind", "kinds of device", breaks=True),
    Fact("split", "splits into training and validation images", breaks=True),
    Fact("precision", "precisions", breaks=True, stated_by="precision"),
    # These change the order of sums, and with it last digits, which 40 epochs turn into other noise of the same kind.
    Fact("device_model", "models of device", breaks=False),
    Fact("cpu_capability", "instruction sets of the CPU", breaks=False),
    Fact("threads", "numbers of threads", breaks=False),
    Fact("cuda", "versions of CUDA", breaks=False),
    Fact("cudnn", "versions of cuDNN", breaks=False),
    Fact("deterministic", "settings of deterministic kernels", breaks=False),
    Fact("memory_format", "memory formats", breaks=False, stated_by="arch"),
)
"""Every key that is compared. Others may be recorded; ``accelerator_type`` is how the cluster calls the model."""

OF_A_NETWORK = ("network", "network_packages")
"""Keys of a record's versions that belong to the network of a configuration, and differ where that does."""


def seen(data: Mapping[str, Any], *, test: bool) -> dict[str, Any]:
    """The part of a data set that a run sees."""
    return {key: value for key, value in data.items() if test or key != "test"}


def data_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two data sets, a few words each, in what both tell of; empty where nothing does."""
    return [
        _change(key, before[key], now[key])
        for key in dict.fromkeys([CLASSES, POOL, *SPLITS, *sorted(before)])
        if key in before and key in now and before[key] != now[key]
    ]


def _change(key: str, before: Any, now: Any) -> str:
    what = {**SPLITS, POOL: "images that train or validate"}.get(key, key)
    if isinstance(before, Mapping) and isinstance(now, Mapping) and not {"images", "labels"} & before.keys():
        # What another trainer tells of its data: any keys, counts and hashes among them.
        parts = sorted(part for part in before.keys() | now.keys() if before.get(part) != now.get(part))
        if key not in (CLASSES, *SPLITS):
            return f"other {what} ({', '.join(parts)})"
    if not isinstance(before, Mapping) or not isinstance(now, Mapping):
        return what
    count, count_now = before.get("count"), now.get("count")
    if count != count_now:
        return f"{what} ({count} before, {count_now} now)"
    if key == CLASSES:
        return f"other names of classes ({count} before and now)"
    images, labels = (before.get(part) != now.get(part) for part in ("images", "labels"))
    words = (
        f"other {what} and labels"
        if images and labels
        else f"other labels of the {what}"
        if labels
        else f"other {what}"
    )
    return f"{words} ({count} before and now)"


def facts_of(device: Any, environment: Any) -> dict[str, Any]:
    """The environment of a record, completed with what its device tells; of version 1 that is all there is.

    Args:
        device: ``cpu``, or the name of a GPU and perhaps more after a comma; ``unknown`` where a run never began.
        environment: as recorded, or whatever a stranger's file holds.
    """
    found = dict(environment) if isinstance(environment, Mapping) else {}
    if isinstance(device, str) and device not in ("", "unknown"):
        name = device.partition(",")[0]
        found.setdefault("device_kind", "cpu" if name == "cpu" else "cuda")
        if name != "cpu":
            found.setdefault("device_model", name)
    return found


def fact_differences(
    one: Mapping[str, Any], other: Mapping[str, Any], config: Mapping[str, Any], other_config: Mapping[str, Any]
) -> Iterator[tuple[Fact, Any, Any]]:
    """The facts in which two runs differ, with both values, but for those that their configurations state.

    A fact that one of them does not tell cannot be compared.
    """
    for fact in FACTS:
        if fact.stated_by is not None and config.get(fact.stated_by) != other_config.get(fact.stated_by):
            continue
        if fact.key in one and fact.key in other and one[fact.key] != other[fact.key]:
            yield fact, one[fact.key], other[fact.key]


def merged_environment(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """The environment of a run that began in one and goes on in another: where they differ, both values as text."""
    merged = {**before, **now}
    for key in before.keys() & now.keys():
        parts = str(before[key]).split(" + ")
        if before[key] != now[key]:
            merged[key] = " + ".join(dict.fromkeys([*parts, str(now[key])]))
    return merged
