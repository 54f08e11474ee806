"""Same data, same kind of device: what breaks a pair, what is said beside, and what old records cannot tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from tune_bn.analysis.plan import seal
from tune_bn.analysis.verdict import judge
from tune_bn.records.record import Record

DATA: dict[str, Any] = {
    "classes": {"count": 2, "sha256": "c"},
    "train": {"count": 60, "images": "a", "labels": "l"},
    "val": {"count": 10, "images": "b", "labels": "m"},
    "test": {"count": 80, "images": "t", "labels": "n"},
}
UNTESTED = {key: value for key, value in DATA.items() if key != "test"}
ENVIRONMENT: dict[str, Any] = {
    "device_kind": "cpu",
    "device_model": "EPYC 7763",
    "precision": "fp32",
    "deterministic": True,
    "cpu_capability": "AVX2",
    "threads": 1,
    "memory_format": "channels_last",
}
CUDA = {"device_kind": "cuda", "device_model": "NVIDIA A100", "precision": "fp32", "cuda": "13.0", "cudnn": 91000}


def sealed(plan: dict[str, Any], records: list[Record]) -> tuple[dict[str, Any], list[Record]]:
    plan = seal(plan)
    return plan, [replace(r, plan_sha256=plan["plan_sha256"]) if r.stage == "confirm" else r for r in records]


@pytest.fixture
def study(synthetic_study: Callable[..., Any]) -> tuple[dict[str, Any], list[Record]]:
    """A supported study of today: every record tells its data and its environment."""
    made = synthetic_study(effect=2.0, trials=12)
    told = [replace(r, data=DATA if r.stage == "confirm" else UNTESTED, environment=ENVIRONMENT) for r in made.records]
    return sealed(made.plan | {"schema_version": 2, "data": DATA, "device_kind": "cpu"}, told)


Change = Callable[[Record], Record]


def verdict_of(study: tuple[dict[str, Any], list[Record]], change: Change, where: Callable[[Record], bool]) -> Any:
    plan, records = study
    return judge(plan, [change(record) if where(record) else record for record in records])


def other_data(**parts: dict[str, Any]) -> Change:
    return lambda r: replace(r, data={**r.data, **{key: {**r.data[key], **new} for key, new in parts.items()}})


def elsewhere(device: str | None = None, **facts: Any) -> Change:
    return lambda r: replace(r, device=device or r.device, environment={**r.environment, **facts})


def is_candidate(record: Record) -> bool:
    return record.arm == "candidate-1"


def confirmed(record: Record) -> bool:
    return record.stage == "confirm"


def began(when: str) -> Change:
    return lambda r: replace(r, started_at=when)


def is_third(record: Record) -> bool:
    return confirmed(record) and record.seed == 3


@pytest.mark.parametrize(
    ("seconds", "told"), [(-86400, "1 day, 0:00:00"), (-301, "0:05:01"), (-299, None), (0, None), (600, None)]
)
def test_runs_that_began_before_their_plan_are_told_of(study: Any, seconds: int, told: str | None) -> None:
    when = datetime.fromisoformat(study[0]["created_at"]) + timedelta(seconds=seconds)
    verdict = verdict_of(study, began(when.isoformat()), is_third)
    assert verdict["verdict"] == "supported"
    if told is None:
        assert verdict["remarks"] == []
    else:
        (remark,) = verdict["remarks"]
        assert remark.count("-s3") == 2, "one of each arm"
        assert f"began before the plan was locked, the first by {told}: either a clock was wrong, or" in remark


@pytest.mark.parametrize("when", ["", "yesterday", "2020-01-01T00:00:00", "2020-13-01T00:00:00Z"])
def test_a_time_that_says_nothing_accuses_nobody(study: Any, when: str) -> None:
    assert verdict_of(study, began(when), is_third)["remarks"] == []


def test_a_test_score_before_the_confirmation_makes_the_verdict_invalid(study: Any) -> None:
    def peeked(record: Record) -> Record:
        return replace(record, scores={**record.scores, "test_accuracy": 90.0})

    verdict = verdict_of(study, peeked, lambda r: r.stage == "search" and r.trial == 1)
    assert verdict["verdict"] == "invalid"
    assert "the test score 'test_accuracy' was known before the confirmation: search-" in verdict["problems"][0]


def test_runs_alike_need_no_words(study: Any) -> None:
    verdict = judge(*study)
    assert (verdict["verdict"], verdict["remarks"]) == ("supported", [])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_data(train={"images": "z"}), "other training images (60 before and now)"),
        (other_data(train={"labels": "z"}), "other labels of the training images (60 before and now)"),
        (other_data(val={"images": "z", "labels": "z"}), "other validation images and labels (10 before and now)"),
        (other_data(test={"count": 81, "images": "z", "labels": "z"}), "test images (80 before, 81 now)"),
        (other_data(classes={"sha256": "z"}), "other names of classes (2 before and now)"),
        (other_data(classes={"count": 3, "sha256": "z"}), "classes (2 before, 3 now)"),
    ],
)
@pytest.mark.parametrize("where", [lambda r: is_candidate(r) and r.seed > 3, confirmed])
def test_a_run_on_other_data_than_the_plan_makes_the_verdict_invalid(
    study: Any, change: Change, words: str, where: Callable[[Record], bool]
) -> None:
    verdict = verdict_of(study, change, where)
    assert verdict["verdict"] == "invalid"
    (problem,) = verdict["problems"]
    assert problem.startswith(f"confirm runs saw other data than the plan: {words}: confirm-")


def per_seed(study: Any) -> tuple[dict[str, Any], list[Record]]:
    """The same study, each of whose runs drew its split."""
    plan, records = study
    pool = {"count": 70, "images": "p", "labels": "q"}
    data = DATA | {"pool": pool, "train": {"count": 60, "of": "p"}, "val": {"count": 10, "of": "p"}}
    seen = {key: value for key, value in data.items() if key != "test"}
    told = [
        replace(
            r,
            data=data if r.stage == "confirm" else seen,
            environment={**r.environment, "split": f"split of {r.seed}"},
        )
        for r in records
    ]
    return sealed(plan | {"data": data}, told)


def test_a_pair_shares_the_split_of_its_seed(study: Any) -> None:
    drawn = per_seed(study)
    verdict = judge(*drawn)
    assert (verdict["verdict"], verdict["remarks"]) == ("supported", [])
    _, captured, missing = verdict["covers"].replace("Not captured", "captured").split("captured", 2)
    assert "split" in captured
    assert "split into" not in missing
    assert "split into" in judge(*study)["covers"].partition("Not captured")[2]
    apart = verdict_of(drawn, elsewhere(split="another"), lambda r: is_candidate(r) and confirmed(r) and r.seed == 4)
    assert apart["verdict"] == "invalid"
    assert "different splits into training and validation images" in apart["problems"][0]
    other = verdict_of(drawn, other_data(pool={"images": "z"}), confirmed)
    assert "other images that train or validate (70 before and now)" in other["problems"][0]


def test_a_search_on_other_data_than_the_plan_is_noticed(study: Any) -> None:
    change = other_data(train={"images": "z"})
    verdict = verdict_of(study, change, lambda r: r.stage == "search" and (r.trial or 0) < 2)
    (problem,) = verdict["problems"]
    assert problem.startswith("search runs saw other data than the plan: other training images")
    assert problem.endswith("search-candidate-t00000-s101, search-candidate-t00001-s101")


def test_a_confirmation_that_does_not_say_its_data_under_a_plan_that_does_is_invalid(study: Any) -> None:
    verdict = verdict_of(study, lambda r: replace(r, data=UNTESTED), lambda r: confirmed(r) and r.seed == 2)
    assert "do not say which data they saw" in verdict["problems"][0]
    verdict = verdict_of(study, lambda r: replace(r, data={}), lambda r: confirmed(r) and r.seed == 2)
    assert "do not say which data they saw" in verdict["problems"][0]


def test_data_that_mixes_under_a_plan_that_locks_none_is_noticed_too(study: Any) -> None:
    plan, records = study
    old = {key: value for key, value in plan.items() if key not in ("data", "device_kind")}
    bare = sealed(old | {"schema_version": 1}, records)
    assert judge(*bare)["verdict"] == "supported"
    verdict = verdict_of(bare, other_data(test={"images": "z"}), lambda r: is_candidate(r) and r.seed == 4)
    (problem,) = verdict["problems"]
    assert problem.startswith("confirm runs saw other data than the runs before: other test images (80 before and now)")
    assert problem.endswith("-s4")


def test_a_failed_run_on_other_data_breaks_nothing(study: Any) -> None:
    plan, records = study
    (run,) = [r for r in records if is_candidate(r) and r.seed == 3]
    failed = replace(other_data(test={"images": "z"})(run), status="failed", scores={})
    verdict = judge(plan, [failed, *records])
    assert verdict["problems"] == []


@pytest.mark.parametrize(
    "elsewhere_is",
    [
        pytest.param(lambda r: replace(r, device="NVIDIA A100", environment=CUDA), id="record of today"),
        pytest.param(lambda r: replace(r, device="NVIDIA A100", environment={}), id="name of the device alone"),
    ],
)
def test_pairs_on_different_kinds_of_device_are_no_pairs(study: Any, elsewhere_is: Change) -> None:
    plan, records = study
    plan, records = sealed(plan | {"device_kind": "gpu"}, records)
    verdict = verdict_of((plan, records), elsewhere_is, lambda r: is_candidate(r) and r.seed < 4)
    assert verdict["verdict"] == "invalid"
    assert verdict["problems"] == [
        "the runs of a pair were on different kinds of device (baseline: cpu, candidate-1: cuda; seed 1, 2, 3), so "
        "they are no pair"
    ]


def test_old_records_of_a_baseline_on_the_cpu_and_a_candidate_on_a_gpu_are_invalid(
    synthetic_study: Callable[..., Any],
) -> None:
    made = synthetic_study(effect=2.0)
    records = [replace(r, device="NVIDIA H200") if is_candidate(r) else r for r in made.records]
    verdict = judge(made.plan, records)
    assert verdict["verdict"] == "invalid"
    assert (
        "different kinds of device (baseline: cpu, candidate-1: cuda; seed 1, 2, 3, 4, 5 and 10 more)"
        in (verdict["reason"])
    )


def test_a_plan_for_the_cpu_has_no_runs_elsewhere(study: Any) -> None:
    verdict = verdict_of(study, lambda r: replace(r, device="NVIDIA A100", environment=CUDA), confirmed)
    assert verdict["problems"][0].startswith("the plan is for runs on cpu, and confirmation runs were elsewhere: ")


def test_pairs_that_are_alike_on_several_kinds_are_said(study: Any) -> None:
    plan, records = study
    both = sealed(plan | {"device_kind": "gpu"}, records)
    change = lambda r: replace(r, device="NVIDIA A100", environment=CUDA)  # noqa: E731
    verdict = verdict_of(both, change, lambda r: confirmed(r) and r.seed < 4)
    assert verdict["verdict"] == "supported"
    assert "the confirmation ran on several kinds of device (cuda, cpu)" in verdict["remarks"]


def test_gpus_that_were_reserved_and_not_used_are_said(study: Any) -> None:
    plan, records = study
    verdict = judge(*sealed(plan | {"device_kind": "gpu"}, records))
    assert verdict["remarks"] == ["GPUs were reserved (resources.gpu), but every confirmation run was on the CPU"]


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"device_model": "EPYC 9654"}, "models of device (baseline: EPYC 7763, candidate-1: EPYC 9654; seed 1, 2)"),
        ({"threads": 8}, "numbers of threads (baseline: 1, candidate-1: 8; seed 1, 2)"),
        ({"cpu_capability": "AVX512"}, "instruction sets of the CPU (baseline: AVX2, candidate-1: AVX512; seed 1, 2)"),
        ({"memory_format": "contiguous"}, "memory formats (baseline: channels_last, candidate-1: contiguous;"),
        ({"deterministic": False}, "settings of deterministic kernels (baseline: true, candidate-1: false;"),
    ],
)
def test_what_only_reorders_sums_is_said_and_counts(study: Any, facts: dict[str, Any], words: str) -> None:
    verdict = verdict_of(study, elsewhere(**facts), lambda r: is_candidate(r) and r.seed < 3)
    assert verdict["verdict"] == "supported"
    (remark,) = verdict["remarks"]
    assert words in remark


def test_two_models_of_gpu_are_said(study: Any) -> None:
    plan, records = study
    gpu = [replace(r, device="NVIDIA A100", environment=CUDA) for r in records]
    both = sealed(plan | {"device_kind": "gpu"}, gpu)
    assert judge(*both)["remarks"] == []
    change = elsewhere("NVIDIA H100", device_model="NVIDIA H100")
    verdict = verdict_of(both, change, lambda r: is_candidate(r) and r.seed == 7)
    assert verdict["verdict"] == "supported"
    assert verdict["remarks"] == [
        "the runs of a pair were on different models of device (baseline: NVIDIA A100, candidate-1: NVIDIA H100; seed "
        "7); the verdict counts it as noise"
    ]


def test_a_precision_that_a_variable_forces_upon_one_arm_breaks_its_pairs(study: Any) -> None:
    verdict = verdict_of(study, elsewhere(precision="fp32, NVIDIA_TF32_OVERRIDE=1"), is_candidate)
    assert verdict["verdict"] == "invalid"
    assert "different precisions (baseline: fp32, candidate-1: fp32, NVIDIA_TF32_OVERRIDE=1" in verdict["reason"]


def test_a_precision_that_the_arm_states_is_what_is_compared(study: Any) -> None:
    plan, records = study
    config = plan["candidates"][0]["config"] | {"precision": "bf16"}
    arms = plan | {"candidates": [plan["candidates"][0] | {"config": config}]}
    changed = [
        replace(r, config=config, environment=ENVIRONMENT | {"precision": "bf16"}) if is_candidate(r) else r
        for r in records
    ]
    verdict = judge(*sealed(arms, changed))
    assert (verdict["verdict"], verdict["remarks"]) == ("supported", [])


def test_records_of_an_earlier_version_say_what_they_lack(synthetic_study: Callable[..., Any]) -> None:
    made = synthetic_study(effect=2.0)
    verdict = judge(made.plan, [replace(r, schema_version=1) for r in made.records])
    assert verdict["verdict"] == "supported"
    data, place = verdict["remarks"]
    begins = "the records of the confirmation come from a version or a trainer that did not record the data"
    assert data.startswith(begins)
    assert "(precision, threads, libraries of the device)" in place


@pytest.mark.parametrize("key", ["network", "torch"])
def test_a_search_under_other_code_than_the_confirmation_is_said(study: Any, key: str) -> None:
    plan, records = study
    versions = {**records[0].versions, key: "new"}
    now = [
        replace(r, versions=versions) if confirmed(r) else replace(r, versions={**versions, key: "old"})
        for r in records
    ]
    verdict = judge(*sealed(plan | {"versions": versions}, now))
    assert verdict["verdict"] == "supported"
    assert verdict["remarks"] == [
        f"search or selection ran otherwise than the confirmation: {key} old (confirmation: new)"
    ]


@pytest.mark.parametrize("key", ["code", "torch"])
def test_a_plan_that_was_locked_under_other_versions_than_it_ran_under_is_said(study: Any, key: str) -> None:
    """As where a cluster's head has another torch than its nodes, or code is edited while its driver waits."""
    plan, records = study
    versions = plan["versions"] | {"code": "c", "network": "hash of all networks"}
    ran = {**records[0].versions, **versions, key: "new", "network": "hash of one"}
    verdict = judge(*sealed(plan | {"versions": versions}, [replace(r, versions=ran) for r in records]))
    assert verdict["verdict"] == "supported"
    assert verdict["remarks"] == [
        "the plan was locked under other versions than the confirmation ran under: "
        f"{key} {versions[key]} (confirmation: new)"
    ]


