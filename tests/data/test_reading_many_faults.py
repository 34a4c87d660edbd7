"""Many faults at once, and whatever else may be wrong."""

import json
import random

import numpy as np
import pytest

from dst_dist.data.reading import read_clips
from dst_dist.errors import DataError
from tests.data.bad_data import FILE, LINES, SOUP, TEA, fault_of, prospect
from tests.data.handmade import (
    make_root,
    proassist_clip,
    prospect_clip,
    spoken,
    step,
    update,
    write_proassist,
    write_prospect,
)


def test_all_faults_of_all_files_at_once(tmp_path):
    root = make_root(tmp_path)
    bad_turns = [
        {"role": "narrator", "content": "x"},
        {**update("S9", "begin", 2, 4), "dst_state": {"S8": "done"}},
        spoken("user", "", 2, 40),
        spoken("assistant", "ok", 8, 20, dst_state={"S7": "failed"}),
    ]
    first = prospect_clip(fps=0, conversation=bad_turns, dst=[step(1, "a"), step(1, "b")])
    second_turns = [spoken("user", "a", 1, 4), spoken("user", 7, 2, 4), update("S3", "start", 4, 5)]
    second = prospect_clip(clip_idx=1, frames_file="../x.arrow", conversation=second_turns)
    write_prospect(root, [first, prospect_clip(clip_idx=5), second])
    write_proassist(root, [proassist_clip(end_frame_idx=2)])
    error = fault_of(root, ["kitchen", "garage", LINES])
    expected = [
        ("data.train: garage", "no such file"),
        (TEA, "`fps`"),
        (TEA, "`dst` declares 'S1' more than once"),
        (f"{TEA}, turn 4 (assistant)", "`dst_state` names 'S7'"),
        (f"{TEA}, turn 1 (narrator)", "unknown role"),
        (f"{TEA}, turn 2 (DST_UPDATE)", "`content[0].transition`"),
        (f"{TEA}, turn 2 (DST_UPDATE)", "`dst_state.S8`"),
        (f"{TEA}, turn 3 (user)", "`content`"),
        (f"{FILE}: clip kitchen/tea/1, turn 1 (user)", "frames [1, 4)"),
        (f"{FILE}: clip kitchen/tea/1, turn 2 (user)", "`content`"),
        (f"{FILE}: clip kitchen/tea/1, turn 3 (DST_UPDATE)", "`content` names 'S3'"),
        (f"{FILE}: clip kitchen/tea/1", "leads out"),
        (SOUP, "`end_frame_idx`"),
    ]
    for place, word in expected:
        assert any(place in fault and word in fault for fault in error.faults), (place, word)
    assert len(error.faults) == len(expected)


def test_every_turn_and_clip_at_fault_is_named(tmp_path):
    root = make_root(tmp_path)
    far = [spoken("user", "a", 2, 20), spoken("user", "b", 3, 4), spoken("user", "c", 3, 30)]
    write_prospect(root, [prospect_clip(clip_idx=number, conversation=far) for number in range(3)])
    places = [fault.split(":")[1] for fault in fault_of(root).faults]
    assert places == [f" clip kitchen/tea/{clip}, turn {turn} (user)" for clip in range(3) for turn in (1, 3)]


def test_very_many_faults_are_cut_short_and_counted(tmp_path):
    root = make_root(tmp_path)
    write_prospect(root, [prospect_clip(clip_idx=number, fps=0) for number in range(1000)])
    write_proassist(root, [proassist_clip(fps=0)])
    faults = fault_of(root).faults
    assert len(faults) == 22
    assert faults[20] == f"{FILE}: and 980 more faults in this file"
    assert faults[21].startswith(SOUP)


def test_long_values_are_shortened(tmp_path):
    root = make_root(tmp_path)
    prospect(frames_file=["x" * 100_000])(root)
    assert len(str(fault_of(root))) < 400


def mutations(seed, clip):
    """Clips with one value, anywhere, replaced or removed."""
    odd = [None, True, -1, 0, 3.5, 10**9, "", "x", [], [1], {}, {"a": 1}, float("nan"), "\ud800", "S1", "2"]
    rng = random.Random(seed)
    for _ in range(400):
        spoiled = json.loads(json.dumps(clip))
        place, key = rng.choice(list(places(spoiled)))
        if rng.random() < 0.2:
            del place[key]
        else:
            place[key] = rng.choice(odd)
        yield spoiled


def places(value):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from places(inner)


@pytest.mark.parametrize("make", [prospect_clip, proassist_clip])
def test_whatever_is_wrong_the_answer_is_a_data_error_or_sound_clips(tmp_path, make):
    root = make_root(tmp_path)
    num_refused = 0
    for spoiled in mutations(0, make()):
        write_prospect(root, [spoiled])
        try:
            index, _, _ = read_clips(root, ["kitchen"], "train", strict=False)
        except DataError as error:
            num_refused += 1
            assert all(FILE in fault for fault in error.faults)
            str(error).encode()
        else:
            assert_sound(index[0])
    assert 100 < num_refused < 350


def assert_sound(clip):
    decisions = [turn.frame for turn in clip.turns]
    assert decisions == sorted(decisions)
    assert all(clip.start_frame <= turn.first_frame <= turn.frame < clip.end_frame for turn in clip.turns)
    assert np.isfinite(clip.fps) and clip.fps > 0
    ids = [one.id for one in clip.steps]
    assert len(set(ids)) == len(ids)
    assert {change.id for turn in clip.turns for change in turn.transitions} <= set(ids)
