"""A suite that is not valid: the message names key, rule and value."""

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.spec import RunSpec
from benchmarks.suite import load_suite
from core.errors import SpecError

Expand = Callable[..., list[RunSpec]]


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
        ("preset=smoek", "preset must be one of .*got 'smoek'; did you mean 'smoke'"),
        ("preset=1", "preset must be text, got 1"),
        ("coupling=frehs", "coupling must be one of combo, dydiff, .*, got 'frehs'; did you mean 'fresh'"),
        ("coupling=3", "coupling must be one of combo, .*, got '3'"),
        ("coupling={real_fraction=0.1}", "coupling must be one of combo, "),
        ('vary.coupling=["fresh", "dydif"]', "coupling must be one of .*, got 'dydif'; did you mean 'dydiff'"),
        ("vary.coupling=[{real_fracton=0.1}]", "coupling key must be one of .*; did you mean 'real_fraction'"),
        ("vary.coupling=[{updates=3}]", "coupling key must be one of buffer_refreshes, .*, got 'updates'"),
        ("vary.couplign=[1]", "varied key must be one of .*got 'couplign'; did you mean 'coupling'"),
        ("td3bc.regularise=all", r"unknown key td3bc\.regularise"),
        ("vary.updatse=[1]", "varied key must be one of .*got 'updatse'; did you mean 'updates'"),
        ("vary.td3cb.alpha=[1]", r"varied key 'td3cb\.alpha': .*got 'td3cb'; did you mean 'td3bc'"),
        ("vary.td3bc.alhpa=[1]", r"unknown key td3bc\.alhpa: .*did you mean 'alpha'"),
        ("vary.seeds=[1]", "varied key must be one of .*got 'seeds'"),
    ],
)
def test_unknown_names_give_the_nearest_one(expand: Expand, override: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        expand(override)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("real_fraction=1.5", "real_fraction should be less than or equal to 1, got 1.5"),
        ("real_fraction=-0.1", "real_fraction should be greater than or equal to 0, got -0.1"),
        ("real_fraction=nan", "real_fraction should be .*, got nan"),
        ("updates=0", "updates should be greater than 0, got 0"),
        ("rollouts_from=40", "^rollouts_from must be below updates = 40, or nothing is generated, got 40$"),
        ("vary.rollouts_from=[0, 41]", "^rollouts_from must be below updates = 40, or nothing is generated, got 41$"),
        ("rollouts_from=-1", "rollouts_from should be greater than or equal to 0, got -1"),
        ("buffer_refreshes=0", "buffer_refreshes should be greater than 0, got 0"),
        ("regularise=real", "regularise should be 'all' or 'real_only', got 'real'"),
        ("vary.coupling=[{real_fraction=2}]", "real_fraction should be less than or equal to 1, got 2"),
        ("vary.coupling=[{label=3}]", r"vary\.coupling\.label must be text, got 3"),
        ("episodes=0", "episodes should be greater than 0, got 0"),
        ("heldout=0", "heldout should be greater than 0, got 0"),
        ("heldout=1", "heldout should be less than 1, got 1"),
        ("ensemble.rollout_length=0", r"ensemble\.rollout_length should be greater than 0, got 0"),
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
        ("td3bc.hidden=[64, 0]", r"td3bc\.hidden\.1 should be greater than 0, got 0"),
        ('td3bc.actor="stochastic"', r"td3bc\.actor should be 'deterministic' or 'tanh-gaussian', got 'stochastic'"),
        ("vary.td3bc.alpha=[1, -1]", r"td3bc\.alpha should be greater than 0, got -1"),
        ("vary.real_fraction=[1, 2]", "real_fraction should be less than or equal to 1, got 2"),
        ("seeds=[0, 1, 0]", r"seeds must not repeat a value, got \[0, 1, 0\]"),
        ("seeds=[1, -1]", r"seeds\.1 should be greater than or equal to 0, got -1"),
        ('tasks=["toy/linear", "toy/linear"]', "tasks must not repeat a value"),
    ],
)
def test_values_out_of_range_are_named(expand: Expand, override: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        expand(override)


@pytest.mark.parametrize("fraction", [0, 0.001])
def test_behaviour_terms_must_have_a_row_to_act_on(expand: Expand, fraction: float) -> None:
    """256 * 0.001 rounds to no row; of a larger batch it is one."""
    message = r"real_fraction must leave a real row in batches of 256 \(td3bc\) where regularise is 'real_only', got 0"
    for key in ("regularise=real_only", "coupling=fresh", 'vary.coupling=["dydiff", {regularise="real_only"}]'):
        with pytest.raises(SpecError, match=message):
            expand(key, f"real_fraction={fraction}", f"vary.real_fraction=[{fraction}]")
    assert expand(f"real_fraction={fraction}", "regularise=all")
    assert expand("regularise=real_only", "real_fraction=0.001", "td3bc.batch_size=1000")


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
def test_types_are_strict(expand: Expand, override: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        expand(override)


@pytest.mark.parametrize("key", ["tasks", "generators", "algorithms", "seeds", "vary.updates"])
def test_empty_lists_are_refused(expand: Expand, key: str) -> None:
    with pytest.raises(SpecError, match=rf"{key} .*at least 1 item.*got \[\]"):
        expand(f"{key}=[]")


@pytest.mark.parametrize("key", ["tasks", "generators", "algorithms", "seeds"])
def test_a_suite_must_have_every_axis(tmp_path: Path, suite: str, key: str) -> None:
    path = tmp_path / "short.toml"
    path.write_text("\n".join(line for line in Path(suite).read_text().splitlines() if not line.startswith(f"{key} =")))
    with pytest.raises(SpecError, match=f"{key} Field required"):
        load_suite(str(path))


@pytest.mark.parametrize("override", ["updates", "=3", ""])
def test_overrides_without_a_key_or_a_value_are_quoted(suite: str, override: str) -> None:
    with pytest.raises(SpecError, match=f"--set must be key=value, got '{override}'"):
        load_suite(suite, (override,))


@pytest.mark.parametrize(("override", "got"), [("updates=", "''"), ("updates=ten", "'ten'"), ("seeds=[0,", r"'\[0,'")])
def test_what_is_no_toml_is_text_and_checked_as_such(suite: str, override: str, got: str) -> None:
    with pytest.raises(SpecError, match=f"{override.partition('=')[0]} should be a valid .*, got {got}"):
        load_suite(suite, (override,))


def test_tables_of_unused_methods_are_checked_too(expand: Expand) -> None:
    with pytest.raises(SpecError, match=r"ensemble\.rollouts should be greater than 0, got 0"):
        expand('generators=["none"]', "ensemble.rollouts=0")


def test_every_finding_is_reported(expand: Expand) -> None:
    with pytest.raises(SpecError) as caught:
        expand("updates=0", "heldout=2")
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
