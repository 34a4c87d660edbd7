"""Teacher-forced metrics: by hand, and exact matches against what decoding writes."""

import numpy as np
import pytest
import torch

from dst_dist.data.batching import Draw, micro_batches
from dst_dist.measure.teacher_forced import TeacherForced
from dst_dist.model import readings
from dst_dist.model.loading import load_for_inference
from dst_dist.recipes.loading import load_recipe
from dst_dist.setup import DataSetup
from tests.train.in_process import train

IGNORE = -100


def array(*values):
    return np.array(values)


def logits_of(probabilities):
    """Return logits [n, 2] whose softmax gives these probabilities to the second class."""
    p = np.array(probabilities)
    return np.stack([np.log(1 - p), np.log(p)], axis=1)


def test_a_split_by_hand():
    columns = {
        "lm_loss": array(1.0, 2.0, 3.0, 6.0),
        "lm_is_dst": array(False, True, True, False),
        "lm_hit": array(True, True, False, True),
        "turn_hit": array(True, False, True, True),
        "turn_is_dst": array(True, True, False, True),
        "clip": array(0, 1),
        "lm_clip": array(0, 0, 1, 1),
        "turn_clip": array(0, 0, 1, 1),
        "is_frame": array(True, True),
        "dst_update": array(1, 0),
        "dst_update_logits": logits_of([0.8, 0.4]),
        "speaking": array(IGNORE, IGNORE),
        "speaking_logits": logits_of([0.5, 0.5]),
    }
    recipe = load_recipe(["demo", "loss.lm=2", "loss.dst_gen=0.5", "loss.speaking=7"])
    measured = readings.losses(columns, recipe) | TeacherForced(columns, {"dst_update": None, "speaking": None})(
        np.ones(2)
    )
    head = (-np.log(0.8) - np.log(0.6)) / 2
    assert measured["loss/lm"] == pytest.approx(3.0)
    assert measured["loss/dst_gen"] == pytest.approx(2.5)
    assert measured["loss/dst_update"] == pytest.approx(head)
    assert measured["loss/speaking"] == 0.0
    assert measured["loss"] == pytest.approx(2 * 3.0 + 0.5 * 2.5 + head)
    assert measured["lm/perplexity"] == pytest.approx(np.exp(3))
    assert measured["lm/token_accuracy"] == 0.75
    # Of the three updates two are right in every token; the reply does not count.
    assert measured["update/exact_match"] == pytest.approx(2 / 3)
    assert measured["num_updates"] == 3
    assert measured["dst_update/threshold"] == pytest.approx(0.6)
    assert "speaking/f1" not in measured
    # The second clip alone: one update, right; two tokens, both losses counted.
    minutes = {"dst_update": array(1.0, 0.5), "speaking": array(1.0, 0.5)}
    second = TeacherForced(columns, {"dst_update": 0.5, "speaking": 0.5}, minutes)(array(0.0, 1.0))
    assert (second["update/exact_match"], second["num_updates"], second["lm/token_accuracy"]) == (1.0, 1, 0.5)
    assert second["lm/perplexity"] == pytest.approx(np.exp(4.5))


def test_each_head_has_its_own_minutes():
    """The second of two clips has no steps. Above 0.5 one update of two is false, and two replies of three."""
    text = {
        name: np.zeros(0, int)
        for name in ("lm_loss", "lm_is_dst", "lm_hit", "lm_clip", "turn_hit", "turn_is_dst", "turn_clip")
    }
    decided = {
        "dst_update": array(1, 0, IGNORE, IGNORE),
        "speaking": array(1, 0, 0, 0),
        "is_frame": np.ones(4, bool),
        "clip": array(0, 0, 1, 1),
    }
    logits = {"dst_update_logits": logits_of([0.9, 0.8, 0.9, 0.9]), "speaking_logits": logits_of([0.9, 0.8, 0.7, 0.2])}
    minutes = {"dst_update": array(0.5, 0.0), "speaking": array(0.5, 1.5)}
    measure = TeacherForced(text | decided | logits, {"dst_update": 0.5, "speaking": 0.5}, minutes)
    measured = measure(np.ones(2))
    assert (measured["dst_update/false_per_minute"], measured["speaking/false_per_minute"]) == (1 / 0.5, 2 / 2)
    # Above 0 every negative is a false alarm.
    assert [measure.curves()[head]["false_per_minute"][0] for head in ("dst_update", "speaking")] == [1 / 0.5, 3 / 2]


