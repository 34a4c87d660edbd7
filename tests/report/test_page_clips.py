"""The report in a browser: the list of clips and its filters; widths, colour schemes and print."""

import re

import pytest

from dst_dist.report.page import write_report
from tests.report.browser import MARKS, open_clips, visible_clips
from tests.report.make_run import clip_with_errors, trained, write_clips


def test_text_search_and_kinds_of_error_filter_the_clips(browser, page):
    browser.open(page)
    assert visible_clips(browser) == ["tea", "bicycle", "nasty"]
    browser.run("document.getElementById('search').focus()")
    browser.type("KITCHEN bic")
    assert visible_clips(browser) == ["bicycle"]
    assert browser.run("document.getElementById('matches').textContent") == '1 of 3 clips, matching "KITCHEN bic"'
    browser.run(
        "(() => { const e = document.getElementById('search'); e.value = ''; e.dispatchEvent(new Event('input')); })()"
    )
    browser.pointer("click", ".kind[data-kind=wrong]")
    assert visible_clips(browser) == ["bicycle"]
    assert browser.run("document.getElementById('matches').textContent") == "1 of 3 clips, with wrong transition"
    browser.pointer("click", ".kind[data-kind=wrong]")
    assert len(visible_clips(browser)) == 3
    counts = browser.run("[...document.querySelectorAll('.kind')].map((one) => one.textContent.trim())")
    assert counts == ["missed 1", "false 1", "wrong transition 1", "wrong words 1", "unreadable 1", "illegal 1"]


def test_a_search_without_matches_shows_zero_clips(browser, page):
    browser.open(page)
    browser.run("document.getElementById('search').focus()")
    browser.type("zebra")
    assert visible_clips(browser) == []
    assert "0 of 3 clips" in browser.run("document.getElementById('matches').textContent")


def test_most_errors_first_reorders_the_clips(browser, page):
    browser.open(page)
    browser.run(
        "(() => { const e = document.getElementById('order');"
        "e.value = 'errors'; e.dispatchEvent(new Event('change')); })()"
    )
    assert visible_clips(browser) == ["bicycle", "tea", "nasty"]


@pytest.mark.parametrize("width", [320, 360, 390, 768])
def test_no_width_makes_the_page_scroll_sideways(browser, page, width):
    open_clips(browser, page, width=width)
    browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    browser.settle()
    # On a phone a page that is too wide makes the window wider.
    narrow = "document.documentElement.scrollWidth === document.documentElement.clientWidth && innerWidth"
    assert browser.run(narrow) == width
    browser.run(f"{MARKS}[7].click()")
    assert browser.run(narrow) == width


def test_print_opens_every_clip_and_shows_no_controls(browser, page, tmp_path):
    browser.open(page)
    assert browser.run("document.querySelectorAll('.clip[open]').length") == 1, "on the screen the first alone"
    browser.media("print")
    browser.run("window.dispatchEvent(new Event('beforeprint'))")
    browser.settle()
    assert (
        browser.run(
            "[...document.querySelectorAll('.clip')]"
            ".map((one) => one.open && one.querySelector('.track').offsetHeight > 0)"
        )
        == [True] * 3
    )
    assert (
        browser.run("[...document.querySelectorAll('.events table')].map((one) => one.offsetHeight > 0)") == [True] * 3
    )
    assert (
        browser.run("[...document.querySelectorAll('.controls, nav, .detail')].some((one) => one.offsetHeight > 0)")
        is False
    )
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    browser.run("window.dispatchEvent(new Event('afterprint'))")
    assert browser.run("document.querySelectorAll('.clip[open]').length") == 1
    browser.media()
    browser.print_pdf(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().count(b"/Type /Page\n") >= 3
    assert browser.faults() == []


def test_both_colour_schemes_have_enough_contrast(browser, page):
    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        return sum(
            weight * (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4)
            for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True)
        )

    for scheme, is_dark in (("light", False), ("dark", True)):
        browser.media(scheme=scheme)
        open_clips(browser, page)
        paper = luminance(browser.run("getComputedStyle(document.body).backgroundColor"))
        assert (paper < 0.1) is is_dark
        texts, shapes = (
            ("h1", ".quiet", ".lane-name", ".note"),
            ("missed", "false", "wrong", "wrong_words", "illegal", "unreadable"),
        )
        for selector, least in [*((text, 4.5) for text in texts), *((f".shape.{kind}", 3) for kind in shapes)]:
            ink = luminance(browser.run(f"getComputedStyle(document.querySelector('{selector}')).color"))
            light, dark = max(ink, paper), min(ink, paper)
            assert (light + 0.05) / (dark + 0.05) >= least, (scheme, selector)
    browser.media()


def test_a_page_of_five_hundred_clips_is_quick(browser, tmp_path):
    run = trained(tmp_path / "run")
    write_clips(run, [clip_with_errors(f"clip{number}") for number in range(500)])
    browser.open(write_report(run))
    assert browser.run("document.querySelectorAll('.track').length") == 1, "drawn when opened"
    spent_ms = browser.run("""(() => {
        const from = performance.now(), search = document.getElementById("search");
        search.value = "clip499";
        search.dispatchEvent(new Event("input"));
        document.body.offsetHeight;
        return performance.now() - from;
    })()""")
    assert visible_clips(browser) == ["clip499"] and spent_ms < 1000
    ready_ms = browser.run("performance.getEntriesByType('navigation')[0].loadEventEnd")
    assert ready_ms < 5000
