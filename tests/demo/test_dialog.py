"""The dialogs of the generated world."""

import json
from collections import Counter

import pytest
from transformers import AutoTokenizer

from dst_dist import config
from dst_dist.data.reading import read_clips
from dst_dist.data.samples import Limits, SampleMaker
from dst_dist.data.token_writer import TokenWriter
from dst_dist.demo.dialog import answer, render, speak
from tests.demo.reading import moment


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (moment((1, "start"), statuses=("not_started", "in_progress")), None),
        (moment(statuses=("not_started", "completed"), error=True), None),
        (moment(statuses=("not_started",) * 2, error=True, new_error=True), "Careful, that is wrong."),
        (moment((0, "complete"), statuses=("completed", "not_started", "not_started")), "S1 done, good. Next is S2."),
        (
            moment((0, "complete"), (2, "complete"), statuses=("completed", "paused", "completed"), new_error=True),
            "Careful, that is wrong. S1 and S3 done, good. No step is left.",
        ),
    ],
)
def test_the_assistant_speaks_unasked_of_errors_and_completions(at, text):
    assert speak(at) == text


def test_answers_follow_the_statuses_in_the_picture():
    at = moment(statuses=("completed", "in_progress", "completed", "in_progress"))
    assert answer("open", at) == "Open: S2 and S4."
    assert answer("open", moment(statuses=("completed", "paused"))) == "Open: none."
    assert answer("done", at) == "Done: 2."
    assert answer("thanks", at) is None


def test_render_gives_the_ids_that_are_trained_on(demo):
    tokenizer = AutoTokenizer.from_pretrained(demo / "model")
    maker = SampleMaker(TokenWriter(tokenizer, 1), config.Data(), config.Labels(), Limits(4096, 2048))
    for name in ("garden/val_training.json", "proassist_demo/train.jsonl"):
        text = (demo / name).read_text()
        records = json.loads(text) if name.endswith(".json") else [json.loads(line) for line in text.splitlines()]
        clips = read_clips(demo, [name], "train", strict=True)[0]
        for record, clip in zip(records, clips, strict=True):
            (part,) = maker.split(clip, Counter())
            ids = maker.make(clip, part).input_ids
            assert tokenizer.encode(render(record)) == ids.tolist()
            assert record["seq_len"] == len(ids)
