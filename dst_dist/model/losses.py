"""The four loss terms, each a mean over the global batch: count first, then scale."""

import torch
import torch.nn.functional as F

from dst_dist.config import Loss
from dst_dist.data.batching import PackedBatch
from dst_dist.model.smolvlm_dst import DSTOutput

FOCAL_GAMMA = 2.0


class NonFiniteError(RuntimeError):
    """A loss, a gradient or a logit is not a number; the weights were not touched."""


def compute_loss(
    output: DSTOutput, batch: PackedBatch, counts: torch.Tensor, weights: Loss, balance: str
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """This micro-batch's share of the loss; shares sum to the mean over the global batch.

    Args:
        counts: counted positions of the whole global batch, [6] in the order of `dst_dist.data.samples.COUNT_NAMES`.
        weights: factor of each term. DST tokens count in `lm` and again in `dst_gen`.
        balance: `classes`, `none` or `focal`, see `decision_loss`.

    Returns:
        The weighted total, a float32 scalar that reaches every trained parameter even where a term has no
        position, and the unweighted terms, detached: `lm`, `dst_gen`, `dst_update`, `speaking`.
    """
    counts = counts.to(output.anchor)
    losses = F.cross_entropy(output.lm_logits.float(), batch.lm_targets, reduction="none")
    terms = {
        "lm": _mean(losses.sum(), counts[0]),
        "dst_gen": _mean((losses * batch.lm_is_dst).sum(), counts[1]),
        "dst_update": decision_loss(output.dst_update_logits, batch.dst_update, counts[2], counts[3], balance),
        "speaking": decision_loss(output.speaking_logits, batch.speaking, counts[4], counts[5], balance),
    }
    total = output.anchor + sum(getattr(weights, name) * term for name, term in terms.items())
    return total, {name: term.detach() for name, term in terms.items()}


def decision_loss(
    logits: torch.Tensor, labels: torch.Tensor, positives: torch.Tensor, negatives: torch.Tensor, balance: str
) -> torch.Tensor:
    """One head's share of the loss.

    `classes`: half the mean over positives plus half the mean over negatives; a class that is absent adds
    zero and the other stays halved. `none`: the mean over both. `focal`: that mean with each position's
    loss times (1 - p)^2, p the probability given to its label (Lin et al., 2017, without class weights).

    Args:
        logits: float32 [D, 2].
        labels: int64 [D], 1, 0, or -100 for positions that do not count.
        positives, negatives: scalars, the labels' numbers in the global batch.
    """
    is_positive, is_negative = labels == 1, labels == 0
    losses = -logits.log_softmax(-1).gather(1, is_positive.long()[:, None]).squeeze(1)
    if balance == "classes":
        return (_mean((losses * is_positive).sum(), positives) + _mean((losses * is_negative).sum(), negatives)) / 2
    if balance == "focal":
        # 1 - exp(-loss) = 1 - p; expm1 keeps its digits where p is almost 1.
        losses = (-torch.expm1(-losses)) ** FOCAL_GAMMA * losses
    elif balance != "none":
        raise ValueError(f"balance must be classes, none or focal, not {balance!r}")
    return _mean((losses * (is_positive | is_negative)).sum(), positives + negatives)


def _mean(total: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    # A term without a position in the whole global batch is zero, with a graph.
    return total / count.clamp(min=1)
