"""`python -m tests.train.compiled <recipe>...`: a training whose compiled graphs run without code made for the machine.

At its end a line says how many graphs were made, and how often a part of a layer ran without.
"""

import sys

from dst_dist.exit import leave
from dst_dist.model import compiling
from dst_dist.train import __main__ as entry
from tests.model.test_compiling import compile_with

if __name__ == "__main__":
    with compile_with("aot_eager") as counter:
        code = entry.main(sys.argv[1:])
    print(f"{counter.frame_count} graphs, {compiling._num_uncompiled} parts ran uncompiled")
    leave(code)