def test_networks_that_were_searched_and_not_confirmed_are_no_remark(study: Any) -> None:
    plan, records = study

    def of(arch: str) -> dict[str, Any]:
        return {**records[0].versions, "network": f"hash of {arch}", "network_packages": f"timm for {arch}"}

    def told(record: Record) -> Record:
        arch = "net:one" if confirmed(record) or (record.trial or 0) % 2 else "net:two"
        return replace(record, config={**record.config, "arch": arch}, versions=of(arch))

    def with_arch(arm: dict[str, Any]) -> dict[str, Any]:
        return arm | {"config": arm["config"] | {"arch": "net:one"}}

    arms = plan | {"baseline": with_arch(plan["baseline"]), "candidates": [with_arch(plan["candidates"][0])]}
    verdict = judge(*sealed(arms, [told(record) for record in records]))
    assert (verdict["verdict"], verdict["remarks"]) == ("supported", [])


@pytest.mark.parametrize("share", [1.0, 0.7, 0.3])
def test_a_test_score_that_is_the_validation_score_is_said(share: float, study: Any) -> None:
    """To the last digit, in most of the runs: the validation data is the test data."""

    def same(record: Record) -> Record:
        return replace(record, scores=dict(record.scores) | {"val_accuracy": record.scores["test_accuracy"]})

    runs = [record for record in study[1] if confirmed(record)]
    chosen = {record.key for record in runs[: round(share * len(runs))]}
    verdict = verdict_of(study, same, lambda record: record.key in chosen)
    said = [remark for remark in verdict["remarks"] if "equals val_accuracy to the last digit" in remark]
    assert len(said) == (share > 0.5)
    if said:
        assert f"in {len(chosen)} of {len(runs)} confirmed runs" in said[0]


def test_runs_at_an_end_of_the_range_or_all_alike_say_nothing_of_the_test_data(study: Any) -> None:
    for value in (100.0, 50.0):
        verdict = verdict_of(
            study,
            lambda record, value=value: replace(record, scores={"val_accuracy": value, "test_accuracy": value}),
            confirmed,
        )
        assert not [remark for remark in verdict["remarks"] if "to the last digit" in remark]
