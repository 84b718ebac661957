"""All measurements of a CPU, each in its own process, and the table of figures: python -m benchmarks.speed --peers DIR.

Every one writes one json file into the folder `--out`; the table in its README.md is drawn from these files
alone, so `--table` draws it again without measuring. A further one is a script with `main(arguments)`, which
understands --out and --quick, and `figures(found)`, and its name here.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from tabulate import tabulate

from core.files import write_text

__all__ = ["COMPARISONS", "main", "run", "table"]

COMPARISONS = {  # name -> options of ours that the script understands
    "updates": ("threads", "peers", "jax"),
    "ensemble": ("threads", "peers"),
    "unet": ("threads", "peers"),
    "intervals": (),
    "replay": ("threads",),
    "compiling": (),
    "solvers": (),
    "scaling": (),
    "profile_cell": (),
}

_HEAD = """# Speed, beside the usual tools and by itself

Drawn from the json files in this folder by `python -m benchmarks.speed --table`; measured by `make bench`. All who are
compared do the same work in turns, in one run on one machine: read ratios, not times, and those under 1.15x as noise.
"Asked for" is what the project's design demands.
"""

_FIGURES = """
Error of DyDiff's samplers against their cost, from the suite `fidelity/samplers`; the band is within 10 % of the error
of the released settings:

![Error against FLOP](solvers.png)

How time and memory grow:

![Scaling](scaling.png)
"""


def table(folder: Path) -> str:
    """The page of figures, in Markdown, from the files that are there."""
    rows: list[tuple[str, ...]] = []
    where: dict[str, list[str]] = {}
    for name in COMPARISONS:
        file = folder / f"{name}.json"
        if not file.is_file():
            rows.append((name, "", "not measured", ""))
            continue
        found = json.loads(file.read_text(encoding="utf-8"))
        script = import_module(f"benchmarks.speed.{name}")
        rows += [(*figure, f"[{file.name}]({file.name})") for figure in script.figures(found)]
        where.setdefault(_machine(found), []).append(file.name)
    figures = tabulate(rows, ["figure", "asked for", "measured", "where"], tablefmt="github", disable_numparse=True)
    lines = [f"- {', '.join(files)}: {machine}" for machine, files in where.items()]
    return "\n".join([_HEAD, figures, "", *lines, _FIGURES])


def run(name: str, options: Sequence[str]) -> int:
    """Exit code of one comparison. Its own process: threads, memory and compiled code of others do not touch it."""
    return subprocess.run([sys.executable, "-m", f"benchmarks.speed.{name}", *options]).returncode


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all, or those named; draw the table. Exit code 1 if one could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(COMPARISONS)}; default: all")
    parser.add_argument("--threads", help="of torch; default: all cores")
    parser.add_argument("--peers", help="folder with checkouts of peers' code; default: $ROLLOUTBENCH_PEERS")
    parser.add_argument("--jax", metavar="PYTHON", help="interpreter with jax, flax, optax and distrax")
    parser.add_argument("--out", type=Path, default=Path("results/speed"), help="folder of the json files")
    parser.add_argument("--quick", action="store_true", help="tiny work, one round: does it run?")
    parser.add_argument("--table", action="store_true", help="only draw the table again")
    asked = parser.parse_args(arguments)
    if unknown := [name for name in asked.names if name not in COMPARISONS]:
        parser.error(f"NAME must be one of {', '.join(COMPARISONS)}, got {', '.join(unknown)}")
    failed = []
    for name in [] if asked.table else asked.names or COMPARISONS:
        given = {key: value for key in COMPARISONS[name] if (value := getattr(asked, key))}
        options = [part for key, value in given.items() for part in (f"--{key}", str(value))]
        options += ["--out", str(asked.out / f"{name}.json"), *(["--quick"] if asked.quick else [])]
        print(f"\n== {name}", flush=True)
        if run(name, options):
            failed.append(name)
    write_text(asked.out / "README.md", table(asked.out))
    print(f"\n{table(asked.out)}")
    if failed:
        print(f"not measured, see above: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _machine(found: dict[str, Any]) -> str:
    machine = found["machine"]
    peers = found.get("peers", {})
    text = f"{machine['processor']}, {machine['device']}, {machine['threads']} threads, "
    text += f"torch {machine['versions']['torch']}, commit {str(machine['commit'])[:7]}"
    text += " with changes" if machine["dirty"] else ""
    known = [f"{name} {str(peer['commit'])[:7]}" for name, peer in peers.items() if peer]
    return f"{text}; {', '.join(known)}" if known else text


if __name__ == "__main__":
    sys.exit(main())
