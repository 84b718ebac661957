"""Texts of the page: words of sections, definitions of metrics, labels that may break."""

import re
from collections.abc import Iterable
from pathlib import Path

from markdown_it import MarkdownIt
from markupsafe import Markup, escape

__all__ = ["anchor", "breakable", "counted", "definitions", "listed", "paragraph"]

_METRICS = Path(__file__).parents[3] / "metrics" / "METRICS.md"
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")


def paragraph(text: str) -> Markup:
    """Markdown of one of a section's words; html in it is shown as text."""
    html: str = _MARKDOWN.render(text)
    return Markup(html)


def definitions() -> Markup:
    """The page on metrics, without its title, marks and figure, its headings one level down, its tables in boxes."""
    text = _METRICS.read_text(encoding="utf-8").partition("\n")[2]
    text = re.sub(r"^(<!--|!\[).*\n", "", text, flags=re.MULTILINE)
    html: str = _MARKDOWN.render(text)
    html = re.sub(r"<h2>(.*?)</h2>", lambda found: f'<h3 id="metrics-{anchor(found[1])}">{found[1]}</h3>', html)
    parts = re.split(r"(<h3 .*?</h3>)", html)
    boxed = []
    heading = "Definitions"
    for part in parts:
        heading = re.sub(r"<.*?>", "", part) if part.startswith("<h3 ") else heading
        box = f'<div class="scroll" tabindex="0" role="region" aria-label="Definitions: {heading}"><table>'
        boxed.append(part.replace("<table>", box).replace("</table>", "</table></div>"))
    return Markup("".join(boxed).replace("<th>", '<th scope="col">'))


def anchor(text: str) -> str:
    """An id for a heading or a term."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"


def breakable(text: str) -> Markup:
    """A label that may go on in the next line of a phone behind its slashes, underscores and dots of names."""
    return Markup(re.sub(r"([/_]|(?<=[a-z])\.)(?=.)", r"\1<wbr>", str(escape(text))))


def listed(names: Iterable[str]) -> str:
    """Each of them once, in their order."""
    return ", ".join(dict.fromkeys(names)) or "none"


def counted(number: int, noun: str) -> str:
    """1 task, 2 tasks."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
