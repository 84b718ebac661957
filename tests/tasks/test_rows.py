"""Values that cannot be right are refused by key and row; flags and odd types are read as they are meant."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from core.errors import DataError
from tasks.rows import BrokenRowsError, Rows, checked, ended_episodes, episodes, following, require_dims

Arrays = dict[str, np.ndarray]


def refused(arrays: Arrays, *parts: str) -> None:
    """`checked` refuses the arrays, naming where they come from and every one of `parts`."""
    with pytest.raises(DataError) as caught:
        checked(arrays, "set")
    assert str(caught.value).startswith("set: ")
    for part in parts:
        assert part in str(caught.value)


def test_odd_but_harmless_types_are_coerced(rows: Rows, arrays: Arrays) -> None:
    arrays["observations"] = arrays["observations"].astype(">f8")
    arrays["actions"] = arrays["actions"].astype(np.float64)
    arrays["rewards"] = arrays["rewards"].astype(">f4")[:, None]
    arrays["terminals"] = arrays["terminals"].astype(np.float32)[:, None]
    arrays["timeouts"] = arrays["timeouts"].astype(np.int8)
    found = checked(arrays, "set")
    for name in ("obs", "action", "reward", "terminal", "timeout"):
        value = getattr(found, name)
        expected = getattr(rows, name)
        assert value.dtype == expected.dtype, name
        assert value.dtype.isnative, name
        assert np.array_equal(value, expected), name


def test_missing_timeouts_are_derived_and_said(arrays: Arrays, capsys: pytest.CaptureFixture[str]) -> None:
    del arrays["timeouts"]
    assert not checked(arrays, "set").timeout.any()
    assert "set: has no timeouts; only terminals end an episode" in capsys.readouterr().err
    derived = checked(arrays, "set", max_steps=5).timeout
    assert np.flatnonzero(derived).tolist() == [4]  # 9 starts anew, after the terminal at 8
    assert np.flatnonzero(checked(arrays, "set", max_steps=3).timeout).tolist() == [2, 5, 8, 11]


@pytest.mark.parametrize("key", ["observations", "actions", "rewards", "infos/qpos", "infos/action_log_probs"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_inf_are_refused(arrays: Arrays, key: str, value: float) -> None:
    arrays |= {"infos/qpos": np.zeros((12, 2)), "infos/action_log_probs": np.zeros(12)}
    arrays[key][[3, 5, 6]] = value
    refused(arrays, f"{key} must be finite, got NaN or Inf in rows 3..6 (3 of 12 rows, 25.00%)")


def test_numbers_too_large_for_float32_are_refused(arrays: Arrays) -> None:
    arrays["observations"] = arrays["observations"].astype(np.float64) + 1e300 * (np.arange(12) == 7)[:, None]
    refused(arrays, "observations must be finite, got NaN or Inf in rows 7..7")


def test_columns_of_unequal_length_are_refused(arrays: Arrays) -> None:
    arrays["rewards"] = arrays["rewards"][:-1]
    refused(arrays, "all keys must have the same number of rows", "'rewards': 11", "'actions': 12")


def test_a_set_without_rows_is_refused(arrays: Arrays) -> None:
    refused({key: value[:0] for key, value in arrays.items()}, "at least one row, got 0")


@pytest.mark.parametrize(
    ("key", "shape", "rule"),
    [
        ("rewards", (12, 2), "rewards must have shape (N,) or (N, 1), got (12, 2)"),
        ("observations", (), "observations must have rows, got a single number"),
        ("observations", (12,), "observations must have shape (N, columns), got (12,)"),
        ("actions", (12, 2, 2), "actions must have shape (N, columns), got (12, 2, 2)"),
        ("next_observations", (12, 3), "next_observations must have shape (12, 4), got (12, 3)"),
    ],
)
def test_wrong_shapes_are_refused(arrays: Arrays, key: str, shape: tuple[int, ...], rule: str) -> None:
    refused(arrays | {key: np.zeros(shape)}, rule)


def test_actions_out_of_range_are_refused(arrays: Arrays) -> None:
    arrays["actions"][[2, 9]] = -1.25
    refused(arrays, "actions must be in [-1, 1], got |a| up to 1.25 in rows 2..9 (2 of 12 rows, 16.67%)")


def test_actions_out_of_range_by_rounding_are_clipped(arrays: Arrays) -> None:
    arrays["actions"][0, 0] = 1 + 5e-7
    assert checked(arrays, "set").action.max() == 1


@pytest.mark.parametrize("key", ["terminals", "timeouts"])
def test_flags_other_than_0_and_1_are_refused(arrays: Arrays, key: str) -> None:
    refused(arrays | {key: np.full(12, 0.5)}, f"{key} must be 0 or 1")


def test_another_width_than_the_simulators_is_refused(rows: Rows) -> None:
    assert require_dims(rows, 4, 2, "set") is rows
    with pytest.raises(DataError, match=r"set: observations and actions must have 3 and 2 columns, got \(4, 2\)"):
        require_dims(rows, 3, 2, "set")


def test_episodes_end_at_a_flag_or_with_the_rows(rows: Rows) -> None:
    starts, stops = episodes(rows)
    assert starts.tolist() == [0, 5, 9]
    assert stops.tolist() == [5, 9, 12]


def test_an_unfinished_tail_has_no_return(rows: Rows) -> None:
    lengths, returns = ended_episodes(rows)
    assert lengths.tolist() == [5, 4]
    assert returns == pytest.approx([rows.reward[:5].sum(), rows.reward[5:9].sum()])


def test_a_single_unfinished_episode_has_a_return(make_rows: Callable[..., Rows]) -> None:
    rows = make_rows(np.zeros(6, bool), np.zeros(6, bool))
    lengths, returns = ended_episodes(rows)
    assert lengths.tolist() == [6]
    assert returns == pytest.approx([rows.reward.sum()])


def test_next_observations_are_stored_or_follow(rows: Rows) -> None:
    stops = episodes(rows)[1]
    known, stored = following(rows, stops)
    assert known.all()
    known, derived = following(replace(rows, next_obs=None), stops)
    assert np.flatnonzero(~known).tolist() == [4, 8, 11]
    assert np.array_equal(derived[known], stored[known])


def test_episodes_with_unusable_rows_are_left_out(arrays: Arrays, capsys: pytest.CaptureFixture[str]) -> None:
    """Episodes are rows 0..4, 5..8 and 9..11."""
    arrays["rewards"][6] = np.nan
    arrays["actions"][10, 0] = 1.5
    with pytest.raises(BrokenRowsError, match="actions must be in"):
        checked(arrays, "file")
    rows = checked(arrays, "file", skip_broken=True)
    said = capsys.readouterr().err
    assert "file: 2 of 3 episodes are left out, with values that are not finite or actions beyond [-1, 1]: 1, 2" in said
    assert rows.left_out == 2
    assert np.array_equal(rows.obs, arrays["observations"][:5])
    assert np.array_equal(rows.timeout, arrays["timeouts"][:5])
    arrays["observations"][0] = np.inf
    with pytest.raises(DataError, match="must have an episode to use, got 3 with values that are not finite"):
        checked(arrays, "file", skip_broken=True)


def test_derived_time_limits_survive_a_left_out_episode(arrays: Arrays, capsys: pytest.CaptureFixture[str]) -> None:
    del arrays["timeouts"]
    arrays["rewards"][1] = np.inf  # in rows 0..2, of episodes that end every three rows and at row 8
    rows = checked(arrays, "file", 3, skip_broken=True)
    assert np.flatnonzero(rows.timeout | rows.terminal).tolist() == [2, 5, 8]
    assert capsys.readouterr().err.count("has no timeouts") == 1


def test_flags_that_are_none_cannot_be_left_out(arrays: Arrays) -> None:
    arrays["terminals"] = arrays["terminals"].astype(float)
    arrays["terminals"][3] = np.nan
    with pytest.raises(DataError, match="terminals must be 0 or 1"):
        checked(arrays, "file", skip_broken=True)
