"""The table of metrics: whole, expanded for every head and term, and obeyed by what chooses the best checkpoint."""

import typing

import pytest

from dst_dist.config import Checkpoint
from dst_dist.heads import HEAD_NAMES, TERM_NAMES
from dst_dist.metrics import KINDS, METRICS, STREAMING, TEACHER_FORCED, how_measured, table_keys


def test_every_metric_has_one_sentence_and_a_kind():
    for metric in METRICS.values():
        assert metric.about[0].isupper() and metric.about.endswith("."), metric.key
        assert metric.kinds and set(metric.kinds) <= set(KINDS), metric.key
        assert "{" not in metric.key + metric.label, metric.key


def test_keys_stand_for_every_head_and_term():
    assert {f"{head}/f1" for head in HEAD_NAMES} <= METRICS.keys()
    assert {f"loss/{term}" for term in TERM_NAMES} <= METRICS.keys()
    assert METRICS["speaking/f1@2s"].label == "Replies within 2 s, F1"


def test_tables_show_scores_of_their_kind():
    for kind in (TEACHER_FORCED, STREAMING):
        assert len(table_keys(kind)) > 8
        assert not [key for key in table_keys(kind) if METRICS[key].is_given or kind not in METRICS[key].kinds]
    assert "transition/f1" in table_keys(STREAMING) and "loss" in table_keys(TEACHER_FORCED)


def test_the_best_checkpoint_is_chosen_by_a_metric_of_validation():
    choices = typing.get_args(Checkpoint.model_fields["best"].annotation)
    assert choices == tuple(f"val/{key}" for key, metric in METRICS.items() if metric.chooses_best)
    assert {"val/loss", "val/update/exact_match", "val/speaking/average_precision"} <= set(choices)
    assert all(TEACHER_FORCED in METRICS[choice.removeprefix("val/")].kinds for choice in choices)


def test_less_is_better_where_errors_and_delays_are_counted():
    less = {key.split("/")[-1] for key, metric in METRICS.items() if metric.less_is_better}
    assert {"loss", "perplexity", "false_per_minute", "missed", "extra", "illegal", "latency_s", "redundant"} <= less
    assert not less & {"f1", "precision", "recall", "average_precision", "json_valid", "frames", "bleu"}


BASES = {
    "all": ({"eval.max_clips": None, "eval.tolerance_s": 2.0}, "3 clips, eval.max_clips=null, eval.tolerance_s=2.0"),
    "few": ({"eval.max_clips": 3, "speaking/threshold": 0.5}, "3 clips, eval.max_clips=3, speaking/threshold=0.5"),
}


@pytest.mark.parametrize("settings, said", BASES.values(), ids=BASES)
def test_a_result_says_on_what_it_was_measured(settings, said):
    assert how_measured({"weights": "ab", "clips": "cd", "num_clips": 3, **settings}) == f"Measured on {said}."


def test_a_result_of_an_earlier_version_says_that_it_does_not():
    assert "does not say" in how_measured({})
