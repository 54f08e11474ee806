"""Energy: counters as they are read, devices that runs share, and what is said where nothing can be read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tune_bn.records.energy import energy_of, energy_words, over_time
from tune_bn.runners import energy
from tune_bn.runners.energy import Counter, Meter, packages


def told(record: Any, *entries: Any) -> Any:
    return replace(record, environment={"device_kind": "cuda", "energy": list(entries)})


def entry(source: str, since: float, to: float, joules: float, **more: Any) -> dict[str, Any]:
    return {"source": source, "from": since, "to": to, "joules": joules, **more}


def test_runs_that_share_a_device_are_counted_once() -> None:
    # Two at the same time see the same joules; the third comes later.
    assert over_time([(0, 10, 1000), (0, 10, 1000), (20, 30, 500)]) == pytest.approx(1500)
    # 100 W for 10 s, of which the second run saw the last 5, and 60 W for 5 s alone.
    assert over_time([(0, 10, 1000), (5, 15, 800)]) == pytest.approx(500 + 5 * (100 + 80) / 2 + 5 * 80)
    assert over_time([]) == 0


def test_measured_and_estimated_stay_apart_and_devices_of_their_own(synthetic_study: Any) -> None:
    one, two, three, four, *_ = synthetic_study().records
    records = [
        told(one, entry("gpu:GPU-1", 0, 10, 3.6e6), entry("cpu:a:package-0", 0, 10, 3.6e5)),
        told(two, entry("gpu:GPU-2", 0, 10, 3.6e6)),
        told(three, entry("gpu:GPU-3", 0, 10, 7.2e6, estimated=True)),
        four,
    ]
    found = energy_of(records)
    assert found["measured"] == pytest.approx({"gpu": 7.2e6, "cpu": 3.6e5})
    assert found["estimated"] == pytest.approx({"gpu": 7.2e6})
    words = energy_words(records)
    assert (
        "measured while 3 of 4 runs were there, whatever else was: 0.1 kWh of CPU packages and 2 kWh of GPUs." in words
    )
    assert "Estimated apart, as power limit × time, which is the most that it can be: 2 kWh of GPUs." in words


@pytest.mark.parametrize(
    "odd",
    [
        "much",
        [1],
        [{}],
        [{"source": "gpu:1", "from": 5, "to": 5, "joules": 1}],
        [{"source": "gpu:1", "from": 0, "to": 5, "joules": -1}],
        [{"source": "gpu:1", "from": 0, "to": 5, "joules": float("nan")}],
        [{"source": 7, "from": 0, "to": 5, "joules": 1}],
        [{"source": "gpu:1", "from": True, "to": 5, "joules": 1}],
    ],
)
def test_a_stranger_s_record_may_hold_anything(synthetic_study: Any, odd: Any) -> None:
    record = replace(synthetic_study().records[0], environment={"energy": odd})
    assert energy_words([record]).startswith("Energy was not measured")


@pytest.fixture
def rapl(tmp_path: Path) -> Path:
    """One package of 1,000 J before it begins anew, with a zone of its cores."""
    for name, words in (("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "core"), ("intel-rapl-mmio:0", "package-0")):
        zone = tmp_path / name
        zone.mkdir()
        (zone / "name").write_text(f"{words}\n")
        (zone / "max_energy_range_uj").write_text("1000000000\n")
        (zone / "energy_uj").write_text("900000000\n")
    return tmp_path


def test_a_package_that_begins_anew_is_read_on(rapl: Path) -> None:
    (counter,) = packages(rapl)
    assert counter.source.endswith(":package-0")
    meter = Meter("cpu", [counter])
    for value in ("950000000", "50000000", "60000000"):
        (rapl / "intel-rapl:0" / "energy_uj").write_text(value)
        found = meter.entries()
    assert found[0]["joules"] == pytest.approx(160)
    # One that can no longer be read tells nothing, and ends no run.
    (rapl / "intel-rapl:0" / "energy_uj").unlink()
    assert meter.entries() == []


def test_what_may_not_be_read_is_not_told(rapl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (rapl / "intel-rapl:0" / "energy_uj").unlink()
    assert packages(rapl) == []
    monkeypatch.setattr(energy, "RAPL", rapl / "none")
    monkeypatch.setattr(energy, "_nvml", lambda: None)
    assert Meter("cuda:0", energy.gpu("cuda:0")).entries() == []


def test_a_gpu_without_a_counter_has_an_estimate_that_says_so() -> None:
    meter = Meter("cuda:0", [Counter("gpu:GPU-1", None, watts=300.0)])
    (found,) = meter.entries()
    assert found["estimated"] is True
    assert found["joules"] <= 300.0 * (found["to"] - found["from"] + 0.2)
