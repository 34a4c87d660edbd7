"""Tests of the GPU script: with a tiny model on the CPU, and at the true shapes if there is a GPU."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import SmolVLMForConditionalGeneration

from dst_dist.model.frame_pooling import pooled_side
from tests.gpu import equality, table
from tests.gpu.equality import Check, check_model
from tests.gpu.make_models import NAMED_TOKENS, SHAPES, VOCABULARY, make_tokenizer
from tests.gpu.table import ROWS, Result, Row, find_disagreements, make_inputs, render, run_row
from tests.model.tiny import pack

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


def test_two_rows_train_and_agree(work):
    rows = ROWS[1], Row("256M", "fsdp", "full", True)
    with ThreadPoolExecutor() as side_by_side:
        results = list(side_by_side.map(lambda row: run_row(row, work, tiny=True), rows))
    assert [result.fault for result in results] == [None, None]
    assert find_disagreements(results) == []
    text = render("a card", results, [], [])
    assert "| 256M | ddp | lora | off | 5 |" in text and "| 256M | fsdp | full | on | 5 |" in text


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


def test_a_row_that_fails_has_a_reason(work, monkeypatch):
    monkeypatch.setattr(table, "command", lambda *_: ["python", "-c", "raise SystemExit(1)"])
    result = run_row(ROWS[0], work, tiny=True)
    assert "ended without a status.json" in result.fault
    assert "ended without a status.json" in render("a card", [result], [], [])


def test_a_row_with_another_first_loss_is_named():
    steps = {"ddp": 10.0, "zero2": 10.05, "fsdp": 11.0}
    results = [Result(Row("256M", engine, "full", True), 1.0, [{"loss": loss}]) for engine, loss in steps.items()]
    assert [fault.split(":")[0] for fault in find_disagreements(results)] == ["256M fsdp full on"]
    text = render("a card", [], [Check("256M", "packed = alone", 0.2, 0.1)], find_disagreements(results))
    assert "**off**" in text and "256M fsdp full on" in text


@needs_gpu
@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.model == "256M" and not row.checkpointing], ids=lambda row: row.name
)
def test_the_small_true_shape_trains_on_the_gpu(row, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "true"
    make_inputs(folder, ["256M"], "cuda")
    assert run_row(row, folder, tiny=False).fault is None
