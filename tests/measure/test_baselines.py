"""Baselines that do not look at the video, by hand."""

import pytest

from dst_dist.data.clips import ClipIndex
from dst_dist.data.reading import read_clips
from dst_dist.data.state import Transition
from dst_dist.measure import baselines
from dst_dist.measure.timeline import gold_timeline
from tests.data import dialogs
from tests.data.handmade import make_root, prospect_clip, update, write_prospect


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({}, [("S1", "start")]),
        ({"S1": "in_progress"}, [("S1", "complete"), ("S2", "start")]),
        ({"S1": "completed"}, [("S2", "start")]),
        ({"S1": "paused", "S2": "in_progress"}, [("S2", "complete"), ("S3", "start")]),
        # The last open step counts; earlier ones are passed over.
        ({"S2": "in_progress"}, [("S2", "complete"), ("S3", "start")]),
        ({"S1": "in_progress", "S2": "in_progress"}, [("S2", "complete"), ("S3", "start")]),
        ({"S1": "completed", "S2": "completed", "S3": "in_progress"}, [("S3", "complete")]),
        ({"S1": "completed", "S2": "completed", "S3": "completed"}, []),
    ],
)
def test_the_text_rule(state, expected):
    assert baselines.rule_update(state, ["S1", "S2", "S3"]) == [Transition(*pair) for pair in expected]


def clips_of(root, *clips):
    write_prospect(make_root(root), list(clips))
    return read_clips(root, ["kitchen"], "train", strict=True)[0]


def test_text_baselines_by_hand(tmp_path):
    """The rule writes both updates of the hand-made clip. Chance: two steps, each may start or be reset, so 1 in 4;
    the second update has two transitions, which chance never writes."""
    found = baselines.text_baselines(clips_of(tmp_path, prospect_clip()))
    assert found == {"chance": {"update/exact_match": pytest.approx(1 / 8)}, "rule": {"update/exact_match": 1.0}}


def test_text_baselines_follow_the_gold_state(tmp_path):
    """S1 in progress: pause, complete, cancel, reset; S2: start, reset. The rule would complete S1 and start S2."""
    turns = [update("S1", "pause", 3, 5), update("S1", "resume", 5, 7)]
    clip = prospect_clip(conversation=turns, initial_dst_state={"S1": "in_progress"})
    found = baselines.text_baselines(clips_of(tmp_path, clip))
    # Then paused: resume, cancel, reset; S2 as before.
    assert found["chance"]["update/exact_match"] == pytest.approx((1 / 6 + 1 / 5) / 2)
    assert found["rule"]["update/exact_match"] == 0.0


def test_chance_writes_only_what_the_state_allows():
    """S1 is completed without having started; then its start is 1 of 4 allowed transitions, its completion 1 of 6."""
    turns = [dialogs.update(2, "S1 complete"), dialogs.update(4, "S1 start"), dialogs.update(6, "S1 complete")]
    found = baselines.text_baselines([dialogs.make_clip(*turns)])
    assert found["chance"]["update/exact_match"] == pytest.approx((0 + 1 / 4 + 1 / 6) / 3)


def test_without_updates_there_is_no_text_baseline():
    assert baselines.text_baselines(ClipIndex.from_clips([])) == {}


def test_decision_baselines_by_hand():
    """10 positives of 40, 2 minutes; in training a fifth was positive: 6 of the 30 negatives are false alarms."""
    counts = {
        "num_speaking_positives": 10.0,
        "num_speaking_negatives": 30.0,
        "speaking/base_rate": 0.25,
        "speaking/base_rate_at_frames": 0.2,
    }
    found = baselines.decision_baselines(counts, "speaking", 2.0, 0.2)
    assert found["never"] == {"speaking/recall": 0.0, "speaking/f1": 0.0, "speaking/false_per_minute": 0.0}
    assert found["chance"] == pytest.approx(
        {
            "speaking/average_precision": 0.25,
            "speaking/average_precision_at_frames": 0.2,
            "speaking/precision": 0.25,
            "speaking/recall": 0.2,
            "speaking/f1": 2 * 0.25 * 0.2 / 0.45,
            "speaking/false_per_minute": 3.0,
        }
    )
    assert "speaking/f1" not in baselines.decision_baselines(counts, "speaking", 2.0, None)["chance"]
    silent, empty = ({"num_speaking_positives": 0.0, "num_speaking_negatives": negatives} for negatives in (30.0, 0.0))
    assert baselines.decision_baselines(silent, "speaking", 2.0, 0.2) == {
        "never": {"speaking/false_per_minute": 0.0},
        "chance": {"speaking/precision": 0.0, "speaking/f1": 0.0, "speaking/false_per_minute": 3.0},
    }
    assert baselines.decision_baselines(silent, "speaking", 2.0, None) == {"never": {"speaking/false_per_minute": 0.0}}
    assert baselines.decision_baselines(empty, "speaking", 2.0, 0.2) == {}


