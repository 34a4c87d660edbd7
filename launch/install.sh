# Sourced by launch/quickstart.sh and tests/run.sh from the repository's root: leaves a Python with dst_dist on PATH.
# install_dst_dist [EXTRA]   uses the active virtual environment, else makes .venv
# num_gpus                   prints how many GPUs a training may use

need_python() {
    local found
    for found in python3 python; do
        if command -v "$found" >/dev/null && "$found" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            if ! "$found" -c 'import venv, ensurepip' 2>/dev/null; then
                echo "missing: Python's venv and pip; on Debian: apt-get install python3-venv" >&2
                return 2
            fi
            PYTHON=$found
            return 0
        fi
    done
    echo "missing: python3 of version 3.11 or newer; on Debian: apt-get install python3 python3-venv" >&2
    return 2
}

listed_gpus() { nvidia-smi -L 2>/dev/null | grep -c '^GPU ' || true; }

num_gpus() {
    local found
    found=$(python -c 'import torch; print(torch.cuda.device_count())' 2>/dev/null) || found=0
    # A card that torch does not see, and nobody hid, is no reason to train on the CPU: the training says what is wrong.
    if [ "$found" = 0 ] && [ -z "${CUDA_VISIBLE_DEVICES+set}" ]; then found=$(listed_gpus); fi
    echo "$found"
}

install_torch() {
    local version
    version=$(sed -n 's/^torch==//p' constraints.txt)
    python -c "import torch, sys; sys.exit(torch.__version__.split('+')[0] != '$version')" 2>/dev/null && return 0
    if [ "$(listed_gpus)" != 0 ]; then
        python -m pip install -q "torch==$version"
    else
        # The default build brings gigabytes of CUDA; without a GPU the CPU build is enough.
        python -m pip install -q --no-deps --retries 1 --timeout 15 "torch==$version+cpu" \
            --extra-index-url https://download.pytorch.org/whl/cpu || python -m pip install -q "torch==$version"
    fi
}

install_dst_dist() {
    local extra=${1:-} stamp
    if [ -z "${VIRTUAL_ENV:-}" ]; then
        need_python || return
        [ -x .venv/bin/python ] || "$PYTHON" -m venv .venv || return
        VIRTUAL_ENV=$PWD/.venv
        PATH=$VIRTUAL_ENV/bin:$PATH
        export VIRTUAL_ENV PATH
    fi
    stamp=$VIRTUAL_ENV/.dst_dist${extra:+-$extra}
    if [ "$(cat "$stamp" 2>/dev/null)" != "$(install_key)" ]; then
        echo "installing into $VIRTUAL_ENV"
        install_torch || return
        python -m pip install -q -c constraints.txt -e ".${extra:+[$extra]}" || return
        install_key >"$stamp"
    fi
}

install_key() { cat setup.cfg constraints.txt | cksum; pwd; }
