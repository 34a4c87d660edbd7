"""`final/`: what is in it, that it loads, and that another run can start from it."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoTokenizer, SmolVLMForConditionalGeneration
from transformers.processing_utils import ProcessorMixin

from dst_dist.evaluate.run import evaluate_run
from dst_dist.model.smolvlm_dst import SmolVLMForDST
from tests.train.finished import FULL, LORA, both, lines_of, recipe_words
from tests.train.in_process import train

pytestmark = pytest.mark.usefixtures("own_logging_of_test")

PROCESSOR = {
    "processor_config.json": '{"image_seq_len": 1, "processor_class": "SmolVLMProcessor"}',
    "preprocessor_config.json": (
        '{\n  "image_processor_type": "SmolVLMImageProcessor", "do_image_splitting": false,\n'
        '  "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],\n'
        '  "max_image_size": {"longest_edge": 48}, "size": {"longest_edge": 96}\n}\n'
    ),
    "chat_template.json": '{"chat_template": "{{ messages[0].content }}"}',
    "chat_template.jinja": "{{ messages }}\n",
}
"""Small files of a stock SmolVLM2, of an older transformers and of today's."""


STAYS = ("optim.learning_rate=0", "train.max_steps=1", "optim.warmup_steps=0")
"""A step that moves nothing."""


def test_the_final_model_and_tokenizer_load_like_any_others(full, demo):
    model, info = SmolVLMForDST.from_pretrained(full / "final", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    text = 'DST: [{"id": "S1", "transition": "start"}]<end_of_utterance>\n'
    ours, stock = (AutoTokenizer.from_pretrained(place).encode(text) for place in (full / "final", demo / "model"))
    assert ours == stock


@both
def test_the_final_folder_has_no_files_that_its_source_does_not_have(earlier):
    weights = {"model.safetensors"} if earlier.name == "full" else {"adapter_model.safetensors", "adapter_config.json"}
    assert {path.name for path in (earlier / "final").iterdir()} <= {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        *weights,
    }


@pytest.mark.parametrize("mode", [FULL, LORA], ids=["full", "lora"])
def test_the_final_folder_keeps_the_stock_processor(mode, demo, demo_words, tmp_path):
    shutil.copytree(demo / "model", tmp_path / "model")
    for name, content in PROCESSOR.items():
        (tmp_path / "model" / name).write_text(content)
    short = (*mode, "data.val=[]", "train.max_steps=1")
    source = tmp_path / "model"
    for run in ("first", "second"):
        extra = [*short, f"model.name_or_path={source}"]
        assert train(recipe_words(demo_words, tmp_path / run, *extra)) == 0
        final = tmp_path / run / "final"
        assert {name: (final / name).read_text() for name in PROCESSOR} == PROCESSOR
        source = final
    image_processor = AutoImageProcessor.from_pretrained(final)
    assert (image_processor.size.longest_edge, image_processor.do_image_splitting) == (96, False)
    settings, _ = ProcessorMixin.get_processor_dict(final)
    assert settings == ProcessorMixin.get_processor_dict(tmp_path / "model")[0]
    assert settings["image_seq_len"] == 1 and settings["chat_template"] == "{{ messages[0].content }}"
    assert AutoTokenizer.from_pretrained(final).chat_template == "{{ messages }}\n"


def test_the_final_model_without_its_heads_is_a_stock_model(full):
    opened, info = SmolVLMForConditionalGeneration.from_pretrained(full / "final", output_loading_info=True)
    assert not info["missing_keys"] and all(
        "_head." in name and "lm_head" not in name for name in info["unexpected_keys"]
    )
    ours = SmolVLMForDST.from_pretrained(full / "final")
    text = AutoTokenizer.from_pretrained(full / "final").encode("DST: start")
    ids = torch.tensor([*text, ours.config.image_token_id, *text])
    white, pixels = torch.full((1, 3, 48, 48), 255, dtype=torch.uint8), torch.ones(1, 1, 3, 48, 48)
    with torch.no_grad():
        theirs = opened.eval()(input_ids=ids[None], pixel_values=pixels).logits[0]
        output = ours.eval()(ids, white, [len(ids)], torch.arange(len(ids)), torch.tensor([len(text)]))
    torch.testing.assert_close(output.lm_logits, theirs, rtol=1e-4, atol=1e-4)


def test_training_moved_the_weights(full, demo):
    before, after = load_file(demo / "model/model.safetensors"), load_file(full / "final/model.safetensors")
    assert set(after) - set(before) == {
        f"{head}_head.{kind}" for head in ("dst_update", "speaking") for kind in ("weight", "bias")
    }
    assert all(not torch.equal(before[name], after[name]) for name in before)


@both
def test_the_thresholds_chosen_on_validation_are_stored_with_the_model(earlier):
    settings = json.loads((earlier / "final/config.json").read_text())
    last = lines_of(earlier, "val")[-1]
    assert settings["dst_threshold"] == last["dst_update/threshold"]
    assert settings["speaking_threshold"] == last["speaking/threshold"]
    assert settings["tokens_per_frame"] == 1


def test_without_validation_no_threshold_is_stored(demo_words, tmp_path, capsys):
    assert train(recipe_words(demo_words, tmp_path / "run", "data.val=[]", "train.max_steps=1")) == 0
    assert "data.val is empty" in capsys.readouterr().out
    assert not lines_of(tmp_path / "run", "val")
    assert json.loads((tmp_path / "run/final/config.json").read_text()).get("dst_threshold") is None
    assert evaluate_run(tmp_path / "run", "val", ["data.val=[kitchen]"])["dst_update/threshold"] == 0.5


@both
@pytest.mark.parametrize("mode", [FULL, LORA], ids=["to_full", "to_lora"])
def test_a_run_starts_from_an_earlier_final(earlier, mode, demo_words, tmp_path):
    """With a learning rate of 0 it measures exactly what the earlier run measured at its end."""
    extra = [*mode, *STAYS, f"model.name_or_path={earlier}/final"]
    assert train(recipe_words(demo_words, tmp_path / "run", *extra)) == 0
    before, after = lines_of(earlier, "val")[-1], lines_of(tmp_path / "run", "val")[-1]
    for key in ("loss/lm", "loss/dst_gen", "loss/dst_update", "loss/speaking", "dst_update/threshold"):
        assert after[key] == pytest.approx(before[key], rel=1e-5)


def test_a_continued_adapter_is_the_same_adapter(lora, demo_words, tmp_path):
    extra = [*LORA, *STAYS, f"model.name_or_path={lora}/final"]
    assert train(recipe_words(demo_words, tmp_path / "run", *extra)) == 0
    before, after = (load_file(folder / "final/adapter_model.safetensors") for folder in (lora, tmp_path / "run"))
    assert set(before) == set(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
