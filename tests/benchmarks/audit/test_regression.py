"""Verdicts on quality, speed and memory; and that the whole command notices a bug."""

import json
from pathlib import Path
from typing import Any

import pytest

import run_bench
from benchmarks.audit import regression
from benchmarks.audit.regression import compare, hot_paths, table
from benchmarks.suite import cells, load_suite
from core.errors import SpecError

OLD = {"0": 10.0, "1": 12.0, "2": 11.0, "3": 9.0, "4": 13.0}


def found(speed: float = 1.0, memory: float = 100.0, **quality: dict[str, float]) -> dict[str, Any]:
    return {
        "quality": {"toy / mopo": quality or {"score": OLD}},
        "speed": {"sampler": speed},
        "memory": {"largest": memory},
    }


def timings(folder: Path, seconds: float) -> Path:
    """A file as pytest-benchmark writes it, of a hot path whose reference workload takes two seconds."""
    path = {"name": "test_update[td3bc]", "stats": {"min": seconds}, "extra_info": {"reference": 2.0}}
    file = folder / "hot_paths.json"
    file.write_text(json.dumps({"benchmarks": [path]}))
    return file


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


def test_speed_is_compared_only_if_it_was_measured() -> None:
    unmeasured = found()
    del unmeasured["speed"]
    assert [v.cell for v in compare(found(), unmeasured)] == ["largest", "toy / mopo"]


def test_hot_paths_are_ratios_to_the_reference(tmp_path: Path) -> None:
    assert hot_paths(timings(tmp_path, seconds=3.0)) == {"update[td3bc]": 1.5}


@pytest.mark.parametrize("text", ["", "[]", '{"benchmarks": [{"name": "test_update", "stats": {"min": 1.0}}]}'])
def test_other_files_are_not_taken_for_hot_paths(tmp_path: Path, text: str) -> None:
    file = tmp_path / "other.json"
    file.write_text(text)
    with pytest.raises(SpecError, match=r"--speed must be a file that `make bench-ci` wrote, got .*other\.json"):
        hot_paths(file)


def test_the_command_notices_shuffled_actions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from generators import ensemble

    monkeypatch.setattr(regression, "BASELINES", tmp_path)
    (tmp_path / "tiny.toml").write_text(
        'extends = "smoke"\ngenerators = ["ensemble"]\nupdates = 20\nevaluate_every = 10\nfidelity_starts = 16\n'
        "dataset_rows = 1000\n[ensemble]\nrollouts = 20\ndynamics.max_updates = 60\n"
    )
    command = ["check", str(tmp_path / "tiny.toml")]
    assert run_bench.main(command) == 2
    assert "must have a baseline to be checked: make one with --update" in capsys.readouterr().err
    assert run_bench.main([*command, "--update", "--speed", str(timings(tmp_path, seconds=3.0))]) == 0
    assert "first baseline" in capsys.readouterr().out
    assert run_bench.main([*command, "--update"]) == 0
    assert (regression.load(command[1]) or {})["speed"] == {"update[td3bc]": 1.5}
    assert "speed was not compared" in capsys.readouterr().out
    assert run_bench.main([*command, "--speed", str(timings(tmp_path, seconds=2.0))]) == 0
    assert "equal" in capsys.readouterr().out
    assert run_bench.main([*command, "--speed", str(timings(tmp_path, seconds=9.0))]) == 1
    assert "update[td3bc]" in capsys.readouterr().out
    right = ensemble._Fitted._rollout

    def shuffled(*arguments: Any) -> Any:
        made = right(*arguments)
        return type(made)(made.action.roll(1, 1), made.obs, made.reward, made.terminated, made.valid, info=made.info)

    monkeypatch.setattr(ensemble._Fitted, "_rollout", shuffled)
    assert run_bench.main(command) == 1
    told = capsys.readouterr().out
    assert "error at h" in told
    assert "worse" in told


def test_a_snapshot_fits_its_models_afresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROLLOUTBENCH_CACHE", str(tmp_path / "cache"))
    tiny = ('generators=["ensemble"]', "updates=4", "evaluate_every=2", "dataset_rows=500", "fidelity_starts=8")
    fit = ("ensemble.dynamics.max_updates=4", "ensemble.dynamics.check_every=2", "ensemble.rollouts=8")
    regression.snapshot(cells(load_suite("smoke", [*tiny, *fit])), tmp_path / "run")
    assert list((tmp_path / "run" / "models").glob("*.safetensors"))
    assert not list((tmp_path / "cache").glob("models/*.safetensors"))
