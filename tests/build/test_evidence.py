"""Annotated lines in the form of every dataset."""

import pytest

from dst_dist.build.dialogs import Turn
from dst_dist.build.evidence import Line, read_evidence


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[4.2s-18.6s] measure oats", Line(4.2, 18.6, "measure oats")),
        ("[4.2-18.6] measure oats", Line(4.2, 18.6, "measure oats")),
        ("[71.0s - 83.0s] granola", Line(71.0, 83.0, "granola")),
        ("[4s-18s] measure oats", Line(4.0, 18.0, "measure oats")),
        ("[18.6s-4.2s] measure oats", Line(4.2, 18.6, "measure oats")),
        ("[4.2s] measure oats", Line(4.2, None, "measure oats")),
        (" [4.2s-18.6s] measure oats", Line(4.2, 18.6, "measure oats")),
        ("[4.2 sec - 18.6 sec] measure oats", Line(4.2, 18.6, "measure oats")),
        ("[4.2 seconds to 18.6 seconds] measure oats", Line(4.2, 18.6, "measure oats")),
        ("[4,2s-18,6s] measure oats", Line(4.2, 18.6, "measure oats")),
        ("[0:00:04-1:02:18.5] measure oats", Line(4.0, 3738.5, "measure oats")),
        ("[1:04] measure oats", Line(64.0, None, "measure oats")),
        ("[1.0s-2.0s] attach body (mistake: wrong order)", Line(1.0, 2.0, "attach body", mark="mistake")),
        (
            '[1.0s-2.0s] detach body (correction of "attach body to chassis")',
            Line(1.0, 2.0, "detach body", mark="correction", corrected="attach body to chassis"),
        ),
        ("[1.0s-2.0s] insert bulb (ERROR: at an angle)", Line(1.0, 2.0, "insert bulb", mark="error")),
        ("[1.0s-2.0s] pour stock (broth)", Line(1.0, 2.0, "pour stock (broth)")),
    ],
)
def test_forms_of_a_top_line(text, line):
    assert read_evidence(text).lines == [line]


@pytest.mark.parametrize("dash", [" - ", "- ", "  -"])
def test_nested_lines_belong_to_the_line_above(dash):
    nested = ("[6.0s-7.0s] grab stand", "[8.0s] unfold (ERROR: bent)", '[8.5s] student: "so?"')
    found = read_evidence("\n".join(["[5.0s-9.0s] fit stand", *(f"{dash}{text}" for text in nested)]))
    assert found.lines == [Line(5.0, 9.0, "fit stand", nested=["grab stand", "unfold"])]
    assert found.said == [Turn(role="user", time=8.5, content="so?")]


def test_dummies_summaries_and_order():
    written = "- [8.1s] start\n[30.0s-40.0s] second\n[10.0s-20.0s] first\nSummary: The user does it.\n\n"
    found = read_evidence(written)
    assert [line.text for line in found.lines] == ["first", "second"]
    assert found.said == [] and found.untimed == []


def test_texts_without_a_time_lie_between_the_lines_around_them():
    found = read_evidence("wash\n[10.0s-20.0s] peel\ncut\n[30.0s-40.0s] cook\nserve")
    assert found.untimed == [(0.0, 10.0, "wash"), (20.0, 30.0, "cut"), (40.0, None, "serve")]


@pytest.mark.parametrize(
    ("text", "is_counted"),
    [
        ("[4.2s..18.6s] measure oats", True),
        (" - [frame 40] measure oats", True),
        ("(4.2s-18.6s) measure oats", True),
        ("[about 4 s] measure oats", True),
        ("[measure] oats", False),
        ("measure 2 cups [480 ml] of oats", False),
        ("wash", False),
    ],
)
def test_a_time_that_is_not_understood_is_kept_apart(text, is_counted):
    found = read_evidence(text)
    assert not found.lines and len(found.untimed) == 1
    assert found.not_understood == ([text.strip()] if is_counted else [])
