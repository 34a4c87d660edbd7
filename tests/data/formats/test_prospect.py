"""PROSPECT clips as they are read: turns, states, updates, system turns."""

import json

from dst_dist.data import frames_finder
from dst_dist.data.clips import Step, Turn
from dst_dist.data.state import Transition
from tests.data.clip_files import read, read_one, with_turns
from tests.data.handmade import PROMPT, make_root, prospect_clip, public_style_clip, spoken, step, update

S1_STARTS = Turn("DST_UPDATE", '[{"id": "S1", "transition": "start"}]', (Transition("S1", "start"),), 3, 4)


def test_prospect_clip(tmp_path):
    index, weights, report = read(make_root(tmp_path), "kitchen")
    assert (len(index), weights, report.lines()) == (1, [1], [])
    clip = index[0]
    assert clip.id == "kitchen/tea/0"
    assert (clip.dataset, clip.domain, clip.prompt, clip.goal) == ("kitchen", None, PROMPT, "Make tea")
    assert clip.video == "kitchen/frames/tea.arrow"
    assert clip.frames_path == str(tmp_path / "kitchen/frames/tea.arrow")
    assert (clip.start_frame, clip.end_frame, clip.fps, clip.has_dst) == (2, 10, 2, True)
    assert clip.steps == (Step("S1", "Boil water", 1.0, 2.0), Step("S2", "Pour water", 2.0, 3.0))
    assert clip.initial_state == {}
    assert clip.turns[0] == Turn("user", "I want tea.", (), 2, 3)
    assert clip.turns[1] == S1_STARTS
    assert [(turn.role, turn.first_frame, turn.frame) for turn in clip.turns[2:]] == [
        ("assistant", 3, 4),
        ("DST_UPDATE", 6, 7),
        ("DST_UPDATE", 6, 7),
        ("assistant", 7, 7),
    ]


def test_clip_with_all_that_is_odd_in_public_data(tmp_path):
    index, _, report = read(make_root(tmp_path), "toys")
    clip = index[0]
    assert clip.video == "toys/frames/toy-01_cam_2.arrow"
    assert clip.prompt == PROMPT, "a system turn outside the clip is kept"
    assert [turn.role for turn in clip.turns].count("DST_UPDATE") == 4
    assert [turn.frame for turn in clip.turns] == [5, 5, 5, 9, 9, 9, 11]
    assert dict(report.counts) == {frames_finder.WITHOUT_PREFIX: 1}
    assert "assembly_toy-01_cam_2/0 (toy-01_cam_2.arrow)" in report.lines()[0]


def test_initial_state(tmp_path):
    root = make_root(tmp_path)
    user, start = spoken("user", "Go on.", 2, 3), update("S2", "start", 4, 5)
    state = {"S1": "completed", "S2": "not_started"}
    clip, report = read_one(root, with_turns({**user, "dst_state": state}, start))
    assert clip.initial_state == {"S1": "completed"}, "the first dst_state is the state before it"
    late = {**user, "end_frame": 6, "dst_state": state}
    clip, report = read_one(root, with_turns(user, start, late), strict=False)
    assert clip.initial_state == {"S1": "completed"}, "of S2 it tells what was after the update, and tells it wrong"
    assert report.counts["dst_state entries that contradict the transitions before them"] == 1
    clip, report = read_one(root, with_turns(user, start, initial_dst_state={"S1": "failed", "S2": "not_started"}))
    assert clip.initial_state == {"S1": "failed"}
    assert not report.counts


def test_the_initial_state_of_a_step_that_is_named_late(tmp_path):
    """A `dst_state` names only the steps seen so far: what it leaves out may be under way all the same."""
    turns = (
        spoken("user", "Hello", 2, 3, dst_state={}),
        update("S2", "complete", 3, 5, dst_state={"S2": "in_progress"}),
        update("S1", "start", 5, 6, dst_state={"S1": "not_started", "S2": "completed"}),
    )
    clip, report = read_one(make_root(tmp_path), with_turns(*turns))
    assert clip.initial_state == {"S2": "in_progress"} and not report.counts


