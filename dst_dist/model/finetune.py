"""What is trained and how it is loaded and saved: the one place that knows LoRA from full, and dtypes."""

import copy
import functools
import logging
import re
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedConfig, SmolVLMConfig

from dst_dist.config import Lora, Recipe
from dst_dist.errors import CheckpointError, ConfigError
from dst_dist.model.adapters import base_digest, check_base, check_repeatable, continued_config, saved_base_digest
from dst_dist.model.folders import (
    cannot_be_had, check_finite, check_keys, check_shapes, check_weight_files, read_model_config, some, weight_files
)  # fmt: skip
from dst_dist.model.smolvlm_dst import HEAD_NAMES, SETTINGS, SmolVLMForDST

logger = logging.getLogger(__name__)

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
PARTS = ("text", "connector", "vision", "heads")


def load_model(recipe: Recipe) -> SmolVLMForDST | PeftModel:
    """The model ready to train on CPU: weights loaded, LoRA injected, `requires_grad`, dtypes and
    checkpointing set, in training mode.

    `model.name_or_path` is a SmolVLM2 on the hub, a local folder of one, or an earlier run's `final/`. Of an
    adapter, mode `lora` continues it and mode `full` merges it into its base. New heads and adapters come
    from the recipe's seed alone, so all processes make the same.

    Trained parameters and both heads are float32; frozen ones bfloat16 under precision bf16.

    Raises:
        ConfigError: the model cannot be had, or does not fit the recipe.
        CheckpointError: its weights are not complete, not finite, or not of this architecture, or an adapter's base
            has others.
    """
    torch.manual_seed(recipe.seed)
    source, lora = recipe.model.name_or_path, recipe.finetune.mode == "lora"
    settings = {"tokens_per_frame": recipe.model.tokens_per_frame}
    _warn_of_other_frame_tokens(source, recipe.model.tokens_per_frame)
    adapter = _read_adapter_config(source)
    if adapter is None:
        model = _load_base(source, settings)
        if lora:
            model.config.base_digest = base_digest(model)
            model = _inject(model, _lora_config(recipe, model, source))
    else:
        model = _load_base_of(adapter, source, settings)
        if lora:
            model.config.base_digest = saved_base_digest(source) or base_digest(model)
            config = continued_config(adapter, _lora_config(recipe, model, adapter.base_model_name_or_path))
            model = _load_adapter(_inject(model, config), Path(source), may_lack={"connector", "vision_model"})
        else:
            model = _load_adapter(_inject(model, adapter), Path(source)).merge_and_unload()
    _prepare(model, recipe)
    return model


def check_before_loading(recipe: Recipe, config: SmolVLMConfig, base: str | None = None) -> None:
    """Raise what `load_model` would raise of the recipe and the folder's files, without loading a weight.

    Args:
        config: of the model that the recipe names.
        base: as in `load_for_inference`.
    """
    source = recipe.model.name_or_path
    adapter = _read_adapter_config(source)
    base = source if adapter is None else _base_of(adapter, source, base)
    if adapter is not None:
        check_weight_files(Path(source), [ADAPTER_WEIGHTS])
    if Path(base).is_dir():
        check_weight_files(Path(base), weight_files(Path(base)))
    if recipe.finetune.mode == "lora":
        with torch.device("meta"):
            config = _lora_config(recipe, SmolVLMForDST(copy.deepcopy(config)), base)
        if adapter is not None:
            continued_config(adapter, config)


def load_for_inference(folder: str | Path, base: str | None = None) -> SmolVLMForDST:
    """A trained model in float32 and evaluation mode, from a full `final/` or an adapter merged in memory.

    Args:
        folder: what `save_model` wrote.
        base: the adapter's base, if it is no longer where `adapter_config.json` says.

    Raises:
        ConfigError: the folder or the adapter's base cannot be had.
        CheckpointError: weights are missing, the heads among them, or the base has others than in training.
    """
    adapter = _read_adapter_config(str(folder))
    if adapter is None:
        return _load_base(str(folder), {}, new_heads=False).eval()
    has_heads = set(HEAD_NAMES) <= set(adapter.modules_to_save or ())
    model = _load_base_of(adapter, str(folder), {}, base, new_heads=has_heads)
    return _load_adapter(_inject(model, adapter), Path(folder)).merge_and_unload().eval()


