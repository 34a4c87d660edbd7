"""The table of `dst-dist bench`, from numbers written by hand."""

from types import SimpleNamespace

from dst_dist.bench.run import Measured
from dst_dist.bench.show import table
from dst_dist.model.operations import Operations
from dst_dist.plan.fit import GIB

MEASURED = Measured(
    elapsed_s=10.0,
    num_tokens=40_000,
    num_frames=500,
    work=Operations(text=3e15, tower=1e15),
    peak_per_s=2 * 989e12,
    watched_s=3.0,
    parts_s={"data": 0.5, "backward": 1.5},
    peak_memory_gib=30.25,
    plan=SimpleNamespace(peak=31 * GIB, room=75 * GIB),
)


def test_rates_shares_and_memory():
    """20 steps in 10 s on two processes: 400 TFLOP/s, 200 a process, of 989."""
    lines = [" ".join(line.split()) for line in table(MEASURED, 20, 2)]
    assert lines == [
        "a step 0.500 s",
        "tokens/s 4,000 2,000 a process",
        "frames/s 50.0",
        "arithmetic, all 200 TFLOP/s a process, 20.2% of 989",
        "arithmetic, text model 150 TFLOP/s a process, 15.2% of 989",
        "arithmetic, vision tower 50 TFLOP/s a process, 5.1% of 989",
        "of 3 further steps in torch's profiler (6.00 times as long), main process:",
        "data 0.500 s 25.0%",
        "backward 1.500 s 75.0%",
        "peak memory 30.25 GiB",
        "planned for these steps 31.00 GiB of 75.00 usable",
    ]


def test_a_card_that_is_not_known_has_no_share():
    lines = list(table(Measured(**{**vars(MEASURED), "peak_per_s": None}), 20, 2))
    assert not any("of 989" in line for line in lines) and any("200 TFLOP/s" in line for line in lines)
