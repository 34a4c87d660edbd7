"""Table of all metrics, which results, tables, pages, the recipe's `checkpoint.best` and the docs read.

A metric that does not apply is absent from a result, never 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product

from dst_dist.heads import HEADS, TERM_NAMES

TEACHER_FORCED, STREAMING = "teacher_forced", "streaming"
KINDS = {TEACHER_FORCED: "with the gold history (teacher-forced)", STREAMING: "streamed, as in use"}
"""Kinds of evaluation, and their names on pages."""


@dataclass(frozen=True)
class Metric:
    """One number of a result.

    Attributes:
        key: its name; `{head}` and `{term}` stand for each head and each loss term.
        about: its definition, in one sentence.
        kinds: the kinds of evaluation that measure it.
        less_is_better: whether less of it is better.
        label: headline on the report's page; none if empty.
        in_table: whether it is in the table that people see first.
        chooses_best: whether `checkpoint.best` may name it.
        needs_decisions: whether it is absent as long as its head decides nothing, as a new head does.
        is_count: whether it is a whole number.
        is_given: whether it describes the data or a setting and is no score.
    """

    key: str
    about: str
    kinds: tuple[str, ...]
    less_is_better: bool = False
    label: str = ""
    in_table: bool = False
    chooses_best: bool = False
    needs_decisions: bool = False
    is_count: bool = False
    is_given: bool = False


_T, _S, _TS = (TEACHER_FORCED,), (STREAMING,), (TEACHER_FORCED, STREAMING)

# fmt: off
ENTRIES = (
    Metric("{head}/average_precision", "Mean over positives of the precision among all that score as high.", _T,
           label="{label}, average precision", in_table=True, chooses_best=True),
    Metric("{head}/average_precision_at_frames", "The same at frames alone, without the ends of user turns.", _T,
           in_table=True, chooses_best=True),
    Metric("{head}/base_rate", "Share of positives among the counted positions.", _T, is_given=True),
    Metric("{head}/base_rate_at_frames", "The same at frames alone.", _T, is_given=True),
    Metric("{head}/precision", "Share of the decisions above the threshold that are right.", _T,
           chooses_best=True, needs_decisions=True),
    Metric("{head}/recall", "Share of the positives that are decided above the threshold.", _T, chooses_best=True),
    Metric("{head}/f1", "Harmonic mean of precision and recall.", _T,
           in_table=True, chooses_best=True, needs_decisions=True),
    Metric("{head}/threshold", "Probability above which the head decides; chosen on validation.", _T,
           is_given=True),
    Metric("num_{head}_positives", "Counted positives.", _T, is_count=True, is_given=True),
    Metric("num_{head}_negatives", "Counted negatives.", _T, is_count=True, is_given=True),
    Metric("transition/f1", "Harmonic mean of the next two.", _S, label="Transitions, F1", in_table=True),
    Metric("transition/precision", "Share of the predicted transitions matched, one to one, by an equal gold one "
           "within `eval.tolerance_s`.", _S, in_table=True),
    Metric("transition/recall", "Share of the gold transitions that are matched.", _S, in_table=True),
    Metric("transition/missed", "Gold transitions without a match.", _S, less_is_better=True, is_count=True),
    Metric("transition/extra", "Predicted transitions without a match.", _S, less_is_better=True, is_count=True),
    Metric("joint_goal_accuracy/frames", "Share of the frames after which the whole dialog state is right.", _S,
           label="Joint goal accuracy, frames", in_table=True),
    Metric("joint_goal_accuracy/updates", "Share of the gold updates after which the whole dialog state is right.", _S,
           in_table=True),
    Metric("step_status_accuracy", "Share of the steps, over all frames, whose status is right.", _S, in_table=True),
    Metric("update/exact_match", "Share of the updates that greedy decoding would write exactly.", _T,
           label="Updates exactly right", in_table=True, chooses_best=True),
    Metric("num_updates", "Gold updates.", _T, is_count=True, is_given=True),
    Metric("update/json_valid", "Share of the predicted updates that can be read.", _S,
           label="Updates that are valid JSON", in_table=True),
    Metric("update/illegal", "Share of the predicted transitions that the dialog state does not allow.", _S,
           less_is_better=True, in_table=True),
    Metric("{head}/f1@1s", "F1 of when a turn is predicted, whatever it says, matched within 1 s.", _S),
    Metric("{head}/f1@2s", "The same within 2 s.", _S, label="{label} within 2 s, F1", in_table=True),
    Metric("{head}/f1@5s", "The same within 5 s.", _S),
    Metric("{head}/false_per_minute", "False decisions a minute of the video in which the head is asked.", _TS,
           less_is_better=True, in_table=True),
    Metric("{head}/early", "Share of the gold turns predicted too early by more than the tolerance.", _S,
           less_is_better=True),
    Metric("{head}/late", "Share of the gold turns predicted too late by more than the tolerance.", _S,
           less_is_better=True),
    Metric("{head}/missed", "Share of the gold turns without a prediction.", _S, less_is_better=True),
    Metric("{head}/duplicate", "Share of the predicted turns that are a second prediction for a matched gold turn.", _S,
           less_is_better=True),
    Metric("{head}/latency_s", "Median of the seconds from a gold turn to its prediction; negative is early.", _S,
           less_is_better=True),
    Metric("{head}/latency_s_90", "The 90 % quantile of the same.", _S, less_is_better=True),
    Metric("reply/f1", "Harmonic mean of the next two, by ProAssist's matching and windows.", _S,
           label="Replies, F1", in_table=True),
    Metric("reply/precision", "Share of the predicted replies matched to a gold one of like words.", _S),
    Metric("reply/recall", "Share of the gold replies matched to a predicted one of like words.", _S),
    Metric("reply/jaccard", "Pairs of like words over all pairs and unmatched replies.", _S),
    Metric("reply/missing", "Share of the gold replies without a match.", _S, less_is_better=True, in_table=True),
    Metric("reply/redundant", "Share of the predicted replies without a match.", _S,
           less_is_better=True, in_table=True),
    Metric("reply/bleu", "BLEU, 0 to 100, of the pairs of like words; needs sacrebleu.", _S),
    Metric("lm/perplexity", "Exponential of the mean loss over supervised tokens.", _T,
           less_is_better=True, chooses_best=True),
    Metric("lm/token_accuracy", "Share of the supervised tokens that are the likeliest ones.", _T,
           in_table=True, chooses_best=True),
    Metric("loss", "Sum of the loss terms by the recipe's weights.", _T,
           less_is_better=True, in_table=True, chooses_best=True),
    Metric("loss/{term}", "The loss term, unweighted.", _T, less_is_better=True, chooses_best=True),
    Metric("real_time_factor", "Seconds of computing a second of video; under 1 it keeps up.", _S,
           less_is_better=True, in_table=True),
    Metric("delay_s", "Median of the seconds from a frame's arrival until its work is done (`--on-the-clock`).", _S,
           less_is_better=True),
    Metric("delay_s_90", "The 90 % quantile of the same.", _S, less_is_better=True),
    Metric("delay_s_most", "The largest of the same.", _S, less_is_better=True),
    Metric("num_videos", "Videos that were measured on.", _TS, is_count=True, is_given=True),
    Metric("num_videos_trained_on", "Videos among them that were trained on.", _TS, is_count=True, is_given=True),
)
# fmt: on


METRICS = {
    key: replace(entry, key=key, label=entry.label.format(label=head.label))
    for entry in ENTRIES
    for head, term in product(HEADS, TERM_NAMES)
    for key in [entry.key.format(head=head.name, term=term)]
}
"""Metrics by key, in the order of tables and pages, each entry for every head or loss term that its key stands for."""


def table_keys(kind: str) -> list[str]:
    """Return the keys in the table of a kind of evaluation."""
    return [key for key, metric in METRICS.items() if kind in metric.kinds and metric.in_table]


def how_measured(measured_on: Mapping[str, object]) -> str:
    """Return a sentence about the clips and settings of a result, from its `measured_on`."""
    if "num_clips" not in measured_on:
        return "It does not say on how many clips and how it was measured."
    settings = {key: value for key, value in measured_on.items() if key not in ("weights", "clips", "num_clips")}
    words = (f"{key}={'null' if value is None else value}" for key, value in settings.items())
    return "Measured on " + ", ".join([f"{measured_on['num_clips']} clips", *words]) + "."
