"""The state of a process: weights, moments and random numbers come back on any number of processes.

The processes are threads with a small model each, the same as under DDP; real engines are in test_resume.py.
"""

import pytest
import torch
from safetensors.torch import load_file

from dst_dist.run_folder import RunFolder
from dst_dist.train.checkpoint import Checkpoints, load
from dst_dist.train.engine_state import random_state, set_random_state
from dst_dist.train.state_files import write_stretches
from tests.train.fake_engine import on_processes
from tests.train.test_checkpoint import same, saved


@pytest.mark.parametrize("number, later", [(1, 1), (2, 2), (2, 1), (1, 2), (2, 4), (4, 1), (3, 2)])
def test_weights_moments_and_step_come_back(tmp_path, number, later):
    _, engines = saved(tmp_path, [1, 2, 3], number)
    path = tmp_path / "checkpoints/step-00000003"

    def work(engine):
        load(path, engine, 3)

    results, others = on_processes(later, work, seed=1)
    assert results == [None] * later
    for other in others:
        assert same(other.whole_state, engines[0].whole_state)
        assert all(float(state["step"]) == 3 for state in other.optimizer.state.values())


def test_a_save_before_the_first_step(tmp_path):
    def before_the_first_step(engine):
        checkpoints = Checkpoints(RunFolder(tmp_path), 2)
        checkpoints.begin(engine, 0, {}, False)
        checkpoints.complete(engine)

    on_processes(2, before_the_first_step)
    _, (fresh, _) = on_processes(2, lambda engine: load(tmp_path / "checkpoints/step-00000000", engine, 0), seed=1)
    assert all(not state["exp_avg"].any() and float(state["step"]) == 0 for state in fresh.optimizer.state.values())
    _, (stepped, _) = on_processes(2, lambda engine: None)
    assert same(dict(fresh.unwrapped.named_parameters()), dict(stepped.unwrapped.named_parameters()))


def test_random_numbers_come_back(tmp_path):
    write_stretches(tmp_path / "a.safetensors", random_state(torch.device("cpu")))
    first = torch.rand(3).tolist()
    assert torch.rand(3).tolist() != first
    set_random_state(tmp_path / "a.safetensors", torch.device("cpu"))
    assert torch.rand(3).tolist() == first


def test_replicas_share_the_writing(tmp_path):
    saved(tmp_path, [1], number=2)
    files = [load_file(tmp_path / f"checkpoints/step-00000001/state-0000{rank}.safetensors") for rank in (0, 1)]
    sizes = [sum(tensor.numel() for tensor in file.values()) for file in files]
    # 32 parameters, of each the weight and two moments.
    assert sum(sizes) == 96 and abs(sizes[0] - sizes[1]) <= 12
