"""The table of metrics in dst_dist/metrics.py against what real evaluations of the small demo measure."""

import importlib.util

import pytest

from dst_dist.evaluate.run import stream_run
from dst_dist.metrics import METRICS, STREAMING, TEACHER_FORCED
from tests.train.in_process import own_logging

MAY_BE_ABSENT = () if importlib.util.find_spec("sacrebleu") else ("reply/bleu",)
"""`reply/bleu` needs sacrebleu, which is an extra."""


COUNTED_PAIRS = ("transition/missed", "transition/extra")
"""Counts that depend on the model, and so have an interval."""


@pytest.fixture(scope="module")
def results(run, alone):
    """The result of each kind of evaluation; the streamed one with its delays."""
    with own_logging():
        streamed = stream_run(run, "val", on_the_clock=True)
    return {TEACHER_FORCED: alone[0][1]["val-teacher_forced.json"], STREAMING: streamed}


def numbers_of(result):
    """Return the keys of all numbers in a result, its groups, its baselines and its part on the clock."""
    nested = [result, result.get("on_the_clock", {}), *result["baselines"].values()]
    nested += [*result.get("by_dataset", {}).values(), *result.get("by_domain", {}).values()]
    return {key for part in nested for key, value in part.items() if isinstance(value, int | float)}


@pytest.mark.parametrize("kind", [TEACHER_FORCED, STREAMING])
def test_every_number_of_a_result_is_in_the_table_and_every_metric_in_a_result(results, kind):
    in_table = {key for key, metric in METRICS.items() if kind in metric.kinds}
    in_results = numbers_of(results[kind])
    assert in_results - in_table == set()
    assert in_table - in_results <= set(MAY_BE_ABSENT)


@pytest.mark.parametrize("kind", [TEACHER_FORCED, STREAMING])
def test_every_score_has_an_interval_and_every_interval_is_of_a_score(results, kind):
    """Other counts have none, nor have losses, which are not measures of clip weights."""
    result = results[kind]
    with_interval = {key.removesuffix("/ci95") for key in result if key.endswith("/ci95")}
    without = {key for key in result if key in METRICS} - with_interval
    assert with_interval <= set(METRICS) and not any(METRICS[key].is_count for key in with_interval - {*COUNTED_PAIRS})
    assert {key for key in without if not METRICS[key].is_count and not key.startswith("loss")} == set()


@pytest.mark.parametrize("kind", [TEACHER_FORCED, STREAMING])
def test_counts_are_whole_numbers(results, kind):
    for key, metric in METRICS.items():
        if metric.is_count and key in results[kind]:
            assert float(results[kind][key]).is_integer(), key
