"""What the scripts that compare us with peers have in common on the command line."""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed import peers
from benchmarks.speed.timing import machine
from benchmarks.speed.turns import turns_table
from core.files import write_json

__all__ = ["Peers", "finish", "options", "threads"]


class Peers:
    """Loads peers, and remembers their commits and who was not there."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.commits: dict[str, dict[str, Any] | None] = {}
        self.not_there: dict[str, str] = {}

    def get(self, name: str, load: Callable[[Path], Any], contestants: Sequence[str] = ()) -> Any:
        """What `load` makes of the peer's checkout, or None; `contestants` are its names where not its own."""
        try:
            root = peers.checkout(self.folder, name)
            found = load(root)
        except peers.NotThereError as error:
            self.commits[name] = None
            self.not_there |= dict.fromkeys(contestants or [name], str(error))
            return None
        self.commits[name] = {"commit": peers.commit(root)}
        return found

    def record(self) -> dict[str, Any]:
        """For the json file."""
        return {"peers": self.commits, "not_there": self.not_there}


def options(description: str | None, repeats: int) -> argparse.ArgumentParser:
    """--threads, --repeats, --peers, --out, --quick."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, help="default: torch's, all cores")
    parser.add_argument("--repeats", type=int, default=repeats, help="rounds in which everybody has a turn")
    parser.add_argument(
        "--peers", type=Path, help=f"folder with checkouts of {', '.join(peers.NAMES)}; default: $ROLLOUTBENCH_PEERS"
    )
    parser.add_argument("--out", type=Path, help="json file to write")
    parser.add_argument("--quick", action="store_true", help="tiny work, one round: does it run?")
    return parser


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Within the block torch uses so many; None: as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def finish(title: str, found: Mapping[str, Any], out: Path | None) -> None:
    """Print the tables of what was measured, write json."""
    where = machine(torch.device("cpu"))
    print(f"{title}; {where['processor']}, {where['threads']} threads")
    for name, turns in found["measured"].items():
        print(f"\n{name}, median of {turns['rounds']} rounds\n{turns_table(turns, found['not_there'])}")
    if out:
        write_json(out, {"machine": where, **found})
