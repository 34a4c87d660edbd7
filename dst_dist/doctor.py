"""`dst-dist doctor` tells whether this machine can train, and what would make it faster.

Under `accelerate launch` the processes also test whether they reach each other.
"""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from huggingface_hub import get_token

from dst_dist import launched
from dst_dist.data.workers import num_cores
from dst_dist.devices import check_devices, listed_gpus
from dst_dist.errors import DstDistError
from dst_dist.file_system import RUN_FOLDER, try_folder
from dst_dist.plan.needs import missing_tools
from dst_dist.processes import start_processes
from dst_dist.versions import version_faults

GIB = 2**30
SHARED_MEMORY = Path("/dev/shm")
LEAST_SHARED_GIB, LEAST_DISK_GIB, LEAST_MEMORY_GIB = 1, 50, 16
"""Below these a training may not get far: shared memory for data workers, the disk, host memory of a process."""
SHOWN = ("torch", "transformers", "accelerate", "deepspeed", "peft")
MARKS = {"ok": " ", "slow": "!", "bad": "x"}


class Finding(NamedTuple):
    """One line: what was looked at, what was found, and what to do about it."""

    about: str
    found: str
    verdict: Literal["ok", "slow", "bad"] = "ok"
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{MARKS[self.verdict]} {self.about:18} {self.found}"
        return f"{line}\n{'':21}{self.remedy}" if self.remedy else line


def _slow_if(is_slow: bool, about: str, found: str, remedy: str) -> Finding:
    """Return a finding that is slow and has a remedy, or neither."""
    return Finding(about, found, "slow", remedy) if is_slow else Finding(about, found)


def examine(folder: Path) -> Iterator[Finding]:
    """Return the findings; under a launcher those of this process (collective).

    Args:
        folder: where runs are to go.
    """
    return chain(_versions(), _devices(), _processes(), _offload(), _host(), _folder(folder), _surroundings())


def exit_code(findings: list[Finding]) -> int:
    """Return 0, 1 if it works but is slow or may end early, or 2 if it cannot work."""
    verdicts = {finding.verdict for finding in findings}
    return 2 if "bad" in verdicts else 1 if "slow" in verdicts else 0


def _versions() -> Iterator[Finding]:
    yield Finding("Python", platform.python_version())
    yield Finding("packages", ", ".join(f"{name} {version(name)}" for name in SHOWN if find_spec(name)))
    for fault in version_faults():
        yield Finding("packages", fault, "bad", "pip install -c constraints.txt -e .")
    if tuple(map(int, torch.__version__.split("+")[0].split(".")[:2])) < (2, 13):
        yield Finding("frames", "Pillow resizes them", "slow", "torch 2.13 or newer does it three times as fast")


def _devices() -> Iterator[Finding]:
    if launched.wants_cpu():
        yield Finding("GPU", "not wanted by the launch file")
    elif torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(number)
            yield Finding(f"GPU {number}", f"{card.name}, {card.total_memory / GIB:.1f} GiB")
        if not torch.cuda.is_bf16_supported(including_emulation=False):
            yield Finding("bf16", "these GPUs have no bfloat16", "slow", "train with train.precision=fp32")
        nccl = ".".join(map(str, torch.cuda.nccl.version())) if torch.distributed.is_nccl_available() else "none"
        yield Finding("CUDA", f"{torch.version.cuda}, NCCL {nccl}")
    elif cards := listed_gpus():
        remedy = "install a build of torch with GPUs, or a newer driver; see CUDA_VISIBLE_DEVICES"
        yield Finding("GPU", f"the driver has {len(cards)}, torch {torch.__version__} sees none", "bad", remedy)
    else:
        yield Finding("GPU", "none", "slow", "the demo trains on a CPU; SmolVLM2 does not in any useful time")


def _processes() -> Iterator[Finding]:
    """Yield whether every launched process has its device and reaches the others (collective)."""
    try:
        check_devices()
        processes = start_processes()
        total = float(processes.sum_over_processes(torch.tensor([processes.rank + 1.0], dtype=torch.float32)))
    except (DstDistError, RuntimeError, ValueError) as error:
        yield Finding("processes", " ".join(str(error).split()), "bad", "see launch/README.md")
        return
    world = processes.num_processes
    if total != world * (world + 1) / 2:
        yield Finding(
            "processes", f"a sum over {world} of them is {total:g}", "bad", "see the network between the nodes"
        )
    elif world > 1:
        yield Finding("processes", f"{world} of them reach each other")
    else:
        yield Finding(
            "processes", "one", remedy="run it under accelerate launch to see whether several reach each other"
        )


def _offload() -> Iterator[Finding]:
    missing = missing_tools()
    remedy = "only launch/zero2_offload.yaml on GPUs needs them" if missing else ""
    yield Finding("DeepSpeed offload", f"lacks {', '.join(missing)}" if missing else "can be compiled", remedy=remedy)


def _host() -> Iterator[Finding]:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB / launched.num_node_processes()
    remedy = f"below {LEAST_MEMORY_GIB} GiB: launch fewer processes, or set checkpoint.background=false"
    yield _slow_if(memory < LEAST_MEMORY_GIB, "memory", f"{memory:.0f} GiB a process, {num_cores()} cores", remedy)
    shared = shutil.disk_usage(SHARED_MEMORY).free / GIB if SHARED_MEMORY.is_dir() else 0.0
    remedy = "docker run --shm-size=8g, or data.num_workers=0"
    yield _slow_if(shared < LEAST_SHARED_GIB, "shared memory", f"{shared:.2f} GiB free in {SHARED_MEMORY}", remedy)


def _folder(folder: Path) -> Iterator[Finding]:
    # One process opens a run folder, and it alone can remove what it made.
    if not launched.is_main():
        return
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        lacking = try_folder("--out", folder, RUN_FOLDER)
    except DstDistError as error:
        yield Finding("run folders", str(error), "bad", "name another folder with --out")
        return
    free = shutil.disk_usage(folder).free / GIB
    for path in made:
        path.rmdir()
    for clause in lacking:
        yield Finding("run folders", f"{folder} {clause}", "slow")
    remedy = "three checkpoints of a full 2.2B take 80 GiB, of LoRA 3 GiB"
    yield _slow_if(free < LEAST_DISK_GIB, "run folders", f"{folder} has {free:.0f} GiB free", remedy)


def _surroundings() -> Iterator[Finding]:
    encoding = sys.getfilesystemencoding()
    remedy = "export PYTHONUTF8=1, or names of files with letters beyond ASCII are not found"
    yield _slow_if(encoding != "utf-8", "names of files", f"read as {encoding}", remedy)
    job = os.environ.get("SLURM_JOB_ID")
    slurm = f"job {job} on {os.environ.get('SLURM_JOB_NUM_NODES', '?')} nodes" if job else "not inside a job"
    found = "sbatch is here" if shutil.which("sbatch") else "no sbatch here"
    yield Finding("Slurm", f"{slurm}, {found}")
    offline = os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on")
    token = "a token is there" if get_token() else "no token, which public models do not need"
    yield Finding("hub", f"{token}; {'offline' if offline else 'online'}")
