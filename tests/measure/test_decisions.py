"""Measures of decisions and updates, against values worked out by hand and against what decoding writes."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score, precision_recall_fscore_support

from dst_dist.data.batching import Draw, micro_batches
from dst_dist.measure import decisions as metrics
from dst_dist.measure.teacher_forced import TeacherForced
from dst_dist.model.loading import load_for_inference
from dst_dist.model.readings import evaluation_specs, losses, read_model
from dst_dist.recipes.loading import load_recipe
from dst_dist.setup import DataSetup
from tests.train.in_process import train

IGNORE = -100


def decisions(labels, probabilities, is_frame=None, clip=None):
    """All of one clip, and all frames, unless said otherwise."""
    number = len(labels)
    is_frame = np.ones(number, bool) if is_frame is None else is_frame
    return metrics.Decisions.read(labels, probabilities, is_frame, np.zeros(number, int) if clip is None else clip)


def array(*values):
    return np.array(values)


def logits_of(probabilities):
    """[n, 2] logits whose softmax gives these probabilities to the second class."""
    p = np.array(probabilities)
    return np.stack([np.log(1 - p), np.log(p)], axis=1)


# Thresholds


@pytest.mark.parametrize(
    ("labels", "probabilities", "threshold"),
    [
        # At least 0.35: 2 of 3 right, both found, F1 0.8; at least 0.1: 2/3; 0.4: 1/2; 0.8: 2/3.
        ([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], 0.225),
        # All that is positive lies above all that is not.
        ([1, 0, 1, 0], [0.9, 0.3, 0.7, 0.1], 0.5),
        # Nothing is below the best score: halfway to 0.
        ([1, 0], [0.4, 0.8], 0.2),
        # Equal scores stand or fall together.
        ([1, 0, 1], [0.6, 0.2, 0.6], 0.4),
    ],
)
def test_best_threshold_by_hand(labels, probabilities, threshold):
    assert metrics.best_threshold(array(*labels), array(*probabilities)) == pytest.approx(threshold)


@pytest.mark.parametrize("seed", range(20))
def test_no_other_threshold_is_better(seed):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([[0, 1], rng.random(40) < 0.2]).astype(int)
    # Few different scores, so that many are equal; some at the very ends, some next to one another.
    probabilities = rng.choice([0.0, 1e-300, 0.1, 0.1 + 2**-56, 0.5, 0.7, 1 - 2**-53, 1.0], len(labels))
    chosen = metrics.best_threshold(labels, probabilities)
    every = [f1_score(labels, probabilities > threshold, zero_division=0) for threshold in (-1, *probabilities)]
    if probabilities[labels == 1].min() > 0:
        assert f1_score(labels, probabilities > chosen) == pytest.approx(max(every))


# Decisions


def test_decisions_by_hand():
    labels = array(1, 0, IGNORE, 1, 0, 0)
    probabilities = array(0.9, 0.6, 0.99, 0.4, 0.2, 0.1)
    is_frame = array(True, True, True, False, True, True)
    measured = decisions(labels, probabilities, is_frame).metrics("speaking", np.ones(1), 0.5, minutes=0.5)
    assert measured == pytest.approx(
        {
            "num_speaking_positives": 2,
            "num_speaking_negatives": 3,
            # Above 0.5 are a positive and a negative: 1 of 2 right, 1 of 2 found.
            "speaking/precision": 0.5,
            "speaking/recall": 0.5,
            "speaking/f1": 0.5,
            "speaking/threshold": 0.5,
            "speaking/false_per_minute": 1 / 0.5,
            # In order of score: +, -, +: precision 1 at the first positive, 2/3 at the second.
            "speaking/average_precision": (1 + 2 / 3) / 2,
            "speaking/base_rate": 2 / 5,
            # Without the user turn's end there is one positive, and it comes first.
            "speaking/average_precision_at_frames": 1.0,
            "speaking/base_rate_at_frames": 1 / 4,
        }
    )


def test_a_probability_at_the_threshold_is_not_above_it():
    measured = decisions(array(1, 0), array(0.5, 0.5)).metrics("speaking", np.ones(1), 0.5)
    assert measured["speaking/recall"] == 0.0 and "speaking/precision" not in measured


@pytest.mark.parametrize("labels", [[IGNORE, IGNORE], [1, 1], [0, IGNORE], []])
def test_without_both_classes_no_threshold_is_chosen(labels):
    labels = np.array(labels, dtype=int)
    found = decisions(labels, np.full(len(labels), 0.5))
    assert found.best_threshold() is None and found.curve(1.0) is None
    measured = found.metrics("dst_update", np.ones(1), None, minutes=1.0)
    assert measured == {
        "num_dst_update_positives": float((labels == 1).sum()),
        "num_dst_update_negatives": float((labels == 0).sum()),
    }


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        # Above 0.5 are the first two of four. Nothing should be written: two false alarms in half a minute.
        ([0, 0, 0, 0], {"precision": 0.0, "f1": 0.0, "false_per_minute": 4.0}),
        # Nothing is above: neither is there anything to be precise in.
        ([IGNORE, IGNORE, 0, 0], {"false_per_minute": 0.0}),
        ([IGNORE, IGNORE, 1, 1], {"recall": 0.0, "f1": 0.0, "false_per_minute": 0.0}),
        ([1, 1, 1, 1], {"precision": 1.0, "recall": 0.5, "f1": 2 / 3, "false_per_minute": 0.0}),
    ],
)
def test_what_does_not_apply_is_absent(labels, expected):
    labels = np.array(labels)
    measured = decisions(labels, array(0.9, 0.8, 0.2, 0.1)).metrics("speaking", np.ones(1), 0.5, minutes=0.5)
    counts = {"num_speaking_positives": (labels == 1).sum(), "num_speaking_negatives": (labels == 0).sum()}
    assert measured == {**counts, "speaking/threshold": 0.5} | {
        f"speaking/{name}": value for name, value in expected.items()
    }


def test_without_a_counted_position_there_is_nothing_to_measure():
    measured = decisions(array(IGNORE, IGNORE), array(0.9, 0.1)).metrics("speaking", np.ones(1), 0.5, minutes=0.5)
    assert measured == {"num_speaking_positives": 0, "num_speaking_negatives": 0}


def average_precision_by_definition(labels, scores):
    """The mean, over the positives, of the precision among all that score at least as high."""
    return np.mean([labels[scores >= score].mean() for score in scores[labels == 1]])


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_sklearns_and_average_precision_its_definition(seed):
    rng = np.random.default_rng(seed)
    labels, clip, weights = (
        rng.choice([1, 0, 0, 0, IGNORE], 300),
        rng.integers(0, 10, 300),
        rng.integers(0, 4, 10).astype(float),
    )
    probabilities = rng.random(300).round(2)
    found, counted = decisions(labels, probabilities, clip=clip), labels != IGNORE
    unweighted = found.metrics("dst_update", np.ones(10), 0.5)
    by_definition = average_precision_by_definition(labels[counted], probabilities[counted])
    assert unweighted["dst_update/average_precision"] == pytest.approx(by_definition, abs=1e-12)
    measured = found.metrics("dst_update", weights, 0.6)
    told = {"sample_weight": weights[clip][counted]}
    expected = average_precision_score(labels[counted], probabilities[counted], **told)
    assert measured["dst_update/average_precision"] == pytest.approx(expected, abs=1e-12)
    scores = precision_recall_fscore_support(
        labels[counted], probabilities[counted] > 0.6, average="binary", zero_division=0.0, **told
    )
    assert [measured[f"dst_update/{name}"] for name in ("precision", "recall", "f1")] == pytest.approx(scores[:3])


def test_a_curve_by_hand():
    curve = decisions(array(1, 0, 1, 0), array(0.9, 0.3, 0.7, 0.1)).curve(minutes=2.0)
    assert curve["threshold"][0] == 0.0 and curve["threshold"] == sorted(curve["threshold"])
    assert len(curve["threshold"]) <= metrics.CURVE_POINTS and {0.1, 0.3, 0.7, 0.9} < set(curve["threshold"])
    at = curve["threshold"].index
    # Above 0: all four; above 0.1: one false of three; above 0.3: both and no other; above 0.9: none.
    assert (curve["precision"][0], curve["recall"][0], curve["false_per_minute"][0]) == (0.5, 1.0, 1.0)
    assert (curve["precision"][at(0.1)], curve["false_per_minute"][at(0.1)]) == (pytest.approx(2 / 3), 0.5)
    assert (curve["f1"][at(0.3)], curve["false_per_minute"][at(0.3)]) == (1.0, 0.0)
    assert (curve["precision"][at(0.9)], curve["recall"][at(0.9)], curve["f1"][at(0.9)]) == (None, 0.0, 0.0)


# A split


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
    measured = losses(columns, recipe) | TeacherForced(columns, {"dst_update": None, "speaking": None})(np.ones(2))
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
    """Of two clips the second has no steps. Above 0.5 one update of two is false, and two replies of three."""
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


# Against decoding


@pytest.fixture(scope="module")
def trained(demo_words, tmp_path_factory):
    """A model after some steps, so that some updates are right and some are not, and the samples it knows."""
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
    return read_model(forward_of(model), data, specs, torch.device("cpu"), 0, show_progress=False)


@torch.no_grad()
def decode(model, ids, frames, end_id, max_tokens=40):
    """What greedy decoding writes behind `ids`, token by token over the whole growing sequence."""
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
    # Both kinds were seen.
    assert 3 <= sum(outcomes) <= len(outcomes) - 3


def test_the_split_is_the_sum_of_its_samples_however_packed(trained):
    model, data, limits = trained
    together = evaluation_specs(data, limits, 0, 1, None)
    alone = [micro_batches(0, 0, [Draw(index, 0)], data.samples, limits, 0, 1)[0] for index in range(len(data))]
    assert len(together) < len(alone)
    recipe = load_recipe(["demo"])
    results = [
        losses(columns, recipe)
        | TeacherForced(columns, {"dst_update": None, "speaking": 0.5})(np.ones(len(data.clips.index)))
        for columns in (read(model, data, together), read(model, data, alone))
    ]
    assert results[0] == pytest.approx(results[1], rel=1e-4)


def test_evaluation_takes_every_sample_once_or_evenly_spaced_clips(trained):
    _, data, limits = trained
    for processes in (1, 2, 3):
        specs = [evaluation_specs(data, limits, rank, processes, None) for rank in range(processes)]
        assert len({len(own) for own in specs}) == 1
        taken = sorted(draw.sample for own in specs for spec in own for draw in spec.draws)
        assert taken == list(range(len(data)))
    some = evaluation_specs(data, limits, 0, 1, 3)
    clips = {int(data.samples["clip"][draw.sample]) for spec in some for draw in spec.draws}
    assert clips == {0, (len(data.clips.index) - 1) // 2, len(data.clips.index) - 1}
