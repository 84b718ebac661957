"""From TOML and `--set` to cells: what is asked for is what runs, or a message names key, rule and value."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.execution.plan import pretrained
from benchmarks.spec import RunSpec
from benchmarks.suite import cells, load_suite, suite_names
from core.errors import SpecError
from core.registry import build_method

BASE = """
tasks = ["toy/linear"]
generators = ["none", "ensemble"]
algorithms = ["td3bc"]
seeds = [0, 1]
updates = 40

[ensemble]
rollout_length = 3
dynamics = { members = 4, elites = 2 }
"""


@pytest.fixture
def suite(tmp_path: Path) -> str:
    """A suite file of our own; the project's may change."""
    path = tmp_path / "mine.toml"
    path.write_text(BASE, encoding="utf-8")
    return str(path)


def expand(suite: str, *overrides: str) -> list[RunSpec]:
    return cells(load_suite(suite, overrides))


def labels(specs: list[RunSpec]) -> list[tuple[str, str]]:
    return [(spec.generator.name, spec.variant) for spec in specs]


@pytest.mark.parametrize("name", suite_names())
def test_every_suite_of_ours_expands(name: str) -> None:
    specs = cells(load_suite(name))
    assert len({spec.cell_id for spec in specs}) == len(specs) > 0


def test_a_file_is_read_with_defaults_filled_in(suite: str) -> None:
    none, ensemble = expand(suite)
    assert (none.task, none.generator.name, none.algorithm.name, none.seeds) == ("toy/linear", "none", "td3bc", (0, 1))
    assert (none.settings.updates, none.settings.real_fraction, none.settings.episodes) == (40, 0.5, 10)
    assert (ensemble.generator.config.rollout_length, ensemble.generator.config.rollouts) == (3, 10_000)
    dynamics = ensemble.generator.config.dynamics
    assert (dynamics.members, dynamics.elites, dynamics.width) == (4, 2, 200)


