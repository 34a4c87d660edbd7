"""Evaluation on several processes."""

import pytest

from tests.evaluate.evaluating import assert_close, evaluate, without_times
from tests.launching import launch


@pytest.mark.parametrize("engine, num_processes", [("cpu_ddp", 2), ("cpu_zero2", 3)])
def test_any_number_of_processes_gives_the_same(starter, run, alone, tmp_path, engine, num_processes):
    """Three processes, four videos: the shares differ in length, and nothing is done twice."""
    for number, more in enumerate(((), ("--streaming",))):
        output, files = evaluate(starter, run, tmp_path / str(number), engine, num_processes, *more)
        assert output.count("written to") == 1
        ours, theirs = (
            ({name: without_times(f) if isinstance(f, dict) else f for name, f in some.items()})
            for some in (files, alone[number][1])
        )
        assert_close(ours, theirs)


def test_faults_are_printed_once(run, tmp_path):
    done = launch(
        "cpu_ddp",
        ["--split", "train", "data.train=[]", "--compare", f"blind={tmp_path}"],
        tmp_path / "output",
        module=("dst_dist", "evaluate", str(run)),
    )
    assert (
        done.returncode != 0
        and done.output.count("not evaluated yet") == 1
        and 'Traceback (most recent call last):\n  File "/' not in done.output.split("not evaluated yet")[0]
    )
