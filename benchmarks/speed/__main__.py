"""All measurements of a CPU, and the table of figures: python -m benchmarks.speed [NAME] [--peers DIR] [--jax PYTHON].

Each writes one json file into the folder `--out`; the table in its README.md is drawn from these files alone. A further
one is a module here with `measure(options)`, which returns what json can hold, `figures(found)`, and its name below.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from benchmarks.execution.provenance import provenance
from benchmarks.peers import NotThereError
from benchmarks.speed.harness import NOISE, Options
from core.files import write_text

__all__ = ["MEASURED", "main", "run", "table"]

MEASURED = ("updates", "ensemble", "unet", "libraries", "solvers", "scaling", "profile")
_HEADS = ("figure", "asked for", "plain", "compiled", "target")
_PAGE = f"""# Speed, beside the usual tools and by itself

Drawn from the json files in this folder by `python -m benchmarks.speed --table`; measured by `make bench`. All who are
compared do the same work in turns, in one run on one machine.

- **Ratios** ("2.42x") say how many times as fast as the peer this project is: more is better, below 1x is slower. Those
  between {1 / NOISE:.2f}x and {NOISE}x are noise: level. Of times, memory, errors and shares, less is better.
- **Targets** are those of the project's design, *met* or *missed*. Where one says "compiled", the design leaves open
  which of both it means: the compiled number is judged, and plain ones below the target miss it.
- **compiled** has its losses or networks through torch.compile (`--set compile=auto`).
- Lines of scaling.json are single runs, without a spread.
"""


def table(folder: Path) -> str:
    """The page of figures, in Markdown, from the files that are there."""
    rows = list[tuple[str, ...]]()
    machines = dict[str, list[str]]()
    notes = list[str]()
    for name in MEASURED:
        file = folder / f"{name}.json"
        if not file.is_file():
            rows.append((name, "", "not measured", "", ""))
            continue
        found = json.loads(file.read_text(encoding="utf-8"))
        module = import_module(f"benchmarks.speed.{name}")
        rows += [(*figure, f"[{file.name}]({file.name})") for figure in module.figures(found)]
        notes += ["", module.notes(found)] if hasattr(module, "notes") else []
        machines.setdefault(_machine(found), []).append(file.name)
    figures = tabulate(rows, [*_HEADS, "where"], tablefmt="github", disable_numparse=True)
    where = [f"- {', '.join(files)}: {text}" for text, files in machines.items()]
    return "\n".join([_PAGE, figures, "", *where, *notes, ""])


def run(name: str, options: Options, out: Path) -> None:
    """One measurement in this process; the file stays as it is where nothing can be measured."""
    module = import_module(f"benchmarks.speed.{name}")
    try:
        found = _rounded({"machine": provenance(torch.device("cpu"))} | module.measure(options))
    except NotThereError as error:
        return print(f"{name}: {error}")
    write_text(out / f"{name}.json", json.dumps(found, sort_keys=True, allow_nan=False) + "\n")
    print(_machine(found), tabulate(module.figures(found), _HEADS, disable_numparse=True), sep="\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure one here, or several in processes of their own; draw the table. Exit code 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MEASURED)}; default: all")
    parser.add_argument("--peers", type=Path, help="folder with checkouts of peers; default: $ROLLOUTBENCH_PEERS")
    parser.add_argument("--jax", type=Path, metavar="PYTHON", help="interpreter with jax, flax, optax and distrax")
    parser.add_argument("--out", type=Path, default=Path("results/speed"), help="folder of the json files")
    parser.add_argument("--quick", action="store_true", help="tiny work, one round: does it run?")
    parser.add_argument("--table", action="store_true", help="only draw the table again")
    given = parser.parse_args(arguments)
    names = [] if given.table else given.names or list(MEASURED)
    if unknown := [name for name in names if name not in MEASURED]:
        parser.error(f"NAME must be one of {', '.join(MEASURED)}, got {', '.join(unknown)}")
    known = os.environ.get("ROLLOUTBENCH_PEERS")
    options = Options(given.peers or (Path(known) if known else None), given.jax, given.quick)
    if len(names) == 1:
        run(names[0], options, given.out)
    passed_on = [f"--{key}={value}" for key in ("peers", "jax", "out") if (value := getattr(given, key))]
    passed_on += ["--quick"] if given.quick else []
    failed = []
    for name in names if len(names) > 1 else ():  # threads, memory and compiled code of others do not touch it
        print(f"\n== {name}", flush=True)
        if subprocess.run([sys.executable, "-m", "benchmarks.speed", name, *passed_on]).returncode:
            failed.append(name)
    write_text(given.out / "README.md", table(given.out))
    if failed:
        print(f"not measured, see above: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _machine(found: dict[str, Any]) -> str:
    where = found["machine"]
    text = f"{where.get('cpu', where.get('processor'))}, {where['device']}, threads {where['threads']}, "
    text += f"torch {where['versions']['torch']}, commit {str(where['commit'])[:7]}"
    text += " with changes" if where["dirty"] else ""
    known = [f"{name} {commit[:7]}" for name, commit in found.get("peers", {}).items() if commit]
    text = f"{text}; {', '.join(known)}" if known else text
    return f"{text}; {found['remark']}" if "remark" in found else text


def _rounded(value: Any) -> Any:
    """Numbers to five digits: more would be noise."""
    if isinstance(value, dict):
        return {str(key): _rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(main())
