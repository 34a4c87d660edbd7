"""Shared by the tests of evaluation: short runs, the command in a process of its own, and comparing results."""

import json
import shutil

import pytest

from tests.train.in_process import train

TIMES = ("real_time_factor", "delay_s", "delay_s_90", "delay_s_most")
"""Metrics that differ from run to run."""


def trained_one_step(demo_words, folder, *words):
    """Train one step on the small demo and return the run folder."""
    short = ("train.max_steps=1", "train.global_batch_size=2", "data.num_workers=0", "log.report_to=[]")
    assert train(["demo", *demo_words, *short, *words, f"output_dir={folder}"]) == 0
    return folder


def evaluate(starter, run, tmp_path, engine, num_processes, *words):
    """Evaluate a copy of the run; return the output, and the parsed files below evaluation/ by name."""
    copy = tmp_path / f"{engine}-{num_processes}"
    shutil.copytree(run, copy, symlinks=True, ignore=shutil.ignore_patterns("evaluation"))
    output = tmp_path / f"{engine}-{num_processes}-output"
    done = starter.run(engine, words, output, num_processes, module=("dst_dist", "evaluate", str(copy)))
    assert done.returncode == 0, done.output[-3000:]
    read = {path.name: path.read_text() for path in (copy / "evaluation").iterdir()}
    return done.output, {
        name: [json.loads(line) for line in text.splitlines()] if name.endswith("l") else json.loads(text)
        for name, text in read.items()
    }


def without_times(result):
    """Return a result without what depends on the machine."""
    return {
        key: without_times(value) if isinstance(value, dict) else value
        for key, value in result.items()
        if key.split("/")[0] not in TIMES
    }


def assert_close(ours, theirs, where=""):
    """Assert the same keys, and numbers that are equal but for rounding."""
    assert type(ours) is type(theirs), where
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key in ours:
            assert_close(ours[key], theirs[key], f"{where}/{key}")
    elif isinstance(ours, list):
        assert len(ours) == len(theirs), where
        for one, other in zip(ours, theirs, strict=True):
            assert_close(one, other, where)
    else:
        assert ours == (pytest.approx(theirs, rel=1e-4, abs=1e-4) if isinstance(ours, float) else theirs), where
