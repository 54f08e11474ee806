"""What MLflow's pages show of a study: the view of its runs, the parameters and the data of its parent run.

Nothing here loads MLflow.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from tune_bn.observers.mlflow.compat import WORKFLOW
from tune_bn.protocols.observer import StudyInfo
from tune_bn.records.files import sha256_of
from tune_bn.records.provenance import SPLITS

MOST_LETTERS = 6000
"""Of a parameter's value in MLflow."""

_TAGS = ("stage", "arm", "status", "seed")
_CONTEXTS = {"train": "training", "val": "validation", "test": "test"}


def view_state(study_id: str, searched: Iterable[str], metrics: Sequence[str], *, ascending: bool = False) -> str:
    """The state of MLflow's table of runs for one study: which runs, which columns, what first.

    Args:
        study_id: as its runs have it in a tag.
        searched: keys in which its runs differ.
        metrics: those of its scores; the runs are ordered by the first.
        ascending: whether the least comes first, which is the best of a score that is to be low.
    """
    columns = [f"tags.`{name}`" for name in _TAGS]
    columns += [f"params.`{name}`" for name in searched]
    columns += [f"metrics.`{name}`" for name in metrics]
    return json.dumps(
        {
            "searchFilter": f"tags.study_id = '{study_id}'",
            "orderByKey": f"metrics.`{metrics[0]}`",
            "orderByAsc": ascending,
            "selectedColumns": ["attributes.`Duration`", *columns],
        }
    )


def page_of(experiment_id: str, study_id: str, *, saved: bool) -> str:
    """The page of a study's runs, to be put behind a server's address.

    Args:
        experiment_id: of the experiment that has the study.
        study_id: of the study.
        saved: whether the experiment has its :func:`view_state`; otherwise the columns are MLflow's own.
    """
    query = {"viewStateShareKey": study_id} if saved else {"searchFilter": f"tags.study_id = '{study_id}'"}
    return f"#/experiments/{experiment_id}/runs?{urlencode(query | dict([WORKFLOW]))}"


def parameters(fixed: Mapping[str, Any]) -> dict[str, str]:
    """The fixed part of a space as parameters: sections are taken apart, so that ``train.lr`` is one of them.

    What is not set, or empty, is left out.
    """
    found: dict[str, str] = {}
    for key, value in fixed.items():
        if isinstance(value, Mapping) and value:
            found |= parameters({f"{key}.{name}": inner for name, inner in value.items()})
        elif value not in (None, {}, []):
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            found[key] = text[:MOST_LETTERS]
    return found


def description(tags: Mapping[str, str]) -> str:
    """What the page of a study's parent run says first, in Markdown: its verdict, which as a tag is cut off.

    Args:
        tags: of that run; without a verdict there is nothing to say.
    """
    headline, reason = tags.get("headline", ""), tags.get("reason", "")
    return f"**{headline.replace('_', ' ').capitalize()}**\n\n{reason}" if headline and reason else ""


def datasets(info: StudyInfo) -> list[dict[str, str]]:
    """The splits of a study's data, each as the arguments of MLflow's ``Dataset``, and its ``context``."""
    source = parameters(info.fixed).get("data.source", info.space_name)
    return [
        {
            "name": f"{source} {name}",
            "digest": sha256_of(split)[:16],
            "source_type": "local",
            "source": json.dumps({"source": source}),
            "profile": json.dumps({"num_rows": split["count"]}),
            "context": _CONTEXTS.get(name, name),
        }
        for name, split in info.data.items()
        if name in SPLITS and isinstance(split, Mapping) and "count" in split
    ]
