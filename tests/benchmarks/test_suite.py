"""From TOML and `--set` to cells: what is asked for is what runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.execution.plan import needed_models, pretrained
from benchmarks.spec import COUPLINGS, RunSpec
from benchmarks.suite import cells, load_suite, suite_names
from core.errors import SpecError
from core.registry import available
from models.termination import TerminationConfig
from tasks.sources.toy import LinearSystem

Expand = Callable[..., list[RunSpec]]


def labels(specs: list[RunSpec]) -> list[tuple[str, str]]:
    return [(spec.generator.name, spec.variant) for spec in specs]


def planned(spec: RunSpec) -> int:
    return sum(isinstance(model, TerminationConfig) for model in needed_models(spec))


@pytest.mark.parametrize("name", suite_names())
def test_every_suite_of_ours_expands(name: str) -> None:
    specs = cells(load_suite(name))
    assert len({spec.cell_id for spec in specs}) == len(specs) > 0


def test_a_file_is_read_with_defaults_filled_in(expand: Expand) -> None:
    none, ensemble = expand()
    assert (none.task, none.generator.name, none.algorithm.name, none.seeds) == ("toy/linear", "none", "td3bc", (0, 1))
    assert (none.settings.updates, none.settings.real_fraction, none.settings.episodes) == (40, 0.5, 10)
    assert (ensemble.generator.config.rollout_length, ensemble.generator.config.rollouts) == (3, 10_000)
    dynamics = ensemble.generator.config.dynamics
    assert (dynamics.members, dynamics.elites, dynamics.width) == (4, 2, 200)


def test_overrides_are_toml_values_at_dotted_keys(expand: Expand) -> None:
    none, ensemble = expand(
        "updates=7",
        "real_fraction = 1",
        'view="qlearning"',
        "ensemble.dynamics.width=9",
        "td3bc.hidden=[3, 4]",
        "ensemble.refresh_every=5",
    )
    assert (none.settings.updates, none.settings.real_fraction, none.settings.view) == (7, 1.0, "qlearning")
    assert none.algorithm.config.hidden == (3, 4)
    dynamics = ensemble.generator.config.dynamics
    assert (dynamics.width, dynamics.members) == (9, 4)  # the table is refined, not replaced
    assert (ensemble.generator.config.refresh_every, ensemble.generator.config.rollout_length) == (5, 3)


@pytest.mark.parametrize("value", ["auto", '"auto"', "'auto'", " auto "])
def test_text_needs_no_quotes(expand: Expand, value: str) -> None:
    assert expand(f"compile={value}")[0].settings.compile == "auto"


def test_bare_text_reaches_a_methods_field(expand: Expand) -> None:
    assert expand("td3bc.preset=dydiff")[0].algorithm.config.actor == "tanh-gaussian"


def test_an_inline_table_replaces_the_table(expand: Expand) -> None:
    dynamics = expand("ensemble.dynamics={width=9}")[1].generator.config.dynamics
    assert (dynamics.width, dynamics.members) == (9, 7)


def test_the_last_override_wins(expand: Expand) -> None:
    assert expand("updates=7", "updates=8")[0].settings.updates == 8


def test_overrides_leave_the_next_reading_alone(expand: Expand) -> None:
    expand("ensemble.dynamics.width=9")
    assert expand()[1].generator.config.dynamics.width == 200


def test_a_preset_in_a_suite_yields_to_its_fields(expand: Expand) -> None:
    config = expand('ensemble.preset="smoke"')[1].generator.config
    assert (config.rollouts, config.rollout_length) == (500, 3)
    assert (config.dynamics.members, config.dynamics.width) == (4, 64)


def test_a_preset_of_the_suite_is_where_methods_begin(expand: Expand) -> None:
    ensemble = expand("preset=smoke", "ensemble.dynamics={width=9}")[1].generator.config
    assert (ensemble.rollouts, ensemble.rollout_length) == (500, 3)
    assert (ensemble.dynamics.members, ensemble.dynamics.width) == (5, 9)


def test_a_preset_that_no_method_of_the_matrix_has_is_no_error(expand: Expand) -> None:
    assert len(expand("preset=small", 'generators=["none"]')) == 1


def test_all_is_every_name_of_the_registry(expand: Expand) -> None:
    assert [spec.generator.name for spec in expand("generators=all")] == available("generators")


def test_seeds_on_the_command_line_count_from_zero(suite: str) -> None:
    assert load_suite(suite, ("seeds=[7]",), seeds=3).seeds == [0, 1, 2]
    with pytest.raises(SpecError, match="--seeds must be at least 1, got 0"):
        load_suite(suite, seeds=0)


def test_a_method_without_the_varied_field_runs_once(expand: Expand) -> None:
    specs = expand("vary.ensemble.rollout_length=[1, 5]")
    assert labels(specs) == [("none", "default"), ("ensemble", "rollout_length=1"), ("ensemble", "rollout_length=5")]
    assert [spec.generator.config.rollout_length for spec in specs] == [1, 1, 5]


def test_quoted_and_dotted_keys_vary_the_same(tmp_path: Path, expand: Expand, suite: str) -> None:
    path = tmp_path / "quoted.toml"
    text = Path(suite).read_text(encoding="utf-8")
    path.write_text(text.replace("updates = 40", 'updates = 40\nvary."ensemble.dynamics.width" = [8, 16]'))
    quoted = cells(load_suite(str(path)))
    dotted = expand("vary.ensemble.dynamics.width=[8, 16]")
    assert [spec.cell_id for spec in quoted] == [spec.cell_id for spec in dotted]
    assert [spec.variant for spec in quoted] == ["default", "dynamics.width=8", "dynamics.width=16"]
    assert [spec.generator.config.dynamics.members for spec in quoted[1:]] == [4, 4]


def test_a_method_varies_in_several_fields_at_once(expand: Expand) -> None:
    tables = '[{}, {rollout_length=2, dynamics={width=8}}, {label="long", rollout_length=9}]'
    specs = [spec for spec in expand(f"vary.ensemble={tables}") if spec.generator.name == "ensemble"]
    made = [(spec.generator.config.rollout_length, spec.generator.config.dynamics.width) for spec in specs]
    plain = expand()[-1].generator.config
    width = plain.dynamics.width
    assert made == [(plain.rollout_length, width), (2, 8), (9, width)]
    assert [spec.variant for spec in specs] == ["default", "rollout_length=2, dynamics={'width': 8}", "long"]


def test_settings_vary_for_every_method(expand: Expand) -> None:
    specs = expand("vary.real_fraction=[1.0, 0.5]", "vary.ensemble.rollout_length=[2, 1]")
    assert labels(specs) == [
        ("none", "real_fraction=1.0"),
        ("none", "real_fraction=0.5"),
        ("ensemble", "real_fraction=1.0, rollout_length=2"),
        ("ensemble", "real_fraction=1.0, rollout_length=1"),
        ("ensemble", "real_fraction=0.5, rollout_length=2"),
        ("ensemble", "real_fraction=0.5, rollout_length=1"),
    ]
    assert [spec.settings.real_fraction for spec in specs] == [1, 0.5, 1, 1, 0.5, 0.5]


def coupled(specs: list[RunSpec]) -> list[tuple[Any, ...]]:
    """(share, rows of behaviour terms, first rollouts, refreshes) of every ensemble."""
    found = [spec.settings for spec in specs if spec.generator.name == "ensemble"]
    return [(x.real_fraction, x.regularise, x.rollouts_from, x.buffer_refreshes) for x in found]


@pytest.mark.parametrize("name", COUPLINGS)
def test_every_coupling_is_four_settings(expand: Expand, name: str) -> None:
    values = COUPLINGS[name]
    assert set(values) == {"real_fraction", "regularise", "rollouts_from", "buffer_refreshes"}
    for specs in (expand(f"coupling={name}"), expand(f'vary.coupling=["{name}"]')):
        assert {key: getattr(specs[1].settings, key) for key in values} == values


def test_a_coupling_yields_to_the_suites_own_settings(expand: Expand) -> None:
    assert coupled(expand("coupling=fresh")) == [(0.5, "real_only", 0, 1)]
    assert coupled(expand("coupling=fresh", "rollouts_from=10", "real_fraction=0.1")) == [(0.1, "real_only", 10, 1)]
    assert coupled(expand("coupling=fresh", "vary.real_fraction=[0.1, 0.2]")) == [
        (0.1, "real_only", 0, 1),
        (0.2, "real_only", 0, 1),
    ]


def test_couplings_vary_by_name_and_by_table(expand: Expand) -> None:
    tables = '["fresh", {}, {rollouts_from=10}, {label="late", rollouts_from=10, buffer_refreshes=2}]'
    specs = expand(f"vary.coupling={tables}", "regularise=real_only", 'generators=["ensemble"]')
    assert coupled(specs) == [
        (0.5, "real_only", 0, 1),
        (0.5, "real_only", 0, None),
        (0.5, "real_only", 10, None),
        (0.5, "real_only", 10, 2),
    ]
    assert [spec.variant for spec in specs] == ["coupling=fresh", "default", "rollouts_from=10", "late"]


def test_what_is_varied_wins_over_what_is_fixed(expand: Expand) -> None:
    """Of what is varied a single setting wins over a coupling, wherever it stands."""
    assert coupled(expand('vary.coupling=["dydiff"]', "real_fraction=0.1")) == [(0.6, "all", 0, 16)]
    for order in (1, -1):
        overrides = ("vary.real_fraction=[0.1]", 'vary.coupling=["dydiff"]')[::order]
        assert coupled(expand(*overrides)) == [(0.1, "all", 0, 16)]


def test_presets_can_be_varied(expand: Expand) -> None:
    specs = expand('vary.td3bc.preset=["smoke", "dydiff"]', 'generators=["none"]')
    assert [spec.algorithm.config.actor for spec in specs] == ["deterministic", "tanh-gaussian"]
    assert [spec.variant for spec in specs] == ["td3bc.preset=smoke", "td3bc.preset=dydiff"]


def test_the_same_cell_is_listed_once(expand: Expand) -> None:
    assert len(expand("vary.updates=[40, 40]")) == 2


def test_cells_follow_the_order_of_the_suite(expand: Expand) -> None:
    assert [spec.generator.name for spec in expand('generators=["ensemble", "none"]')] == ["ensemble", "none"]


def test_no_rounds_at_all_are_allowed(expand: Expand) -> None:
    found = expand('generators=["dydiff"]', "dydiff.iterations=0")
    assert {spec.generator.config.iterations for spec in found} == {0}


def test_a_suite_extends_another_table_by_table(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('extends = "smoke"\nupdates = 7\ngenerators = ["mopo"]\n[mopo]\nrollouts = 3\n')
    suite = load_suite(str(tmp_path / "mine.toml"))
    parent = load_suite("smoke")
    assert suite.generators == ["mopo"]
    assert suite.tasks == parent.tasks
    assert suite.settings == parent.settings.model_copy(update={"updates": 7})
    assert suite.methods["mopo"] == {"preset": "smoke", "rollouts": 3}


def test_the_base_of_a_suite_can_be_chosen_by_an_override(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('extends = "smoke"\nupdates = 7\n')
    suite = load_suite(str(tmp_path / "mine.toml"), ("extends=matrix-smoke", "episodes=3"))
    parent = load_suite("matrix-smoke")
    assert suite.algorithms == parent.algorithms
    assert suite.settings == parent.settings.model_copy(update={"updates": 7, "episodes": 3})


@pytest.mark.parametrize(
    "name", ["iterations_M", "keep_fraction_eta", "real_fraction_alpha", "M_by_eta", "relax", "filter", "coupling"]
)
def test_every_ablation_but_that_of_l_runs_on_the_full_base(name: str) -> None:
    small = cells(load_suite(f"ablation/{name}"))
    full = cells(load_suite(f"ablation/{name}", ("extends=ablation/full/base",)))
    assert {spec.variant for spec in full} == {spec.variant for spec in small}
    assert {spec.settings.updates for spec in full} == {200_000}


def test_one_diffusion_model_serves_all_m_and_eta() -> None:
    for suite in ("iterations_M", "keep_fraction_eta", "M_by_eta", "relax", "filter", "rollout_length_L", "M_by_L"):
        models = set().union(*(pretrained(spec) for spec in cells(load_suite(f"ablation/{suite}"))))
        assert len([name for name in models if "TrajectoryDiffusion" in name and "halfcheetah" in name]) == 1, suite


def test_models_of_two_training_sets_are_two_models(expand: Expand) -> None:
    """The plan counts as many fits as there will be."""
    found = [pretrained(spec) for spec in expand("vary.train_rows=[50, 500]", 'generators=["ensemble"]')]
    assert len(set().union(*found)) == 2
    assert len(pretrained(expand()[1]) | pretrained(expand("view=qlearning")[1])) == 2


def test_a_classifier_of_ends_is_planned_where_it_is_used(expand: Expand, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [planned(spec) for spec in expand('generators=["none", "mopo", "dydiff", "synther"]')] == [0, 0, 0, 0]
    assert [planned(spec) for spec in expand('tasks=["minari/nobody/has-v0"]')] == [0, 1]  # it may have no rule
    monkeypatch.setattr(LinearSystem, "has_termination_rule", False)
    assert [planned(spec) for spec in expand('generators=["none", "mopo", "dydiff", "synther"]')] == [0, 1, 1, 0]


def test_a_varied_size_must_suit_every_task(expand: Expand) -> None:
    tasks = 'tasks=["toy/linear", "d4rl/hopper-medium-v2"]'
    with pytest.raises(SpecError, match="dataset_rows must be left at 100000 for d4rl/hopper-medium-v2"):
        expand(tasks, "vary.dataset_rows=[100_000, 500]")
    assert len(expand(tasks, "vary.train_rows=[100_000, 500]")) == 8
