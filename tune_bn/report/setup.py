"""What was trained: the first thing that a reader asks who was only sent the page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tune_bn.analysis.wording import config_words, metric_words, symbol, value_words
from tune_bn.errors import listed
from tune_bn.records.ledger import LEDGER_FILE, key_of
from tune_bn.records.provenance import SPLITS
from tune_bn.records.record import FAILED, SEARCH, ranges
from tune_bn.report.blocks import Block, Span, Strong, paragraph
from tune_bn.report.cells import distinct
from tune_bn.report.study import StudyFiles


def trained(study: StudyFiles) -> Iterator[Block]:
    """Network, data with sizes, course, what was searched against what, and on which device; as far as it is known."""
    found = {
        "Network": _network(_section(study, "model")),
        "Data": _data(study),
        "Each run": _course(_section(study, "train")),
        "Score": _scored(study),
        "Searched": _searched(study),
        "Chosen": _chosen(study),
        "Baseline": config_words(study.baseline_config),
        "Earlier claims on these test data": _earlier(study),
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


NORMS = {
    "base": "plain batch norm",
    "scaled": "batch norm with γ and c",
    "rbn": "representative batch norm",
    "rbn_star": "representative batch norm, undecayed",
    "iebn": "instance-enhancement batch norm",
    "iebn_star": "instance-enhancement batch norm, undecayed",
}
"""The norm layers in a few words; one that a package added is named alone."""
_STEMS = {"small": "3×3 convolution, stride 1", "imagenet": "7×7 convolution, stride 2, max-pooling"}


def _network(model: Mapping[str, Any]) -> str:
    arch = str(model.get("arch", ""))
    parts = [arch] if arch else []
    stem = model.get("stem")
    # The first layers of a network of torchvision's or of the user's are its own.
    if stem in _STEMS and re.fullmatch(r"resnet\d+", arch):
        parts.append(f"stem {stem} ({_STEMS[stem]})")
    if "norm" in model:
        norm = str(model["norm"])
        parts.append(f"norm {norm} ({NORMS[norm]})" if norm in NORMS else f"norm {norm}")
    if model.get("input_norm") not in (None, "none"):
        parts.append(f"input norm {model['input_norm']}")
    return ", ".join(parts)


def _scored(study: StudyFiles) -> str:
    """What is tested and what chooses, each with the step of the run that it is taken at."""
    score, trainer = study.score, _section(study, "trainer")
    tested = metric_words(study.metric)
    if trainer:
        tested += ", as the training code reports it"
        if trainer.get("test_command"):
            best = trainer.get("test_checkpoint") == "best"
            tested += f", of the checkpoint of the {f'best {score.words}' if best else f'last {score.step}'}"
    elif study.metric == "final_test_accuracy":
        tested += f", with the weights of the last {score.step}"
    elif study.metric == "test_accuracy":
        tested += f", with the weights of the {score.step} of the best {score.words}, the first of equals"
    return f"tested is {tested}; search and selection compare {score.words} ({score.at_words})"


def _chosen(study: StudyFiles) -> str:
    """The rule by which a search's configurations came into the confirmation, with what breaks a tie."""
    budget, claim = _section(study, "budget"), _section(study, "claim")
    seeds = _section(study, "seeds").get("select")
    finalists, candidates = budget.get("finalists"), claim.get("candidates", 1)
    if not study.trials[SEARCH] or not isinstance(seeds, list) or type(finalists) is not int:
        return ""
    if not (seeds and all(type(seed) is int for seed in seeds) and type(candidates) is int):
        return ""
    drops = ", where one that is clearly behind is dropped (race)" if budget.get("race_error") is not None else ""
    best = "best" if candidates == 1 else f"{candidates} best"
    return (
        f"the {finalists} best trials that ran to their end (of equals the earlier one) go on to the selection seeds "
        f"{ranges(seeds)}{drops}; the {best} by the mean there (of equals the better one in the search) "
        f"{'is' if candidates == 1 else 'are'} confirmed"
    )


def _earlier(study: StudyFiles) -> str:
    """Which claims on the same test data its folder's ledger held when the plan was locked."""
    if study.plan is None or key_of(study.plan.data or {}) is None:
        return ""
    names = [claim.study for claim in study.plan.earlier_claims]
    return listed(names) if names else f"none in the {LEDGER_FILE} of its folder"


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
        ("optimizer", "optimizer {}"),
        ("lr", "learning rate {}"),
        ("schedule", "schedule {}"),
        ("momentum", "momentum {}"),
        ("weight_decay", "weight decay {}"),
        ("precision", "{}"),
    )
    # What most runs do without is said where it is used.
    others = (
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
