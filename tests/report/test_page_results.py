"""The report in a browser: header, results, charts, missing parts."""

import pytest

from dst_dist.report.page import write_report
from tests.report.browser import open_clips
from tests.report.make_run import make_run, trained


def test_it_opens_without_errors_or_requests(browser, page):
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


def test_results_have_baselines_and_intervals(browser, page):
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


def test_the_page_names_the_parts_that_are_missing(browser, tmp_path):
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


def test_the_page_names_missing_validation_and_streaming(browser, tmp_path):
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
