"""Texts of the page: markdown of the sections' words, definitions in boxes, labels that may break."""

import re

from benchmarks.report.page.prose import anchor, breakable, counted, definitions, listed, paragraph


def test_words_are_markdown_without_html_and_pictures() -> None:
    html = paragraph("**mopo** helps <b>x</b> [a](javascript:b) ![p](http://x/y.png)")
    assert "<strong>mopo</strong>" in html
    assert "&lt;b&gt;" in html
    assert "<img" not in html
    assert 'href="javascript' not in html


def test_definitions_have_addresses_and_boxes() -> None:
    html = definitions()
    ids = re.findall(r'<h3 id="(.*?)"', html)
    assert "metrics-compounding-error" in ids
    assert len(ids) == len(set(ids))
    assert html.count("<table>") == html.count('<div class="scroll" tabindex="0" role="region"') > 3
    assert "<h2" not in html


def test_anchors_are_plain() -> None:
    assert [anchor(text) for text in ("h = 10", "best (oracle)", "λ")] == ["h-10", "best-oracle", "x"]


def test_labels_may_break_inside_but_not_in_numbers() -> None:
    assert breakable("a/b_c, filter.share=0.25 <b>") == "a/<wbr>b_<wbr>c, filter.<wbr>share=0.25 &lt;b&gt;"


def test_lists_and_counts() -> None:
    assert listed(["b", "a", "b"]) == "b, a"
    assert listed([]) == "none"
    assert [counted(number, "task") for number in (1, 2)] == ["1 task", "2 tasks"]
