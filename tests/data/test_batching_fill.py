"""Packing makes the plan of its plain rule: largest first, each into the cheapest bin that has room."""

import numpy as np
import pytest

from dst_dist.data.batching import ENCODED_FRAME_COST, Draw, pack
from dst_dist.data.samples import Limits


def plain_fill(order, size, limits, num_bins, num_processes):
    """Look at every bin for every draw."""
    bins = [[] for _ in range(num_bins)]

    def used(members):
        return [sum(size[draw][axis] for draw in members) for axis in (0, 1, 2)]

    for draw in order:
        fitting = []
        for place, members in enumerate(bins):
            cost, tokens, frames = used(members)
            if tokens + size[draw][1] <= limits.tokens and frames + size[draw][2] <= limits.frames:
                fitting.append((cost, place))
        place = min(fitting)[1] if fitting else len(bins)
        bins += [] if fitting else [[] for _ in range(num_processes)]
        bins[place].append(draw)
    return bins


def plain_pack(draws, tokens, frames, limits, num_processes):
    size = {
        draw: (tokens[draw.sample] + ENCODED_FRAME_COST * frames[draw.sample], *sizes)
        for draw, sizes in ((draw, (tokens[draw.sample], frames[draw.sample])) for draw in draws)
    }
    order = sorted(draws, key=lambda draw: (-size[draw][0], draw))
    total = [sum(size[draw][axis] for draw in draws) for axis in (1, 2)]
    rounds = max(1, *(-(-of // (limit * num_processes)) for of, limit in zip(total, limits, strict=True)))
    bins = plain_fill(order, size, limits, rounds * num_processes, num_processes)
    if len(bins) > rounds * num_processes:
        bins = plain_fill(order, size, limits, len(bins), num_processes)
    bins.sort(key=lambda members: -sum(size[draw][0] for draw in members))
    dealt = [[] for _ in range(num_processes)]
    for start in range(0, len(bins), num_processes):
        of_round = bins[start : start + num_processes]
        for own, members in zip(dealt, of_round if start // num_processes % 2 == 0 else of_round[::-1], strict=True):
            own.append(members)
    return dealt


@pytest.mark.parametrize("num_processes", [1, 2, 3, 8])
@pytest.mark.parametrize("kind", ["alike", "long-tailed", "tokens bind", "frames bind", "either binds"])
def test_a_plan_is_that_of_the_plain_rule(kind, num_processes):
    rng = np.random.default_rng(num_processes)
    for number in (0, 1, 7, 40, 120):
        tokens = np.clip(rng.lognormal(4, 0.2 if kind == "alike" else 1.2, number + 1), 5, 400).astype(int)
        frames = {
            "tokens bind": np.ones_like(tokens),
            "frames bind": rng.integers(1, 41, number + 1),
            "either binds": rng.integers(0, 41, number + 1) * rng.integers(0, 2, number + 1),
        }.get(kind, tokens // 10)
        draws = [Draw(int(sample), repeat) for sample in rng.permutation(number + 1)[:number] for repeat in (0, 1)]
        limits = Limits(int(rng.integers(400, 900)), int(rng.integers(40, 90)))
        found = pack(draws, {"tokens": tokens, "frames": frames}, limits, num_processes)
        assert found == plain_pack(draws, tokens.tolist(), frames.tolist(), limits, num_processes)