def test_overrides_are_toml_values_at_dotted_keys(suite: str) -> None:
    none, ensemble = expand(
        suite,
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


def test_an_inline_table_replaces_the_table(suite: str) -> None:
    dynamics = expand(suite, "ensemble.dynamics={width=9}")[1].generator.config.dynamics
    assert (dynamics.width, dynamics.members) == (9, 7)


def test_the_last_override_wins(suite: str) -> None:
    assert expand(suite, "updates=7", "updates=8")[0].settings.updates == 8


def test_overrides_leave_the_next_reading_alone(suite: str) -> None:
    expand(suite, "ensemble.dynamics.width=9")
    assert expand(suite)[1].generator.config.dynamics.width == 200


def test_presets_are_refined_table_by_table() -> None:
    config = build_method("generators", "ensemble", {"preset": "smoke", "rollouts": 8, "dynamics": {"members": 4}})
    assert (config.rollouts, config.refresh_every) == (8, 200)
    assert (config.dynamics.members, config.dynamics.elites, config.dynamics.width) == (4, 3, 64)
    assert build_method("generators", "ensemble", {"preset": "smoke"}).dynamics.members == 5  # and stay as they are


def test_a_preset_in_a_suite_yields_to_its_fields(suite: str) -> None:
    config = expand(suite, 'ensemble.preset="smoke"')[1].generator.config
    assert (config.rollouts, config.rollout_length) == (500, 3)
    assert (config.dynamics.members, config.dynamics.width) == (4, 64)


def test_seeds_on_the_command_line_count_from_zero(suite: str) -> None:
    assert load_suite(suite, ("seeds=[7]",), seeds=3).seeds == [0, 1, 2]
    with pytest.raises(SpecError, match="--seeds must be at least 1, got 0"):
        load_suite(suite, seeds=0)


def test_a_method_without_the_varied_field_runs_once(suite: str) -> None:
    specs = expand(suite, "vary.ensemble.rollout_length=[1, 5]")
    assert labels(specs) == [("none", "default"), ("ensemble", "rollout_length=1"), ("ensemble", "rollout_length=5")]
    assert [spec.generator.config.rollout_length for spec in specs] == [1, 1, 5]


def test_quoted_and_dotted_keys_vary_the_same(tmp_path: Path, suite: str) -> None:
    path = tmp_path / "quoted.toml"
    path.write_text(BASE.replace("updates = 40", 'updates = 40\nvary."ensemble.dynamics.width" = [8, 16]'))
    quoted = cells(load_suite(str(path)))
    dotted = expand(suite, "vary.ensemble.dynamics.width=[8, 16]")
    assert [spec.cell_id for spec in quoted] == [spec.cell_id for spec in dotted]
    assert [spec.variant for spec in quoted] == ["default", "dynamics.width=8", "dynamics.width=16"]
    assert [spec.generator.config.dynamics.members for spec in quoted[1:]] == [4, 4]


def test_a_method_varies_in_several_fields_at_once(suite: str) -> None:
    tables = '[{}, {rollout_length=2, dynamics={width=8}}, {label="long", rollout_length=9}]'
    specs = [spec for spec in expand(suite, f"vary.ensemble={tables}") if spec.generator.name == "ensemble"]
    made = [(spec.generator.config.rollout_length, spec.generator.config.dynamics.width) for spec in specs]
    plain = expand(suite)[-1].generator.config
    width = plain.dynamics.width
    assert made == [(plain.rollout_length, width), (2, 8), (9, width)]
    assert [spec.variant for spec in specs] == ["default", "rollout_length=2, dynamics={'width': 8}", "long"]


def test_settings_vary_for_every_method_and_values_in_their_order(suite: str) -> None:
    specs = expand(suite, "vary.real_fraction=[1.0, 0.5]", "vary.ensemble.rollout_length=[2, 1]")
    assert labels(specs) == [
        ("none", "real_fraction=1.0"),
        ("none", "real_fraction=0.5"),
        ("ensemble", "real_fraction=1.0, rollout_length=2"),
        ("ensemble", "real_fraction=1.0, rollout_length=1"),
        ("ensemble", "real_fraction=0.5, rollout_length=2"),
        ("ensemble", "real_fraction=0.5, rollout_length=1"),
    ]
    assert [spec.settings.real_fraction for spec in specs] == [1, 0.5, 1, 1, 0.5, 0.5]


def test_presets_can_be_varied(suite: str) -> None:
    specs = expand(suite, 'vary.td3bc.preset=["smoke", "dydiff"]', 'generators=["none"]')
    assert [spec.algorithm.config.actor for spec in specs] == ["deterministic", "tanh-gaussian"]
    assert [spec.variant for spec in specs] == ["td3bc.preset=smoke", "td3bc.preset=dydiff"]


def test_the_same_cell_is_listed_once(suite: str) -> None:
    assert len(expand(suite, "vary.updates=[40, 40]")) == 2


def test_cells_follow_the_order_of_the_suite(suite: str) -> None:
    assert [spec.generator.name for spec in expand(suite, 'generators=["ensemble", "none"]')] == ["ensemble", "none"]


def test_cell_id_is_readable_and_a_folder(suite: str) -> None:
    words = expand(suite)[1].cell_id.split("--")
    assert words[:3] == ["toy-linear", "ensemble", "td3bc"]
    assert len(words[3]) == 12
    assert set(words[3]) <= set("0123456789abcdef")


def test_cell_id_ignores_seeds_labels_and_how_values_are_written(tmp_path: Path, suite: str) -> None:
    spec = expand(suite, "td3bc.alpha=2.0")[1]
    assert replace(spec, seeds=(5,), variant="other").cell_id == spec.cell_id
    assert expand(suite, "td3bc.alpha=2", "seeds=[3]")[1].cell_id == spec.cell_id
    lines = BASE.strip().splitlines()
    other = tmp_path / "other.toml"
    other.write_text("\n".join([*reversed(lines[:5]), "td3bc.alpha = 2.0", lines[6], lines[8], lines[7]]))
    assert cells(load_suite(str(other)))[1].cell_id == spec.cell_id


def test_cell_id_changes_with_every_setting(suite: str) -> None:
    other: dict[str, Any] = {
        "updates": 41, "real_fraction": 0.4, "evaluate_every": 999, "episodes": 9, "fidelity_starts": 255,
        "fidelity_horizon": 49, "buffer_rows": 499, "shared_models": True, "dataset_rows": 99, "heldout": 0.2,
        "view": "qlearning", "compile": "always",
    }  # fmt: skip
    spec = expand(suite)[1]
    assert set(other) == set(type(spec.settings).model_fields)
    changed = {replace(spec, settings=spec.settings.model_copy(update={key: other[key]})).cell_id for key in other}
    assert len(changed | {spec.cell_id}) == len(other) + 1


@pytest.mark.parametrize(
    "override",
    ["ensemble.rollouts=9", "ensemble.dynamics.patience=6", "td3bc.alpha=3", "td3bc.hidden=[256, 255]"],
)
def test_cell_id_changes_with_every_field_of_a_method(suite: str, override: str) -> None:
    assert expand(suite, override)[1].cell_id != expand(suite)[1].cell_id


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ('tasks=["toy/linaer"]', "toy dataset must be one of linear, got 'linaer'; did you mean 'linear'"),
        ('tasks=["d4rl/hopper-mediun-v2"]', "got 'hopper-mediun-v2'; did you mean 'hopper-medium-v2'"),
        ('tasks=["tyo/linear"]', "task must be one of .*got 'tyo/linear'; did you mean 'toy/linear'"),
        ('tasks=["linear"]', "task must be one of .*, got 'linear'"),
        ('generators=["ensembel"]', "generator must be one of .*got 'ensembel'; did you mean 'ensemble'"),
        ('generators=["nowhere:Mine"]', "generators plug-in 'nowhere:Mine' cannot be imported"),
        ('algorithms=["td3"]', "algorithm must be one of .*got 'td3'; did you mean 'td3bc'"),
        ("update=3", "suite key must be one of .*, got 'update'; did you mean 'updates'"),
        ("settings.updates=3", "suite key must be one of .*, got 'settings'"),
        ("ensembel.rollouts=3", "suite key must be one of .*, got 'ensembel'; did you mean 'ensemble'"),
        ("ensemble.rolouts=3", r"unknown key ensemble\.rolouts: .*did you mean 'rollouts'"),
        ("ensemble.dynamics.member=3", r"unknown key ensemble\.dynamics\.member: .*did you mean 'members'"),
        ("none.rollouts=3", r"unknown key none\.rollouts"),
        ('ensemble.preset="smoek"', r"ensemble\.preset must be one of .*got 'smoek'; did you mean 'smoke'"),
        ("vary.updatse=[1]", "varied key must be one of .*got 'updatse'; did you mean 'updates'"),
        ("vary.td3cb.alpha=[1]", r"varied key 'td3cb\.alpha': .*got 'td3cb'; did you mean 'td3bc'"),
        ("vary.td3bc.alhpa=[1]", r"unknown key td3bc\.alhpa: .*did you mean 'alpha'"),
        ("vary.seeds=[1]", "varied key must be one of .*got 'seeds'"),
    ],
)
def test_unknown_names_are_told_the_nearest_one(suite: str, override: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        expand(suite, override)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("real_fraction=1.5", "real_fraction should be less than or equal to 1, got 1.5"),
        ("real_fraction=-0.1", "real_fraction should be greater than or equal to 0, got -0.1"),
        ("real_fraction=nan", "real_fraction should be .*, got nan"),
        ("updates=0", "updates should be greater than or equal to 1, got 0"),
        ("episodes=0", "episodes should be greater than or equal to 1, got 0"),
        ("heldout=0", "heldout should be greater than 0, got 0"),
        ("heldout=1", "heldout should be less than 1, got 1"),
        ("ensemble.rollout_length=0", r"ensemble\.rollout_length should be greater than or equal to 1, got 0"),
        ("ensemble.rollout_length=51", r"ensemble\.rollout_length should be at most 50, .* of toy/linear, got 51"),
        ("vary.ensemble.rollout_length=[5, 60]", r"ensemble\.rollout_length should be at most 50, .*, got 60"),
        ("dydiff.filter.share=0", r"dydiff\.filter\.share should be greater than 0, got 0"),
        ("dydiff.filter.share=1.5", r"dydiff\.filter\.share should be less than or equal to 1, got 1.5"),
        ("dydiff.iterations=-1", r"dydiff\.iterations should be greater than or equal to 0, got -1"),
        ("ensemble.dynamics.elites=5", r"ensemble\.dynamics elites must be at most members \(4\), got 5$"),
        ("ensemble.dynamics.validation=1", r"ensemble\.dynamics\.validation should be less than 1, got 1"),
        ("td3bc.alpha=0", r"td3bc\.alpha should be greater than 0, got 0"),
        ("td3bc.alpha=inf", r"td3bc\.alpha should be a finite number, got inf"),
        ("td3bc.discount=1.1", r"td3bc\.discount should be less than or equal to 1, got 1.1"),
        ("td3bc.hidden=[64, 0]", r"td3bc\.hidden\.1 should be greater than or equal to 1, got 0"),
        ('td3bc.actor="stochastic"', r"td3bc\.actor should be 'deterministic' or 'tanh-gaussian', got 'stochastic'"),
        ("vary.td3bc.alpha=[1, -1]", r"td3bc\.alpha should be greater than 0, got -1"),
        ("vary.real_fraction=[0, 2]", "real_fraction should be less than or equal to 1, got 2"),
        ("seeds=[0, 1, 0]", r"seeds must not repeat a value, got \[0, 1, 0\]"),
        ("seeds=[1, -1]", r"seeds\.1 should be greater than or equal to 0, got -1"),
        ('tasks=["toy/linear", "toy/linear"]', "tasks must not repeat a value"),
    ],
)
def test_values_out_of_range_are_named(suite: str, override: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        expand(suite, override)


def test_no_rounds_at_all_are_allowed(suite: str) -> None:
    found = expand(suite, 'generators=["dydiff"]', "dydiff.iterations=0")
    assert {spec.generator.config.iterations for spec in found} == {0}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("updates=true", "updates should be a valid integer, got True"),
        ("updates=10.0", "updates should be a valid integer, got 10.0"),
        ('updates="10"', "updates should be a valid integer, got '10'"),
        ("updates=2026-01-01", "updates should be a valid integer, got '2026-01-01'"),
        ('real_fraction="half"', "real_fraction should be a valid number, got 'half'"),
        ("real_fraction=true", "real_fraction should be a valid number, got True"),
        ("shared_models=1", "shared_models should be a valid boolean, got 1"),
        ("seeds=3", "seeds should be a valid array, got 3"),
        ("seeds=[true]", r"seeds\.0 should be a valid integer, got True"),
        ("seeds=[0.5]", r"seeds\.0 should be a valid integer, got 0.5"),
        ('generators="none"', "generators should be a valid array, got 'none'"),
        ("generators=3", "generators should be a valid array, got 3"),
        ('generators=[["none"]]', r"generators\.0 should be a valid string"),
        ("tasks=[3]", r"tasks\.0 should be a valid string, got 3"),
        ("td3bc.hidden=64", r"td3bc\.hidden should be a valid array, got 64"),
        ("ensemble.dynamics=3", r"ensemble\.dynamics should be an object, got 3"),
        ("ensemble=3", "ensemble must be a table, got 3"),
        ("vary.ensemble=[3]", r"vary\.ensemble must be a list of tables of its fields, got \[3\]"),
        ("vary=3", "vary must be a table, got 3"),
        ("vary.updates=3", r"vary\.updates should be a valid array, got 3"),
        ("updates.more=3", r"updates\.more: updates must be a table to have the field 'more', got 40"),
    ],
)
def test_types_are_strict(suite: str, override: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        expand(suite, override)


@pytest.mark.parametrize("key", ["tasks", "generators", "algorithms", "seeds", "vary.updates"])
def test_empty_lists_are_refused(suite: str, key: str) -> None:
    with pytest.raises(SpecError, match=rf"{key} .*at least 1 item.*got \[\]"):
        expand(suite, f"{key}=[]")


@pytest.mark.parametrize("key", ["tasks", "generators", "algorithms", "seeds"])
def test_a_suite_must_have_every_axis(tmp_path: Path, key: str) -> None:
    path = tmp_path / "short.toml"
    path.write_text("\n".join(line for line in BASE.splitlines() if not line.startswith(f"{key} =")))
    with pytest.raises(SpecError, match=f"{key} Field required"):
        load_suite(str(path))


@pytest.mark.parametrize("override", ["updates", "=3", "updates=", "updates=ten", ""])
def test_overrides_that_are_no_toml_are_quoted(suite: str, override: str) -> None:
    with pytest.raises(SpecError, match=r"--set.* must be .*, got '"):
        load_suite(suite, (override,))


def test_tables_of_methods_that_are_left_out_are_checked_too(suite: str) -> None:
    with pytest.raises(SpecError, match=r"ensemble\.rollouts should be greater than or equal to 1, got 0"):
        expand(suite, 'generators=["none"]', "ensemble.rollouts=0")


def test_every_finding_is_reported(suite: str) -> None:
    with pytest.raises(SpecError) as caught:
        expand(suite, "updates=0", "heldout=2")
    assert {line.split()[0] for line in str(caught.value).splitlines()} == {"updates", "heldout"}


def test_unknown_suites_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"suite must be one of .*got 'smoek'; did you mean 'smoke'"):
        load_suite("smoek")
    with pytest.raises(SpecError, match=r"suite file .*gone\.toml does not exist"):
        load_suite(str(tmp_path / "gone.toml"))


