import json
import os
import pickle
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from core import checkpoint as module
from core import files
from core.checkpoint import Checkpoint
from core.errors import SpecError
from core.interrupt import Stopped, deferred, listening, pending_signal
from core.random import Streams

TREE = {
    "network": {"weight": torch.arange(6.0).view(2, 3), "flags": torch.tensor([True, False])},
    "optimizer": {"state": {0: {"step": torch.tensor(7.0), "moment": torch.full((2,), 0.1)}}, "betas": [0.9, 0.999]},
    "random": [torch.Generator().get_state()],
    "empty": torch.zeros(2, 0, 3),
    "counters": {"updates": 12, "share": 0.1 + 0.2, "name": "µ", "none": None, "yes": True},
}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and bool(a == b)


def test_a_snapshot_comes_back_bit_for_bit(tmp_path: Path) -> None:
    Checkpoint(tmp_path, "mine").save(5, TREE)
    step, tree = Checkpoint(tmp_path, "mine").load() or (0, None)
    assert step == 5
    assert same(TREE, tree)


def test_views_of_one_tensor_are_written_as_they_are_now(tmp_path: Path) -> None:
    whole = torch.arange(4.0)
    Checkpoint(tmp_path).save(1, {"whole": whole, "half": whole[::2], "again": whole})
    whole += 1
    _, tree = Checkpoint(tmp_path).load() or (0, {})
    assert tree["half"].tolist() == [0, 2]
    assert tree["again"].tolist() == tree["whole"].tolist() == [0, 1, 2, 3]


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path)
    for step in (1, 20, 300):
        checkpoint.save(step, {"step": step})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{step:012d}.{kind}" for step in (20, 300) for kind in ("json", "safetensors")
    ]
    checkpoint.clear()
    assert checkpoint.load() is None
    assert not tmp_path.exists()


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2] ^= 4
    path.write_bytes(bytes(content))


def replace_by_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Bomb(path.parent / "fired")))


