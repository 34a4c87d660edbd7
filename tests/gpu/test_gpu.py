"""Tests of the GPU script: with a tiny model on the CPU, and at the true shapes if there is a GPU."""

import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch
from transformers import SmolVLMForConditionalGeneration

from dst_dist.model.frame_pooling import pooled_side
from tests.gpu import equality, journey, rows, table
from tests.gpu.equality import Check, check_model
from tests.gpu.make_models import NAMED_TOKENS, SHAPES, VOCABULARY, make_tokenizer
from tests.gpu.table import ROWS, Result, Row, common_words, find_disagreements, make_inputs, render, run_rows
from tests.launching import REPOSITORY
from tests.model.tiny import pack
from tests.train.in_process import own_logging

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu")
    make_inputs(folder, ["tiny"], "cpu")
    return folder


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_have_the_published_number_of_parameters(name):
    with torch.device("meta"):
        model = SmolVLMForConditionalGeneration(SHAPES[name].config())
    assert sum(parameter.numel() for parameter in model.parameters()) == SHAPES[name].parameters
    assert pooled_side(model.config, SHAPES[name].tokens_per_frame) ** 2 == SHAPES[name].tokens_per_frame


def test_the_tokenizer_has_the_true_special_ids_and_spells_any_text():
    tokenizer = make_tokenizer()
    assert len(tokenizer) == VOCABULARY
    for number, token in NAMED_TOKENS.items():
        assert tokenizer.convert_tokens_to_ids(token) == number
    ids = tokenizer.encode('DST: [{"id": "S1"}] é\n', add_special_tokens=False)
    assert tokenizer.decode(ids) == 'DST: [{"id": "S1"}] é\n'


def test_the_rows_cover_every_engine_and_mode():
    small = {row[1:] for row in ROWS if row.model == "256M"}
    assert len(small) == 12 and len(ROWS) == 15
    assert {row[1:] for row in ROWS if row.model == "2.2B"} == {
        ("zero2", "full", True),
        ("fsdp", "full", True),
        ("ddp", "lora", True),
    }


def test_two_rows_train_in_one_process_and_agree(work):
    two = Row("256M", "fsdp", "lora", False), Row("256M", "fsdp", "full", True)
    results = run_rows(two, work, tiny=True)
    assert [result.fault for result in results] == [None, None]
    assert find_disagreements(results) == []
    assert not list((work / "runs").rglob("*.safetensors"))
    text = render("a card", results, [], [], [])
    assert "| 256M | fsdp | lora | off | 5 |" in text and "| 256M | fsdp | full | on | 5 |" in text


@pytest.mark.long
def test_a_training_is_killed_continued_evaluated_and_streamed(work):
    found = list(journey.stages(common_words("tiny", work, tiny=True), work / "journey", tiny=True))
    assert [stage.name for stage in found if stage.is_good] == [
        "trained",
        "killed after a save",
        "continued",
        "teacher_forced",
        "streaming",
    ]


def test_comparisons_hold_for_the_tiny_model(work):
    checks = check_model("tiny", work / "tiny" / "model", "cpu")
    assert len(checks) == 7
    assert [check for check in checks if not check.is_good] == []


def test_samples_that_attend_to_each_other_are_found(work, monkeypatch):
    def as_one_sample(samples):
        batch = pack(samples)
        batch.segment_lengths = [len(batch.input_ids)]
        return batch

    monkeypatch.setattr(equality, "pack", as_one_sample)
    off = {check.name for check in check_model("tiny", work / "tiny" / "model", "cpu") if not check.is_good}
    assert off >= {
        f"packed = alone, {what}, {dtype}" for what in ("logits", "gradients") for dtype in ("float32", "bfloat16")
    }


def test_a_row_that_fails_has_a_reason(tmp_path):
    row = ROWS[0]
    with own_logging():
        assert rows.main({row.key: [row.mode]}, [*common_words("tiny", tmp_path, True), f"output_dir={tmp_path}"]) == 1
    result = table._result(row, tmp_path, tmp_path / "log")
    assert "model.name_or_path" in result.fault and "data.root" in result.fault
    assert "data.root" in render("a card", [result], [], [], [])


def test_rows_that_a_process_never_ended_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "launch", lambda *_: None)
    assert ["did not end" in result.fault for result in run_rows(ROWS[:2], tmp_path, tiny=True)] == [True, True]


def test_an_ended_script_takes_its_training_with_it(work):
    """SIGTERM to the script ends what it launched. While it forks, Python would drop the handler's exception."""
    words = [sys.executable, "-m", "tests.gpu.table", "--tiny", "--work", str(work), "--only", "256M fsdp lora off"]
    script = subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    log = work / "runs" / "256M-fsdp.output"
    log.unlink(missing_ok=True)
    # The launcher has started the training, so the script's own fork is over.
    wait_for(lambda: log.exists() and len(psutil.Process(script.pid).children(recursive=True)) > 1)
    launched = psutil.Process(script.pid).children(recursive=True)
    script.terminate()
    assert script.wait(20) == 128 + signal.SIGTERM
    psutil.wait_procs(launched, timeout=20)
    assert not [process for process in launched if process.is_running()]


def wait_for(condition, limit_s=60):
    ends_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < ends_s
        time.sleep(0.1)


def test_a_row_with_another_first_loss_is_named():
    steps = {"ddp": 10.0, "zero2": 10.05, "fsdp": 11.0}
    results = [Result(Row("256M", engine, "full", True), 1.0, [{"loss": loss}]) for engine, loss in steps.items()]
    assert [fault.split(":")[0] for fault in find_disagreements(results)] == ["256M fsdp full on"]
    text = render("a card", [], [Check("256M", "packed = alone", 0.2, 0.1)], [], find_disagreements(results))
    assert "**off**" in text and "256M fsdp full on" in text


@needs_gpu
@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.model == "256M" and not row.checkpointing], ids=lambda row: row.name
)
def test_the_small_true_shape_trains_on_the_gpu(row, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "true"
    make_inputs(folder, ["256M"], "cuda")
    assert [result.fault for result in run_rows([row], folder, tiny=False)] == [None]
