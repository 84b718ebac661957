"""One HTML file that needs nothing else: tables, figures and provenance of a results folder."""

from collections.abc import Iterable, Mapping, Set
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from benchmarks.report.page import provenance
from benchmarks.report.page.layout import Content, Picture, parts
from benchmarks.report.page.prose import anchor, breakable, definitions, paragraph
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
    environment.filters["breakable"] = breakable
    return environment.get_template("page.html.j2").render(
        suite=results.suite or "unnamed suite",
        headline=provenance.headline(results),
        newest=provenance.newest(results),
        release=provenance.release(),
        parts=placed,
        problems=problems,
        terms=(meanings := terms(heads)),
        glossary=_glossary(meanings),
        definitions=definitions(),
        about=provenance.about(results),
        environments=provenance.environments(results),
        cells=provenance.cells(results),
        commands=_commands(results),
        recorded=bool(results.command),
        downloads=_downloads(files),
        light=light,
        dark=dark,
        css=_text("page.css"),
        js=_text("page.js"),
    )


def _glossary(meanings: Mapping[str, str]) -> list[tuple[list[str], str]]:
    """Terms of one meaning together."""
    found: dict[str, list[str]] = {}
    for term, meaning in meanings.items():
        found.setdefault(meaning, []).append(term)
    return [(names, meaning) for meaning, names in found.items()]


def _picture(picture: Picture) -> Markup:
    return inline(picture.svg, picture.name, picture.alt or picture.caption)


def _commands(results: Results) -> str:
    """The lines that run this suite again and redraw its page."""
    suite = results.suite or "SUITE"
    run = results.command or f"run_bench.py run {suite}"
    return f"python {run}\npython run_bench.py report results/{suite.removesuffix('.toml')}"


def _downloads(files: Set[str]) -> list[tuple[str, list[str]]]:
    """The files beside the page, by kind."""
    columns = files & {"columns.md"}
    kinds = {
        "numbers": _ending(files, "csv", "json"),
        "what their columns mean": sorted(columns),
        "tables": _ending(files - columns, "md", "tex"),
        "figures": _ending(files, "svg", "png", "pdf"),
    }
    return [(title, names) for title, names in kinds.items() if names]


def _ending(files: Set[str], *suffixes: str) -> list[str]:
    return [name for name in sorted(files) if name.rpartition(".")[2] in suffixes]


def _text(name: str) -> Markup:
    """A file of this folder, as it is."""
    return Markup((Path(__file__).parent / name).read_text(encoding="utf-8"))
