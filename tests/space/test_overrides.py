"""``--set``, and the hash of what a result depends on."""

from pathlib import Path
from typing import Any

import pytest

from tests.space.small_spaces import LEAST, SECTIONS, space
from tune_bn.errors import SpecError
from tune_bn.space.file import dump_yaml, parse_value
from tune_bn.space.loading import load_space, parse_space


def test_overrides_reach_every_section(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(dump_yaml(LEAST))
    loaded = load_space(
        path, ["train.epochs=5", "train.lr=1e-2", "claim.baseline.gamma=0.5", "search.lr={choice: [1, 2]}"]
    )
    assert (loaded.train.epochs, loaded.train.lr) == (5, 0.01)
    assert loaded.claim.baseline == {"gamma": 0.5}
    assert "lr" in loaded.search
    assert load_space(path, ["train.epochs=5", "train.epochs=6"]).train.epochs == 6


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("garbage", "--set garbage: accepted: KEY=VALUE"),
        ("", "--set : accepted: KEY=VALUE"),
        ("=3", "--set =3: accepted: KEY=VALUE"),
        ("train.=3", "--set train.=3: accepted: KEY=VALUE"),
        (".train=3", "--set .train=3: accepted: KEY=VALUE"),
        ("train..epochs=3", "--set train..epochs=3: accepted: KEY=VALUE"),
        ("train.epochs=[1", "--set train.epochs=[1:1:3: not YAML"),
        ("train.epochs=", "x.yaml with train.epochs=: train.epochs: got None; accepted: an integer ≥ 1"),
        ("train.epochs=many", "x.yaml with train.epochs=many: train.epochs: got 'many'; accepted: an integer"),
        ("name.x=3", "--set name.x=3: name is no section but 'x'; accepted: a key of a section"),
        ("train.epochs.x=3", "train.epochs: got {'x': 3}; accepted: an integer ≥ 1"),
        ("tarin.epochs=3", "x.yaml with tarin.epochs=3: tarin: no such key; accepted: train (did you mean it?)"),
        ("train=3", "train: got 3; accepted: a mapping with the keys"),
        ("train.epochs=3\nx", r"x.yaml with train.epochs=3\nx: train.epochs: got '3 x'"),
    ],
)
def test_overrides_that_cannot_be_applied_are_named(tmp_path: Path, override: str, problem: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(dump_yaml(LEAST | {"train": {"epochs": 3}} if override.startswith("tarin") else LEAST))
    with pytest.raises(SpecError) as caught:
        load_space(path, [override])
    assert problem in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_an_override_does_not_hide_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("")
    with pytest.raises(SpecError, match=r"x\.yaml: got an empty file; accepted: a mapping"):
        load_space(path)
    with pytest.raises(SpecError, match=r"search: got \{\}; accepted: at least one"):
        load_space(path, ["name=x"])


@pytest.mark.parametrize(
    "changes",
    [
        {"budget": {"trials": 99, "hours": 1.5, "finalists": 5, "max_failures": 0}},
        {"resources": {"cpu": 2, "gpu": 1, "max_concurrent": 3, "elastic": True, "checkpoint_seconds": 1}},
        {"tracking": {"uri": "http://127.0.0.1:5000"}},
        {"train": {"epochs": 180}},
        {"model": {"gamma": 1}},
        {"search": {"gamma": {"log_uniform": [0.01, 1.0]}, "c": {"log_uniform": [1.0, 1e3]}}},
        {"search": {"c": {"log_uniform": [1, 1000]}, "gamma": {"log_uniform": [0.01, 1]}}},
        {"claim": {"baseline": {"gamma": 1, "c": 1.0}}},
        {"seeds": {"confirm": list(range(1, 16))}},
    ],
)
def test_the_hash_is_that_of_what_a_result_depends_on(changes: dict[str, Any]) -> None:
    """Spending, place and tracker do not count, nor does how a value is written."""
    assert space(**changes).sha256 == space().sha256


CHANGES: list[dict[str, Any]] = [
    {"name": "y"},
    {"model": {"arch": "resnet8"}},
    {"model": {"input_norm": "bn"}},
    {"model": {"gamma": 0.5}},
    {"data": {"train_size": 100}},
    {"data": {"flip": True}},
    {"train": {"epochs": 181}},
    {"train": {"lr": 0.05}},
    {"train": {"c": 100}},
    {"train": {"precision": "bf16"}},
    {"search": {"gamma": {"log_uniform": [0.01, 1]}}},
    {"search": LEAST["search"] | {"c": {"log_uniform": [1, 999]}}},
    {"search": LEAST["search"] | {"c": {"uniform": [1, 1000]}}},
    {"search": LEAST["search"] | {"c": {"int": [1, 1000]}}},
    {"search": LEAST["search"] | {"lr": {"choice": [0.1]}}},
    {"search": LEAST["search"] | {"lr": {"choice": [0.2]}}},
    {"sampler": {"seed": 1}},
    {"sampler": {"points": "none"}},
    {"sampler": {"points": [{"gamma": 0.1}]}},
    {"sampler": {"points": [{"gamma": 0.2}]}},
    {"scheduler": {"name": "none"}},
    {"scheduler": {"grace": 11}},
    {"seeds": {"search": [102]}},
    {"seeds": {"select": [202, 201, 203]}},
    {"seeds": {"confirm": {"from": 1, "to": 14}}},
    {"claim": {"baseline": {"gamma": 1}}},
    {"claim": {"baseline": {"gamma": 0.5, "c": 1}}},
    {"claim": {"metric": "final_test_accuracy"}},
    {"claim": {"alpha": 0.01}},
    {"claim": {"candidates": 2}},
]


def test_the_hash_changes_with_anything_else() -> None:
    hashes = [space().sha256, *(space(**changes).sha256 for changes in CHANGES)]
    assert len(set(hashes)) == len(hashes)


@pytest.mark.parametrize("changes", [{}, *CHANGES, {"name": "1e5"}, {"data": {"root": "1e-4"}}])
def test_a_space_with_every_default_written_out_is_the_same_space(changes: dict[str, Any]) -> None:
    first = space(**changes)
    second = parse_space(parse_value(dump_yaml(first.to_dict()), "text"), "space.yaml")
    assert second == first
    assert second.sha256 == first.sha256
    assert second.to_dict() == first.to_dict()
    assert set(first.to_dict()) == set(SECTIONS)
