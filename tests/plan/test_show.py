"""`dst-dist plan`: its lines, and its exit codes."""

import re
import shutil

import pyarrow as pa
import pytest

from dst_dist import cli
from dst_dist.config import Recipe
from dst_dist.data.batching import BatchPlan
from dst_dist.data.frames import open_frames
from dst_dist.plan import show
from dst_dist.plan.show import Machine
from tests.data.handmade import write_column
from tests.plan.test_micro_batches import dataset

AUTO = ("train.gradient_checkpointing=auto", "finetune.train.vision=false")


def plan(capsys, demo_words, *words):
    code = cli.main(["plan", "demo", *demo_words, *words])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_the_parts_add_up_and_the_steps_are_those_of_the_recipe(capsys, demo_words):
    code, out = plan(capsys, demo_words, *AUTO, "--engine", "ddp", "--processes", "2", "--tokens-per-s", "1")
    assert code == 0
    assert "ddp on 2 processes of 80 GiB" in out and "27 samples" in out and "4 steps; 1400 steps in all" in out
    assert "usable: fits" in out and "train.gradient_checkpointing: auto is false here" in out
    epoch = int(re.search(r"(\d+) tokens", out)[1])
    least = epoch * 1400 / 4 / 2 / 3600
    hours, waiting = re.search(
        r"at 1 tokens/s a process: (.+) hours; the slowest has (.+) times the mean", out
    ).groups()
    assert float(hours) == pytest.approx(least * float(waiting), rel=0.06)


@pytest.mark.parametrize(
    "processes, hours, waiting, idle", [(1, 10, 1, 0), (2, 5, 1, 0), (4, 4, 1.6, 0), (8, 4, 3.2, 4), (64, 4, 25.6, 60)]
)
def test_more_processes_than_samples_do_not_shorten_the_time(processes, hours, waiting, idle):
    """Samples of 400, 300, 200 and 100 tokens are 500 for each of two processes; more wait for the 400."""
    data = dataset(*((tokens, 0, 0, 0, 0) for tokens in (400, 300, 200, 100)))
    recipe = Recipe.model_validate({"train": {"global_batch_size": 4}})
    machine, steps = Machine("ddp", processes, 80, tokens_per_s=1), BatchPlan(data.weights, 4, 0, data.fingerprint)
    *of_idle, of_time = show.time_lines(recipe, machine, steps, data, 36000)
    assert of_time == f"  at 1 tokens/s a process: {hours:.1f} hours; the slowest has {waiting:.1f} times the mean work"
    assert [line.split(":")[0] for line in of_idle] == [f"  {idle} of {processes} processes have no work"] * (idle > 0)


def test_what_does_not_fit_says_what_to_change(capsys, demo_words):
    code, out = plan(capsys, demo_words, *AUTO, "--gpu", "1.06")
    assert code == 0 and "does not fit" in out
    assert "shard with fsdp, or use finetune.mode=lora" in out and "auto is true here" in out


def test_a_node_shares_with_hybrid_sharding_and_all_processes_otherwise():
    for engine, processes, sharing in (("hsdp", 32, 8), ("cpu_hsdp", 4, 4), ("fsdp", 32, 32), ("ddp", 16, 16)):
        assert Machine(engine, processes, 80, processes_per_node=8).num_sharing == sharing


@pytest.mark.parametrize("per_node, is_said", [("4", True), ("8", False)])
def test_what_crosses_nodes_is_said_where_there_are_several(capsys, demo_words, monkeypatch, per_node, is_said):
    seen, intact = [], show.fit
    monkeypatch.setattr(show, "fit", lambda *given: (seen.append(given[1:3]), intact(*given))[1])
    code, out = plan(capsys, demo_words, "--engine", "hsdp", "--processes-per-node", per_node)
    assert code == 0 and set(seen) == {("hsdp", int(per_node))}
    for line in ("in a step, gradients reduced between nodes: ", "sent by a node to others in a step: "):
        assert (line in out) == is_said


def test_what_was_found_in_the_data_and_what_is_needed_is_said(capsys, demo, demo_words, tmp_path):
    root = shutil.copytree(demo, tmp_path / "data")
    path = next(root.glob("kitchen/frames/kitchen-train-*.arrow"))
    rows = [open_frames(str(path)).jpeg(row) for row in range(len(open_frames(str(path))))]
    write_column(path, "frame", [pa.array(rows)], compression="zstd")
    code, out = plan(capsys, demo_words, f"data.root={root}", "--engine", "zero2_offload")
    assert code == 0
    assert "frames files are compressed: each data worker holds" in out and path.name in out
    assert "needs a C++ compiler and ninja on every node" in out


@pytest.mark.parametrize(
    "words, message",
    [
        (("--engine", "horovod"), "a plan knows ddp, zero2, zero2_offload, fsdp, fsdp_no_reshard, hsdp"),
        (("--engine", "hsdp", "--processes", "12"), "12 processes make no groups of 8"),
        (("--engine", "cpu_hsdp", "--processes", "1"), "1 processes make no groups of 1"),
        (("--engine", "hsdp", "--processes", "4", "--processes-per-node", "1"), "4 processes make no groups of 1"),
        (("--engine", "hsdp", "--processes", "12", "seed=x"), "2 faults"),
        (("data.train=[nowhere]",), "nowhere"),
        (("train.max_tokens=many",), "train.max_tokens: must be 'auto' or a whole number from 1"),
    ],
)
def test_faults_of_the_user(capsys, demo_words, words, message):
    code, out = plan(capsys, demo_words, *words)
    assert code == 2 and message in out and "Traceback" not in out