class Bomb:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", ["json", "safetensors"])
@pytest.mark.parametrize("damage", [tear, flip, replace_by_pickle, Path.unlink])
def test_a_damaged_snapshot_is_named_and_the_one_before_is_used(
    kind: str, damage: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (1, 2):
        Checkpoint(tmp_path).save(step, {"x": torch.full((3,), float(step))})
    damage(tmp_path / f"{2:012d}.{kind}")
    step, tree = Checkpoint(tmp_path).load() or (0, {})
    assert step == 1
    assert tree["x"].tolist() == [1, 1, 1]
    if (kind, damage) != ("json", Path.unlink):
        assert f"{2:012d}" in capsys.readouterr().err
    assert not (tmp_path / "fired").exists()


class Killed(BaseException):
    """Nothing after this happens."""


@pytest.mark.parametrize("moment", range(12))
def test_whatever_a_kill_interrupts_the_one_before_is_whole(
    moment: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each call that reaches the disk: two files of four calls each, and the removal of two old ones."""
    checkpoint = Checkpoint(tmp_path)
    calls = iter(range(moment, -1, -1))
    for step in (1, 2):
        checkpoint.save(step, {"x": torch.full((3,), float(step))})

    def interrupted(real: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            if next(calls, None) == 0:
                raise Killed
            return real(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        for owner, name in ((module, "save_file"), (files, "_sync"), (Path, "replace"), (Path, "unlink")):
            patch.setattr(owner, name, interrupted(getattr(owner, name)))
        with suppress(Killed):
            checkpoint.save(3, {"x": torch.full((3,), 3.0)})
    step, tree = Checkpoint(tmp_path).load() or (0, {})
    assert step in (2, 3)
    assert tree["x"].tolist() == [step] * 3


def test_without_a_folder_no_snapshot_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROLLOUTBENCH_CHECKPOINT_SECONDS", "0")
    built = []
    for step in range(3):
        Checkpoint().offer(step, lambda: built.append(1))
    assert not built
    monkeypatch.setattr(module, "pending_signal", lambda: signal.SIGTERM)
    with pytest.raises(Stopped):
        Checkpoint().offer(3, lambda: built.append(1))
    assert not built


def test_a_snapshot_of_something_else_is_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Checkpoint(tmp_path, "code of yesterday").save(1, {})
    assert Checkpoint(tmp_path, "code of today").load() is None
    assert "belongs to other code" in capsys.readouterr().err


def test_a_full_disk_costs_the_snapshot_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Checkpoint(tmp_path)
    checkpoint.save(1, {"x": torch.ones(1)})

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "save_file", full)
        checkpoint.save(2, {"x": torch.ones(1)})
    assert "the run goes on" in capsys.readouterr().err
    assert (checkpoint.load() or (0, None))[0] == 1
    assert len(list(tmp_path.iterdir())) == 2


def test_offers_are_taken_when_time_has_passed_or_a_signal_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Checkpoint(tmp_path)
    checkpoint.offer(1, lambda: pytest.fail("saved at once"))
    monkeypatch.setenv("ROLLOUTBENCH_CHECKPOINT_SECONDS", "0")
    Checkpoint(tmp_path).offer(2, lambda: {"at": 2})
    assert (checkpoint.load() or (0, None))[0] == 2
    with pytest.raises(Stopped), listening(), deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        checkpoint.offer(3, lambda: {"at": 3})
        pytest.fail("went on")
    assert checkpoint.load() == (3, {"at": 3})


@pytest.mark.parametrize("text", ["soon", "-1", "nan"])
def test_the_interval_is_a_number(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROLLOUTBENCH_CHECKPOINT_SECONDS", text)
    with pytest.raises(SpecError, match="ROLLOUTBENCH_CHECKPOINT_SECONDS must be a number of seconds"):
        Checkpoint(None)


def test_parts_are_kept_apart_and_cleared_together(tmp_path: Path) -> None:
    whole = Checkpoint(tmp_path / "partial", "mine")
    whole.part("one").save(4, {})
    assert whole.part("one").load() == (4, {})
    assert whole.part("other").load() is None
    whole.clear()
    assert not (tmp_path / "partial").exists()


def test_without_a_folder_nothing_is_kept() -> None:
    Checkpoint().part("one").save(1, {})
    assert Checkpoint().part("one").load() is None


def test_only_plain_values_go_in(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="got PosixPath"):
        Checkpoint(tmp_path).save(1, {"path": tmp_path})


def test_streams_go_on_where_they_were(tmp_path: Path) -> None:
    rng = Streams((3, 4), "x")
    rng.normal(7)
    Checkpoint(tmp_path).save(1, rng.state_dict())
    expected = rng.normal(5)
    other = Streams((3, 4), "x")
    other.load_state_dict((Checkpoint(tmp_path).load() or (0, None))[1])
    assert torch.equal(other.normal(5), expected)


@pytest.fixture
def foreground() -> Iterator[None]:
    """A shell's background jobs ignore Ctrl-C, and so do we."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("foreground")
def test_the_first_signal_stops_and_the_next_ones_do_no_harm() -> None:
    steps = []
    with pytest.raises(Stopped) as caught, listening():
        with deferred():
            os.kill(os.getpid(), signal.SIGUSR1)
            os.kill(os.getpid(), signal.SIGINT)
            steps.append(pending_signal())
        pytest.fail("went on")
    assert steps == [signal.SIGUSR1]
    assert caught.value.exit_code == 75
    assert str(caught.value) == "SIGUSR1"
    with pytest.raises(Stopped) as caught, listening():
        try:
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)  # while it is leaving
            steps.append(pending_signal())
    assert steps[1] == signal.SIGINT
    assert caught.value.exit_code == 130
    assert pending_signal() is None


def test_the_card_is_json(tmp_path: Path) -> None:
    Checkpoint(tmp_path, "mine").save(5, TREE)
    card = json.loads((tmp_path / f"{5:012d}.json").read_text(encoding="utf-8"))
    assert card["identity"] == "mine"
    assert len(card["sha256"]) == 64