@pytest.fixture(scope="module")
def trained(demo_words, tmp_path_factory):
    """Return a model after some steps, which writes some updates right, with its training data and limits."""
    folder = tmp_path_factory.mktemp("metrics") / "run"
    words = [
        "demo",
        *demo_words,
        "train.max_steps=40",
        "train.global_batch_size=8",
        "data.num_workers=0",
        "data.val=[]",
        "optim.learning_rate=2e-3",
        "optim.warmup_steps=5",
        "log.report_to=[]",
        f"output_dir={folder}",
    ]
    assert train(words) == 0
    setup = DataSetup(load_recipe(words))
    return load_for_inference(folder / "final"), setup.datasets(setup.check())["train"], setup.limits


def forward_of(model):
    return lambda batch: model(
        batch.input_ids, batch.frames, batch.segment_lengths, batch.lm_positions, batch.decision_positions
    )


def read(model, data, specs):
    return readings.read_model(forward_of(model), data, specs, torch.device("cpu"), 0, show_progress=False)


@torch.no_grad()
def decode(model, ids, frames, end_id, max_tokens=40):
    """Return what greedy decoding writes after `ids`, token by token over the whole growing sequence."""
    written = []
    while len(written) < max_tokens and (not written or written[-1] != end_id):
        sequence = torch.tensor([*ids, *written])
        last = model.hidden_states(sequence, frames, [len(sequence)])[-1]
        written.append(int(model.lm_head(last).argmax()))
    return written


def test_an_exact_match_is_what_decoding_would_write(trained):
    model, data, limits = trained
    writer = data.maker.writer
    outcomes = []
    for index in range(len(data)):
        (spec,) = micro_batches(0, 0, [Draw(index, 0)], data.samples, limits, 0, 1)
        columns, frames = read(model, data, [spec]), data[spec].frames
        sample = data.sample(Draw(index, 0), 0)
        for turn, (hit, is_dst) in enumerate(zip(columns["turn_hit"], columns["turn_is_dst"], strict=True)):
            if not is_dst:
                continue
            places = np.flatnonzero(sample.turn == turn)
            ids = sample.input_ids[: places[0]]
            num_frames = int((ids == writer.image_id).sum()) // writer.tokens_per_frame
            written = decode(model, ids, frames[:num_frames], writer.end_id)
            assert (written == sample.input_ids[places].tolist()) == hit
            outcomes.append(bool(hit))
    # Right and wrong updates were seen.
    assert 3 <= sum(outcomes) <= len(outcomes) - 3


def test_the_split_is_the_sum_of_its_samples_however_packed(trained):
    model, data, limits = trained
    together = readings.evaluation_specs(data, limits, 0, 1, None)
    alone = [micro_batches(0, 0, [Draw(index, 0)], data.samples, limits, 0, 1)[0] for index in range(len(data))]
    assert len(together) < len(alone)
    recipe = load_recipe(["demo"])
    results = [
        readings.losses(columns, recipe)
        | TeacherForced(columns, {"dst_update": None, "speaking": 0.5})(np.ones(len(data.clips.index)))
        for columns in (read(model, data, together), read(model, data, alone))
    ]
    assert results[0] == pytest.approx(results[1], rel=1e-4)


def test_evaluation_takes_every_sample_once_or_evenly_spaced_clips(trained):
    _, data, limits = trained
    for processes in (1, 2, 3):
        specs = [readings.evaluation_specs(data, limits, rank, processes, None) for rank in range(processes)]
        assert len({len(own) for own in specs}) == 1
        taken = sorted(draw.sample for own in specs for spec in own for draw in spec.draws)
        assert taken == list(range(len(data)))
    some = readings.evaluation_specs(data, limits, 0, 1, 3)
    clips = {int(data.samples["clip"][draw.sample]) for spec in some for draw in spec.draws}
    assert clips == {0, (len(data.clips.index) - 1) // 2, len(data.clips.index) - 1}
