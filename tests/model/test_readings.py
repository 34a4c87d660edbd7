"""Readings of a model over a split: what each column holds, and what is computed from them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dst_dist.config import Recipe
from dst_dist.heads import HEAD_NAMES
from dst_dist.model import readings
from dst_dist.model.losses import NonFiniteError
from dst_dist.model.smolvlm_dst import DSTOutput

LIKELY, UNLIKELY = -np.log(0.75), -np.log(0.25)


class Batch(SimpleNamespace):
    """Two samples of 6 and 4 tokens, of clips 7 and 2; a reply of one token, an update of two, a reply of one."""

    def __init__(self):
        super().__init__(
            spec=SimpleNamespace(draws=[SimpleNamespace(sample=1), SimpleNamespace(sample=0)]),
            segment_lengths=[6, 4],
            decision_positions=torch.tensor([1, 5, 7]),
            decision_is_frame=torch.tensor([True, False, True]),
            decisions={"dst_update": torch.tensor([1, 0, -100]), "speaking": torch.tensor([0, 0, 1])},
            lm_positions=torch.tensor([2, 3, 4, 8]),
            lm_targets=torch.tensor([0, 1, 1, 0]),
            lm_is_dst=torch.tensor([False, True, True, False]),
            lm_turn=torch.tensor([4, 5, 5, 9]),
        )

    def to(self, device):
        return self

    def check(self):
        pass


DATASET = SimpleNamespace(samples={"clip": np.array([2, 7], dtype=np.int32)})


def leaning_to_zero(rows):
    """Logits that give probability 3/4 to class 0."""
    return torch.tensor([[np.log(3.0), 0.0]] * rows, dtype=torch.float32)


def read(monkeypatch, batches, should_stop=lambda: False):
    monkeypatch.setattr(readings, "make_loader", lambda *_: batches)
    output = DSTOutput(leaning_to_zero(4), dict.fromkeys(HEAD_NAMES, leaning_to_zero(3)), torch.zeros(()))
    device = torch.device("cpu")
    return readings.read_model(lambda batch: output, DATASET, batches, device, 0, should_stop)


def test_columns_of_a_micro_batch(monkeypatch):
    columns = read(monkeypatch, [Batch()])
    assert columns["clip"].tolist() == [7, 7, 2] and columns["is_frame"].tolist() == [True, False, True]
    assert columns["lm_clip"].tolist() == [7, 7, 7, 2]
    assert columns["lm_hit"].tolist() == [True, False, False, True]
    assert columns["lm_loss"] == pytest.approx([LIKELY, UNLIKELY, UNLIKELY, LIKELY], abs=1e-6)
    # Turns 4, 5 and 9: the update has no token right.
    assert columns["turn_hit"].tolist() == [True, False, True]
    assert columns["turn_is_dst"].tolist() == [False, True, False]
    assert columns["turn_clip"].tolist() == [7, 7, 2]
    assert columns["dst_update"].tolist() == [1, 0, -100] and columns["speaking_logits"].shape == (3, 2)


def test_micro_batches_follow_one_another(monkeypatch):
    columns = read(monkeypatch, [Batch(), Batch()])
    assert columns["clip"].tolist() == [7, 7, 2, 7, 7, 2] and len(columns["turn_hit"]) == 6


def test_reading_ends_when_asked_to_stop(monkeypatch):
    answers = iter([False, True])
    assert read(monkeypatch, [Batch(), Batch()], lambda: next(answers)) is None


def test_losses_are_those_of_training(monkeypatch):
    recipe = Recipe.model_validate({"loss": {"lm": 2.0, "dst_gen": 0.5, "dst_update": 1.0, "speaking": 3.0}})
    losses = readings.losses(read(monkeypatch, [Batch()]), recipe)
    assert losses["loss/lm"] == pytest.approx((LIKELY + UNLIKELY) / 2)
    assert losses["loss/dst_gen"] == pytest.approx(UNLIKELY)
    # One positive and one negative; of speaking one positive and two negatives that are alike.
    head = (LIKELY + UNLIKELY) / 2
    assert losses["loss/dst_update"] == losses["loss/speaking"] == pytest.approx(head)
    assert losses["loss"] == pytest.approx(2 * head + 0.5 * UNLIKELY + head + 3 * head)


@pytest.mark.parametrize("column", ["lm_loss", "speaking_logits"])
def test_a_value_that_is_not_finite_is_named_with_its_clips(monkeypatch, column):
    columns = read(monkeypatch, [Batch()])
    index = [SimpleNamespace(id=f"clip-{number}") for number in range(8)]
    dataset = SimpleNamespace(clips=SimpleNamespace(index=index))
    readings.check_finite(columns, dataset)
    columns[column][-1] = np.nan
    with pytest.raises(NonFiniteError, match=f"{column} is not finite in 1 clips: clip-2"):
        readings.check_finite(columns, dataset)


def test_clips_are_numbered_among_those_that_were_read(monkeypatch):
    columns = readings.numbered_among(read(monkeypatch, [Batch()]), np.array([0, 2, 5, 7]))
    assert columns["clip"].tolist() == [3, 3, 1] and columns["turn_clip"].tolist() == [3, 3, 1]
    assert columns["lm_hit"].dtype == bool


@pytest.mark.parametrize(
    ("number", "most", "expected"), [(4, None, [0, 1, 2, 3]), (3, 9, [0, 1, 2]), (9, 3, [0, 4, 8]), (5, 1, [0])]
)
def test_clips_are_evenly_spaced(number, most, expected):
    assert readings.spread(number, most).tolist() == expected
