"""Snapshots from which a long computation resumes; its numbers are those of an undisturbed run.

FOLDER/<step>.safetensors          every tensor, as it was
FOLDER/<step>.json                 all else, whose snapshot it is, and the sha256 of the tensors; written last

The last two are kept: whatever happens while one is written, the one before is whole.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from core.errors import SpecError
from core.files import atomic, sha256, write_json
from core.interrupt import Stopped, pending_signal
from core.progress import say, sign_of_life

__all__ = ["Checkpoint", "Stateful", "load_all", "state_of"]

_KEPT = 2


@runtime_checkable
class Stateful(Protocol):
    """State that can be saved and restored."""

    def state_dict(self) -> Any:
        """Tensors, numbers and texts in nested dictionaries and lists."""

    def load_state_dict(self, state: Any) -> Any:
        """Restore that state; may keep the tensors it is given."""


def state_of(parts: Mapping[str, Stateful]) -> dict[str, Any]:
    return {name: part.state_dict() for name, part in parts.items()}


def load_all(parts: Mapping[str, Stateful], state: Mapping[str, Any]) -> None:
    for name, part in parts.items():
        part.load_state_dict(state[name])


class Checkpoint:
    """Where one computation keeps its snapshots; without a folder nowhere.

    `identity` names all that its numbers depend on: a snapshot of another one is not used.
    """

    def __init__(self, folder: Path | None = None, identity: str = "") -> None:
        self.folder = folder
        self._identity = identity
        self._every = _seconds()
        self._last = time.monotonic()

    def part(self, key: str) -> "Checkpoint":
        """The checkpoint of one stage of this computation, in a folder of its own below."""
        return Checkpoint(self.folder and self.folder / key, self._identity)

    def offer(self, step: int, snapshot: Callable[[], Any]) -> None:
        """Save if the last time was long enough ago, or if the process was asked to stop; without a folder nothing.

        Every offer is a sign of life (core/progress.py).

        Raises:
            Stopped: a signal asked the process to stop; the snapshot has been written.
        """
        sign_of_life()
        number = pending_signal()
        due = number is not None or time.monotonic() - self._last >= self._every
        if due and self.folder is not None:  # looked at first: building a snapshot copies and synchronises
            self.save(step, snapshot())
        if number is not None:
            raise Stopped(number)

    def save(self, step: int, tree: Any) -> None:
        """Write a snapshot; if that fails, say so and continue without it."""
        if self.folder is None:
            return
        tensors: dict[str, Tensor] = {}
        described = _describe(tree, tensors)
        path = self.folder / f"{step:012d}.safetensors"
        try:
            with atomic(path) as part:
                save_file(tensors, part)
            card = {"identity": self._identity, "sha256": sha256(path), "state": described}
            write_json(path.with_suffix(".json"), card)
        except (OSError, SafetensorError) as error:  # safetensors wraps OSError
            say(f"{self.folder} does not take a checkpoint, the run goes on without: {error}")
        for old in sorted(self.folder.glob("*.json"))[:-_KEPT]:
            old.unlink()
            old.with_suffix(".safetensors").unlink(missing_ok=True)
        self._last = time.monotonic()

    def load(self) -> tuple[int, Any] | None:
        """The newest whole snapshot of this computation, with its step; tensors are on the CPU."""
        for path in sorted(self.folder.glob("*.json"), reverse=True) if self.folder else ():
            try:
                return int(path.stem), self._read(path)
            except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
                say(f"{path} is not used: {error}")
        return None

    def newest(self) -> int | None:
        """The step of the newest snapshot, whole or not."""
        steps = [int(path.stem) for path in self.folder.glob("*.json")] if self.folder else []
        return max(steps, default=None)

    def clear(self) -> None:
        """Delete all snapshots."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self, path: Path) -> Any:
        card = json.loads(path.read_text(encoding="utf-8"))
        tensors = path.with_suffix(".safetensors")
        if card["identity"] != self._identity:
            raise ValueError("it belongs to other code, versions, data, settings or threads")
        if sha256(tensors) != card["sha256"]:
            raise ValueError(f"sha256 of {tensors.name} must be {card['sha256']}")
        return _restore(card["state"], load_file(tensors))


def _seconds() -> float:
    text = os.environ.get("ROLLOUTBENCH_CHECKPOINT_SECONDS", "120")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise SpecError(f"$ROLLOUTBENCH_CHECKPOINT_SECONDS must be a number of seconds, got {text!r}")
    return seconds


def _describe(tree: Any, tensors: dict[str, Tensor]) -> Any:
    """The tree as JSON, with names in place of tensors, which are added to `tensors`."""
    match tree:
        case Tensor():
            name = str(len(tensors))
            tensors[name] = tree.detach().cpu().clone().contiguous()
            return {"tensor": name}
        case Mapping():
            return {"dict": [[key, _describe(value, tensors)] for key, value in tree.items()]}
        case list() | tuple():
            return {"list": [_describe(value, tensors) for value in tree]}
        case None | bool() | int() | float() | str():
            return tree
    raise TypeError(f"a snapshot holds tensors, numbers and texts, got {type(tree).__name__}")


def _restore(described: Any, tensors: Mapping[str, Tensor]) -> Any:
    match described:
        case {"tensor": name}:
            return tensors[name]
        case {"dict": items}:
            return {key: _restore(value, tensors) for key, value in items}
        case {"list": values}:
            return [_restore(value, tensors) for value in values]
    return described
