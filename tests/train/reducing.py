"""`python -m tests.train.reducing <recipe>...`: the same training; `$REDUCED/<rank>.json` has how FSDP2 reduces."""

import json
import os
import sys
from pathlib import Path

import torch.distributed as dist

from dst_dist.exit import leave
from dst_dist.train import __main__ as entry


def record(name: str, kind: str, seen: set) -> None:
    """Note kind, dtype and number of processes of each call of a collective by FSDP2."""
    intact = getattr(dist, name)

    def collective(*tensors, **options):
        if sys._getframe(1).f_globals["__name__"].startswith("torch.distributed.fsdp"):
            tensor = options.get("output", tensors[0] if tensors else None)
            seen.add((kind, str(tensor.dtype), dist.get_world_size(options.get("group"))))
        return intact(*tensors, **options)

    setattr(dist, name, collective)


if __name__ == "__main__":
    calls: set = set()
    # torch names its scattering ones otherwise from release to release.
    for name in (name for name in dir(dist) if name.startswith(("all_reduce", "reduce_scatter"))):
        record(name, "all_reduce" if name.startswith("all") else "reduce_scatter", calls)
    code = entry.main(sys.argv[1:])
    Path(os.environ["REDUCED"], f"{os.environ['RANK']}.json").write_text(json.dumps(sorted(calls)))
    leave(code)
