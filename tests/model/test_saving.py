"""Model folders: what is loaded, what is saved, and what can be gone on from."""

import json
import shutil

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import LlamaConfig, SmolVLMConfig, SmolVLMForConditionalGeneration

from dst_dist.errors import CheckpointError, ConfigError
from dst_dist.model.adapters import SETTINGS
from dst_dist.model.loading import load_for_inference, load_model
from dst_dist.model.saving import save_model
from dst_dist.model.smolvlm_dst import SmolVLMForDST
from dst_dist.model.trainable import parameter_groups, unwrap
from tests.model.finetuning import SPEAKING_BIAS, WAYS, a_batch, backward, is_head, outputs, recipe, train_and_save

# Loading


def test_all_stock_weights_are_loaded_the_untied_head_among_them(stock):
    weights = load_file(stock / "model.safetensors")
    loaded = load_model(recipe(stock, "full")).state_dict()
    new = set(loaded) - set(weights)
    assert len(new) == 4 and all(is_head(name) for name in new)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())
    assert not torch.equal(loaded["lm_head.weight"], loaded["model.text_model.embed_tokens.weight"])


def spoiled(stock, tmp_path, change):
    """A copy of the stock folder whose weights went through `change`."""
    folder = tmp_path / "spoiled"
    shutil.copytree(stock, folder)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_missing_and_unexpected_weights_are_refused(stock, tmp_path):
    def change(weights):
        weights["model.text_model.layers.7.mlp.up_proj.weight"] = weights.pop("lm_head.weight")

    with pytest.raises(CheckpointError) as fault:
        load_model(recipe(spoiled(stock, tmp_path, change)))
    assert "1 weights are missing: lm_head.weight" in str(fault.value)
    assert "layers.7.mlp.up_proj.weight" in str(fault.value)


def test_pickled_weights_are_not_read(stock, tmp_path):
    folder = tmp_path / "pickled"
    shutil.copytree(stock, folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="not a whole model folder"):
        load_model(recipe(folder))


def test_another_kind_of_model_is_refused(tmp_path):
    LlamaConfig().save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="is of type llama, not a SmolVLM2"):
        load_model(recipe(tmp_path))


def test_a_name_that_cannot_be_had_offline_tells_the_command(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="hf download HuggingFaceTB/SmolVLM2-none"):
        load_model(recipe("HuggingFaceTB/SmolVLM2-none"))


@pytest.mark.parametrize("tokens", [16, 25])
def test_more_frame_tokens_than_the_grid_has_are_refused(stock, tokens):
    with pytest.raises(ConfigError, match="1, 4, 9"):
        load_model(recipe(stock, tokens=tokens))


# Saving and loading again


@pytest.mark.parametrize("way", WAYS)
def test_what_is_saved_gives_the_same_outputs_when_loaded_for_inference(stock, tmp_path, way):
    model = train_and_save(tmp_path / "final", stock, *WAYS[way])
    again = load_for_inference(tmp_path / "final")
    assert type(again) is SmolVLMForDST and not again.training and again.config.tokens_per_frame == 4
    torch.testing.assert_close(outputs(again, a_batch(model)), outputs(model, a_batch(model)), rtol=1e-4, atol=1e-5)


def test_an_adapter_folder_holds_adapter_heads_and_connector_alone(stock, tmp_path):
    model = train_and_save(tmp_path, stock, "lora")
    with safe_open(tmp_path / "adapter_model.safetensors", "pt") as file:
        names = set(file.keys())
    prefix = "base_model.model."
    others = {name.removeprefix(prefix) for name in names if ".lora_" not in name}
    assert others == {
        "dst_update_head.weight",
        "dst_update_head.bias",
        "speaking_head.weight",
        "speaking_head.bias",
        "model.connector.modality_projection.proj.weight",
    }
    trained = sum(p.numel() for group in parameter_groups(model).values() for _, p in group)
    assert 4 * trained < (tmp_path / "adapter_model.safetensors").stat().st_size < 4 * trained + 8000
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {"adapter_model.safetensors", "adapter_config.json", "config.json"}


def test_an_adapter_without_connector_does_not_save_it(stock, tmp_path):
    train_and_save(tmp_path, stock, *WAYS["lora-without-connector"])
    with safe_open(tmp_path / "adapter_model.safetensors", "pt") as file:
        assert not [name for name in file.keys() if "connector" in name]


def test_an_adapter_names_its_base_as_the_user_did(stock, tmp_path, monkeypatch):
    monkeypatch.chdir(stock.parent)
    train_and_save(tmp_path, "./stock", "lora")
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == "./stock"


