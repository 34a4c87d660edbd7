#!/usr/bin/env bash
# Measure a training step of the 2.2B with random weights on one GPU, next to what could be chosen instead.
#   bash tests/gpu/speed.sh          no network; dst_dist's dependencies must be installed
#   bash tests/gpu/speed.sh --tiny   the same rows with a tiny model on the CPU
set -euo pipefail
cd "$(dirname "$0")/../.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
exec python -m tests.gpu.speed "$@"
