"""`python -m tests.benchmarks.planning_speed [--samples 1024 2048 4096 8192] [--processes 64] [--repeats 9]`

Plans one optimizer step: its samples are drawn and packed into the micro-batches of one process, as every process does
before each step. Clips have 40 to 600 frames (lognormal), limits are 8192 tokens and 2048 frames. Beside it the plain
rule, which looks at every micro-batch for every sample and makes the same plan. Prints the best time of each, in ms.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

from dst_dist.data.batching import BatchPlan, Draw, micro_batches, pack
from dst_dist.data.cutting import SAMPLE_DTYPE
from dst_dist.data.samples import Limits
from tests.data.test_batching_fill import plain_pack

LIMITS = Limits(8192, 2048)
COMPARED = 1024
"""Most samples that the plain rule plans: it takes seconds."""


def make_table(number: int, tokens_per_frame: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    table = np.zeros(number, SAMPLE_DTYPE)
    table["frames"] = np.clip(rng.lognormal(5, 0.7, number), 40, 600)
    table["tokens"] = np.minimum(table["frames"] * (tokens_per_frame + 1) + rng.integers(100, 400, number), 8192)
    return table


def best_ms(action: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return min(times) * 1e3


def plain_ms(draws: list[Draw], table: np.ndarray, num_processes: int) -> float:
    sizes = table["tokens"].tolist(), table["frames"].tolist()
    plans = []
    taken = best_ms(lambda: plans.append(plain_pack(draws, *sizes, LIMITS, num_processes)), 1)
    assert plans[0] == pack(draws, table, LIMITS, num_processes)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[1024, 2048, 4096, 8192])
    parser.add_argument("--processes", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    print(f"| planning a step on {options.processes} processes, ms | K | now | plain rule |\n|---|---|---|---|")
    for number in options.samples:
        for tokens_per_frame in (1, 4, 9):
            table = make_table(number, tokens_per_frame)
            steps = BatchPlan(np.ones(number, int), number, 0, "ab" * 32).steps(0, options.repeats + 1)
            _, _, draws = next(steps)  # The first has the order of the whole run to make.

            def plan_step(steps=steps, table=table) -> None:
                micro_batches(*next(steps), table, LIMITS, 0, options.processes)

            now = best_ms(plan_step, options.repeats)
            plain = f"{plain_ms(draws, table, options.processes):.0f}" if number <= COMPARED else ""
            print(f"| {number} samples | {tokens_per_frame} | {now:.1f} | {plain} |")


if __name__ == "__main__":
    main()