def test_contradicting_dst_state_is_counted_and_the_machine_is_right(tmp_path):
    turns = [
        update("S1", "start", 2, 3, dst_state={}),
        spoken("user", "a", 3, 4, dst_state={"S1": "in_progress"}),
        spoken("user", "b", 3, 4, dst_state={"S1": "completed"}),
        spoken("user", "c", 3, 4, dst_state={}),
        update("S1", "complete", 5, 6, dst_state={"S1": "in_progress"}),
    ]
    clip, report = read_one(make_root(tmp_path), with_turns(*turns), strict=False)
    assert report.counts["dst_state entries that contradict the transitions before them"] == 2
    assert report.examples["dst_state entries that contradict the transitions before them"] == [
        "clip kitchen/tea/0, turn 3 (user) (S1 is in_progress by then)",
        "clip kitchen/tea/0, turn 4 (user) (S1 is in_progress by then)",
    ]
    assert len(clip.turns) == 5


def test_illegal_transitions_are_counted_and_kept_for_the_text(tmp_path):
    turns = [update("S1", "complete", 2, 3), update("S1", "start", 4, 5), update("S1", "start", 6, 7)]
    clip, report = read_one(make_root(tmp_path), with_turns(*turns), strict=False)
    kind = "transitions that the step's status does not allow, state left alone"
    assert report.counts[kind] == 2
    assert report.examples[kind] == [
        "clip kitchen/tea/0, turn 1 (DST_UPDATE) (complete of S1, which is not_started)",
        "clip kitchen/tea/0, turn 3 (DST_UPDATE) (start of S1, which is in_progress)",
    ]
    assert [turn.transitions[0].transition for turn in clip.turns] == ["complete", "start", "start"]


def test_update_content_as_json_text(tmp_path):
    turn = update("S1", "start", 3, 5)
    turn["content"] = json.dumps(turn["content"])
    clip, report = read_one(make_root(tmp_path), with_turns(turn))
    assert clip.turns == (S1_STARTS,)
    assert report.counts["DST_UPDATE turns with their content as a JSON string"] == 1


def test_several_transitions_in_one_turn(tmp_path):
    turn = update("S1", "start", 3, 5)
    turn["content"] += [{"id": "S1", "transition": "complete"}, {"id": "S2", "transition": "start"}]
    clip, report = read_one(make_root(tmp_path), with_turns(turn))
    assert clip.turns[0].transitions == (
        Transition("S1", "start"),
        Transition("S1", "complete"),
        Transition("S2", "start"),
    )
    assert not report.counts


def test_leading_system_turns_are_the_prompt_and_later_ones_stay(tmp_path):
    def system(text, **frames):
        return {"role": "system", "content": text, **frames}

    turns = [
        system("One.", start_frame=0, end_frame=1),
        system("Two."),
        spoken("user", "a", 2, 4),
        system("no frames"),
        system("outside", start_frame=90, end_frame=95),
        system("before", start_frame=2, end_frame=3),
        system("fitting", start_frame=4, end_frame=6),
        spoken("user", "b", 6, 7),
        system("after the next turn", start_frame=8, end_frame=10),
        spoken("user", "c", 8, 9),
        system("last", start_frame=9, end_frame=10),
    ]
    clip, report = read_one(make_root(tmp_path), with_turns(*turns))
    assert clip.prompt == "One.\nTwo."
    assert [(turn.text, turn.first_frame, turn.frame) for turn in clip.turns] == [
        ("a", 2, 3),
        ("no frames", 3, 3),
        ("outside", 3, 3),
        ("before", 3, 3),
        ("fitting", 4, 5),
        ("b", 6, 6),
        ("after the next turn", 6, 6),
        ("c", 8, 8),
        ("last", 9, 9),
    ]
    assert dict(report.counts) == {"system turns without usable frames, put after the turn before them": 4}


def test_domain_from_video_labels(tmp_path):
    clip, _ = read_one(make_root(tmp_path), prospect_clip(video_labels={"domain": "kitchen work"}))
    assert clip.domain == "kitchen work"


def test_a_clip_without_steps_is_counted(tmp_path):
    clip, report = read_one(make_root(tmp_path), with_turns(spoken("user", "a", 2, 3), dst=[]))
    assert clip.steps == () and clip.has_dst
    assert report.counts["clips that declare no steps"] == 1


def test_the_handmade_public_style_clip_is_legal(tmp_path):
    clip, report = read_one(make_root(tmp_path), {**public_style_clip(), "dst": [step(1, "a"), step(2, "b")]})
    assert len(clip.steps) == 2 and len(report.counts) == 1
