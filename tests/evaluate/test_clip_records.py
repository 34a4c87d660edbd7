"""The records of streamed clips."""

import json
from collections import Counter

import numpy as np
import pytest

from dst_dist.data.state import Transition
from dst_dist.evaluate.clip_records import clip_record
from dst_dist.measure.similarity import lexical
from dst_dist.measure.timeline import Event, Watched
from tests.data.dialogs import make_clip, reply, update, user


def test_a_record_by_hand():
    """The start is matched one second late, the second transition is of another step; the reply has other words."""
    clip = make_clip(user(1), update(2, "S1 start"), reply(2, "Pour it."), start=0, end=6, fps=2.0)
    both = (Transition("S1", "start"), Transition("S2", "start"))
    events = [Event("DST_UPDATE", 4, "[...]", 0.75, both, 1), Event("assistant", 4, "Well done.", 0.5)]
    probabilities = np.array([[0.1, 0.2]] * 6, np.float32)
    watched = Watched(clip, events, [{}] * 6, probabilities, Counter({"turns cut off": 2, "other": 0}), np.ones(6))
    record = clip_record(watched, {"dst_update": 0.5, "speaking": 0.25}, 2.0, lexical())
    assert record["gold"]["updates"] == [
        {"frame": 2, "transitions": [{"id": "S1", "transition": "start", "matched": True}]}
    ]
    assert record["gold"]["replies"] == [{"frame": 2, "text": "Pour it."}]
    (predicted,) = record["predicted"]["updates"]
    assert predicted.pop("transitions") == [
        {"id": "S1", "transition": "start", "matched": True},
        {"id": "S2", "transition": "start", "matched": False},
    ]
    assert predicted == {"frame": 4, "text": "[...]", "probability": 0.75, "num_illegal": 1}
    assert record["predicted"]["replies"] == [{"frame": 4, "text": "Well done.", "probability": 0.5}]
    assert record["reply_matches"] == [], "a second apart and without a common word, both are left alone"
    assert record["probabilities"] == {"dst_update": [0.1] * 6, "speaking": [0.2] * 6}
    assert (record["id"], record["start_frame"], record["end_frame"], record["fps"]) == (clip.id, 0, 6, 2.0)
    assert [turn["frame"] for turn in record["user"]] == [1] and record["counts"] == {"turns cut off": 2}
    assert record["thresholds"] == {"dst_update": 0.5, "speaking": 0.25} and record["tolerance_s"] == 2.0
    assert json.loads(json.dumps(record)) == record


def test_records_agree_with_the_data_and_with_the_metrics(alone, demo):
    records = alone[1][1]["val-streaming-clips.jsonl"]
    clips = [
        clip for name in ("workshop", "kitchen") for clip in json.loads((demo / name / "val_training.json").read_text())
    ]
    assert len(records) == len(clips) == 12
    result = alone[1][1]["val-streaming.json"]
    matched = {"gold": 0, "predicted": 0}
    for record, clip in zip(records, clips, strict=True):
        assert (record["start_frame"], record["end_frame"]) == (clip["start_frame_idx"], clip["end_frame_idx"])
        assert len(record["probabilities"]["dst_update"]) == clip["end_frame_idx"] - clip["start_frame_idx"]
        assert all(
            clip["start_frame_idx"] <= event["frame"] < clip["end_frame_idx"]
            for side in ("gold", "predicted")
            for kind in ("updates", "replies")
            for event in record[side][kind]
        )
        for side in matched:
            matched[side] += sum(change["matched"] for one in record[side]["updates"] for change in one["transitions"])
        decided = sum(value > 0.3 for value in record["probabilities"]["dst_update"])
        assert decided <= len(record["predicted"]["updates"]) <= decided + len(record["user"])
    for side, unmatched in (("gold", "missing"), ("predicted", "redundant")):
        places = [(number, match[side]) for number, record in enumerate(records) for match in record["reply_matches"]]
        num_replies = sum(len(record[side]["replies"]) for record in records)
        assert len(set(places)) == len(places) > 0 and result[f"reply/{unmatched}"] == pytest.approx(
            1 - len(places) / num_replies
        )
    num_correct = sum(match["correct"] for record in records for match in record["reply_matches"])
    assert result["reply/recall"] == pytest.approx(
        num_correct / sum(len(record["gold"]["replies"]) for record in records)
    )
    assert all(
        match["correct"] == (match["similarity"] > 0.5) for record in records for match in record["reply_matches"]
    )
    num_gold = sum(len(one["transitions"]) for record in records for one in record["gold"]["updates"])
    assert num_gold == sum(
        len(turn["content"]) for clip in clips for turn in clip["conversation"] if turn["role"] == "DST_UPDATE"
    )
    assert matched["gold"] == matched["predicted"] == num_gold - result["transition/missed"]
