"""Which step lines and sentences are about."""

import pytest

from tests.build.found import matches

LAMP = "Lamp\n1. Unfold the stand.\n2. Screw the bulb into the socket.\n3. Fit the shade over the bulb."


def about(descriptions: str, *turns: tuple) -> list[tuple[float, int]]:
    found, _ = matches(LAMP, descriptions, *turns)
    return [(run.start, run.step + 1) for run in found.runs]


def test_lines_go_to_their_steps_and_others_to_none():
    lines = "[1.0s-2.0s] unfold stand\n[3.0s-4.0s] drinks coffee\n[5.0s-6.0s] fit shade"
    assert about(lines) == [(1.0, 1), (5.0, 3)]
    assert [line.text for line in matches(LAMP, lines)[0].unmatched] == ["drinks coffee"]


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["peel apple", "wipe knife", "peel pear", "wipe knife"], [1, 2, 3, 4]),
        (["peel apple", "wipe knife", "wipe knife", "peel pear"], [1, 2, 2, 3]),
        (["peel apple", "wipe knife", "peel pear", "wipe knife", "peel pear"], [1, 2, 3, 4, 3]),
        (["wipe knife", "peel apple", "wipe knife", "peel pear", "wipe knife"], [2, 1, 2, 3, 4]),
    ],
)
def test_of_steps_with_one_name_the_later_takes_what_comes_again(lines, found):
    knowledge = "Fruit\n1. Peel the apple.\n2. Wipe the knife.\n3. Peel the pear.\n4. Wipe the knife."
    written = "\n".join(f"[{place}.0s-{place}.9s] {line}" for place, line in enumerate(lines))
    runs = matches(knowledge, written)[0].runs
    assert [run.step + 1 for run in runs] == found


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["grab shade", "unfold stand", "screw bulb"], [1, 2]),
        (["unfold stand", "screw bulb", "grab shade", "fit shade"], [1, 2, 3, 3]),
        (["unfold stand", "take the shade and fit it", "screw bulb"], [1, 3, 2]),
    ],
)
def test_taking_a_thing_is_a_step_only_in_its_place(lines, found):
    written = "\n".join(f"[{place}.0s-{place}.9s] {line}" for place, line in enumerate(lines))
    assert [step for _, step in about(written)] == found


def test_a_nested_line_counts_a_part():
    assert about("[1.0s-2.0s] works on the lamp\n - [1.5s] put shade over bulb") == [(1.0, 3)]
    assert about("[1.0s-2.0s] unfold stand\n - [1.5s] put shade over bulb") == [(1.0, 1)]


def test_an_instruction_at_a_lines_start_helps_it():
    line = "[10.0s-20.0s] does it"
    assert about(line) == []
    assert about(line, (9.0, "assistant", "Fit the shade.")) == [(10.0, 3)]
    assert about(line, (2.0, "assistant", "Fit the shade.")) == []
    assert about("[10.0s-20.0s] unfold stand", (9.0, "assistant", "Fit the shade.")) == [(10.0, 1)]


def test_a_cue_that_is_a_word_of_the_step_tells_it():
    found, _ = matches(
        "Bolt\n1. Turn the plate.\n2. Undo the bolt.", "", (5, "assistant", "That's wrong, undo the bolt.")
    )
    assert [(tell.time, tell.step) for tell in found.tells] == [(5, 1)] and found.cues == []
