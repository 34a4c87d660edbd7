"""`python -m tests.train.not_finite loss|gradient <recipe>...`: training with a NaN on the second process in step 2."""

import os
import sys

import torch

from dst_dist.exit import leave
from dst_dist.train import __main__ as program
from dst_dist.train import step

STEP = 2
intact = step.compute_loss


def nan_in_a_term(output, batch, counts, weights, balance):
    loss, terms = intact(output, batch, counts, weights, balance)
    return loss * torch.nan, terms | {"dst_gen": terms["dst_gen"] * torch.nan}


def nan_in_the_gradient(output, batch, counts, weights, balance):
    """The loss is as it was; the square root's slope at 0 is infinite, and 0 times that is none."""
    loss, terms = intact(output, batch, counts, weights, balance)
    return loss + torch.sqrt(0 * output.decision_logits["dst_update"]).sum(), terms


def poison(kind: str, rank: str) -> None:
    """Put the NaN into step `STEP` of the process with this rank."""
    spoiled = {"loss": nan_in_a_term, "gradient": nan_in_the_gradient}[kind]

    def compute_loss(output, batch, *others):
        here = os.environ.get("RANK", "0") == rank and batch.spec.step + 1 == STEP
        return (spoiled if here else intact)(output, batch, *others)

    step.compute_loss = compute_loss


if __name__ == "__main__":
    poison(sys.argv[1], rank="1")
    leave(program.main(sys.argv[2:]))
