#!/usr/bin/env bash
# Train SmolVLM2's true shapes with random weights on one GPU under every engine, compare with stock, print the table.
#   bash tests/gpu/run.sh          no network, meant for under five minutes; dst_dist's dependencies must be installed
#   bash tests/gpu/run.sh --tiny   the same rows with a tiny model on the CPU
set -euo pipefail
cd "$(dirname "$0")/../.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
exec python -m tests.gpu.table "$@"