def test_peft_alone_loads_the_adapter_on_a_fresh_base(stock, tmp_path):
    model = train_and_save(tmp_path, stock, "lora")
    base = SmolVLMForDST.from_pretrained(stock, config=SmolVLMConfig.from_pretrained(tmp_path))
    again = PeftModel.from_pretrained(base, tmp_path)
    torch.testing.assert_close(outputs(again, a_batch(model)), outputs(model, a_batch(model)))


def test_an_adapter_is_saved_from_its_trained_tensors_alone(stock, tmp_path):
    model = train_and_save(tmp_path / "whole", stock, "lora")
    trained = {name: p for group in parameter_groups(model).values() for name, p in group}
    save_model(model, trained, tmp_path / "trained")
    saved = [load_file(tmp_path / folder / "adapter_model.safetensors") for folder in ("whole", "trained")]
    torch.testing.assert_close(saved[0], saved[1], rtol=0, atol=0)


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_the_given_state_is_saved_not_the_models(stock, tmp_path, mode):
    model = load_model(recipe(stock, mode))
    state = {name: torch.zeros_like(tensor) for name, tensor in model.state_dict().items()}
    save_model(model, state, tmp_path)
    file = "adapter_model.safetensors" if mode == "lora" else "model.safetensors"
    assert not any(tensor.any() for tensor in load_file(tmp_path / file).values())


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_an_incomplete_state_is_refused(stock, tmp_path, mode):
    model = load_model(recipe(stock, mode))
    state = {name: tensor for name, tensor in model.state_dict().items() if "speaking_head" not in name}
    with pytest.raises(CheckpointError, match="lacks 2 tensors: .*speaking_head.*bias"):
        save_model(model, state, tmp_path)


@pytest.mark.parametrize(("first", "then"), [("lora", "full"), ("full", "lora")])
def test_a_folder_holds_one_kind_of_model(stock, tmp_path, first, then):
    train_and_save(tmp_path, stock, first)
    with pytest.raises(CheckpointError, match="already holds .*safetensors"):
        train_and_save(tmp_path, stock, then)


def test_a_full_folder_beside_a_bf16_tower_keeps_float32(stock, tmp_path):
    model = train_and_save(tmp_path, stock, "full", precision="bf16")
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "float32"
    weights = load_file(tmp_path / "model.safetensors")
    assert torch.equal(weights["lm_head.weight"], model.lm_head.weight)
    assert weights["lm_head.weight"].dtype == torch.float32
    again = SmolVLMForConditionalGeneration.from_pretrained(tmp_path)
    assert torch.equal(again.lm_head.weight, model.lm_head.weight)


def test_thresholds_are_kept_with_full_models_and_adapters(stock, tmp_path):
    for mode in ("lora", "full"):
        model = load_model(recipe(stock, mode))
        unwrap(model).config.dst_threshold, unwrap(model).config.speaking_threshold = 0.2, 0.7
        unwrap(model).config.dst_update_rate, unwrap(model).config.speaking_rate = 0.1, 0.05
        save_model(model, model.state_dict(), tmp_path / mode)
        config = load_for_inference(tmp_path / mode).config
        assert [getattr(config, name) for name in SETTINGS[1:]] == [0.2, 0.1, 0.7, 0.05]
        config = unwrap(load_model(recipe(tmp_path / mode, mode))).config
        assert [getattr(config, name) for name in SETTINGS[1:]] == [0.2, 0.1, 0.7, 0.05]


# Going on from an earlier run


@pytest.mark.parametrize("then", ["lora", "full"])
@pytest.mark.parametrize("first", ["lora", "full"])
def test_an_earlier_final_folder_is_a_starting_point(stock, tmp_path, first, then):
    model = train_and_save(tmp_path, stock, first)
    again = load_model(recipe(tmp_path, then))
    assert isinstance(again, PeftModel) == (then == "lora")
    torch.testing.assert_close(outputs(again, a_batch(model)), outputs(model, a_batch(model)), rtol=1e-4, atol=1e-5)


def test_a_continued_adapter_trains_and_names_the_first_base(stock, tmp_path):
    train_and_save(tmp_path / "first", stock, "lora")
    again = train_and_save(tmp_path / "second", tmp_path / "first", "lora")
    backward(again, a_batch(again))
    assert all(p.grad is not None for group in parameter_groups(again).values() for _, p in group)
    values = json.loads((tmp_path / "second" / "adapter_config.json").read_text())
    assert values["base_model_name_or_path"] == str(stock)


