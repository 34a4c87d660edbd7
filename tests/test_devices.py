"""The device of a process, on a machine with zero, one and two pretended cards."""

import pytest
import torch

from dst_dist.devices import check_devices, on_cpu
from dst_dist.errors import ConfigError
from tests.launcher_says import said
from tests.launching import REPOSITORY

FILES = ("ddp", "zero2", "zero2_offload", "fsdp", "fsdp_no_reshard", "hsdp")


@pytest.fixture
def machine(monkeypatch):
    """`machine(cards, processes, variables)` pretends to be one of several processes on a machine with cards."""

    def pretend(cards, processes, variables=None):
        monkeypatch.setattr("torch.cuda.is_available", lambda: cards > 0)
        monkeypatch.setattr("torch.cuda.device_count", lambda: cards)
        for name, value in {"LOCAL_WORLD_SIZE": str(processes), **(variables or {})}.items():
            monkeypatch.setenv(name, value)

    monkeypatch.chdir(REPOSITORY)
    return pretend


@pytest.mark.parametrize("cards", [0, 1, 2])
@pytest.mark.parametrize("name", FILES)
def test_a_cpu_file_takes_the_cpu_whatever_cards_there_are(machine, name, cards):
    machine(cards, 2, said(REPOSITORY / f"launch/cpu_{name}.yaml"))
    check_devices()
    assert on_cpu()


@pytest.mark.parametrize("cards, processes", [(0, 1), (0, 2), (1, 2), (2, 8)])
@pytest.mark.parametrize("name", FILES)
def test_another_file_refuses_where_a_process_would_get_no_gpu(machine, name, cards, processes):
    machine(cards, processes, said(REPOSITORY / f"launch/{name}.yaml"))
    with pytest.raises(ConfigError, match=f"{processes} processes .* finds {cards} GPUs.*launch/cpu_"):
        check_devices()


@pytest.mark.parametrize("cards, processes", [(1, 1), (2, 1), (2, 2)])
@pytest.mark.parametrize("name", FILES)
def test_another_file_takes_the_gpus(machine, name, cards, processes):
    machine(cards, processes, said(REPOSITORY / f"launch/{name}.yaml"))
    check_devices()
    assert not on_cpu()


def test_without_a_launch_file_a_machine_without_gpus_computes_on_the_cpu(machine):
    machine(0, 2)
    check_devices()
    assert on_cpu()
    machine(1, 2)
    with pytest.raises(ConfigError, match="--num_processes 1"):
        check_devices()


def test_accelerates_flag_for_the_cpu_is_obeyed(machine):
    machine(1, 1, said(REPOSITORY / "launch/ddp.yaml", "--cpu"))
    check_devices()
    assert on_cpu()


@pytest.mark.parametrize("version, reason", [(None, "built without GPUs"), ("13.0", "nvidia-smi")])
def test_the_reason_for_no_gpu_is_named(machine, monkeypatch, version, reason):
    machine(0, 1, said(REPOSITORY / "launch/ddp.yaml"))
    monkeypatch.setattr(torch.version, "cuda", version)
    with pytest.raises(ConfigError, match=reason):
        check_devices()
