"""One HTML file that needs nothing else: tables, figures and provenance of a results folder."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from benchmarks.report.figures.palette import DARK, GRID, INK, SURFACE
from benchmarks.report.figures.style import WIDTH
from benchmarks.report.results import CellView, Results
from benchmarks.report.section import Section
from benchmarks.report.tables.table import Table
from benchmarks.report.text import without_folders

__all__ = ["Content", "Picture", "page"]

_METRICS = Path(__file__).parents[3] / "metrics" / "METRICS.md"
_THEMED = {INK: "currentColor", GRID: "var(--line)", SURFACE: "var(--surface)"} | {
    colour: f"var(--c{colour[1:]})" for colour in DARK
}


@dataclass(frozen=True)
class Picture:
    """A figure as matplotlib wrote it."""

    name: str  # of its files
    caption: str
    alt: str  # what it says
    data: str  # the csv file with its numbers, without suffix
    svg: str


@dataclass(frozen=True)
class Content:
    """What a section shows of some results."""

    section: Section
    tables: list[Table]
    pictures: list[Picture]
    words: list[str]  # paragraphs with **bold** markup


def page(results: Results, contents: Iterable[Content], problems: list[str]) -> str:
    """The page's text; sections with nothing to show are left out."""
    contents = list(contents)
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
        contents=[content for content in contents if content.words or content.tables or content.pictures],
        frames=[name for content in contents for name in content.section.frames],
        inline=_inline,
        paragraph=_paragraph,
        problems=problems,
        cells=[_provenance(cell) for cell in results.cells],
        hover=_hover(results),
        environments=_environments(results),
        palette=DARK,
        meaning=_meaning(),
        reproduce=results.suite or "SUITE",
    )


def _paragraph(text: str) -> Markup:
    """A paragraph of a section's words; html in it is shown as text."""
    html: str = MarkdownIt("commonmark", {"html": False}).render(text)
    return Markup(html)


def _meaning() -> Markup:
    """The page on metrics, without its title, marks and figure, its headings one level down."""
    text = _METRICS.read_text(encoding="utf-8").partition("\n")[2]
    text = re.sub(r"^(<!--|!\[).*\n", "", text, flags=re.MULTILINE)
    html: str = MarkdownIt("commonmark", {"html": False}).enable("table").render(text.replace("\n## ", "\n### "))
    return Markup(html)


def _summary(results: Results) -> list[tuple[str, str]]:
    cells = results.cells
    settings = [cell.spec["settings"] for cell in cells]
    finished = sum(cell.state in ("finished", "diverged") for cell in cells)
    seeds = sorted({seed for cell in cells for seed in (*cell.done, *cell.failed, *cell.missing)})
    return [
        ("tasks", _listed(cell.task for cell in cells)),
        ("generators", _listed(cell.generator for cell in cells)),
        ("algorithms", _listed(cell.algorithm for cell in cells)),
        ("seeds", _listed(str(seed) for seed in seeds)),
        ("updates", _listed(f"{setting['updates']:,}" for setting in settings)),
        ("cells", f"{finished} of {len(cells)} finished"),
    ]


def _provenance(cell: CellView) -> dict[str, Any]:
    return {
        "id": cell.cell_id,
        "name": cell.name,
        "runs": [_run(run) for run in cell.runs],
        "spec": without_folders(json.dumps(cell.spec, indent=1, sort_keys=True)),
        "state": cell.state,
    }


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
    """Provenance of every cell in short, the tooltip of its numbers."""
    wanted = ("seeds", "took", "commit", "data sha256", "physics", "device", "versions")
    shown = {}
    for cell in results.cells:
        runs = ["\n".join(f"{key}: {value}" for key, value in _run(run) if key in wanted) for run in cell.runs]
        shown[cell.cell_id] = "\n\n".join([cell.cell_id, *runs])
    return shown


def _environments(results: Results) -> list[tuple[str, str]]:
    """Every commit, device, physics and package version behind the results of this folder."""
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


def _inline(picture: Picture) -> Markup:
    """As an element of a page: without headers, with ids of its own, in the colours of the reader's theme.

    matplotlib has escaped the text in it.
    """
    name = picture.name
    svg = picture.svg[picture.svg.index("<svg") :]
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