@pytest.mark.parametrize("content", [b"tasks = [", b"updates = 1\nupdates = 2", b"\xff\xfe"])
def test_malformed_toml_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(SpecError, match=r"suite .*broken\.toml is not valid TOML: "):
        load_suite(str(path))


def test_a_suite_extends_another_table_by_table(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('extends = "smoke"\nupdates = 7\ngenerators = ["mopo"]\n[mopo]\nrollouts = 3\n')
    suite = load_suite(str(tmp_path / "mine.toml"))
    parent = load_suite("smoke")
    assert suite.generators == ["mopo"]
    assert suite.tasks == parent.tasks
    assert suite.settings == parent.settings.model_copy(update={"updates": 7})
    assert suite.methods["mopo"] == {"preset": "smoke", "rollouts": 3}


def test_a_suite_cannot_extend_itself_or_nothing(tmp_path: Path) -> None:
    one = tmp_path / "one.toml"
    two = tmp_path / "two.toml"
    one.write_text(f'extends = "{two}"\n')
    two.write_text(f'extends = "{one}"\n')
    with pytest.raises(SpecError, match="extends must name another suite that does not extend this one"):
        load_suite(str(one))
    one.write_text("extends = 3\n")
    with pytest.raises(SpecError, match=r"extends must name another suite .* got 3"):
        load_suite(str(one))
    one.write_text('extends = "smok"\n')
    with pytest.raises(SpecError, match="smoke"):
        load_suite(str(one))


def test_one_diffusion_model_serves_every_m_and_eta() -> None:
    for suite in ("iterations_M", "keep_fraction_eta", "M_by_eta", "relax", "filter", "rollout_length_L", "M_by_L"):
        models = set().union(*(pretrained(spec) for spec in cells(load_suite(f"ablation/{suite}"))))
        assert len([name for name in models if "TrajectoryDiffusion" in name and "maze2d" in name]) == 1, suite


def test_naming_one_field_of_a_table_leaves_its_others_as_they_are() -> None:
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
        assert spec.generator.name == "none" or spec.generator.config.filter.mode == "softmax"
