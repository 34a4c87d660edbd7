"""A clip in the terminal."""

import re

import pytest

from dst_dist.errors import ConfigError
from dst_dist.inspection.show import lines_of, shown_clip


def test_a_clip_is_shown_in_order_with_what_trains(words):
    shown = shown_clip(words, "train")
    lines = list(lines_of(shown))
    text = "\n".join(lines)
    assert lines[0].startswith(f"{shown.clip.id}: {shown.clip.video}, frames 0 to 15 at 2 a second")
    replies = [turn.text for turn in shown.clip.turns if turn.role == "assistant"]
    assert [line for line in lines if "trained:" in line] == [
        f"{'':29}{'trained:':22}{reply}<end_of_utterance>" for reply in replies
    ]
    assert text.count("trained as an update:") == text.count("state:  ")
    frames = [tuple(map(int, found.split("-"))) for found in re.findall(r"(?m)^ +(\d+(?:-\d+)?) +\d+\.\d", text)]
    assert [number for found in frames for number in range(found[0], found[-1] + 1)] == list(range(16))
    assert "behind the user's turn" in text


def test_the_state_behind_an_update_is_that_of_the_next_opening(words):
    """A clip in parts: the opening turn of each has the state that was shown last."""
    small = [*words, "data.max_seq_len=125", "data.context_seconds=0"]
    lines = list(lines_of(shown_clip(small, "train")))
    states = [line.split(None, 1)[1].removesuffix("<end_of_utterance>") for line in lines if " State: " in line]
    shown = [line.split("state:")[1].strip() for line in lines if "state:  " in line]
    assert len(states) > 1 and states[0] == "none"
    assert set(states[1:]) <= set(shown)


def test_a_clip_by_its_id(words):
    first = shown_clip(words, "val")
    again = shown_clip(words, "val", first.clip.id)
    assert again.samples == first.samples
    with pytest.raises(
        ConfigError, match=f"--clip nothing: there are 18 clips, for example {re.escape(first.clip.id)}"
    ):
        shown_clip(words, "val", "nothing")


def test_an_empty_split_is_named(words):
    with pytest.raises(ConfigError, match="data.test is empty"):
        shown_clip([*words, "data.test=[]"], "test")
