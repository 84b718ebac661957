"""What a reader can do with a page: read it on every screen, walk it by keyboard, sort, unfold, print."""

import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.slow
Visit = Callable[..., Any]

NAMES = ["demo", "M_by_eta", "planted", "empty"]
AXE = "axe-core@4.14.1"
UNFOLD = "for (const fold of document.querySelectorAll('details')) fold.open = true"
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
LETTER = 718  # CSS pixels between the margins of a page


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", [375, 900, 1600])
def test_the_document_never_scrolls_sideways(visit: Visit, name: str, width: int) -> None:
    page = visit(name, width)
    assert page.evaluate(OVERFLOW) == 0
    page.evaluate(UNFOLD)
    assert page.evaluate(OVERFLOW) == 0


@pytest.mark.parametrize("name", ["demo", "M_by_eta"])
def test_figures_can_be_read_on_a_phone(visit: Visit, name: str) -> None:
    page = visit(name, 375)
    texts = "[...document.querySelectorAll('section:not(#details) figure svg text')]"
    sizes = page.evaluate(f"{texts}.map(text => text.getBoundingClientRect().height)")
    assert min(sizes) > 7


def test_dark_figures_take_the_colours_of_the_theme(visit: Visit) -> None:
    colours = [
        visit("demo", scheme=scheme).evaluate(
            "[getComputedStyle(document.querySelector('section')).backgroundColor,"
            " getComputedStyle(document.querySelector('figure svg text')).fill, getComputedStyle(document.body).color]"
        )
        for scheme in ("light", "dark")
    ]
    for ground, text, ink in colours:
        assert text == ink != ground
    assert colours[0] != colours[1]


def test_a_table_can_be_sorted_and_says_so(visit: Visit) -> None:
    page = visit("demo")
    table = page.locator(".table:has(td[data-sort])").first
    head = table.locator("thead th.num").first
    place = head.evaluate("th => th.cellIndex")
    values = (
        "(table, place) => [...table.tBodies[0].rows].map(r => r.cells[place].dataset.sort).filter(v => v).map(Number)"
    )
    for direction, reverse in (("ascending", False), ("descending", True)):
        head.locator("button").click()
        found = table.locator("table").evaluate(values, place)
        assert found == sorted(found, reverse=reverse)
        assert head.get_attribute("aria-sort") == direction
        assert page.locator("#said").text_content().endswith(f", {direction}")
    assert page.locator("#said").get_attribute("aria-live") == "polite"


def test_buttons_are_large_enough_to_touch(visit: Visit) -> None:
    page = visit("demo", 375)
    sizes = "[...document.querySelectorAll('th button')].map(b => [b.offsetWidth, b.offsetHeight]).flat()"
    assert min(page.evaluate(sizes)) >= 24


@pytest.mark.parametrize("target", ["#learning_curves", "#metrics-return-gap", "#cell"])
def test_an_address_unfolds_what_it_names(visit: Visit, target: str) -> None:
    page = visit("demo")
    if target == "#cell":
        target = page.locator("td a[href^='#cell-']").first.get_attribute("href")
    for opened in (page, visit("demo", hash=target)):
        if opened is page:
            opened.evaluate("target => { location.hash = target }", target)
        opened.wait_for_function(
            "target => { const box = document.querySelector(target).getBoundingClientRect();"
            " return box.height > 0 && box.top > -5 && box.top < innerHeight }",
            arg=target,
        )


def test_a_number_leads_to_its_run_by_keyboard(visit: Visit) -> None:
    page = visit("demo")
    link = page.locator("td a[href^='#cell-']").first
    link.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("dialog")
    assert dialog.is_visible()
    for fact in ("commit", "data sha256", "versions", "algorithm"):
        assert fact in dialog.text_content()
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert link.evaluate("link => link === document.activeElement")


def test_the_content_is_few_stops_away(visit: Visit) -> None:
    page = visit("demo")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    stops = 1
    while not page.evaluate("document.activeElement.closest('main') !== null"):
        page.keyboard.press("Tab")
        stops += 1
        assert stops < 40
    page.evaluate("document.activeElement.blur(); document.querySelector('.skip').focus()")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


@pytest.mark.parametrize("name", NAMES)
def test_whatever_scrolls_can_be_focused_and_has_a_name(visit: Visit, name: str) -> None:
    page = visit(name, 375)
    page.evaluate(UNFOLD)
    unnamed = page.evaluate(
        "[...document.querySelectorAll('main *')].filter(e => e.scrollWidth > e.clientWidth + 1 &&"
        " getComputedStyle(e).overflowX === 'auto' && !(e.tabIndex === 0 && (e.ariaLabel || e.tagName === 'PRE')))"
        ".map(e => e.outerHTML.slice(0, 200))"
    )
    assert unnamed == []
    rows = "[...document.querySelectorAll('.table tbody tr')].filter(r => r.cells[0].scope !== 'row').length"
    assert page.evaluate(rows) == 0


def test_the_current_part_is_marked(visit: Visit) -> None:
    page = visit("demo")
    page.evaluate("document.querySelector('#price').scrollIntoView()")
    page.wait_for_selector("nav a[href='#price'][aria-current]")
    assert page.locator("nav a[aria-current]").count() == 1


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_cut_in_print(visit: Visit, name: str) -> None:
    page = visit(name, LETTER)
    page.emulate_media(media="print")
    cut = "filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 200))"
    assert page.evaluate(f"[...document.querySelectorAll('table, svg, pre')].{cut}") == []
    assert not page.locator("nav").is_visible()


def test_the_demo_is_printed_on_few_pages(visit: Visit) -> None:
    pages = re.findall(rb"/Type\s*/Page\b", visit("demo").pdf(format="Letter"))
    assert 3 < len(pages) < 12


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core, from npm."""
    folder = tmp_path_factory.mktemp("axe")
    command = ["npm", "install", "--silent", "--ignore-scripts", "--prefix", str(folder), AXE]
    try:
        subprocess.run(command, capture_output=True, check=True, timeout=60)
        return (folder / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")
    except (OSError, subprocess.SubprocessError):
        pytest.skip(f"needs npm and its package {AXE}")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(visit: Visit, axe: str, name: str, scheme: str) -> None:
    page = visit(name, scheme=scheme)
    page.evaluate(UNFOLD)
    page.add_style_tag(content=".scroll { background: none !important }")  # axe gives up on text above a gradient
    page.evaluate(axe)
    found = page.evaluate(
        "axe.run().then(result => result.violations.map(v => [v.id, v.nodes.length, v.nodes[0].html]))"
    )
    assert found == []