def test_streaming_baselines_by_hand():
    """20 frames at 2 a second with two updates and four replies: every tenth frame, every fifth."""
    turns = [
        dialogs.update(3),
        dialogs.update(12, "S1 complete", "S2 start"),
        *(dialogs.reply(frame) for frame in (2, 7, 9, 15)),
    ]
    clip = dialogs.make_clip(*turns, end=20)
    found = baselines.baseline_timelines([clip], [gold_timeline(clip)], {"dst_update": 1.0, "speaking": 0.0})
    assert set(found) == {"never", "always", "periodic", "rule", "random"}
    never, always, periodic, at_random = (found[name][0] for name in ("never", "always", "periodic", "random"))
    assert (never.updates, never.replies, never.states) == ([], [], [{}] * 20)
    # The rule: start S1, complete it and start S2, complete S2; then its update is empty.
    assert [time_s for time_s, _ in always.updates] == [0.0, 0.5, 1.0] and len(always.replies) == 20
    assert always.states[-1] == {"S1": "completed", "S2": "completed"}
    assert [time_s for time_s, _ in periodic.updates] == [4.5, 9.5]
    assert [time_s for time_s, _ in periodic.replies] == [2.0, 4.5, 7.0, 9.5]
    # The rates of training: at every frame one allowed transition, and never a reply.
    assert len(at_random.updates) == 20 and not at_random.replies
    assert all(len(changes) == 1 for _, changes in at_random.updates)
    assert "random" not in baselines.baseline_timelines([clip], [gold_timeline(clip)], None)


def test_clips_without_steps_change_no_update_of_a_streaming_baseline():
    """At the ten frames of the other clip no update is decided; it has one more reply."""
    turns = [
        *(dialogs.update(frame, f"S1 {name}") for frame, name in ((3, "start"), (12, "complete"))),
        dialogs.reply(7),
    ]
    clips = [
        dialogs.make_clip(*turns, end=20),
        dialogs.make_clip(dialogs.reply(2), end=10, steps=(), id="kitchen/tea/1"),
    ]
    gold, rates = [gold_timeline(clip) for clip in clips], {"dst_update": 0.5, "speaking": 0.0}
    alone, both = (baselines.baseline_timelines(clips[:number], gold[:number], rates) for number in (1, 2))
    assert {name: found[0].updates for name, found in both.items()} == {
        name: found[0].updates for name, found in alone.items()
    }
    assert [time_s for time_s, _ in both["periodic"][0].updates] == [4.5, 9.5]
    assert not any(found[1].updates for found in both.values())
    # Two replies of thirty frames, not one of twenty.
    assert [time_s for time_s, _ in both["periodic"][0].replies] == [7.0] and [
        time_s for time_s, _ in alone["periodic"][0].replies
    ] == [9.5]


def test_the_same_clips_give_the_same_draws():
    clips = [dialogs.make_clip(dialogs.update(3), end=200)]
    gold, rates = [gold_timeline(clips[0])], {"dst_update": 0.1, "speaking": 0.1}
    assert baselines.baseline_timelines(clips, gold, rates) == baselines.baseline_timelines(clips, gold, rates)
    replies = baselines.baseline_timelines(clips, gold, rates)["random"][0].replies
    assert 5 <= len(replies) <= 40
