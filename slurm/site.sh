# What differs between clusters. Sourced before submitting (sbatch reads SBATCH_* from the environment) and
# again on every node before training.

# export SBATCH_ACCOUNT=my_account
# export SBATCH_PARTITION=gpu

# module load cuda
# The environment that launch/quickstart.sh or `pip install -e .` filled.
if [ -z "${VIRTUAL_ENV:-}" ] && [ -f .venv/bin/activate ]; then . .venv/bin/activate; fi

# Compute nodes seldom reach the hub: download on a login node with `hf download NAME`.
export HF_HUB_OFFLINE=1
# The network between nodes, where NCCL picks the wrong one:
# export NCCL_SOCKET_IFNAME=ib0
