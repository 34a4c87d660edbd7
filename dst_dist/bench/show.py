"""The table of `dst-dist bench`."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from dst_dist.bench.run import WARM_UP_STEPS, WATCHED_STEPS, Bench, Measured
from dst_dist.errors import ConfigError
from dst_dist.model.operations import TERA
from dst_dist.plan.fit import GIB


def bench_lines(words: Sequence[str], num_steps: int, synthetic: bool, trace: Path | None) -> list[str]:
    """Train some steps and return the table, on the main process; [] on the others (collective).

    Raises:
        ConfigError, DataError, CheckpointError: as training would, and before it if the trace has no folder.
    """
    if trace is not None and not trace.parent.is_dir():
        raise ConfigError(f"--trace {trace}: there is no folder {trace.parent}")
    bench = Bench(words, num_steps, synthetic)
    measured, engine = bench.run(trace), bench.engine
    title = (
        f"{engine.launch_file} on {engine.num_processes} processes, {device_name(engine.device)}, "
        f"{bench.recipe.train.precision}: {num_steps} steps after {WARM_UP_STEPS}"
    )
    is_main = engine.is_main
    engine.close()
    if not is_main:
        return []
    data = ", of random tokens and frames" if synthetic else ""
    return [title + data, *table(measured, num_steps, engine.num_processes)]


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def table(measured: Measured, num_steps: int, num_processes: int) -> Iterator[str]:
    """Yield lines for people."""
    elapsed_s, watched_s = measured.elapsed_s, measured.watched_s
    tokens_per_s = measured.num_tokens / elapsed_s
    yield f"  {'a step':26} {elapsed_s / num_steps:10.3f} s"
    yield f"  {'tokens/s':26} {tokens_per_s:10,.0f}   {tokens_per_s / num_processes:,.0f} a process"
    yield f"  {'frames/s':26} {measured.num_frames / elapsed_s:10,.1f}"
    yield from _arithmetic(measured, num_processes)
    slowed = watched_s / (elapsed_s / num_steps)
    yield f"  of {WATCHED_STEPS} further steps in torch's profiler ({slowed:.2f} times as long), main process:"
    total_s = sum(measured.parts_s.values())
    for part, spent_s in measured.parts_s.items():
        yield f"    {part:24} {spent_s:10.3f} s  {spent_s / total_s:6.1%}"
    memory = measured.plan
    yield f"  {'peak memory':26} {measured.peak_memory_gib:10.2f} GiB"
    yield f"  {'planned for these steps':26} {memory.peak / GIB:10.2f} GiB of {memory.room / GIB:.2f} usable"


def _arithmetic(measured: Measured, num_processes: int) -> Iterator[str]:
    """Yield the rate of arithmetic of each part, and on a known card its share of the peak."""
    work = measured.work
    for name, operations in {"all": work.total, "text model": work.text, "vision tower": work.tower}.items():
        rate = operations / measured.elapsed_s
        line = f"  {'arithmetic, ' + name:26} {rate / num_processes / TERA:10.3g} TFLOP/s a process"
        if measured.peak_per_s is not None:
            peak = measured.peak_per_s / num_processes / TERA
            line += f", {rate / measured.peak_per_s:.1%} of {peak:.0f}"
        yield line
