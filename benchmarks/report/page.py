"""One HTML file that needs nothing else: tables, figures and provenance of a results folder."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from benchmarks.report.plots import CAPTIONS
from benchmarks.report.results import CellView, Results, without_folders
from benchmarks.report.style import COLOURS, GRID, INK, SURFACE, WIDTH
from benchmarks.report.tables import Table

__all__ = ["page"]

_METRICS = Path(__file__).parents[2] / "metrics" / "METRICS.md"
_THEMED = {INK: "currentColor", GRID: "var(--line)", SURFACE: "var(--surface)"} | {
    colour: f"var(--c{colour[1:]})" for colour in COLOURS.values()
}
_SECTIONS = {  # id: (title, tables, figures)
    "scores": ("Scores", ["scores", "aggregate", "selection"], ["scores", "aggregate", "profiles"]),
    "improvement": ("Improvement over real data only", ["improvement"], ["improvement"]),
    "published": ("Published scores", ["published"], []),
    "curves": ("Learning curves", [], ["learning_curves"]),
    "ablation": ("What was varied", [], ["ablation", "heat"]),
    "compounding": ("Compounding error", ["compounding", "growth"], ["compounding"]),
    "consistency": ("Policy consistency and distance to the data", ["consistency", "shift"], ["frontier"]),
    "returns": ("Return gap", ["returns"], []),
    "diagnostics": ("Diagnostics", ["diagnostics"], []),
    "cost": ("Cost", ["cost"], ["price"]),
}


def page(results: Results, tables: Iterable[Table], svgs: Mapping[str, str], problems: list[str]) -> str:
    """The page's text. `svgs`: file name without suffix -> svg as matplotlib wrote it, in the order of the page."""
    by_name = {table.name: table for table in tables if table.rows}
    sections = []
    for anchor, (title, names, stems) in _SECTIONS.items():
        figures = [
            {"svg": _inline(svg, name), "caption": CAPTIONS[stem], "file": name}
            for stem in stems
            for name, svg in svgs.items()
            if re.fullmatch(rf"{stem}(_\d+)?", name)
        ]
        shown = [by_name[name] for name in names if name in by_name]
        if figures or shown:
            sections.append({"id": anchor, "title": title, "figures": figures, "tables": shown})
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        suite=results.suite or "unnamed suite",
        summary=_summary(results),
        sections=sections,
        problems=problems,
        cells=[_provenance(cell) for cell in results.cells],
        hover=_hover(results),
        environments=_environments(results),
        palette=list(COLOURS.values()),
        meaning=_meaning(),
        reproduce=results.suite or "SUITE",
    )


def _meaning() -> Markup:
    """The page on metrics, without its title, its headings one level down."""
    text = _METRICS.read_text(encoding="utf-8").partition("\n")[2]
    html: str = MarkdownIt("commonmark", {"html": False}).enable("table").render(text.replace("\n## ", "\n### "))
    return Markup(html)


def _summary(results: Results) -> list[tuple[str, str]]:
    cells = results.cells
    settings = [cell.spec["settings"] for cell in results.cells]
    finished = sum(bool(cell.done) and not cell.failed and not cell.missing for cell in cells)
    seeds = sorted({seed for cell in cells for seed in (*cell.done, *cell.failed, *cell.missing)})
    return [
        ("tasks", _listed(cell.task for cell in cells)),
        ("generators", _listed(cell.generator for cell in cells)),
        ("algorithms", _listed(cell.algorithm for cell in cells)),
        ("seeds", _listed(str(seed) for seed in seeds)),
        ("updates", _listed(f"{setting['updates']:,}" for setting in settings)),
        ("cells", f"{finished} of {len(cells)} complete"),
    ]


def _provenance(cell: CellView) -> dict[str, Any]:
    return {
        "id": cell.cell_id,
        "name": cell.name,
        "runs": [_run(run) for run in cell.runs],
        "spec": without_folders(json.dumps(cell.spec, indent=1, sort_keys=True)),
        "state": _state(cell),
    }


def _state(cell: CellView) -> str:
    if cell.failed or cell.error:
        return "failed"
    return "missing" if cell.missing else "diverged" if cell.diverged else "complete"


def _run(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Where the numbers of some seeds come from; what an older run did not write down is unknown."""
    versions = run.get("versions")
    seconds = run.get("seconds")
    return [
        ("seeds", ", ".join(str(seed) for seed in run["seeds"]) if "seeds" in run else "unknown"),
        ("status", _known(run, "status")),
        ("started", _known(run, "started")),
        ("took", "unknown" if seconds is None else f"{seconds:,.1f} s"),
        ("commit", _commit(run)),
        ("data sha256", _known(run, "dataset_sha256")),
        ("physics", _known(run, "physics")),
        ("device", _known(run, "device")),
        ("threads", _known(run, "threads")),
        (
            "versions",
            ", ".join(f"{name} {value}" for name, value in sorted(versions.items())) if versions else "unknown",
        ),
        ("dataset", without_folders(json.dumps(run["dataset"], sort_keys=True)) if run.get("dataset") else "unknown"),
    ]


def _hover(results: Results) -> dict[str, str]:
    """The short story of every cell, for the tooltip of its numbers."""
    wanted = ("seeds", "took", "commit", "data sha256", "physics", "device", "versions")
    stories = {}
    for cell in results.cells:
        runs = ["\n".join(f"{key}: {value}" for key, value in _run(run) if key in wanted) for run in cell.runs]
        stories[cell.cell_id] = "\n\n".join([cell.cell_id, *runs])
    return stories


def _environments(results: Results) -> list[tuple[str, str]]:
    """Everything the runs of this folder were made with; two commits or two physics in one table are worth a look."""
    runs = [dict(_run(run)) for cell in results.cells for run in cell.runs]
    return [
        (key, "; ".join(sorted({run[key] for run in runs})))
        for key in ("commit", "device", "physics", "versions")
        if runs
    ]


def _commit(run: Mapping[str, Any]) -> str:
    dirty = {True: " + uncommitted changes", False: "", None: " (clean or not: unknown)"}[run.get("dirty")]
    return f"{run['commit']}{dirty}" if run.get("commit") else "unknown"


def _known(run: Mapping[str, Any], key: str) -> str:
    return "unknown" if run.get(key) is None else str(run[key])


def _listed(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names)) or "none"


def _inline(svg: str, name: str) -> Markup:
    """As an element of a page: without headers, with ids of its own, in the colours of the reader's theme.

    matplotlib has escaped the text in it, and draws it as outlines anyway.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|\sxmlns(:\w+)?=\"[^\"]*\"", "", svg, flags=re.DOTALL)
    for side in ("width", "height"):
        svg = re.sub(rf"^<svg ([^>]*?)\b{side}=\"[^\"]*\" ?([^>]*)>", r"<svg \1\2>", svg)
    drawn = re.search(r"viewBox=\"0 0 ([\d.]+) ", svg)
    share = float(drawn[1]) / (72 * WIDTH) if drawn else 1.0  # of the page: text is as large in every figure
    svg = (
        re.sub(r"\bid=\"", f'id="{name}-', svg)
        .replace("url(#", f"url(#{name}-")
        .replace('xlink:href="#', f'href="#{name}-')
    )
    for colour, themed in _THEMED.items():
        svg = svg.replace(colour, themed)
    attributes = f'role="img" aria-label="{name.replace("_", " ")}" style="--share: {share:.3g}"'
    return Markup(svg.replace("<svg ", f"<svg {attributes} ", 1))
