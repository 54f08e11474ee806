"""The space file: what is accepted, what is named as wrong, and what follows from it."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.space.small_spaces import LEAST, SECTIONS, content, problem_of, space
from tune_bn.errors import ConfigError
from tune_bn.protocols.distributions import Choice, Range
from tune_bn.protocols.runner import SchedulerConfig


def test_a_space_needs_a_name_and_something_to_search() -> None:
    assert space().name == "x"
    assert problem_of({"search": LEAST["search"]}).startswith("x.yaml: name: is missing; accepted: text: a letter")
    assert "x.yaml: search: got {}; accepted: at least one searched key" in problem_of({"name": "x"})


@pytest.mark.parametrize("given", [None, [], "text", 3, True, ["name"]])
def test_a_file_that_holds_no_mapping_is_told_the_keys(given: Any) -> None:
    problem = problem_of(given)
    assert problem.startswith("x.yaml: got ")
    assert problem.endswith("; accepted: a mapping with the keys " + ", ".join(SECTIONS))


# What is wrong, the key and the value as they are named, and words of what would be accepted.
BAD: list[tuple[dict[str, Any], str, str]] = [
    # Unknown keys, at every level.
    ({"trian": {"epochs": 3}}, "trian: no such key", "train (did you mean it?), or one of name, model"),
    ({"zzz": 1}, "zzz: no such key", "one of name, model, data"),
    # A key without its section.
    ({"epochs": 3}, "epochs: no such key", "train.epochs (did you mean it?), or one of name, model"),
    ({"gamma": 0.1}, "gamma: no such key", "model.gamma (did you mean it?), or one of name"),
    ({"trials": 3}, "trials: no such key", "budget.trials (did you mean it?), or one of name"),
    ({"train": {"epoch": 3}}, "train.epoch: no such key", "train.epochs (did you mean it?), or one of"),
    ({"model": {"gama": 1}}, "model.gama: no such key", "model.gamma (did you mean it?)"),
    ({"data": {"sauce": "digits"}}, "data.sauce: no such key", "data.source (did you mean it?)"),
    ({"seeds": {"serach": [3]}}, "seeds.serach: no such key", "seeds.search (did you mean it?)"),
    ({"seeds": {"confirm": [1]}, "zzz": 1}, "zzz: no such key", "(and 1 more)"),
    ({"search": {"gama": {"uniform": [0.1, 1]}}}, "search.gama: got {'uniform': [0.1, 1]}", "gamma (did you mean it?)"),
    ({"search": {"gamma": {"uniform": [0.1, 1]}, "flip": {"choice": [True]}}}, "search.flip: got", "one of arch"),
    ({"claim": {"baseline": {"gama": 1}}}, "claim.baseline.gama: got 1", "gamma (did you mean it?)"),
    ({"sampler": {"points": [{"gama": 1}]}}, "sampler.points.0.gama: got 1", "gamma (did you mean it?)"),
    ({"data": {"crop_scale": [0.5, 2]}}, "data.crop_scale: got [0.5, 2.0]", "0 < least ≤ most ≤ 1"),
    ({"data": {"crop_scale": [0.5, True]}}, "data.crop_scale: got [0.5, True]", "[least, most]"),
    ({"data": {"crop_scale": [0.5, 10**400]}}, "data.crop_scale: got [0.5, 1000", "[least, most]"),
    ({"data": {"crop_scale": 0.5}}, "data.crop_scale: got 0.5", "[least, most]"),
    ({"data": {"crop_scale": [0.5, 1], "crop_padding": 2}}, "data.crop_scale: got [0.5, 1.0]", "crop_padding: 2"),
    # Distributions.
    ({"search": {"gamma": {"log_uniform": [1, 0.01]}}}, "search.gamma.log_uniform: got [1, 0.01]", "0 < low < high"),
    ({"search": {"gamma": {"log_uniform": [0, 1]}}}, "search.gamma.log_uniform: got [0, 1]", "0 < low < high"),
    ({"search": {"c": {"log_uniform": [-1, 1]}}}, "search.c.log_uniform: got [-1, 1]", "0 < low < high"),
    ({"search": {"c": {"uniform": [math.nan, 1]}}}, "search.c.uniform: got [nan, 1]", "low < high"),
    ({"search": {"c": {"uniform": [1, math.inf]}}}, "search.c.uniform: got [1, inf]", "low < high"),
    ({"search": {"gamma": {"normal": [0, 1]}}}, "search.gamma.normal: got [0, 1]", "{log_uniform: [low, high]}"),
    ({"search": {"gamma": None}}, "search.gamma: got None", "{log_uniform: [low, high]}"),
    ({"search": {"gamma": {"uniform": [0.1, 2]}}}, "search.gamma: got 2.0", "a number in (0, 1]"),
    ({"search": {"gamma": {"choice": [0.1, math.nan]}}}, "search.gamma: got nan", "a number in (0, 1]"),
    ({"search": {"c": {"uniform": [0, 1]}}}, "search.c: got 0.0", "a number > 0"),
    ({"search": LEAST["search"] | {"epochs": {"uniform": [1, 5]}}}, "search.epochs: got 1.0", "an integer ≥ 1"),
    ({"search": LEAST["search"] | {"arch": {"choice": ["vgg"]}}}, "search.arch: got 'vgg'", "resnet8 | resnet20"),
    ({"search": LEAST["search"] | {"lr": {"choice": ["0.1"]}}}, "search.lr: got '0.1'", "a number > 0"),
    ({"search": LEAST["search"] | {"lr": {"choice": [True]}}}, "search.lr: got True", "a number > 0"),
    ({"search": {}}, "search: got {}", "at least one searched key"),
    ({"search": {"lr": {"choice": [0.1]}}}, "search: got ['lr']", "gamma, c or both"),
    ({"search": ["gamma"]}, "search: got ['gamma']", "a mapping from keys to distributions"),
    # Seeds.
    ({"seeds": {"search": [1]}}, "seeds.confirm: got 1", "1 is already a seed of search"),
    ({"seeds": {"select": [15]}}, "seeds.confirm: got 15", "15 is already a seed of select"),
    ({"seeds": {"search": [7], "select": [7]}}, "seeds.select: got 7", "7 is already a seed of search"),
    ({"seeds": {"confirm": {"from": 1, "to": 300}}}, "seeds.confirm: got 101", "101 is already a seed of search"),
    ({"seeds": {"confirm": [1, 1]}}, "seeds.confirm: got 1", "a seed used once"),
    ({"seeds": {"confirm": [1]}}, "seeds.confirm: got [1]", "a list of at least two integers"),
    ({"seeds": {"confirm": []}}, "seeds.confirm: got []", "a list of at least two integers"),
    ({"seeds": {"confirm": {"from": 15, "to": 1}}}, "seeds.confirm: got {'from': 15, 'to': 1}", "at least two"),
    ({"seeds": {"confirm": {"from": 0, "to": 10**12}}}, "seeds.confirm: got {", "{from: 1, to: 15}"),
    ({"seeds": {"search": []}}, "seeds.search: got []", "a list of one or more integers"),
    ({"seeds": {"search": [-1]}}, "seeds.search: got -1", "integers ≥ 0"),
    ({"seeds": {"search": ["1"]}}, "seeds.search: got '1'", "integers ≥ 0"),
    ({"seeds": {"search": [1.5]}}, "seeds.search: got 1.5", "integers ≥ 0"),
    ({"seeds": {"search": [2**63]}}, "seeds.search: got 9223372036854775808", "integers ≥ 0"),
    ({"seeds": None}, "seeds: got None", "a mapping with the keys search, select, confirm"),
    # Values of another type, or out of range.
    ({"name": "../x"}, "name: got '../x'", "text: a letter or digit"),
    ({"name": ""}, "name: got ''", "text: a letter or digit"),
    ({"name": "x" * 65}, "name: got 'xxx", "up to 63 letters"),
    ({"name": "a\n"}, r"name: got 'a\n'", "text: a letter or digit"),
    ({"name": 3}, "name: got 3", "text: a letter or digit"),
    ({"train": [1]}, "train: got [1]", "a mapping with the keys epochs, batch_size"),
    ({"train": None}, "train: got None", "a mapping with the keys epochs, batch_size"),
    ({"train": {"epochs": 0}}, "train.epochs: got 0", "an integer ≥ 1"),
    ({"train": {"epochs": "3"}}, "train.epochs: got '3'", "an integer ≥ 1"),
    ({"train": {"epochs": 3.0}}, "train.epochs: got 3.0", "an integer ≥ 1"),
    ({"train": {"epochs": True}}, "train.epochs: got True", "an integer ≥ 1"),
    ({"train": {"epochs": None}}, "train.epochs: got None", "an integer ≥ 1"),
    ({"train": {"epochs": 10**400}}, "train.epochs: got 1000", "an integer ≥ 1"),
    ({"train": {"lr": math.nan}}, "train.lr: got nan", "a number > 0"),
    ({"train": {"lr": math.inf}}, "train.lr: got inf", "a number > 0"),
    ({"train": {"lr": 10**400}}, "train.lr: got 1000", "a number > 0"),
    ({"train": {"lr": "0.1"}}, "train.lr: got '0.1'", "a number > 0"),
    ({"train": {"momentum": 1}}, "train.momentum: got 1.0", "a number in [0, 1)"),
    ({"train": {"schedule": "stairs"}}, "train.schedule: got 'stairs'", "cosine | constant"),
    ({"model": {"gamma": 0}}, "model.gamma: got 0.0", "a number in (0, 1]"),
    ({"model": {"arch": 18}}, "model.arch: got 18", "resnet8 | resnet20"),
    ({"data": {"flip": "yes"}}, "data.flip: got 'yes'", "true or false"),
    ({"data": {"flip": 1}}, "data.flip: got 1", "true or false"),
    ({"data": {"train_size": 1}}, "data.train_size: got 1", "null or an integer ≥ 2"),
    ({"data": {"root": 3}}, "data.root: got 3", "null or a path"),
    ({"sampler": {"name": "cma"}}, "sampler.name: got 'cma'", "tpe | gp | cmaes | qmc | random | grid"),
    ({"sampler": {"points": "paper"}}, "sampler.points: got 'paper'", "paper_grid | none | a list of points"),
    ({"sampler": {"points": [3]}}, "sampler.points: got [3]", "paper_grid | none | a list of points"),
    ({"sampler": {"points": [{"gamma": 3}]}}, "sampler.points.0.gamma: got 3.0", "a number in (0, 1]"),
    ({"sampler": {"points": [{"gamma": 0.001}]}}, "sampler.points.0.gamma: got 0.001", "a value of {'log_uniform'"),
    ({"sampler": {"points": [{"lr": 0.1}]}}, "sampler.points.0.lr: got 0.1", "searched keys: gamma, c"),
    ({"scheduler": {"grace": 0}}, "scheduler.grace: got 0", "an integer ≥ 1"),
    ({"budget": {"trials": 0}}, "budget.trials: got 0", "an integer ≥ 1"),
    ({"budget": {"trials": 10**400}}, "budget.trials: got 1000", "an integer ≥ 1"),
    ({"budget": {"hours": 0}}, "budget.hours: got 0", "null or a number > 0"),
    ({"budget": {"max_failures": -1}}, "budget.max_failures: got -1", "an integer ≥ 0"),
    ({"claim": {"alpha": 0}}, "claim.alpha: got 0", "a number from 1e-8 to below 0.5"),
    ({"claim": {"alpha": math.nan}}, "claim.alpha: got nan", "a number from 1e-8 to below 0.5"),
    ({"claim": {"candidates": 4}}, "claim.candidates: got 4", "at most budget.finalists = 3"),
    ({"claim": {"candidates": 2}, "budget": {"trials": 1}}, "claim.candidates: got 2", "at most the search trials"),
    ({"claim": {"baseline": [1]}}, "claim.baseline: got [1]", "a mapping from keys of `model` and `train`"),
    ({"claim": {"baseline": {"gamma": 2}}}, "claim.baseline.gamma: got 2.0", "a number in (0, 1]"),
    ({"resources": {"cpu": 0}}, "resources.cpu: got 0", "a number > 0"),
    ({"resources": {"gpu": -1}}, "resources.gpu: got -1", "a number ≥ 0"),
    ({"resources": {"elastic": True}}, "resources.max_concurrent: got None", "with elastic: true, the trials"),
    ({"tracking": {"uri": 3}}, "tracking.uri: got 3", "null or a URI"),
    # Keys and values that would break the line, or fill the screen.
    ({"a\nb": 1}, r"a\nb: no such key", "one of name, model"),
    ({"train": "x" * 10_000}, "train: got 'xxx", "a mapping with the keys"),
    ({"y" * 10_000: 1}, "yyy", "one of name, model"),
]


@pytest.mark.parametrize(("changes", "found", "accepted"), BAD, ids=[found for _, found, _ in BAD])
def test_what_is_wrong_is_named_with_what_would_be_accepted(changes: dict[str, Any], found: str, accepted: str) -> None:
    problem = problem_of(content(**changes))
    assert problem.startswith(f"x.yaml: {found}")
    assert accepted in problem.partition("; accepted: ")[2]
    assert len(problem.splitlines()) == 1
    assert len(problem) < 700


def test_a_nuisance_key_is_not_the_claims() -> None:
    search = LEAST["search"] | {"lr": {"choice": [0.1, 0.01]}}
    problem = problem_of(content(search=search, claim={"baseline": {"lr": 0.1}}))
    assert problem == "x.yaml: claim.baseline.lr: got 0.1; accepted: nothing: lr is searched, for the baseline too"
    problem = problem_of(content(search=search, budget={"trials": 1}))
    assert problem == "x.yaml: budget.trials: got 1; accepted: an integer ≥ 2: lr is searched for the baseline too"


@pytest.mark.parametrize(("search", "point"), [({"c": {"log_uniform": [1, 1000]}}, {"c": 100.0})])
def test_c_alone_is_searched(search: dict[str, Any], point: dict[str, float]) -> None:
    only_c = space(search=search, model={"gamma": 0.3})
    assert only_c.start_points() == [point]
    assert only_c.fixed_scientific == {"gamma": 0.3}
    assert only_c.baseline == {"gamma": 1.0, "c": 1.0}
    assert only_c.nuisance == ()
    assert only_c.run_config({"c": 7}).train.c == 7.0


def test_gamma_alone_is_searched() -> None:
    only_gamma = space(search={"gamma": {"uniform": [0.05, 0.5]}}, train={"c": 100})
    assert [point["gamma"] for point in only_gamma.start_points()] == [0.1, 0.25, 0.5, 0.05]
    assert only_gamma.fixed_scientific == {"c": 100.0}
    assert only_gamma.run_config({"gamma": 0.1}).train.c == 100.0


def test_the_paper_grid_is_tried_as_far_as_it_lies_in_the_range() -> None:
    points = space().start_points()
    assert [point["gamma"] for point in points] == [0.1, 0.25, 0.5, 0.05, 1.0, 0.75, 0.01]
    assert {point["c"] for point in points} == {100.0}
    assert space(search=LEAST["search"] | {"c": {"uniform": [1, 10]}}).start_points() == []
    assert space(sampler={"points": "none"}).start_points() == []
    assert space(sampler={"points": [{"gamma": 0.2}, {"gamma": 0.2}]}).start_points() == [{"gamma": 0.2}]


def test_nuisance_keys_are_tuned_for_both_arms() -> None:
    search = {
        "gamma": {"log_uniform": [0.01, 1]},
        "lr": {"choice": [0.1, 0.01]},
        "epochs": {"int": [2, 30]},
        "arch": {"choice": ["resnet8", "resnet20"]},
    }
    nuisance = space(search=search, budget={"trials": 5}, scheduler={"grace": 10})
    assert nuisance.nuisance == ("lr", "epochs", "arch")
    assert nuisance.trials_of("candidate") + nuisance.trials_of("baseline") == 5
    assert nuisance.trials_of("candidate") == 2
    assert nuisance.distributions == {
        "gamma": Range(0.01, 1.0, log=True),
        "lr": Choice((0.1, 0.01)),
        "epochs": Range(2, 30, integer=True),
        "arch": Choice(("resnet8", "resnet20")),
    }
    config = nuisance.run_config({"lr": 0.01, "epochs": 4, "arch": "resnet20", "gamma": 1})
    assert (config.train.lr, config.train.epochs, config.model.arch, config.model.gamma) == (0.01, 4, "resnet20", 1.0)
    # The longest run that may be stopped, not the one that the space would train by itself.
    assert nuisance.scheduler_config == SchedulerConfig("asha", 10, 3, 30)
    assert space().trials_of("baseline") == 0


def test_a_scheduler_that_could_stop_nothing_is_none() -> None:
    assert space(scheduler={"name": "none"}).scheduler_config is None
    ten = {"grace": 10}
    assert space(train={"epochs": 10}, scheduler=ten).scheduler_config is None
    assert space(train={"epochs": 11}, scheduler=ten).scheduler_config == SchedulerConfig("asha", 10, 3, 11)
    assert space(train={"epochs": 11}).scheduler_config == SchedulerConfig("asha", None, 3, 11)


def test_a_refused_override_of_a_run_is_named() -> None:
    with pytest.raises(ConfigError, match=r"gamma: got 2\.0; accepted: a number in \(0, 1\]"):
        space().run_config({"gamma": 2})


def test_a_space_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        space().name = "y"  # type: ignore[misc]


PER_STAGE = {"gamma": {"per_stage": {"log_uniform": [0.05, 1.0]}}, "c": {"log_uniform": [1, 1000]}}


def test_a_gamma_by_stage_is_proposed_in_parts_and_trained_as_one() -> None:
    by_stage = space(model={"arch": "resnet8"}, search=PER_STAGE)
    assert list(by_stage.distributions) == ["gamma.1", "gamma.2", "gamma.3", "c"]
    assert by_stage.nuisance == ()
    overrides = by_stage.normalized({"gamma.1": 1, "gamma.2": 0.5, "gamma.3": 0.1, "c": 7})
    assert overrides == {"gamma.1": 1.0, "gamma.2": 0.5, "gamma.3": 0.1, "c": 7.0}
    config = by_stage.run_config(overrides)
    assert (config.model.gamma, config.train.c) == ({"per_stage": [1.0, 0.5, 0.1]}, 7.0)
    assert by_stage.baseline == {"gamma": 1.0, "c": 1.0}
    # A point of the paper's grid is the same γ in every stage; 0.01 lies outside the range.
    assert [point["gamma.3"] for point in by_stage.start_points()] == [0.1, 0.25, 0.5, 0.05, 1.0, 0.75]
    assert by_stage.start_points()[0] == {"gamma.1": 0.1, "gamma.2": 0.1, "gamma.3": 0.1, "c": 100.0}


def test_a_fixed_gamma_by_depth_is_stated_in_parts() -> None:
    by_depth = space(model={"gamma": {"linear": [1, 0.1]}}, search={"c": {"log_uniform": [1, 10]}})
    assert by_depth.normalized(by_depth.fixed_scientific) == {"gamma.start": 1.0, "gamma.end": 0.1}
    assert by_depth.run_config({"c": 2}).model.gamma == {"linear": [1.0, 0.1]}
    assert by_depth.run_config(by_depth.baseline).model.gamma == 1.0
    same = space(model={"gamma": {"linear": [1.0, 0.1]}}, search={"c": {"log_uniform": [1.0, 10.0]}})
    assert same.sha256 == by_depth.sha256


def test_layers_are_checked_with_every_value_that_may_meet_them() -> None:
    search = {"norm": {"choice": ["base", "rbn"]}, "c": {"choice": [1, 10]}}
    assert "search.c: got 10.0; accepted: 1 with norm: base" in problem_of(content(search=search))
    fine = space(search={"norm": {"choice": ["scaled", "rbn"]}, "gamma_branch_end": {"uniform": [0, 1]}})
    assert fine.nuisance == ()


def test_other_keys_than_those_of_the_claim_are_nuisance() -> None:
    tuned = space(search=LEAST["search"] | {"lr": {"choice": [0.1, 0.01]}, "c_beta": {"uniform": [1, 10]}})
    assert tuned.nuisance == ("lr",)


def test_every_network_that_may_be_trained_is_known_beforehand() -> None:
    assert space(model={"arch": "resnet20"}).archs == ("resnet20",)
    searched = space(search=LEAST["search"] | {"arch": {"choice": ["resnet8", "own.nets:net"]}})
    assert set(searched.archs) >= {"resnet8", "own.nets:net"}
    arms = {"wide": {"arch": "torchvision/wide_resnet50_2", "gamma": 0.1}, "same": {"gamma": 0.5}}
    assert space(search={}, claim={"arms": arms}).archs == ("resnet18", "torchvision/wide_resnet50_2")


@pytest.mark.long
@settings(deadline=None, max_examples=200)
@given(st.sampled_from(BAD), st.sampled_from(BAD))
def test_two_things_wrong_are_one_line_too(
    first: tuple[dict[str, Any], str, str], second: tuple[dict[str, Any], str, str]
) -> None:
    problem = problem_of(content(**(first[0] | second[0])))
    assert problem.startswith("x.yaml: ")
    assert len(problem.splitlines()) == 1
