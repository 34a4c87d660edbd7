"""Reports of a run: every key of metrics.jsonl, the same words in TensorBoard, and little for people to read."""

import fcntl
import json
import os
import pty
import re
import struct
import sys
import termios

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dst_dist.recipes.loading import load_recipe
from dst_dist.run_folder import RunFolder
from dst_dist.train.optim import rate_factor
from dst_dist.train.progress import say_jump
from tests.launching import REPOSITORY, launch

TERMS = ["loss", "loss/lm", "loss/dst_gen", "loss/dst_update", "loss/speaking"]
COUNTS = [f"num_{head}_{kind}" for head in ("dst_update", "speaking") for kind in ("positives", "negatives")]
TRAIN_KEYS = [
    "step",
    "split",
    *TERMS,
    "learning_rate",
    "grad_norm",
    "num_samples",
    "num_tokens",
    "num_frames",
    "tokens_per_s",
    "frames_per_s",
    "data_wait_share",
    "max_seq_len",
    "peak_memory_gib",
    *COUNTS,
]
VAL_KEYS = [
    "step",
    "split",
    *TERMS,
    *COUNTS,
    "lm/perplexity",
    "lm/token_accuracy",
    "update/exact_match",
    *(
        f"{head}/{name}"
        for head in ("dst_update", "speaking")
        for name in ("precision", "recall", "f1", "average_precision", "threshold", "base_rate")
    ),
]
OUR_LINE = re.compile(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d (INFO|WARNING|ERROR) ")
STEP_LINE = re.compile(r"INFO step (\d+)/\d+ \| loss ")
# DeepSpeed's remark in the launcher's own process, which is none of ours.
LAUNCHER_LINE = "[real_accelerator.py"
NUM_STEPS, LOG_EVERY, EVAL_EVERY = 20, 2, 10


def words(demo_words, num_steps, *extra):
    return [
        "demo",
        *demo_words,
        f"train.max_steps={num_steps}",
        "train.global_batch_size=4",
        "data.num_workers=1",
        "optim.warmup_steps=5",
        "optim.learning_rate=2e-4",
        "data.train=[kitchen]",
        "data.val=[kitchen]",
        "loss={lm: 1, dst_gen: 1, dst_update: 1, speaking: 1}",
        *extra,
    ]


def lines_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def run(demo_words, tmp_path_factory):
    """20 steps on two processes with DeepSpeed, the most talkative of the engines."""
    folder = tmp_path_factory.mktemp("logs") / "run"
    extra = [f"log.every_steps={LOG_EVERY}", f"eval.every_steps={EVAL_EVERY}"]
    return launch("cpu_zero2", words(demo_words, NUM_STEPS, *extra), folder).check()


def test_every_step_has_one_line_with_every_key(run):
    lines = run.metrics()
    assert [line["step"] for line in lines] == list(range(1, NUM_STEPS + 1))
    for line in lines:
        assert set(TRAIN_KEYS) <= set(line)
        assert all(isinstance(line[key], float | int) for key in TRAIN_KEYS if key != "split")
    # An epoch of the small demo is 9 samples: steps of 4, 4 and 1.
    assert [line["num_samples"] for line in lines[:6]] == [4, 4, 1, 4, 4, 1]
    assert all(line["num_frames"] == 16 * line["num_samples"] for line in lines)
    assert all(line["loss"] == pytest.approx(sum(line[key] for key in TERMS[1:])) for line in lines)
    assert all(0 <= line["data_wait_share"] <= 1 and line["peak_memory_gib"] > 0.1 for line in lines)
    assert [line["learning_rate"] for line in lines[:5]] == pytest.approx([4e-5, 8e-5, 1.2e-4, 1.6e-4, 2e-4])


def test_every_evaluation_has_one_line_with_every_key(run):
    lines = run.metrics("val")
    assert [line["step"] for line in lines] == [10, 20]
    for line in lines:
        assert set(VAL_KEYS) <= set(line)
        assert line["loss"] == pytest.approx(sum(line[key] for key in TERMS[1:]))


def test_tensorboard_has_the_same_words_and_numbers(run):
    (folder,) = {path.parent for path in (run.folder / "tensorboard").rglob("events.*")}
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    tags = set(events.Tags()["scalars"])
    shown = {line["step"]: line for line in run.metrics() if line["step"] % LOG_EVERY == 0 or line["step"] == 1}
    expected = {key for line in shown.values() for key in line if key not in ("step", "split")}
    expected |= {f"val/{key}" for line in run.metrics("val") for key in line if key not in ("step", "split")}
    assert tags == expected
    for key in ("loss", "loss/dst_update", "num_speaking_negatives", "learning_rate"):
        assert [event.step for event in events.Scalars(key)] == list(shown)
        assert [event.value for event in events.Scalars(key)] == pytest.approx([line[key] for line in shown.values()])
    assert [event.step for event in events.Scalars("val/loss")] == [10, 20]


def test_without_a_terminal_there_is_one_line_a_log_step_and_nothing_else(run):
    lines = [line for line in run.output.splitlines() if LAUNCHER_LINE not in line]
    assert all(OUR_LINE.match(line) for line in lines), [line for line in lines if not OUR_LINE.match(line)]
    steps = [int(found[1]) for line in lines if (found := STEP_LINE.search(line))]
    assert steps == [1, *range(LOG_EVERY, NUM_STEPS + 1, LOG_EVERY)]
    # Once: the other process is silent.
    assert sum("trained parameters" in line for line in lines) == 1
    assert sum("| val |" in line for line in lines) == 2


def test_train_log_says_what_was_printed(run):
    printed = [line for line in run.output.splitlines() if LAUNCHER_LINE not in line]
    assert (run.folder / "train.log").read_text().splitlines() == printed


def test_a_thousand_steps_are_less_than_100_kb(run):
    """From the growth between the 10th and the last line of a log step, at the recipe's own log.every_steps."""
    ends = [found.end() for found in STEP_LINE.finditer(run.output)]
    bytes_a_line = (ends[-1] - ends[9]) / (len(ends) - 10)
    before = run.output.index("INFO step 1/")
    assert 2 * (before + 101 * bytes_a_line) < 100_000


@pytest.mark.long
def test_a_thousand_steps_are_less_than_100_kb_measured(demo_words, tmp_path):
    run = launch("cpu_zero2", words(demo_words, 1000), tmp_path / "run", timeout_s=1800).check()
    assert len(run.metrics()) == 1000
    assert len(run.output.encode()) + (run.folder / "train.log").stat().st_size < 100_000


def on_a_terminal(command, columns=150):
    """Return the output of a command on a terminal of this width, and its exit code."""
    pid, terminal = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        os.chdir(REPOSITORY)
        os.execvpe(command[0], command, {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"})
    chunks = []
    while True:
        try:
            chunk = os.read(terminal, 4096)
        except OSError:
            break
        if not chunk:
            break
        chunks.append(chunk)
    os.close(terminal)
    return b"".join(chunks).decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def left_on_screen(output):
    """The lines as a person sees them in the end: what was written over is gone."""
    return [line.split("\r")[-1] for line in output.replace("\r\n", "\n").split("\n") if line.split("\r")[-1].strip()]


def test_a_terminal_shows_one_progress_bar(demo_words, tmp_path):
    extra = ["log.every_steps=1", "eval.every_steps=4", "log.report_to=[]", f"output_dir={tmp_path}/run"]
    output, code = on_a_terminal([sys.executable, "-m", "dst_dist.train", *words(demo_words, 8, *extra)])
    assert code == 0, output
    seen = left_on_screen(output)
    bars = [line for line in seen if "step/s" in line or "s/step" in line]
    assert len(bars) == 1 and bars[0].startswith("100%") and "8/8" in bars[0]
    assert all(OUR_LINE.match(line) for line in seen if line not in bars), seen
    final_loss = lines_of(tmp_path / "run")[-2]["loss"]
    assert f"loss {final_loss:.3f}" in bars[0]
    # Every step's line is in the file; the terminal has the bar for it, and the evaluations above.
    assert sum(bool(STEP_LINE.search(line)) for line in (tmp_path / "run/train.log").read_text().splitlines()) == 8
    assert not any(STEP_LINE.search(line) for line in seen)
    assert sum("| val |" in line for line in seen) == 2
    # The bar went on in between: it was drawn at several steps.
    assert len(set(re.findall(r" (\d)/8 \[", output))) >= 4


@pytest.mark.parametrize(
    "logged, words, is_said",
    [
        (["train.max_steps=10"], ["train.max_steps=20"], True),
        (["train.max_steps=10"], ["train.max_steps=10"], False),
        (["train.max_steps=10", "optim.schedule=constant"], ["train.max_steps=20", "optim.schedule=constant"], False),
        (["train.max_steps=10"], ["train.max_steps=10", "optim.learning_rate=1e-3"], True),
        (["train.max_steps=10"], ["train.max_steps=10", "optim.schedule=linear"], True),
    ],
)
def test_a_jump_of_the_learning_rate_is_said(tmp_path, caplog, logged, words, is_said):
    before, after = (load_recipe(["lora", "optim.warmup_steps=0", *more]) for more in (logged, words))
    run = RunFolder(tmp_path)
    rates = [2e-4 * rate_factor(step, before.train.max_steps, before.optim) for step in range(10)]
    lines = [{"step": step + 1, "split": "train", "learning_rate": rate} for step, rate in enumerate(rates)]
    run.metrics_file.write_text("".join(json.dumps(line) + "\n" for line in lines[:8]) + '{"step": 9, "spl')
    say_jump(run, 8, after.train.max_steps, after.optim)
    following = after.optim.learning_rate * rate_factor(8, after.train.max_steps, after.optim)
    says = f"step 8 was trained with {rates[7]:.2e} and step 9 has {following:.2e}"
    assert [says in message for message in caplog.messages] == ([True] if is_said else [])
