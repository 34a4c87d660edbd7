"""Counts with examples, and the faults of a file."""

from dst_dist.data.reading_log import FAULTS_PER_FILE, ClipLog, FileFaults, Report


def test_report_keeps_three_examples_of_each_kind():
    report = Report()
    for number in range(5):
        report.count("odd things", f"clip {number}")
    report.count("other things", "clip 9")
    assert report.lines() == [
        "5 odd things, for example: clip 0; clip 1; clip 2",
        "1 other things, for example: clip 9",
    ]


def test_the_first_faults_of_a_file_are_listed_and_the_others_counted():
    faults = FileFaults("kitchen.json")
    for number in range(FAULTS_PER_FILE):
        faults.add(f"fault {number}")
    assert faults.lines()[-1] == "kitchen.json: fault 19" and len(faults.lines()) == 20
    faults.add("one more")
    assert faults.lines()[19:] == ["kitchen.json: fault 19", "kitchen.json: and 1 more faults in this file"]


def test_a_fault_can_be_printed_whatever_the_data_holds():
    faults = FileFaults("kitchen.json")
    faults.add("id \ud800 \u2615")
    assert faults.lines() == ["kitchen.json: id \\ud800 \u2615"]


def test_a_clip_fails_by_a_fault_and_not_by_a_count():
    faults, report = FileFaults("kitchen.json"), Report()
    log = ClipLog("tea", faults, report)
    log.count("odd turns", "turn 2 (user)", "too long")
    assert not log.failed and report.examples == {"odd turns": ["clip tea, turn 2 (user) (too long)"]}
    log.fault("`fps` is missing")
    assert log.failed and faults.lines() == ["kitchen.json: clip tea: `fps` is missing"]