@pytest.mark.parametrize("trained_before", [True, False])
def test_a_continued_adapter_may_switch_the_connector(stock, tmp_path, trained_before):
    model = train_and_save(tmp_path / "first", stock, "lora", dict(connector=trained_before))
    again = load_model(recipe(tmp_path / "first", "lora", dict(connector=not trained_before)))
    assert bool(parameter_groups(again)["connector"]) == (not trained_before)
    expected = outputs(model, a_batch(model))
    torch.testing.assert_close(outputs(again, a_batch(model)), expected)
    save_model(again, again.state_dict(), tmp_path / "second")
    saved = load_for_inference(tmp_path / "second")
    torch.testing.assert_close(outputs(saved, a_batch(model)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("tokens", "warned"), [(4, False), (1, True)])
@pytest.mark.parametrize("mode", ["lora", "full"])
def test_going_on_with_other_frame_tokens_is_warned_of(stock, tmp_path, caplog, mode, tokens, warned):
    train_and_save(tmp_path, stock, mode)
    model = load_model(recipe(tmp_path, mode, tokens=tokens))
    assert unwrap(model).config.tokens_per_frame == tokens
    assert ("was trained with 4" in caplog.text) == warned


@pytest.mark.parametrize(
    ("lora", "key"),
    [(dict(rank=8), "rank"), (dict(alpha=16), "alpha"), (dict(target_modules=["q_proj"]), "target_modules")],
)
def test_a_continued_adapter_of_another_form_is_refused(stock, tmp_path, lora, key):
    train_and_save(tmp_path, stock, "lora")
    with pytest.raises(ConfigError, match=f"finetune.lora.{key}.*differs from the adapter's"):
        load_model(recipe(tmp_path, "lora", **lora))


def test_a_base_may_have_moved(stock, tmp_path):
    shutil.copytree(stock, tmp_path / "base")
    model = train_and_save(tmp_path / "final", tmp_path / "base", "lora")
    expected = outputs(model, a_batch(model))
    (tmp_path / "base").rename(tmp_path / "moved")
    with pytest.raises(ConfigError, match="base"):
        load_for_inference(tmp_path / "final")
    again = load_for_inference(tmp_path / "final", base=str(tmp_path / "moved"))
    torch.testing.assert_close(outputs(again, a_batch(model)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda weights: weights.pop(SPEAKING_BIAS), f"1 weights are missing: {SPEAKING_BIAS}"),
        (lambda weights: weights.update(extra=torch.zeros(1)), "belong to no part of the model: extra"),
        (
            lambda weights: weights.update({SPEAKING_BIAS: torch.zeros(3)}),
            rf"the base model gives: {SPEAKING_BIAS} \[3\] instead of \[2\]",
        ),
    ],
)
def test_a_spoiled_adapter_is_refused(stock, tmp_path, spoil, message):
    train_and_save(tmp_path, stock, "lora")
    weights = load_file(tmp_path / "adapter_model.safetensors")
    spoil(weights)
    save_file(weights, tmp_path / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        load_for_inference(tmp_path)


def test_an_adapter_that_is_no_safetensors_is_refused(stock, tmp_path):
    train_and_save(tmp_path, stock, "lora")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(CheckpointError, match="not readable"):
        load_for_inference(tmp_path)
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "adapter_model.bin")
    with pytest.raises(CheckpointError, match="safetensors only"):
        load_for_inference(tmp_path)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [("{", CheckpointError, "adapter_config.json: not readable"), ('{"peft_type": "IA3"}', ConfigError, "only LoRA")],
)
def test_an_adapter_config_of_another_kind_is_refused(stock, tmp_path, content, error, message):
    train_and_save(tmp_path, stock, "lora")
    (tmp_path / "adapter_config.json").write_text(content)
    with pytest.raises(error, match=message):
        load_model(recipe(tmp_path))


def test_a_stock_model_has_no_heads_to_evaluate(stock):
    with pytest.raises(CheckpointError, match="4 weights are missing: dst_update_head"):
        load_for_inference(stock)


# Wrappers


class Wrapper(nn.Module):
    """Stands for DDP and DeepSpeed's engine."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, **kwargs):
        return self.module(**kwargs)


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_wrappers_change_neither_parts_nor_what_is_saved(stock, tmp_path, mode):
    model = load_model(recipe(stock, mode))
    wrapped = Wrapper(model)
    assert unwrap(wrapped) is unwrap(model) and type(unwrap(wrapped)) is SmolVLMForDST
    sizes = [{part: len(group) for part, group in parameter_groups(each).items()} for each in (model, wrapped)]
    assert sizes[0] == sizes[1]
    save_model(wrapped, model.state_dict(), tmp_path)
    torch.testing.assert_close(outputs(load_for_inference(tmp_path), a_batch(model)), outputs(model, a_batch(model)))
