"""Verdicts on quality, speed and memory; and that the whole command notices a bug."""

from pathlib import Path
from typing import Any

import pytest

import run_bench
from benchmarks.audit import regression as check
from benchmarks.audit.regression import compare, table

OLD = {"0": 10.0, "1": 12.0, "2": 11.0, "3": 9.0, "4": 13.0}


def found(speed: float = 1.0, memory: float = 100.0, **quality: dict[str, float]) -> dict[str, Any]:
    return {
        "quality": {"toy / mopo": quality or {"score": OLD}},
        "speed": {"sampler": speed},
        "memory": {"largest": memory},
    }


@pytest.mark.parametrize(
    ("quantity", "change", "why"),
    [
        ("score", [0.0] * 5, "equal"),
        ("score", [0.1, -0.1, 0.05, 0.0, -0.05], "within the margin"),
        ("score", [5.0, 5.1, 4.9, 5.2, 4.8], "better"),
        ("score", [-5.0, -5.1, -4.9, -5.2, -4.8], "worse"),
        ("error at h = 1", [5.0, 5.1, 4.9, 5.2, 4.8], "worse"),
        ("consistency kl", [-5.0, -5.1, -4.9, -5.2, -4.8], "better"),
        ("value q", [-5.0, -5.1, -4.9, -5.2, -4.8], "changed"),
        ("score", [4.0, -4.0, 3.0, -3.0, 0.2], "not shown"),
    ],
)
def test_quality_is_an_equivalence_test_over_seeds(quantity: str, change: list[float], why: str) -> None:
    new = {seed: x + d for (seed, x), d in zip(OLD.items(), change, strict=True)}
    verdict = next(v for v in compare(found(**{quantity: OLD}), found(**{quantity: new})) if v.quantity == quantity)
    assert verdict.why == why
    assert verdict.passed is (why in ("equal", "within the margin", "better"))


def test_what_is_missing_fails() -> None:
    fewer = dict(list(OLD.items())[:3])
    for old, new in ((found(score=OLD), found(score=fewer)), (found(score=OLD), found(other=OLD))):
        assert {v.why for v in compare(old, new) if not v.passed} == {"missing"}


def test_speed_and_memory_are_ratios() -> None:
    assert all(v.passed for v in compare(found(), found(speed=1.29, memory=129.0)))
    slow, large = (compare(found(), new) for new in (found(speed=1.5), found(memory=140.0)))
    assert [(v.cell, v.why) for v in slow if not v.passed] == [("sampler", "worse")]
    assert [(v.cell, v.why) for v in large if not v.passed] == [("largest", "worse")]
    assert "1.5" in table(slow)
    assert "3 numbers: " in table(slow)
    assert "sampler" in table(slow)
    assert "sampler" not in table(compare(found(), found()))


def test_the_command_keeps_a_baseline_passes_twice_and_notices_shuffled_actions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from generators import ensemble

    monkeypatch.setattr(check, "BASELINES", tmp_path)
    monkeypatch.setattr(check, "measure", lambda: {"sampler": 1.0})
    (tmp_path / "tiny.toml").write_text(
        'extends = "smoke"\ngenerators = ["ensemble"]\nupdates = 20\nevaluate_every = 10\nfidelity_starts = 16\n'
        "dataset_rows = 1000\n[ensemble]\nrollouts = 20\ndynamics.max_updates = 60\n"
    )
    command = ["check", str(tmp_path / "tiny.toml")]
    assert run_bench.main(command) == 2
    assert "must have a baseline to be checked: make one with --update" in capsys.readouterr().err
    assert run_bench.main([*command, "--update"]) == 0
    assert "first baseline" in capsys.readouterr().out
    for _ in range(2):
        assert run_bench.main(command) == 0
        assert "equal" in capsys.readouterr().out
    right = ensemble._Fitted._rollout

    def shuffled(*arguments: Any) -> Any:
        made = right(*arguments)
        return type(made)(made.action.roll(1, 1), made.obs, made.reward, made.terminated, made.valid, info=made.info)

    monkeypatch.setattr(ensemble._Fitted, "_rollout", shuffled)
    assert run_bench.main(command) == 1
    told = capsys.readouterr().out
    assert "error at h" in told
    assert "worse" in told
