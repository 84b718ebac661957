"""The script for a lent GPU on tiny sizes: it keeps to its budget, and every figure has a value or a reason."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.speed import gpu
from benchmarks.speed.gpu import FIGURES, TINY, Bench, measure
from models.diffusion.denoisers import UNetConfig

ROOT = Path(__file__).resolve().parents[3]
CPU = torch.device("cpu")


def test_every_figure_has_a_value_or_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(bench: Bench) -> dict[str, Any]:
        raise RuntimeError("the driver is gone")

    monkeypatch.setitem(FIGURES, "TD3+BC, 8 seeds", gpu.Figure(broken, 15))
    measure(CPU, TINY, 300.0, tmp_path / "gpu.json")
    figures = json.loads((tmp_path / "gpu.json").read_text())["figures"]
    assert figures.keys() == FIGURES.keys()
    assert "the driver is gone" in figures.pop("TD3+BC, 8 seeds")["failed"]
    assert figures.pop("ceilings").keys() >= {"float32_tflops", "bf16_tflops", "copy_gb_per_second"}
    assert figures.pop("updates equal the CPU's")["value"] == 0
    for name in ("synchronisations", "roll-out, as released, bf16 compiled"):
        assert "a CPU" in figures.pop(name)["left_out"]
    few = figures["roll-out, few evaluations, bf16"]
    assert few["evaluations"] == 2 * gpu.FEW.evaluations
    network = UNetConfig(dim=TINY.dim, multipliers=(1, 4, 8)).flops(gpu.OBS + gpu.ACTION, 0, TINY.window)
    assert few["tflop"] == pytest.approx(few["evaluations"] * TINY.rollouts * network / 1e12)
    assert 1e-4 < few["relative_error"] < 0.1
    assert figures["roll-out, few evaluations, tf32"]["relative_error"] == 0
    assert all(row.get("value", 1) >= 0 and {"value", "left_out"} & row.keys() for row in figures.values())
    assert not any("target" in row for row in figures.values())  # they are for the full sizes


def test_the_budget_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU a figure begins only if it may end in time; what there is has been written."""
    now = [0.0]
    monkeypatch.setattr(gpu.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(gpu, "provenance", lambda _: {})
    written = []

    def call(bench: Bench) -> dict[str, Any]:
        written.append(json.loads(out.read_text())["figures"] if out.exists() else {})
        now[0] += 50
        return {"value": now[0]}

    out = tmp_path / "gpu.json"
    for name, figure in FIGURES.items():
        monkeypatch.setitem(FIGURES, name, figure._replace(call=call, needs=60))
    figures = measure(torch.device("cuda"), TINY, 200.0, out)["figures"]
    assert [len(before) for before in written] == [0, 1, 2]
    reasons = [row["left_out"] for row in list(figures.values())[3:]]
    assert reasons == ["may take 60 s, 50 s are left"] * (len(FIGURES) - 3)


def test_released_network_and_sampler_are_of_the_published_size() -> None:
    sizes = gpu.FULL
    assert (sizes.rollouts, sizes.window, sizes.dim, gpu.RELEASED.evaluations) == (2048, 100, 128, 67)
    assert gpu._judged(5.0, at_least=5.0)["met"]
    assert not gpu._judged(2.6, at_most=2.5)["met"]


def test_no_simulator_is_needed() -> None:
    missing = "import sys; sys.modules |= dict.fromkeys(('gymnasium', 'mujoco', 'pandas', 'matplotlib', 'tyro'))"
    subprocess.run([sys.executable, "-c", f"{missing}; import benchmarks.speed.gpu"], cwd=ROOT, check=True)
