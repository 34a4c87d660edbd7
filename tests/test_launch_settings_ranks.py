"""Processes that were started by something else than a launcher."""

import pytest

from dst_dist.errors import ConfigError
from dst_dist.launch_settings import read_launch_settings
from dst_dist.recipes.loading import load_recipe

RANKS = {"RANK": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "node0", "MASTER_PORT": "29500"}
STARTED = {
    "mpirun": ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}, "OMPI_COMM_WORLD_SIZE is 2: mpirun or srun"),
    "srun with PMI": ({"PMI_SIZE": "4", "PMI_RANK": "0"}, "PMI_SIZE is 4: mpirun or srun"),
    "srun": ({"SLURM_STEP_NUM_TASKS": "8"}, "SLURM_STEP_NUM_TASKS is 8: mpirun or srun"),
    "a size alone": (
        {"WORLD_SIZE": "2"},
        "WORLD_SIZE is 2, but RANK, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT are not set",
    ),
    "no address": (
        {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"},
        "WORLD_SIZE is 2, but MASTER_ADDR, MASTER_PORT are not set",
    ),
    "one of mpirun": ({"OMPI_COMM_WORLD_SIZE": "1", "PMI_SIZE": "1", "SLURM_STEP_NUM_TASKS": "1"}, None),
    "a launcher under srun": ({"WORLD_SIZE": "8", **RANKS, "PMI_SIZE": "2", "SLURM_STEP_NUM_TASKS": "2"}, None),
    "ranks by hand": ({"WORLD_SIZE": "2", **RANKS}, None),
}


@pytest.mark.parametrize("variables, fault", STARTED.values(), ids=STARTED)
def test_processes_without_ranks_are_refused(monkeypatch, variables, fault):
    """Accelerate would wait for the others without end, or each would train for itself."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if fault is None:
        read_launch_settings(load_recipe(["demo", "output_dir=x"]))
        return
    with pytest.raises(ConfigError) as error:
        read_launch_settings(load_recipe(["demo", "output_dir=x"]))
    assert [fault in found for found in error.value.faults] == [True]
