"""Scaling and profile run in their quick forms, and a large dataset fits into the memory of a small machine."""

import json
import sys
from typing import Any

import pytest
import torch

from benchmarks.execution.provenance import peak_memory_mib
from benchmarks.speed import profile, scaling
from benchmarks.speed.harness import Options, hopper_sized


def test_every_axis_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = []

    def fresh(environment: dict[str, str] | None = None, /, **settings: Any) -> dict[str, Any]:
        pages.append(environment and environment["THP_MEM_ALLOC_ENABLE"])
        return scaling.updates(**settings) | {"peak_mib": 300.0}

    monkeypatch.setattr(scaling, "fresh", fresh)
    found = json.loads(json.dumps(scaling.measure(Options(quick=True))))
    measured = {name: tuple(point[name] for point in points) for name, points in found["axes"].items()}
    assert measured == {name: quick for name, (_, quick) in scaling.VALUES.items()}
    assert pages[-6:] == ["0", "1"] * 3
    seeds, *_, by_pages = scaling.figures(found)
    assert seeds.plain.endswith(" ms; 300 / 300 MiB")
    assert "huge pages" in by_pages.figure


@pytest.mark.slow
@pytest.mark.parametrize(("part", "limit"), [(10, 800), (1, 4096)], ids=["a tenth", "two million rows"])
def test_memory_of_a_large_dataset(part: int, limit: int) -> None:
    """Two million rows, ten seeds with half a million synthetic rows each: loaded, begun, updates.

    It takes 1.6 GiB, of which the ring has 0.5; imports, networks and optimisers are 0.5 GiB whatever the rows.
    """
    ballast = torch.ones(limit * 2**18)  # of this process; a child's `ru_maxrss` would begin with it
    sizes = {"rows": 2_000_000 // part, "seeds": 10, "buffer_rows": 500_000 // part}
    found = scaling.fresh(**sizes, count=25 if part == 1 else 1, seconds=0.0)
    assert ballast.nbytes / 2**20 + 1 < peak_memory_mib(torch.device("cpu"))
    assert found["start_mib"] < found["peak_mib"] < limit


def test_a_failure_is_told_with_what_it_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(RuntimeError, match=r"updates with .*rows.* failed"):
        scaling.fresh(rows=1)


def test_shares_of_a_cell_add_up_to_its_wall_time() -> None:
    overrides = ['generators=["ensemble"]', "seeds=[0]", "updates=4", "evaluate_every=2", "dataset_rows=1000"]
    found = profile.cell("smoke", [*overrides, "fidelity_starts=8", "ensemble.dynamics.max_updates=5"])
    assert found["shares"].keys() == {"fit", "generate", "update", "evaluate", "fidelity", "other"}
    assert sum(found["shares"].values()) == pytest.approx(1)
    assert min(found["shares"].values()) > 0


def test_products_of_an_update_are_recorded() -> None:
    found = profile.parts(hopper_sized(1000), seeds=1, rounds=1, quick=True)
    assert found["rates"].keys() == {"update", *profile.PARTS}
    assert found["ratios"].keys() == {*profile.PARTS}
    forward = 2 * 3 * 3 + 2 * 3  # in two updates, three layers each: critic, targets of actor and critic; actor, critic
    backward = 2 * (3 + 2) + (3 + 2) + 3  # weights and inputs of the critics; of the actor; inputs of its critic
    assert found["products"] == (forward + backward) / 2


def test_a_recorder_sees_products_only() -> None:
    weight = torch.ones(2, 2, requires_grad=True)
    with profile._Recorder() as recorded:
        (weight @ weight).relu().sum().backward()
    assert len(recorded.calls) == 3  # one forward, one for each factor
    assert torch.equal(recorded.calls[0](), torch.full((2, 2), 2.0))


def test_a_line_says_what_the_parts_take() -> None:
    rates: dict[str, Any] = {"update": {"median": 100.0}, "update, compiled": {"median": 200.0}}
    ratios = {name: {"update": 4.0, "update, compiled": 2.0} for name in profile.PARTS}
    turns = {"rates": rates | {name: {"median": 400.0} for name in profile.PARTS}, "ratios": ratios}
    found = {"updates": {"1 seed": turns}, "cell": {"shares": {"fit": 0.97, "other": 0.03}}}
    whole, first, *_, share, _ = profile.figures(found)
    assert (whole.plain, whole.compiled) == ("10.00 ms", "5.00 ms")
    assert (first.plain, first.compiled) == ("25%", "50%")
    assert share.plain == "3.0%"
