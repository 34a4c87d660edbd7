# Settings that differ between clusters. Sourced before sbatch, which reads SBATCH_* from the environment, then by the
# job, and by every node, each time as in a shell of its own: only what it exports goes on (see with_site.sh).

# export SBATCH_ACCOUNT=my_account
# export SBATCH_PARTITION=gpu
# All of a node's memory, where a job gets only a share of it by default.
# export SBATCH_MEM_PER_NODE=0

# module load cuda
# . /opt/conda/etc/profile.d/conda.sh && conda activate dst
# The environment that launch/quickstart.sh or `pip install -e .` was run in.
if [ -z "${VIRTUAL_ENV:-}" ] && [ -f .venv/bin/activate ]; then . .venv/bin/activate; fi

# Compute nodes often cannot reach the hub: download on a login node with `hf download NAME`.
export HF_HUB_OFFLINE=1
# The network between nodes, where NCCL or gloo picks the wrong one:
# export NCCL_SOCKET_IFNAME=ib0 GLOO_SOCKET_IFNAME=ib0
