"""The loss terms, each a mean over the global batch: positions are counted first, losses scaled after.

A term is a function of the positions, one entry of TERMS, and a weight in the recipe's `loss`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F

from dst_dist.config import Loss
from dst_dist.data.batching import PackedBatch
from dst_dist.heads import HEAD_NAMES
from dst_dist.model.smolvlm_dst import DSTOutput

FOCAL_GAMMA = 2.0


class NonFiniteError(RuntimeError):
    """A loss, a gradient or a logit is not a number; the weights were not touched."""


@dataclass
class Positions:
    """The losses and logits that the terms are computed from: of a micro-batch in training, of a split in evaluation.

    lm_losses: [P], the cross-entropy of each supervised token. lm_is_dst: bool [P], true for tokens of updates.
    logits: [D, 2], by head. labels: int64 [D] in {1, 0, -100}, by head.
    """

    lm_losses: torch.Tensor
    lm_is_dst: torch.Tensor
    logits: dict[str, torch.Tensor]
    labels: dict[str, torch.Tensor]


Counts = Mapping[str, float]
"""Number of counted positions in the whole global batch, by `dst_dist.data.samples.COUNT_NAMES`."""


def lm(positions: Positions, counts: Counts, balance: str) -> torch.Tensor:
    """Return the mean loss over the tokens of replies and updates."""
    return _mean(positions.lm_losses.sum(), counts["lm"])


def dst_gen(positions: Positions, counts: Counts, balance: str) -> torch.Tensor:
    """Return the mean loss over the tokens of updates, which count in `lm` too."""
    return _mean((positions.lm_losses * positions.lm_is_dst).sum(), counts["dst_gen"])


def decision(head: str, positions: Positions, counts: Counts, balance: str) -> torch.Tensor:
    """Return the mean loss over a head's decisions.

    `classes` is half the mean over positives plus half the mean over negatives; a class that is absent adds zero and
    the other stays halved. `none` is the mean over both. `focal` is that mean with each position's loss multiplied by
    (1 - p)^2, where p is the probability given to its label (Lin et al., 2017, without class weights).
    """
    logits, labels = positions.logits[head], positions.labels[head]
    num_positives, num_negatives = counts[f"{head}_positives"], counts[f"{head}_negatives"]
    is_positive, is_negative = labels == 1, labels == 0
    losses = -logits.log_softmax(-1).gather(1, is_positive.long()[:, None]).squeeze(1)
    if balance == "classes":
        positives, negatives = (losses * is_positive).sum(), (losses * is_negative).sum()
        return (_mean(positives, num_positives) + _mean(negatives, num_negatives)) / 2
    if balance == "focal":
        # 1 - exp(-loss) = 1 - p; expm1 keeps its digits where p is almost 1.
        losses = (-torch.expm1(-losses)) ** FOCAL_GAMMA * losses
    return _mean((losses * (is_positive | is_negative)).sum(), num_positives + num_negatives)


def _mean(total: torch.Tensor, count: float) -> torch.Tensor:
    # A term without a position in the whole global batch is zero, and still reaches its parameters.
    return total / max(count, 1)


TERMS = {"lm": lm, "dst_gen": dst_gen, **{head: partial(decision, head) for head in HEAD_NAMES}}
"""Functions that return a term's share, from the positions, the counts and `labels.balance`."""


def compute_loss(
    output: DSTOutput, batch: PackedBatch, counts: Counts, weights: Loss, balance: str
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return this micro-batch's share of the loss; shares sum to the mean over the global batch.

    Args:
        weights: factor of each term.
        balance: `classes`, `none` or `focal`, see `decision`.

    Returns:
        The weighted total, a float32 scalar that reaches every trained parameter even where a term has no
        position, and the unweighted terms by name, detached.
    """
    losses = F.cross_entropy(output.lm_logits.float(), batch.lm_targets, reduction="none")
    terms = loss_terms(Positions(losses, batch.lm_is_dst, output.decision_logits, batch.decisions), counts, balance)
    total = output.anchor + weighted_sum(terms, weights)
    return total, {name: term.detach() for name, term in terms.items()}


def loss_terms(positions: Positions, counts: Counts, balance: str) -> dict[str, torch.Tensor]:
    """Return the share of each term, by its name in TERMS."""
    return {name: term(positions, counts, balance) for name, term in TERMS.items()}


def weighted_sum(terms: Mapping, weights: Loss):
    """Return the loss that terms (tensors or numbers) add up to under the recipe's weights."""
    return sum(getattr(weights, name) * term for name, term in terms.items())
