"""The report in a browser."""

import re
from collections import Counter

import pytest

from dst_dist.report.page import write_report
from tests.report.browser import CHROMIUM, opened_browser
from tests.report.make_run import NASTY, clip_with_errors, data_of, make_run, trained, write_clips

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no `chromium` here to open the report in")

MARKS = "[...document.querySelectorAll('.clip[open] .mark')]"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write_report(make_run(tmp_path_factory.mktemp("report") / "first"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with opened_browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def open_clips(browser, page, **size):
    browser.open(page, **size)
    browser.run("document.querySelectorAll('.clip').forEach((clip) => { clip.open = true; })")
    browser.settle()


def visible_clips(browser) -> list[str]:
    return browser.run(
        "[...document.querySelectorAll('.clip')].filter((one) => one.offsetHeight).map((one) => one.querySelector('.quiet').textContent.split(',')[0])"
    )


def test_it_opens_without_errors_and_without_a_request(browser, page):
    open_clips(browser, page)
    assert browser.faults() == [] and browser.requests() == [page.resolve().as_uri()]
    assert (
        browser.run("performance.getEntriesByType('resource').filter((one) => !one.name.startsWith('data:')).length")
        == 0
    )
    headings = browser.run("[...document.querySelectorAll('h1, h2')].map((one) => one.textContent)")
    assert headings == ["first", "Results", "Decisions", "Training", "Clips"]
    about = browser.run("document.getElementById('about').innerText")
    assert all(word in about for word in ("tiny", "lora", "done", "kitchen x2"))


def test_results_stand_beside_baselines_with_their_intervals(browser, page):
    browser.open(page)
    cards = browser.run("[...document.querySelectorAll('.card')].map((one) => one.innerText)")
    card = next(text for text in cards if text.startswith("Updates, average precision"))
    assert "0.750" in card and "95 %: 0.625 to 0.875" in card and "chance 0.125" in card
    rows = browser.run(
        "[...document.querySelectorAll('#results tr')].map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    assert ["dst_update/average_precision", "0.7500.625 to 0.875", "0.125"] in rows
    assert ["dst_update/average_precision", "0.688"] in rows, "by dataset"
    assert ["transition/missed \u2193", "2", ""] in rows


def test_the_chosen_threshold_is_marked_on_the_curves(browser, page):
    browser.open(page)
    assert (
        browser.run("[...document.querySelectorAll('#decisions .pin-text')].map((one) => one.textContent)")
        == ["chosen: 0.500"] * 3
    )
    # Precision 0.75 at recall 0.5, in the chart's own coordinates.
    ring = browser.run(
        "(({cx, cy}) => [cx.baseVal.value, cy.baseVal.value])(document.querySelector('#decisions .pin circle'))"
    )
    assert ring == pytest.approx([44 + 0.5 * 286, 8 + 0.25 * 152], abs=0.1)
    # At threshold 1 nothing is decided: there is no precision.
    said = browser.run("document.querySelectorAll('#decisions .chart')[1].getAttribute('aria-label')")
    assert "precision: 0.750 at threshold 0.500. recall: 0 at threshold 1." in said


def test_a_chart_is_read_by_arrow_keys(browser, page):
    browser.open(page)
    browser.run("document.querySelector('#training .chart').focus()")
    browser.press("ArrowRight")
    browser.press("ArrowRight")
    assert browser.run("document.querySelector('#training .readout').textContent") == "step 2: train 4"
    browser.press("End")
    assert browser.run("document.querySelector('#training .readout').textContent") == "step 3: train 2.667, val 2"


def test_times_are_rounded_before_they_are_split_into_minutes(browser, page):
    browser.open(page)
    times = {
        0: "0.0 s",
        9.96: "10.0 s",
        59.94: "59.9 s",
        59.97: "1:00.0",
        61.04: "1:01.0",
        119.9667: "2:00.0",
        3599.99: "60:00.0",
    }
    assert browser.run(f"{list(times)}.map(seconds)") == list(times.values())


def test_every_event_is_a_mark_in_its_lane_and_shape(browser, page):
    open_clips(browser, page)
    drawn = Counter(map(tuple, browser.run(f"{MARKS}.map((one) => [one.dataset.lane, one.dataset.look])")))
    expected = Counter()
    for described in data_of(page)["clips"]:
        for mark in described["marks"]:
            gravest = [
                kind
                for kind in ("unreadable", "illegal", "wrong", "wrong_words", "false", "missed")
                if kind in mark["kinds"]
            ]
            expected[mark["lane"], gravest[0] if gravest else "user" if mark["lane"] == "user" else "right"] += 1
    assert drawn == expected and drawn.total() == 7 + 12 + 3
    shapes = browser.run(
        f"{MARKS}.every((one) => one.querySelector('use').href.baseVal === '#shape-' + one.dataset.look)"
    )
    assert shapes, "marked by shape, not by colour alone"


def test_marks_and_bars_stand_at_their_frames(browser, page):
    open_clips(browser, page)
    place = browser.run("document.querySelector('.clip .mark[data-lane=gold_update]').style.left")
    # Frame 104 is the fifth of twenty; a mark stands in the middle of its frame.
    assert "22.5%" in place
    rects = "[...document.querySelector('.clip .step svg').querySelectorAll('rect')]"
    bars = browser.run(f"{rects}.map((one) => ['class', 'x', 'width', 'y'].map((name) => one.getAttribute(name)))")
    assert bars == [
        ["not_started", "0%", "22.5%", "5"],
        ["in_progress", "22.5%", "30%", "0"],
        ["completed", "52.5%", "47.5%", "0"],
        ["not_started", "0%", "22.5%", "21"],
        ["in_progress", "22.5%", "35%", "16"],
        ["completed", "57.5%", "42.5%", "16"],
        ["differs", "52.5%", "5%", "12"],
    ]


def test_pictures_are_there_once_for_a_clip_that_has_its_frames(browser, page):
    open_clips(browser, page)
    loaded = browser.run(
        "[...document.querySelectorAll('.frames img')].map((one) => one.complete && one.naturalWidth > 0)"
    )
    assert len(loaded) > 5 and all(loaded)
    assert browser.run("document.querySelectorAll('.clip .frames').length") == 1, "two of three have no frames file"


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


def test_wrong_words_are_told_to_eyes_ears_and_filters(browser, page):
    open_clips(browser, page)
    bicycle = "document.querySelectorAll('.clip')[1]"
    badge = browser.run(f"[...{bicycle}.querySelectorAll('.badge')].map((one) => one.textContent.trim())")
    assert "1 wrong words" in badge
    label = browser.run(
        f"[...{bicycle}.querySelectorAll('.mark[data-look=wrong_words]')].map((one) => one.getAttribute('aria-label'))"
    )
    assert label == [
        "54.0 s, gold reply, wrong words, Stop! Turn it off.",
        "54.0 s, predicted reply, wrong words, Well done.",
    ]
    browser.run(f"{bicycle}.querySelector('.mark[data-lane=predicted_reply]').focus()")
    told = browser.run(f"{bicycle}.querySelector('.detail').innerText")
    assert (
        "Well done." in told
        and "similarity 0.125" in told
        and "wrong words: a reply at the right time that says something else" in told
    )
    rows = browser.run(f"[...{bicycle}.querySelectorAll('.events tr')].map((row) => row.textContent)")
    assert "54.0 spredicted replyWell done. wrong words" in rows
    assert "wrong words" in browser.run("document.querySelector('.key-box').textContent")
    browser.pointer("click", ".kind[data-kind=wrong_words]")
    assert visible_clips(browser) == ["bicycle"]


def test_nothing_found_is_said(browser, page):
    browser.open(page)
    browser.run("document.getElementById('search').focus()")
    browser.type("zebra")
    assert visible_clips(browser) == []
    assert "0 of 3 clips" in browser.run("document.getElementById('matches').textContent")


def test_most_errors_first_reorders_the_clips(browser, page):
    browser.open(page)
    browser.run(
        "(() => { const e = document.getElementById('order'); e.value = 'errors'; e.dispatchEvent(new Event('change')); })()"
    )
    assert visible_clips(browser) == ["bicycle", "tea", "nasty"]


def test_text_that_is_markup_does_nothing(browser, page):
    open_clips(browser, page)
    assert browser.run("document.title") == "first: tiny"
    assert browser.run("document.querySelectorAll('img[src=x]').length + document.scripts.length") == 2
    said = browser.run(
        "[...document.querySelectorAll('.events td.said')].filter((one) => one.textContent.includes('onerror')).map((one) => one.textContent)"
    )
    assert said == [NASTY] * 3
    assert (
        browser.run("[...document.querySelectorAll('.lane-name')].map((one) => one.textContent)").count(f"S1 {NASTY}")
        == 1
    )


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


def test_the_keyboard_reaches_every_mark_and_shows_its_text(browser, page):
    open_clips(browser, page)
    stops = browser.run(
        "[...document.querySelectorAll('.clip[open]')].map((clip) => clip.querySelectorAll('.mark[tabindex=\"0\"]').length)"
    )
    assert stops == [1, 1, 1], "one Tab stop a clip"
    browser.run("document.querySelectorAll('.clip')[1].querySelector('summary').focus()")
    browser.press("Tab")
    reached = set()
    for key in [
        "ArrowDown",
        "Home",
        *["ArrowRight"] * 2,
        "ArrowDown",
        "Home",
        *["ArrowRight"] * 3,
        "ArrowDown",
        "ArrowDown",
        "End",
        "ArrowUp",
        "Home",
    ]:
        reached.add(browser.run("document.activeElement.getAttribute('aria-label')"))
        browser.press(key)
    reached.add(browser.run("document.activeElement.getAttribute('aria-label')"))
    assert len(reached) == 12 and "52.0 s, gold update, wrong transition, S1 start" in reached
    text = "document.querySelectorAll('.clip')[1].querySelector('.detail').innerText"
    assert "Hello." in browser.run(text) and "missed" in browser.run(text)
    ring = browser.run("getComputedStyle(document.activeElement).outlineStyle")
    assert ring == "solid", "the focus is seen"


def test_a_kept_mark_stays_until_it_is_let_go(browser, page):
    open_clips(browser, page)
    browser.run("document.querySelectorAll('.clip')[1].querySelector('.mark[data-look=unreadable]').focus()")
    browser.press("Enter")
    text = "document.querySelectorAll('.clip')[1].querySelector('.detail').innerText"
    assert "[{" in browser.run(text) and browser.run("document.activeElement.getAttribute('aria-pressed')") == "true"
    browser.run(
        "document.querySelectorAll('.clip')[1].querySelector('.mark[data-look=illegal]').dispatchEvent(new PointerEvent('pointerenter'))"
    )
    assert "unreadable" in browser.run(text), "passing over another changes nothing"
    browser.press("Escape")
    assert (
        "Point at a mark" in browser.run(text)
        and browser.run("document.activeElement.getAttribute('aria-pressed')") == "false"
    )


def test_pointing_at_a_mark_shows_it_and_a_click_keeps_it(browser, page):
    open_clips(browser, page)
    browser.pointer("mouseMoved", ".mark[data-look=wrong]")
    text = "document.querySelectorAll('.clip')[1].querySelector('.detail').innerText"
    assert "S1 start" in browser.run(text)
    browser.pointer("click", ".mark[data-look=wrong]")
    assert browser.run("document.querySelector('.mark[data-look=wrong]').getAttribute('aria-pressed')") == "true"
    browser.pointer("mouseMoved", "#clips h2")
    assert "S1 start" in browser.run(text)


def test_print_opens_every_clip_and_shows_no_controls(browser, page, tmp_path):
    browser.open(page)
    assert browser.run("document.querySelectorAll('.clip[open]').length") == 1, "on the screen the first alone"
    browser.media("print")
    browser.run("window.dispatchEvent(new Event('beforeprint'))")
    browser.settle()
    assert (
        browser.run(
            "[...document.querySelectorAll('.clip')].map((one) => one.open && one.querySelector('.track').offsetHeight > 0)"
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


def test_dark_is_dark_and_readable(browser, page):
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


def test_missing_parts_are_said(browser, tmp_path):
    bare = trained(tmp_path / "bare")
    (bare / "metrics.jsonl").unlink()
    (bare / "status.json").unlink()
    browser.open(write_report(bare))
    notes = browser.run("[...document.querySelectorAll('.note')].map((one) => one.textContent)")
    for said in (
        "Not evaluated yet",
        "No curves over thresholds yet",
        "metrics.jsonl is missing or empty",
        "No clips: dst-dist evaluate RUN --streaming",
    ):
        assert any(said in note for note in notes), said
    assert "none yet" in browser.run("document.getElementById('about').innerText") and browser.faults() == []


def test_no_validation_and_no_streaming_are_said(browser, tmp_path):
    run = make_run(tmp_path / "run")
    for name in ("test-streaming.json", "test-streaming-clips.jsonl"):
        (run / "evaluation" / name).unlink()
    lines = [line for line in (run / "metrics.jsonl").read_text().splitlines() if '"val"' not in line]
    (run / "metrics.jsonl").write_text("\n".join(lines))
    browser.open(write_report(run))
    notes = browser.run("[...document.querySelectorAll('.note')].map((one) => one.textContent)")
    assert (
        any("Not streamed yet" in note for note in notes)
        and any("no validation" in note for note in notes)
        and browser.faults() == []
    )


def test_five_hundred_clips_stay_quick(browser, tmp_path):
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
