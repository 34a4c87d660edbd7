"""`python -m tests.train.with_cards <recipe>...`: the same training on a machine with CARDS pretended GPUs."""

import os
import sys

import torch

from dst_dist.exit import leave
from dst_dist.train import __main__ as program

CARDS = int(os.environ.get("CARDS", "1"))

if __name__ == "__main__":
    torch.cuda.is_available = lambda: CARDS > 0
    torch.cuda.device_count = lambda: CARDS
    # A build with CUDA would open a pretended card to see whether a graph is being captured.
    torch.accelerator.current_accelerator = lambda check_available=False: None
    leave(program.main(sys.argv[1:]))
