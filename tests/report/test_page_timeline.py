"""The report in a browser: the timeline of a clip, its marks and their texts."""

from collections import Counter

from tests.report.browser import MARKS, open_clips, visible_clips
from tests.report.make_run import NASTY, data_of


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


def test_marks_and_bars_are_at_their_frames(browser, page):
    open_clips(browser, page)
    place = browser.run("document.querySelector('.clip .mark[data-lane=gold_update]').style.left")
    # Frame 104 is the fifth of twenty; a mark is in the middle of its frame.
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


def test_only_a_clip_whose_frames_file_opens_has_thumbnails(browser, page):
    open_clips(browser, page)
    loaded = browser.run(
        "[...document.querySelectorAll('.frames img')].map((one) => one.complete && one.naturalWidth > 0)"
    )
    assert len(loaded) > 5 and all(loaded)
    assert browser.run("document.querySelectorAll('.clip .frames').length") == 1, "two of three have no frames file"


def test_wrong_words_are_in_badge_label_detail_table_and_filter(browser, page):
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
    detail = browser.run(f"{bicycle}.querySelector('.detail').innerText")
    assert (
        "Well done." in detail
        and "similarity 0.125" in detail
        and "wrong words: a reply at the right time that says something else" in detail
    )
    rows = browser.run(f"[...{bicycle}.querySelectorAll('.events tr')].map((row) => row.textContent)")
    assert "54.0 spredicted replyWell done. wrong words" in rows
    assert "wrong words" in browser.run("document.querySelector('.key-box').textContent")
    browser.pointer("click", ".kind[data-kind=wrong_words]")
    assert visible_clips(browser) == ["bicycle"]


def test_markup_in_the_data_is_shown_as_text(browser, page):
    open_clips(browser, page)
    assert browser.run("document.title") == "first: tiny"
    assert browser.run("document.querySelectorAll('img[src=x]').length + document.scripts.length") == 2
    said = browser.run(
        "[...document.querySelectorAll('.events td.said')].filter((one) => one.textContent.includes('onerror'))"
        ".map((one) => one.textContent)"
    )
    assert said == [NASTY] * 3
    assert (
        browser.run("[...document.querySelectorAll('.lane-name')].map((one) => one.textContent)").count(f"S1 {NASTY}")
        == 1
    )


def test_the_keyboard_reaches_every_mark_and_shows_its_text(browser, page):
    open_clips(browser, page)
    stops = browser.run(
        "[...document.querySelectorAll('.clip[open]')]"
        ".map((clip) => clip.querySelectorAll('.mark[tabindex=\"0\"]').length)"
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


def test_a_mark_kept_with_enter_stays_until_escape(browser, page):
    open_clips(browser, page)
    browser.run("document.querySelectorAll('.clip')[1].querySelector('.mark[data-look=unreadable]').focus()")
    browser.press("Enter")
    text = "document.querySelectorAll('.clip')[1].querySelector('.detail').innerText"
    assert "[{" in browser.run(text) and browser.run("document.activeElement.getAttribute('aria-pressed')") == "true"
    browser.run(
        "document.querySelectorAll('.clip')[1].querySelector('.mark[data-look=illegal]')"
        ".dispatchEvent(new PointerEvent('pointerenter'))"
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
