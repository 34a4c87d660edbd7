"""`dst-dist plan`: its lines, and its exit codes."""

import re

import pytest

from dst_dist import cli

AUTO = ("train.gradient_checkpointing=auto", "finetune.train.vision=false")


def plan(capsys, demo_words, *words):
    code = cli.main(["plan", "demo", *demo_words, *words])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_the_parts_add_up_and_the_steps_are_those_of_the_recipe(capsys, demo_words):
    code, out = plan(capsys, demo_words, *AUTO, "--engine", "ddp", "--processes", "2", "--tokens-per-s", "1000")
    assert code == 0
    assert "ddp on 2 processes of 80 GiB" in out and "27 samples" in out and "4 steps; 1400 steps in all" in out
    assert "usable: fits" in out and "train.gradient_checkpointing: auto is false here" in out
    epoch = int(re.search(r"(\d+) tokens", out)[1])
    hours = epoch * 1400 / 4 / 2 / 1000 / 3600
    assert f"at 1000 tokens/s a process: {hours:.1f} hours" in out


def test_what_does_not_fit_says_what_to_change(capsys, demo_words):
    code, out = plan(capsys, demo_words, *AUTO, "--gpu-gib", "1.06")
    assert code == 0 and "does not fit" in out
    assert "shard with fsdp, or use finetune.mode=lora" in out and "auto is true here" in out


def test_what_crosses_nodes_is_said_where_there_are_several(capsys, demo_words):
    """Sharded in two nodes of four, or in one of eight, as fsdp of four or of eight would be."""

    def lines(engine, *words):
        code, out = plan(capsys, demo_words, *AUTO, "--engine", engine, "--gpu-gib", "8", *words)
        assert code == 0
        return out.splitlines()[1:]

    hybrid = lines("hsdp", "--processes-per-node", "4")
    assert sum("between nodes" in line or "by a node to others" in line for line in hybrid) == 2
    states = [line for line in hybrid if line.startswith(("  weights ", "  moments ", "  peak "))]
    assert len(states) == 3 and set(states) <= set(lines("fsdp", "--processes", "4"))
    assert lines("hsdp") == lines("fsdp")
    assert any("by a node to others" in line for line in lines("fsdp", "--processes", "16"))


@pytest.mark.parametrize(
    "words, message",
    [
        (("--engine", "horovod"), "a plan knows ddp, zero2, zero2_offload, fsdp, fsdp_no_reshard, hsdp"),
        (("data.train=[nowhere]",), "nowhere"),
        (("train.max_tokens=many",), "train.max_tokens: must be 'auto' or a whole number from 1"),
    ],
)
def test_faults_of_the_user(capsys, demo_words, words, message):
    code, out = plan(capsys, demo_words, *words)
    assert code == 2 and message in out and "Traceback" not in out
