"""What a cell is: presets, fields, and the hash that is its name."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.spec import RunSpec, restore
from benchmarks.suite import cells, load_suite
from core.registry import build_method

Expand = Callable[..., list[RunSpec]]


def test_presets_are_refined_table_by_table() -> None:
    config = build_method("generators", "ensemble", {"preset": "smoke", "rollouts": 8, "dynamics": {"members": 4}})
    assert (config.rollouts, config.refresh_every) == (8, 200)
    assert (config.dynamics.members, config.dynamics.elites, config.dynamics.width) == (4, 3, 64)
    assert build_method("generators", "ensemble", {"preset": "smoke"}).dynamics.members == 5  # and stay as they are


def test_naming_one_field_of_a_table_keeps_its_others() -> None:
    """dydiff filters by softmax; who varies the share that is kept does not turn the filter off."""
    plain = build_method("generators", "dydiff", {})
    assert plain.filter.mode == "softmax"
    varied = build_method("generators", "dydiff", {"filter": {"share": 0.1}})
    assert varied == replace(plain, filter=replace(plain.filter, share=0.1))
    faithful = build_method("generators", "dydiff", {"preset": "faithful", "filter": {"share": 0.1}})
    assert faithful.filter.mode == "softmax_floor"
    assert not faithful.filter.masked
    assert faithful.filter.share == 0.1
    for spec in cells(load_suite("ablation/keep_fraction_eta")):
        assert spec.generator.name != "dydiff" or spec.generator.config.filter.mode == "softmax"


def test_cell_id_is_readable_and_a_folder(expand: Expand) -> None:
    words = expand()[1].cell_id.split("--")
    assert words[:3] == ["toy-linear", "ensemble", "td3bc"]
    assert len(words[3]) == 12
    assert set(words[3]) <= set("0123456789abcdef")


def test_cell_id_ignores_seeds_labels_and_spelling(tmp_path: Path, expand: Expand, suite: str) -> None:
    spec = expand("td3bc.alpha=2.0")[1]
    assert replace(spec, seeds=(5,), variant="other").cell_id == spec.cell_id
    assert expand("td3bc.alpha=2", "seeds=[3]")[1].cell_id == spec.cell_id
    lines = Path(suite).read_text(encoding="utf-8").strip().splitlines()
    other = tmp_path / "other.toml"
    other.write_text("\n".join([*reversed(lines[:5]), "td3bc.alpha = 2.0", lines[6], lines[8], lines[7]]))
    assert cells(load_suite(str(other)))[1].cell_id == spec.cell_id


def test_cell_id_changes_with_every_setting(expand: Expand) -> None:
    other: dict[str, Any] = {
        "updates": 41, "real_fraction": 0.4, "evaluate_every": 999, "episodes": 9, "fidelity_starts": 255,
        "fidelity_horizon": 49, "buffer_rows": 499, "shared_models": True, "dataset_rows": 99, "heldout": 0.2,
        "train_rows": 9, "view": "qlearning", "compile": "always", "rollouts_from": 1, "buffer_refreshes": 1,
        "regularise": "all", "rewards": "simulator", "skip_broken_episodes": True, "imports": ("json",),
    }  # fmt: skip
    spec = expand()[1]
    assert set(other) == set(type(spec.settings).model_fields)
    changed = {replace(spec, settings=spec.settings.model_copy(update={key: other[key]})).cell_id for key in other}
    assert len(changed | {spec.cell_id}) == len(other) + 1
    again = replace(spec, settings=spec.settings.model_copy(update=other))
    assert restore(again.describe(), again.seeds, again.variant).settings == again.settings


@pytest.mark.parametrize(
    "override",
    ["ensemble.rollouts=9", "ensemble.dynamics.patience=6", "td3bc.alpha=3", "td3bc.hidden=[256, 255]"],
)
def test_cell_id_changes_with_every_field_of_a_method(expand: Expand, override: str) -> None:
    assert expand(override)[1].cell_id != expand()[1].cell_id


@pytest.mark.parametrize(
    ("overrides", "due"),
    [
        ((), [1, 16, 31]),
        (("rollouts_from=10",), [11, 26]),
        (("rollouts_from=39",), [40]),
        (("rollouts_from=25",), [26]),
        (("rollouts_from=24",), [25, 40]),
    ],
)
def test_refreshes_are_counted_from_the_first_rollouts(
    expand: Expand, overrides: tuple[str, ...], due: list[int]
) -> None:
    none, ensemble = expand("ensemble.refresh_every=15", *overrides)  # of 40 updates
    assert [step for step in range(1, 41) if ensemble.refresh_due(step)] == due
    assert ensemble.refreshes == len(due)
    assert none.refreshes == sum(none.refresh_due(step) for step in range(1, 41)) == 0


def test_who_generates_once_does_so_behind_rollouts_from(expand: Expand) -> None:
    (synther,) = expand('generators=["synther"]', "rollouts_from=10")
    assert [step for step in range(1, 41) if synther.refresh_due(step)] == [11]
    assert synther.refreshes == 1
