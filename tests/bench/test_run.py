"""`dst-dist bench`: its steps are those of a training, and it leaves nothing."""

import json

import pytest
from accelerate.state import AcceleratorState

from dst_dist import cli
from dst_dist.bench import run
from dst_dist.bench.parts import PARTS, PREFIX
from tests.launching import launch
from tests.train.in_process import own_logging, train
from tests.train.runs import cut_words


def words_of(demo_words, folder, *more):
    """Return a recipe with dropout, a micro-batch a sample, and six steps: 2 to warm up, 1 timed, 3 watched."""
    return [*cut_words(demo_words), "data.val=[]", "train.max_steps=6", f"output_dir={folder}/run", *more]


def bench(*words):
    """Run the verb in this process; return its exit code."""
    try:
        with own_logging():
            return cli.main(["bench", *words])
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def losses(monkeypatch):
    """The losses of every step that is run."""
    seen, intact = [], run.optimizer_step

    def optimizer_step(*arguments):
        values = intact(*arguments)
        seen.append(values["loss"])
        return values

    monkeypatch.setattr(run, "optimizer_step", optimizer_step)
    return seen


def test_its_steps_are_the_trainings_and_nothing_is_left(demo_words, tmp_path, monkeypatch, capsys, losses):
    monkeypatch.chdir(tmp_path)
    words = words_of(demo_words, tmp_path)
    assert bench(*words, "--steps", "1", "--trace", "trace.json") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["trace.json"]
    shown = capsys.readouterr().out
    assert "ddp on 1 processes, CPU, fp32: 1 steps after 2\n" in shown
    assert all(f"    {part} " in shown for part in (*PARTS, "communication", "other"))
    assert "TFLOP/s a process\n" in shown and "of 989" not in shown
    names = {event.get("name") for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]}
    assert {PREFIX + part for part in (*PARTS, "step")} <= names
    assert train(words) == 0
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert losses == [line["loss"] for line in lines]
    # Of the one timed step, which is the third: an epoch is 4, 4 and 1 samples.
    assert lines[2]["num_samples"] == 1 and "mfu" not in lines[2]


def test_synthetic_needs_no_data(demo_words, tmp_path, capsys):
    model = next(word for word in demo_words if word.startswith("model."))
    sizes = ("data.max_seq_len=100", "train.max_tokens=200", "train.max_frames=20", "train.global_batch_size=2")
    words = ["demo", model, f"data.root={tmp_path}/nowhere", *sizes, f"output_dir={tmp_path}/run"]
    assert bench(*words, "--synthetic", "--steps=1") == 0
    assert "1 steps after 2, of random tokens and frames\n" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "more, message",
    [
        (("data.train=[nowhere]",), "nowhere"),
        (("--trace", "missing/trace.json"), "--trace missing/trace.json: there is no folder missing"),
        (("--synthetic", "train.max_tokens=auto"), "train.max_tokens: auto needs real data"),
    ],
)
def test_faults_of_the_user(demo_words, tmp_path, capsys, more, message):
    assert bench(*words_of(demo_words, tmp_path, *more)) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


@pytest.mark.long
def test_launched_processes_and_the_main_one_speaks(demo_words, tmp_path):
    words = ["bench", *words_of(demo_words, tmp_path)[:-1], "--steps", "1"]
    done = launch("cpu_ddp", words[1:], tmp_path / "run", module=("dst_dist", words[0]))
    assert done.returncode == 0, done.output[-3000:]
    assert done.output.count("ddp on 2 processes, CPU, fp32: 1 steps after 2") == 1
    (communication,) = (line for line in done.output.splitlines() if line.strip().startswith("communication"))
    assert float(communication.split()[1]) > 0
    assert not (tmp_path / "run").exists()