def save_model(model: nn.Module, state_dict: Mapping[str, torch.Tensor], folder: str | Path) -> None:
    """Write a Hugging Face folder: the full model, or the adapter with its heads (and connector) and its base's digest.

    Contains no collective; call it on one process.

    Args:
        model: as trained, wrapped or not.
        state_dict: whole tensors by the names of the unwrapped model, at least `saved_names`.

    Raises:
        CheckpointError: if tensors are missing from `state_dict`, or the folder holds the other kind of model.
    """
    model, folder = _without_wrappers(model), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _refuse_mixture(folder, "model*.safetensors*" if isinstance(model, PeftModel) else "adapter_*")
    base = unwrap(model)
    if isinstance(model, PeftModel):
        _check_complete(state_dict, saved_names(model))
        weights = get_peft_model_state_dict(model, state_dict=dict(state_dict), save_embedding_layers=False)
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
        save_file(weights, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
        _save_adapter_config(model, folder)
    else:
        _check_complete(state_dict, saved_names(model))
        # Else transformers gives the weights back the names that they were loaded by.
        base.save_pretrained(folder, state_dict=dict(state_dict), save_original_format=False)
    # A frozen bf16 tower would make config.json say bfloat16, and `dtype="auto"` round what was trained.
    base.config.dtype = torch.float32
    base.config.save_pretrained(folder)


def saved_names(model: nn.Module) -> set[str]:
    """Names of the tensors that `save_model` writes: all of a full model; of an adapter its own, among them what it
    trained earlier and is frozen now."""
    model = _without_wrappers(model)
    if isinstance(model, PeftModel):
        return {name for name, _ in model.named_parameters() if _in_adapter(name)}
    return set(model.state_dict())


def parameter_groups(model: nn.Module) -> dict[str, list[tuple[str, nn.Parameter]]]:
    """The trained parameters by part: `text` (LoRA and the language head too), `connector`, `vision`, `heads`.

    Names are those of `model.named_parameters()`; a part without trained parameters is an empty list.
    """
    groups: dict[str, list[tuple[str, nn.Parameter]]] = {part: [] for part in PARTS}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[_part_of(name)].append((name, parameter))
    return groups


def unwrap(model: nn.Module) -> SmolVLMForDST:
    """The SmolVLMForDST inside DDP, DeepSpeed, torch.compile and peft wrappers."""
    model = _without_wrappers(model)
    return model.get_base_model() if isinstance(model, PeftModel) else model


def _without_wrappers(model: nn.Module) -> SmolVLMForDST | PeftModel:
    while not isinstance(model, SmolVLMForDST | PeftModel):
        model = model._orig_mod if hasattr(model, "_orig_mod") else model.module
    return model


def _part_of(name: str) -> str:
    pieces = name.split(".")
    if any(head in pieces for head in HEAD_NAMES):
        return "heads"
    if "vision_model" in pieces:
        return "vision"
    return "connector" if "connector" in pieces else "text"


def _in_adapter(name: str) -> bool:
    return ".lora_" in name or ".modules_to_save." in name


# Preparing


def _prepare(model: SmolVLMForDST | PeftModel, recipe: Recipe) -> None:
    """Set what is trained, dtypes, compute precision and checkpointing."""
    trained = recipe.finetune.train.model_dump() | {"heads": True}
    bf16 = recipe.train.precision == "bf16"
    for name, parameter in model.named_parameters():
        in_adapter = isinstance(model, PeftModel) and _in_adapter(name)
        wanted = trained[_part_of(name)] and (in_adapter or not isinstance(model, PeftModel))
        parameter.requires_grad_(wanted)
        # A part of the adapter that is frozen now is saved again, and should not be rounded on the way.
        keep = wanted or in_adapter or _part_of(name) == "heads" or not bf16
        parameter.data = parameter.data.to(torch.float32 if keep else torch.bfloat16)
    base = unwrap(model)
    base.compute_dtype = torch.bfloat16 if bf16 else None
    base.vision_batch_size = recipe.model.vision_batch_size
    if recipe.train.gradient_checkpointing:
        _checkpoint_layers(base, trained["vision"])
    model.train()


def _checkpoint_layers(base: SmolVLMForDST, vision: bool) -> None:
    """Recompute the text layers, and a trained tower's, in the backward pass.

    Set on the layers themselves: the model's own switch also hooks the embeddings of a frozen tower to
    require gradients, which puts the tower back into the graph.
    """
    layers = list(base.model.text_model.layers)
    if vision:
        layers += base.model.vision_model.encoder.layers
    for layer in layers:
        layer.gradient_checkpointing = True
        layer._gradient_checkpointing_func = functools.partial(checkpoint, use_reentrant=False)


# LoRA


def _lora_config(recipe: Recipe, base: SmolVLMForDST, base_name: str) -> LoraConfig:
    finetune = recipe.finetune
    saved = list(HEAD_NAMES)
    saved += ["connector"] if finetune.train.connector else []
    saved += ["vision_model"] if finetune.train.vision else []
    return LoraConfig(
        base_model_name_or_path=base_name,
        r=finetune.lora.rank,
        lora_alpha=finetune.lora.alpha,
        lora_dropout=finetune.lora.dropout,
        target_modules=_lora_targets(finetune.lora, base),
        modules_to_save=saved,
    )


def _inject(model: SmolVLMForDST, config: LoraConfig) -> PeftModel:
    with warnings.catch_warnings():
        # peft 0.21 asks transformers 5.24 by a name that is deprecated there.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        # Whoever names another place for the base means it.
        warnings.filterwarnings("ignore", message=".*base_model_name_or_path.* was renamed")
        return get_peft_model(model, config)


def _lora_targets(lora: Lora, base: SmolVLMForDST) -> str:
    """A pattern for the named linear layers of the text model; plain suffixes would hit the tower too."""
    layers = {
        name.rpartition(".")[2]
        for name, module in base.model.text_model.named_modules()
        if isinstance(module, nn.Linear)
    }
    unknown = sorted(set(lora.target_modules) - layers)
    if unknown:
        known = ", ".join(sorted(layers))
        raise ConfigError(f"finetune.lora.target_modules: the text model has no {', '.join(unknown)}; it has {known}")
    names = "|".join(re.escape(name) for name in sorted(set(lora.target_modules)))
    return rf"model\.text_model\..*\.({names})"


def _load_adapter(model: PeftModel, folder: Path, may_lack: Collection[str] = ()) -> PeftModel:
    """Fill a fresh adapter from a folder; modules in `may_lack` stay the base's where the folder has none."""
    path = folder / ADAPTER_WEIGHTS
    if not path.is_file():
        raise CheckpointError(f"{folder}: no {ADAPTER_WEIGHTS}; adapters are read from safetensors only")
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not readable ({error})") from error
    own = get_peft_model_state_dict(model, save_embedding_layers=False)
    lacking = {name for name in own.keys() - weights.keys() if not set(name.split(".")) & set(may_lack)}
    check_keys(str(path), lacking, weights.keys() - own.keys())
    wrong = [(name, tensor.shape, own[name].shape) for name, tensor in weights.items() if tensor.shape != own[name].shape]
    check_shapes(str(path), "the base model gives", wrong)
    check_finite(str(path), weights)
    set_peft_model_state_dict(model, own | weights)
    return model


def _save_adapter_config(model: PeftModel, folder: Path) -> None:
    config = model.peft_config["default"]
    training = config.inference_mode
    config.inference_mode = True
    config.save_pretrained(folder)
    config.inference_mode = training


# Folders


def _load_base(name: str, settings: Mapping[str, object], new_heads: bool = True) -> SmolVLMForDST:
    """A full model in float32. `settings` replace those of its config."""
    config = read_model_config(name)
    try:
        for key, value in settings.items():
            setattr(config, key, value)
        model, info = SmolVLMForDST.from_pretrained(name, config=config, dtype=torch.float32, output_loading_info=True)
    except OSError as error:
        raise ConfigError(cannot_be_had(name, error)) from error
    except (RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{name}: weights do not fit the architecture in its config.json ({error})") from error
    if not new_heads:
        check_keys(name, info["missing_keys"], ())
    check_finite(name, model.state_dict())
    return model


def _load_base_of(
    adapter: LoraConfig, folder: str, settings: Mapping[str, object], place: str | None = None, new_heads: bool = True
) -> SmolVLMForDST:  # fmt: skip
    """The base that the adapter in `folder` was trained on, from `place` if it is given. `settings` replace the folder's."""
    place = _base_of(adapter, folder, place)
    base = _load_base(place, _read_settings(folder) | settings, new_heads)
    check_base(folder, place, base)
    return base


def _read_adapter_config(name: str) -> LoraConfig | None:
    """The adapter's config if `name` is a local adapter folder."""
    if not (Path(name) / ADAPTER_CONFIG).is_file():
        return None
    try:
        config = LoraConfig.from_pretrained(name)
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{name}/{ADAPTER_CONFIG}: not readable ({error})") from error
    if not isinstance(config, LoraConfig):
        raise ConfigError(f"model.name_or_path: {name} is a {config.peft_type} adapter, only LoRA is known")
    check_repeatable(name, config)
    return config


def _base_of(adapter: LoraConfig, folder: str, place: str | None = None) -> str:
    """The name of the adapter's base, or `place` if it is given; either must be there."""
    name = place or adapter.base_model_name_or_path
    if not name:
        raise CheckpointError(f"{folder}/{ADAPTER_CONFIG}: base_model_name_or_path is missing")
    if (Path(name) / ADAPTER_CONFIG).is_file():
        raise CheckpointError(f"{folder}: its base {name} is an adapter itself; it should be a full model")
    try:
        read_model_config(name)
    except ConfigError as error:
        if place:
            raise
        reason = str(error).removeprefix("model.name_or_path: ")
        raise ConfigError(
            f"{folder}/{ADAPTER_CONFIG}: the base_model_name_or_path {reason}. Put the base back, or name its place there; "
            "evaluate and stream take model.name_or_path=PLACE"
        ) from error
    return name


def _read_settings(folder: str) -> dict[str, object]:
    """The settings that `save_model` left in the config beside an adapter."""
    try:
        values, _ = PreTrainedConfig.get_config_dict(folder)
    except OSError as error:
        raise CheckpointError(f"{folder}: no config.json beside the adapter, tokens_per_frame is unknown") from error
    return {key: values[key] for key in SETTINGS if values.get(key) is not None}


def _warn_of_other_frame_tokens(source: str, tokens: int) -> None:
    if (Path(source) / "config.json").is_file():
        earlier = _read_settings(source).get("tokens_per_frame", tokens)
        if earlier != tokens:
            logger.warning("model.tokens_per_frame is %s, but %s was trained with %s", tokens, source, earlier)


def _refuse_mixture(folder: Path, other_kind: str) -> None:
    """A folder with a full model and an adapter would be read as the adapter alone."""
    found = sorted(path.name for path in folder.glob(other_kind))
    if found:
        raise CheckpointError(f"{folder}: already holds {', '.join(found)}, another kind of model; use an empty folder")


def _check_complete(weights: Collection[str], expected: Collection[str]) -> None:
    missing = set(expected) - set(weights)
    if missing:
        raise CheckpointError(f"the state to save lacks {len(missing)} tensors: {some(missing)}")
