"""What was trained and how it was chosen, in the first lines of a report; what came before; and what to cite."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tune_bn.analysis.verdict import write_verdict
from tune_bn.method.config import BUILT_IN
from tune_bn.method.norms import NORMS as LAYERS
from tune_bn.records.score import Score
from tune_bn.report.blocks import Table
from tune_bn.report.citing import citation
from tune_bn.report.paper_text import AUTHOR, YEAR, tool_entry
from tune_bn.report.process import finalists
from tune_bn.report.setup import NORMS, trained
from tune_bn.report.study import load

MODEL = {"arch": "resnet8", "stem": "small", "norm": "scaled"}
BUDGET = {"finalists": 3, "race_error": 0.05}


@pytest.fixture
def told(synthetic_study, loaded):
    """The first lines about a study with these sections in its space file, by their names."""
    study = loaded(synthetic_study())

    def of(sections=None, **changes):
        space = {"model": MODEL, "budget": BUDGET, "claim": {"candidates": 1}, "seeds": {"select": [201, 202, 203]}}
        (block,) = trained(replace(study, space=space | (sections or {}), **changes))
        names = [part.text.rstrip(":") for part in block.spans[::2]]
        return dict(zip(names, (words.strip() for words in block.spans[1::2]), strict=True))

    of.study = study
    return of


def test_every_norm_layer_of_the_package_has_its_few_words():
    own = {name for name in LAYERS if name in LAYERS._rows}
    assert own == set(NORMS)
    assert max(len(words.split()) for words in NORMS.values()) <= 6


def test_network_stem_norm_and_optimizer_are_said(told):
    found = told({"train": {"epochs": 40, "optimizer": "sgd", "lr": 0.1}})
    assert found["Network"] == "resnet8, stem small (3×3 convolution, stride 1), norm scaled (batch norm with γ and c)."
    assert found["Each run"] == "40 epochs, optimizer sgd, learning rate 0.1."
    assert all(re.fullmatch(r"resnet\d+", arch) for arch in BUILT_IN)


@pytest.mark.parametrize("arch", ["torchvision/densenet121", "mine.nets:build"])
def test_a_network_with_first_layers_of_its_own_has_no_stem(told, arch):
    found = told({"model": MODEL | {"arch": arch, "norm": "added"}})
    assert found["Network"] == f"{arch}, norm added."


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("test_accuracy", "with the weights of the epoch of the best validation accuracy"),
        ("final_test_accuracy", "with the weights of the last epoch"),
    ],
)
def test_at_which_epoch_the_score_is_taken(told, metric, words):
    study = told.study
    found = told(plan=replace(study.plan, metric=metric))["Score"]
    assert words in found
    assert found.endswith("search and selection compare validation accuracy (best epoch).")


@pytest.mark.parametrize(
    ("at", "trainer", "words"),
    [
        ("mean_last(5)", {"function": "a:b"}, "as the training code reports it; search and selection compare "
         "validation loss (mean of the last 5 steps)."),
        ("last", {"command": ["x"], "test_command": ["y"], "test_checkpoint": "best"},
         "of the checkpoint of the best validation loss; search and selection compare validation loss (last step)."),
        ("last", {"command": ["x"], "test_command": ["y"], "test_checkpoint": "last"}, "checkpoint of the last step;"),
    ],
)  # fmt: skip
def test_other_training_code_has_its_own_words(told, at, trainer, words):
    score = Score("val_loss", "test_loss", "min", at=at, step="step")
    assert words in told({"trainer": trainer}, score=score)["Score"]


def test_the_rule_of_the_selection_and_what_breaks_a_tie(told):
    assert told()["Chosen"] == (
        "the 3 best trials that ran to their end (of equals the earlier one) go on to the selection seeds 201–203, "
        "where one that is clearly behind is dropped (race); the best by the mean there (of equals the better one in "
        "the search) is confirmed."
    )
    several = told({"claim": {"candidates": 2}, "budget": BUDGET | {"race_error": None}})["Chosen"]
    assert "dropped" not in several
    assert "the 2 best by the mean there" in several
    assert several.endswith("are confirmed.")


def test_without_a_search_nothing_was_chosen(told):
    kept = [record for record in told.study.records if record.stage == "confirm"]
    assert "Chosen" not in told(records=kept)


@pytest.mark.parametrize(
    ("data", "earlier", "words"),
    [
        ({"test": {"images": "a"}}, [], "none in the ledger.jsonl of its folder."),
        ({"test": {"images": "a"}}, ["first-1", "second-1"], "first-1, second-1."),
        ({}, [], None),
        (None, [], None),
    ],
)
def test_which_claims_came_before_on_the_test_data(told, data, earlier, words):
    from tune_bn.records.plan import EarlierClaim

    claims = tuple(EarlierClaim(name, "ab" * 32) for name in earlier)
    plan = replace(told.study.plan, data=data, earlier_claims=claims)
    # Where the data was not recorded nothing is known of it, which is not that there was none.
    assert told(plan=plan).get("Earlier claims on these test data") == words


def test_the_gains_by_stage_are_not_taken_for_the_tested_effect(synthetic_study, tmp_path):
    folder = synthetic_study(effect=0.1).write(tmp_path / "study")
    write_verdict(folder)
    blocks = list(finalists(load(folder)))
    gains = next(block for block in blocks if isinstance(block, Table) and block.title == "Gains by stage")
    assert gains.header == (
        "candidate",
        "validation accuracy: gain in the search, pp",
        "in the selection, pp",
        "on the confirmation seeds, pp",
        "not seen again, pp",
    )
    text = " ".join(span for block in blocks for span in getattr(block, "spans", ()))
    assert "The tested score, test accuracy, stands in no column here." in text
    assert "how much of a single fall is luck is not known" in text
    assert "was lucky" not in text


def test_the_entry_of_the_tool_is_whole(synthetic_study, loaded):
    *_, code = citation(loaded(synthetic_study()))
    tool = code.text[code.text.index("@misc") :]
    fields = dict(re.findall(r"^  (\w+) += \{(.*)\},?$", tool, re.M))
    assert {"author", "title", "year"} <= set(fields)
    assert fields["author"] == r"{the tune\_bn authors}"
    assert not re.search(r",\s*}", code.text)
    # Every field but the last ends in a comma.
    for entry in code.text.split("\n\n"):
        body = entry.split("\n")[1:-1]
        assert [line.endswith(",") for line in body] == [True] * (len(body) - 1) + [False]


@pytest.mark.parametrize(("version", "commit"), [(None, None), ("1.0", None), (None, "ab"), ("1.0", "ab")])
def test_what_is_not_known_leaves_no_comma_behind(version, commit):
    entry = tool_entry(version, commit)
    assert not re.search(r",\s*}", entry)
    assert ("version" in entry, "commit" in entry) == (version is not None, commit is not None)


def test_author_and_year_are_those_of_the_licence():
    text = (Path(__file__).parents[2] / "LICENSE").read_text()
    assert f"Copyright (c) {YEAR} {AUTHOR}" in text
