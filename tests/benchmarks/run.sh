#!/usr/bin/env bash
# Run the benchmarks that need no GPU in a small form, one table or line each: about ten minutes on two cores.
# tests/README.md has their full forms.
# Ratios hold on a machine that is at work too; times only on a quiet one.
set -euo pipefail
cd "$(dirname "$0")/../.."
. launch/ending.sh
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} TRANSFORMERS_VERBOSITY=error
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

benchmark() { # module, arguments
    echo && echo "$*"
    run python -m "tests.benchmarks.$1" "${@:2}"
}

benchmark decode_speed --repeats 9
benchmark planning_speed --samples 1024 4096
benchmark intervals_speed --clips 1000 --groups 4 --compared 200
benchmark startup_speed --clips 300 1000 2>>"$work/log"
benchmark features_speed "$work" 2>>"$work/log"
benchmark trainer_speed "$work" --rounds 2 --steps 4 2>>"$work/log"
benchmark traffic lora
benchmark checkpoint_speed "$work" --gib 0.2 --repeats 3

# A run whose streams can be timed; what it learned does not matter.
words=(output_dir="$work/run" data.root="$work/demo" model.name_or_path="$work/demo/model" train.max_steps=20)
run python -c "from dst_dist.demo.make import Sizes, make_demo; make_demo('$work/demo', sizes=Sizes(4, 2, 4, 2))" 2>"$work/log"
run python -m dst_dist.train demo "${words[@]}" data.val=[] log.report_to=[] >>"$work/log" 2>&1
benchmark stream_speed "$work/run" --clips 8 --repeats 1 2>>"$work/log"
