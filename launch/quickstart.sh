#!/usr/bin/env bash
# Install, make the demo, train it, evaluate, report. Run again, it skips what is already there.
# It trains with DeepSpeed ZeRO-2 on two GPUs, on one GPU without sharding, and without a GPU as two CPU processes of ZeRO-2.
#   bash launch/quickstart.sh              the whole of it, into demo/ and runs/demo/
#   bash launch/quickstart.sh --controls   then the same recipe on blanked frames, into demo-blind/ and runs/demo-blind/
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/install.sh
. launch/ending.sh
install_dst_dist

# One thread a process: on a CPU two processes share the cores, on GPUs the work is elsewhere.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
case $(num_gpus) in
    0) engine=cpu_zero2 processes=2 ;;
    1) engine=ddp processes=1 ;;
    *) engine=zero2 processes=2 ;;
esac

is_done() { python -c 'import json, sys; sys.exit(json.load(open(sys.argv[1]))["code"])' "$1/status.json" 2>/dev/null; }

learn() { # demo folder, run folder, further arguments of `dst-dist demo`
    local demo=$1 run=$2
    shift 2
    [ -e "$demo/.complete" ] || { run dst-dist demo --out "$demo" "$@" && touch "$demo/.complete"; }
    is_done "$run" || run accelerate launch --config_file "launch/$engine.yaml" --num_processes "$processes" \
        -m dst_dist.train demo "model.name_or_path=$demo/model" "data.root=$demo" "output_dir=$run"
    echo
    echo "run folder: $run"
    echo "last losses, then validation:"
    tail -n 2 "$run/metrics.jsonl"
}

measure() { # run folder, further arguments of `dst-dist evaluate`
    echo
    echo "$1, validation tasks, with the gold history:"
    run dst-dist evaluate "$@"
    echo
    echo "$1, test tasks, as in use:"
    run dst-dist evaluate "$@" --split test --streaming
}

learn demo runs/demo
if [ "${1:-}" = --controls ]; then
    learn demo-blind runs/demo-blind --blank
    measure runs/demo-blind
    measure runs/demo --compare blind=runs/demo-blind
else
    measure runs/demo
fi
run dst-dist report runs/demo
