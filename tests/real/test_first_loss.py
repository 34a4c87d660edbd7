"""Before any training, the loss on real text is low: every silent fault would raise it.

Wrong tokens, ids, shift, mask, positions, norms, scale or weights each cost whole nats.
"""

import pytest
import torch
from transformers import AutoTokenizer

from dst_dist.model.loading import load_model
from dst_dist.recipes.loading import load_recipe
from tests.launching import launch
from tests.real import reading
from tests.real.dialogs import DIALOGS
from tests.real.make_model import ADDED_TOKENS, TEXT_VOCABULARY

pytestmark = pytest.mark.long

GOOD_LOSS = 2.5
"""Nats a token, over replies and updates."""
LOSS_OF_THE_WRONG_TOKEN = 8.0
TOLERANCE = 1e-4
BF16_TOLERANCE = 1e-2
"""Both relative."""
PACKED, ALONE = 4096, 700
"""`train.max_tokens` for all three clips in one row, and for each in its own."""
ENGINES = {"single": ("cpu_ddp", 1), "ddp": ("cpu_ddp", 2), "zero2": ("cpu_zero2", 2), "fsdp": ("cpu_fsdp", 2)}
WAYS = {
    "packed": (PACKED, "fp32", True, "lora"),
    "alone": (ALONE, "fp32", False, "lora"),
    "bf16": (PACKED, "bf16", True, "lora"),
    "full": (PACKED, "fp32", True, "full"),
}
"""Tokens of a micro-batch, precision, gradient checkpointing, mode."""


@pytest.fixture(scope="module")
def model(real_model):
    return reading.load(real_model)


@pytest.fixture(scope="module")
def stock_text(real_model):
    return reading.stock_text_model(real_model)


@pytest.fixture(scope="module")
def right_loss(real_model, own_clips, model) -> float:
    """Mean loss of the three clips, each read alone."""
    return reading.mean_loss(model, reading.micro_batches_of(real_model, own_clips, DIALOGS, ALONE))


def test_special_tokens_have_their_true_ids(real_model):
    tokenizer = AutoTokenizer.from_pretrained(real_model)
    assert tokenizer.convert_tokens_to_ids(ADDED_TOKENS) == list(range(TEXT_VOCABULARY, TEXT_VOCABULARY + 128))
    known = {"<|im_start|>": 1, "<|im_end|>": 2, "<global-img>": 49152, "<fake_token_around_image>": 49189}
    known |= {"<image>": 49190, "<end_of_utterance>": 49279}
    assert tokenizer.convert_tokens_to_ids(list(known)) == list(known.values())
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, len(tokenizer)) == (2, 49279, 49280)


def test_real_text_is_read_well_and_as_the_stock_model_reads_it(real_model, model, stock_text, clip_file):
    for batch in reading.micro_batches_of(real_model, clip_file.root, [clip_file.name], ALONE):
        losses = reading.token_losses(model, batch)
        print(f"{clip_file.name}: loss/lm {losses.mean():.3f}")
        assert losses.mean() < GOOD_LOSS
        with torch.no_grad():
            frames = model.encode_frames(batch.frames).flatten(0, 1)
        stock = reading.stock_token_losses(stock_text, frames, batch)
        torch.testing.assert_close(losses, stock, rtol=TOLERANCE, atol=TOLERANCE)
        assert reading.loss_one_too_far(model, batch) > LOSS_OF_THE_WRONG_TOKEN


def test_a_packed_row_is_its_clips_alone(real_model, own_clips, model, right_loss):
    (row,) = reading.micro_batches_of(real_model, own_clips, DIALOGS, PACKED)
    assert len(row.segment_lengths) == len(DIALOGS)
    assert reading.mean_loss(model, [row]) == pytest.approx(right_loss, rel=TOLERANCE)


@pytest.mark.parametrize("way", WAYS)
def test_the_model_as_trained_reads_the_same(real_model, own_clips, right_loss, way):
    max_tokens, precision, checkpointing, mode = WAYS[way]
    prepared = load_model(load_recipe(words(real_model, own_clips, way)))
    assert prepared.training
    batches = reading.micro_batches_of(real_model, own_clips, DIALOGS, max_tokens)
    tolerance = BF16_TOLERANCE if precision == "bf16" else TOLERANCE
    assert reading.mean_loss(prepared, batches) == pytest.approx(right_loss, rel=tolerance)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("engine", ENGINES)
def test_the_first_logged_loss_is_the_right_one(real_model, own_clips, right_loss, tmp_path, engine, way):
    file, num_processes = ENGINES[engine]
    run = launch(file, words(real_model, own_clips, way), tmp_path / "run", num_processes, timeout_s=600).check()
    (first,) = run.metrics()
    tolerance = BF16_TOLERANCE if WAYS[way][1] == "bf16" else TOLERANCE
    print(f"{engine} {way}: loss/lm {first['loss/lm']:.6f}, alone in fp32 {right_loss:.6f}")
    assert first["loss/lm"] == pytest.approx(right_loss, rel=tolerance)


def words(real_model, own_clips, way) -> list[str]:
    """Return the words of a recipe of one step over all three clips."""
    max_tokens, precision, checkpointing, mode = WAYS[way]
    return [
        mode,
        f"model.name_or_path={real_model}",
        f"data.root={own_clips}",
        f"data.train=[{', '.join(DIALOGS)}]",
        "data.val=[]",
        "data.num_workers=0",
        "log.report_to=[]",
        f"train.max_tokens={max_tokens}",
        f"train.precision={precision}",
        f"train.gradient_checkpointing={str(checkpointing).lower()}",
        f"train.global_batch_size={len(DIALOGS)}",
        "train.max_steps=1",
    ]
