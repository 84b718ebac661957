"""Arrangement of the page: order of parts, numbers to cite, shapes of tables, links to files that exist."""

from typing import Any

from benchmarks.report.page.layout import Content, Picture, parts
from benchmarks.report.section import Section
from benchmarks.report.tables.table import Entry, Table


def content(part: Any, *tables: Table, words: list[str] | None = None, id: str = "some") -> Content:
    return Content(Section(id, id.title(), part), list(tables), [], words or [])


def table(head: list[str], *rows: list[Any], caption: str = "") -> Table:
    entries = [[Entry(str(value), value=value if isinstance(value, float) else None) for value in row] for row in rows]
    return Table("some", "Some", caption, head, entries, data="numbers")


def test_what_was_varied_follows_the_answer() -> None:
    contents = [content(part, words=["so"]) for part in ("details", "why", "varied", "help", "answer")]
    assert [part.id for part in parts(contents, set())] == ["answer", "varied", "help", "why", "details"]


def test_parts_without_content_are_left_out() -> None:
    assert [part.id for part in parts([content("answer"), content("why", words=["so"])], set())] == ["why"]


def test_a_heading_is_shown_where_its_part_has_several() -> None:
    one, *_ = parts([content("why", words=["so"])], set())
    two, *_ = parts([content("why", words=["so"], id="a"), content("why", words=["so"], id="b")], set())
    assert [section.heading for section in one.sections] == [""]
    assert [section.heading for section in two.sections] == ["A", "B"]


def test_numbers_follow_the_order_of_the_page() -> None:
    contents = [content("details", table(["x"], ["1"])), content("answer", table(["x"], ["1"]), table(["x"], ["1"]))]
    numbers = [
        [shown.number for section in part.sections for shown in section.tables] for part in parts(contents, set())
    ]
    assert numbers == [[1, 2], [3]]


def test_the_generator_names_a_row_and_stands_first() -> None:
    given = table(["task", "generator", "score", "what"], ["toy", "mopo", 2.5, "word " * 20])
    shown = parts([content("help", given)], set())[0].sections[0].tables[0]
    assert [(column.name, column.kind) for column in shown.columns] == [
        ("generator", "label"),
        ("task", "label"),
        ("score", "num"),
        ("what", "long"),
    ]
    assert [entry.text for entry in shown.rows[0]][:3] == ["mopo", "toy", "2.5"]


def test_long_tables_and_captions_are_boxed_and_folded() -> None:
    short = table(["x"], *[["1"]] * 25, caption="c" * 300)
    long = table(["x"], *[["1"]] * 26, caption="c" * 301)
    shown = parts([content("help", short, long)], set())[0].sections[0].tables
    assert [(each.tall, each.folded) for each in shown] == [(False, False), (True, True)]


def test_links_lead_to_files_that_exist() -> None:
    picture = Picture("price", "Caption.", "Alt.", "cost", "<svg/>")
    given = Content(Section("cost", "Cost", "price"), [table(["x"], ["1"])], [picture], [])
    files = {"numbers.csv", "latex/some.tex", "price.svg", "price.pdf"}
    section = parts([given], files)[0].sections[0]
    assert section.tables[0].files == [("csv", "numbers.csv"), ("tex", "latex/some.tex")]
    assert section.figures[0].files == [("svg", "price.svg"), ("pdf", "price.pdf")]
