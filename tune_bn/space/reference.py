"""The reference page of the space file, from the words that stand beside each key in the code.

``python -m tune_bn.space.reference > docs/space.md`` writes it anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from pydantic_core import PydanticUndefined

from tune_bn.space.file import MAX_BYTES
from tune_bn.space.messages import accepted_words, section_of
from tune_bn.space.sections import LARGEST_COUNT
from tune_bn.space.space import SCIENTIFIC, Space

_HEAD = f"""\
# The space file

One YAML file says what is searched, how each run is trained, and what is to be shown. `tune_bn validate --space FILE`
checks it and starts nothing; `--set SECTION.KEY=VALUE` overrides a key on the command line. `--space` takes a path, or
the name of a file in `search_spaces/` or of one that the package brings.

Unknown keys are errors, and so are values of another type: `'3'` and `3.0` are no integers, `yes` is not `true`. Plain
values are read by the rules of YAML 1.2. A file has at most {MAX_BYTES:,} bytes and no aliases, tags or duplicate keys;
counts go up to {LARGEST_COUNT:,}.

A study keeps its space in `space.yaml`, with every default written out. `--resume` takes a space that differs from it
in `budget`, `resources` and `tracking` alone: no single result depends on these.

| key | default | accepted | meaning |
|---|---|---|---|
"""

_SCIENTIFIC = ", ".join(f"`{key}`" for key in sorted(SCIENTIFIC))

_TAIL = f"""
## Distributions

Any key of `model` and `train` can stand in `search`, with one of these. A claim is about the layers and how they learn:
{_SCIENTIFIC}.
One of these is searched at least; any other searched key is a nuisance parameter, tuned for the baseline with as many
trials as for the candidates. A baseline that has fewer configurations than that, such as three learning rates, tries
each of them once, and the candidates get the rest.

| distribution | proposes |
|---|---|
| `{{log_uniform: [low, high]}}` | numbers, uniformly in the logarithm; 0 < low < high |
| `{{uniform: [low, high]}}` | numbers, uniformly; low < high |
| `{{log_int: [low, high]}}` | integers, uniformly in the logarithm; 0 < low < high |
| `{{int: [low, high]}}` | integers, uniformly; low < high |
| `{{choice: [a, b, …]}}` | one of the values, without order |

Both bounds belong to the range, and the key must accept both.

## γ by place

| in `search` | proposes |
|---|---|
| `gamma: {{per_stage: [D, D, 0.5, D]}}` | one γ for each stage; each D is a distribution or a fixed number |
| `gamma: {{per_stage: D}}` | the same for every stage; for the built-in networks, whose number of stages is known |
| `gamma: {{linear: [D, D]}}` | γ of the first and of the last BN layer; those between lie on a line |
| `gamma_branch_end: D` | γ of the last BN of each residual branch, apart from the others |

In `model` the same forms take numbers: `gamma: {{per_stage: [1, 0.5, 0.1, 0.1]}}`. The parts are recorded and tracked
as `gamma.1`, `gamma.2`, … or `gamma.start` and `gamma.end`. A start point with one γ, such as those of the paper's
grid, stands for the same γ everywhere.

## Start points

`sampler.points` are tried first, in their order. A point may leave out keys; these are sampled. The baseline's search
begins with the same values of the nuisance keys, so that no one's good learning rate helps the candidates alone; with
`grid` it tries every combination of them. `tune_bn search --warm-start STUDY` puts the best of another study in front.
How each sampler takes the noise of the seeds: [statistics.md](statistics.md).

## Arms without a search

With `claim.arms` nothing is searched or selected. The plan is locked at once, and every arm meets the baseline on
`seeds.confirm`; Holm's procedure corrects for their number. `search_spaces/digits_methods.yaml` is an example.
"""


def reference() -> str:
    """The page, in Markdown."""
    return _HEAD + "".join(f"| {' | '.join(map(_cell, row))} |\n" for row in _rows()) + _TAIL


def _rows() -> Iterator[tuple[str, str, str, str]]:
    for name, field in Space.model_fields.items():
        section: Any = section_of(field.annotation)
        if is_dataclass(section):
            yield f"**`{name}`**", "", "", str(field.description)
            for item in fields(section):
                words = item.metadata
                yield f"`{name}.{item.name}`", _default(item.default), words["accepted"], words["doc"]
        elif hasattr(section, "model_fields"):
            yield f"**`{name}`**", "", "", str(field.description)
            for key, inner in section.model_fields.items():
                yield f"`{name}.{key}`", _default(inner.default), accepted_words(inner), str(inner.description)
        else:
            yield f"**`{name}`**", _default(MISSING), accepted_words(field), str(field.description)


def _default(value: Any) -> str:
    if value is MISSING or value is PydanticUndefined:
        return "(must be given)"
    return f"`{_yaml(value)}`"


def _yaml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        if len(value) > 3 and value == list(range(value[0], value[-1] + 1)):
            return f"{{from: {value[0]}, to: {value[-1]}}}"
        return "[" + ", ".join(map(_yaml, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "\\<")


if __name__ == "__main__":
    print(reference(), end="")
