"""One HTML file that needs nothing else: tables, figures and provenance of a results folder."""

from collections.abc import Iterable, Set
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from benchmarks.report.page import provenance
from benchmarks.report.page.layout import Content, Picture, parts
from benchmarks.report.page.prose import anchor, definitions, paragraph
from benchmarks.report.page.svg import inline, themes
from benchmarks.report.results import Results
from benchmarks.report.tables.columns import terms

__all__ = ["page"]


def page(results: Results, contents: Iterable[Content], problems: list[str], files: Set[str]) -> str:
    """The page's text; parts with nothing to show are left out. `files`: names of those beside it, to link to."""
    placed = parts(contents, files)
    tables = [table for part in placed for section in part.sections for table in section.tables]
    heads = [column.name for table in tables for column in table.columns]
    light, dark = themes()
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"anchor": anchor, "inline": _picture, "key": provenance.key, "paragraph": paragraph}
    return environment.get_template("page.html.j2").render(
        suite=results.suite or "unnamed suite",
        headline=provenance.headline(results),
        newest=provenance.newest(results),
        release=provenance.release(),
        parts=placed,
        problems=problems,
        terms=terms(heads),
        definitions=definitions(),
        about=provenance.about(results),
        environments=provenance.environments(results),
        cells=provenance.cells(results),
        reproduce=_commands(results),
        downloads=_downloads(files),
        light=light,
        dark=dark,
        css=_text("page.css"),
        js=_text("page.js"),
    )


def _picture(picture: Picture) -> Markup:
    return inline(picture.svg, picture.name, picture.alt or picture.caption)


def _commands(results: Results) -> str:
    """The lines that run this suite again and redraw its page."""
    suite = results.suite or "SUITE"
    run = getattr(results, "command", "") or f"run_bench.py run {suite}"
    return f"python {run}\npython run_bench.py report results/{suite.removesuffix('.toml')}"


def _downloads(files: Set[str]) -> list[tuple[str, list[str]]]:
    """The files beside the page, by kind."""
    kinds = {"numbers": ("csv", "json"), "tables": ("md", "tex"), "figures": ("svg", "png", "pdf")}
    found = {
        title: [name for name in sorted(files) if name.rpartition(".")[2] in suffixes]
        for title, suffixes in kinds.items()
    }
    return [(title, names) for title, names in found.items() if names]


def _text(name: str) -> Markup:
    """A file of this folder, as it is."""
    return Markup((Path(__file__).parent / name).read_text(encoding="utf-8"))
