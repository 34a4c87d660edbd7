"""Load a model to train or to use: from the hub, a folder, or an earlier run's `final/`, full or adapter."""

import copy
from pathlib import Path

import torch
from peft import PeftModel
from transformers import SmolVLMConfig

from dst_dist.config import Recipe
from dst_dist.logs import logger
from dst_dist.model import adapters
from dst_dist.model.compiling import compile_layers, why_not_compiled
from dst_dist.model.lora import continued_config, lora_config
from dst_dist.model.smolvlm_dst import SmolVLMForDST
from dst_dist.model.trainable import make_trainable, unwrap
from dst_dist.model.weight_checks import check_weight_files, weight_files


def load_model(recipe: Recipe) -> SmolVLMForDST | PeftModel:
    """Return the model ready to train on CPU: weights loaded, LoRA added, trained parts and dtypes set, layers
    compiled as `train.compile` says.

    `model.name_or_path` is a SmolVLM2 on the hub, a local folder of one, or an earlier run's `final/`. Mode `lora`
    continues an adapter, mode `full` merges it into its base. New heads always begin alike, and new adapters come
    from the recipe's seed alone, so all processes make the same.

    Trained parameters and both heads are float32; frozen ones bfloat16 under precision bf16.

    Raises:
        ConfigError: the model cannot be read or compiled, or does not fit the recipe.
        CheckpointError: its weights are not complete, not finite, or not of this architecture, or an adapter's base
            has other weights than in training.
    """
    torch.manual_seed(recipe.seed)
    source, lora = recipe.model.name_or_path, recipe.finetune.mode == "lora"
    settings = {"tokens_per_frame": recipe.model.tokens_per_frame}
    _warn_of_other_frame_tokens(source, recipe.model.tokens_per_frame)
    adapter = adapters.read_adapter_config(source)
    if adapter is None:
        model = adapters.load_full(SmolVLMForDST, source, settings)
        if lora:
            model.config.base_digest = adapters.base_digest(model)
            model = adapters.add_adapter(model, lora_config(recipe, model))
    else:
        model = adapters.load_base_of(SmolVLMForDST, source, adapters.base_of(adapter, source), settings)
        if lora:
            model.config.base_digest = adapters.saved_base_digest(source) or adapters.base_digest(model)
            model = adapters.add_adapter(model, continued_config(adapter, lora_config(recipe, model)))
            model = adapters.load_adapter(model, Path(source), may_lack={"connector", "vision_model"})
        else:
            model = adapters.load_adapter(adapters.add_adapter(model, adapter), Path(source)).merge_and_unload()
    make_trainable(model, recipe)
    if why_not_compiled(recipe.train.compile) is None:
        compile_layers(unwrap(model))
    return model


def check_before_loading(recipe: Recipe, config: SmolVLMConfig, base: str | None = None) -> None:
    """Raise what `load_model` would raise about the recipe and the folder's files, without loading a weight.

    Args:
        config: of the model that the recipe names.
        base: as in `load_for_inference`.
    """
    source = recipe.model.name_or_path
    adapter = adapters.read_adapter_config(source)
    full = Path(source if adapter is None else adapters.base_of(adapter, source, base))
    if adapter is not None:
        check_weight_files(Path(source), [adapters.ADAPTER_WEIGHTS])
    if full.is_dir():
        check_weight_files(full, weight_files(full))
    if recipe.finetune.mode == "lora":
        with torch.device("meta"):
            wanted = lora_config(recipe, SmolVLMForDST(copy.deepcopy(config)))
        if adapter is not None:
            continued_config(adapter, wanted)


def load_for_inference(folder: str | Path, base: str | None = None) -> SmolVLMForDST:
    """Return a trained model in float32 and evaluation mode, from a full `final/` or an adapter merged in memory.

    Args:
        folder: what `save_model` wrote.
        base: the adapter's base, if it is no longer where `adapter_config.json` says.

    Raises:
        ConfigError: the folder or the adapter's base cannot be read.
        CheckpointError: weights are missing, the heads among them, or the base has others than in training.
    """
    if adapters.read_adapter_config(folder) is None:
        return adapters.load_full(SmolVLMForDST, str(folder), {}, new_heads=False).eval()
    return adapters.load_merged(SmolVLMForDST, folder, base)


def _warn_of_other_frame_tokens(source: str, tokens_per_frame: int) -> None:
    if (Path(source) / "config.json").is_file():
        earlier = adapters.read_settings(source).get("tokens_per_frame", tokens_per_frame)
        if earlier != tokens_per_frame:
            logger.warning(f"model.tokens_per_frame is {tokens_per_frame}, but {source} was trained with {earlier}")
