"""What was trained: the first thing that a reader asks who was only sent the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tune_bn.analysis.wording import config_words, symbol, value_words
from tune_bn.records.provenance import SPLITS
from tune_bn.records.record import FAILED, SEARCH
from tune_bn.report.blocks import Block, Span, Strong, paragraph
from tune_bn.report.cells import distinct
from tune_bn.report.study import StudyFiles


def trained(study: StudyFiles) -> Iterator[Block]:
    """Network, data with sizes, course, what was searched against what, and on which device; as far as it is known."""
    found = {
        "Network": _network(_section(study, "model")),
        "Data": _data(study),
        "Each run": _course(_section(study, "train")),
        "Searched": _searched(study),
        "Baseline": config_words(study.baseline_config),
        "Device": _device(study),
    }
    parts: list[Span] = []
    for name, words in found.items():
        if words:
            parts += [Strong(f"{name}:"), f" {words}. "]
    if parts:
        yield paragraph(*parts)


def _section(study: StudyFiles, name: str) -> Mapping[str, Any]:
    section = study.space.get(name)
    return section if isinstance(section, dict) else {}


def _network(model: Mapping[str, Any]) -> str:
    parts = [str(model["arch"])] if "arch" in model else []
    if "norm" in model:
        parts.append(f"norm {model['norm']}")
    if model.get("input_norm") not in (None, "none"):
        parts.append(f"input norm {model['input_norm']}")
    return ", ".join(parts)


def _data(study: StudyFiles) -> str:
    section = _section(study, "data")
    seen = [record.data for record in study.records if record.data]
    data = (study.plan and study.plan.data) or (seen[-1] if seen else {})
    sizes = [
        f"{part['count']:,} {words}"
        for split, words in SPLITS.items()
        if isinstance(part := data.get(split), dict) and isinstance(part.get("count"), int)
    ]
    classes = data.get("classes")
    if isinstance(classes, dict) and isinstance(classes.get("count"), int):
        sizes.append(f"{classes['count']} classes")
    named = [str(section["source"])] if "source" in section else []
    if section.get("root") is not None:
        named.append(f"folder {str(section['root']).rstrip('/').rpartition('/')[2]}")
    words = ", ".join(named)
    return f"{words}: {', '.join(sizes)}" if words and sizes else words or ", ".join(sizes)


def _course(train: Mapping[str, Any]) -> str:
    words = (
        ("epochs", "{} epochs"),
        ("batch_size", "batches of {}"),
        ("lr", "learning rate {}"),
        ("schedule", "schedule {}"),
        ("momentum", "momentum {}"),
        ("weight_decay", "weight decay {}"),
        ("precision", "{}"),
    )
    # What most runs do without is said where it is used.
    others = (
        ("optimizer", "{}", "sgd"),
        ("nesterov", "Nesterov's momentum", False),
        ("warmup_epochs", "{} epochs of warm-up", 0),
        ("label_smoothing", "label smoothing {}", 0.0),
        ("ema", "moving average of the weights {}", None),
    )
    used = [text.format(value_words(train[key])) for key, text, default in others if train.get(key, default) != default]
    return ", ".join([*(text.format(value_words(train[key])) for key, text in words if key in train), *used])


def _searched(study: StudyFiles) -> str:
    search = _section(study, "search")
    trials = len(study.trials[SEARCH])
    if not search:
        return ""
    keys = ", ".join(f"{symbol(str(key))} ({_distribution(spec)})" for key, spec in search.items())
    return f"{keys}; {trials} trial{'' if trials == 1 else 's'}" if trials else keys


def _distribution(spec: Any) -> str:
    if isinstance(spec, dict) and len(spec) == 1:
        ((kind, body),) = spec.items()
        ends = body if isinstance(body, list) else [body]
        if all(isinstance(end, int | float | str) for end in ends):
            joint = ", " if kind == "choice" else " to "
            name = {"log_uniform": "", "uniform": "", "choice": ""}.get(str(kind), f"{kind} ")
            log = ", logarithmic" if kind == "log_uniform" else ""
            return f"{name}{joint.join(value_words(end) for end in ends)}{log}"
        return str(kind)
    return str(spec)


def _device(study: StudyFiles) -> str:
    runs = [record for record in study.records if record.status != FAILED]
    names = [
        record.device
        if (model := record.environment.get("device_model")) is None or str(model) in record.device
        else f"{record.device} ({model})"
        for record in runs
    ]
    return distinct(names) if names else ""
