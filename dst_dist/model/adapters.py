"""Read adapters, load the base that they were trained on, and merge them into it.

The model's class is an argument, because that class loads adapters itself (`SmolVLMForDST.from_pretrained`).
"""

import hashlib
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from dst_dist.errors import CheckpointError, ConfigError
from dst_dist.heads import HEAD_MODULES
from dst_dist.model.lora_layer import LoraLinear
from dst_dist.model.model_config import SETTINGS, model_unavailable, read_model_config
from dst_dist.model.weight_checks import check_finite, check_weight_files, check_weights

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
PLAIN_STARTS = (True, False, "gaussian", "orthogonal")
"""Values of `init_lora_weights` that leave the base as it is."""


def read_adapter_config(name: str | Path) -> LoraConfig | None:
    """Return the config of a local adapter folder, or None if `name` is not one.

    Raises:
        CheckpointError: if it cannot be read, or the adapter's first weights changed the base.
        ConfigError: if the adapter is not LoRA.
    """
    if not (Path(name) / ADAPTER_CONFIG).is_file():
        return None
    try:
        config = LoraConfig.from_pretrained(str(name))
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{name}/{ADAPTER_CONFIG}: not readable ({error})") from error
    if not isinstance(config, LoraConfig):
        raise ConfigError(f"model.name_or_path: {name} is a {config.peft_type} adapter, only LoRA is known")
    if config.init_lora_weights not in PLAIN_STARTS:
        raise CheckpointError(
            f"{name}: init_lora_weights is {config.init_lora_weights}, which changed the base; let peft convert the "
            "adapter to a plain one (save_pretrained with path_initial_model_for_weight_conversion)"
        )
    return config


def base_of(adapter: LoraConfig, folder: str, moved_to: str | None = None) -> str:
    """Return the name of the adapter's base: `moved_to` if given, else what its config says.

    Raises:
        CheckpointError: if no base is named, or it is an adapter itself.
        ConfigError: if the base cannot be read.
    """
    name = moved_to or adapter.base_model_name_or_path
    if not name:
        raise CheckpointError(f"{folder}/{ADAPTER_CONFIG}: base_model_name_or_path is missing")
    if (Path(name) / ADAPTER_CONFIG).is_file():
        raise CheckpointError(f"{folder}: its base {name} is an adapter itself; it should be a full model")
    try:
        read_model_config(name)
    except ConfigError as error:
        if moved_to:
            raise
        reason = str(error).removeprefix("model.name_or_path: ")
        raise ConfigError(
            f"{folder}/{ADAPTER_CONFIG}: the base_model_name_or_path {reason}. Put the base back, or name its place "
            "there; evaluate and stream take model.name_or_path=PLACE"
        ) from error
    return name


def read_settings(folder: str) -> dict[str, object]:
    """Return the SETTINGS in an adapter folder's config.json. Raises CheckpointError if there is no such file."""
    try:
        values, _ = PreTrainedConfig.get_config_dict(folder)
    except OSError as error:
        raise CheckpointError(f"{folder}: no config.json with the adapter, tokens_per_frame is unknown") from error
    return {key: values[key] for key in SETTINGS if values.get(key) is not None}


def load_full(
    model_class: type[PreTrainedModel], name: str, settings: Mapping[str, object], new_heads: bool = True
) -> PreTrainedModel:
    """Return a full model in float32.

    Args:
        settings: replace those of its config.
        new_heads: whether it may lack its heads, which are drawn anew then.

    Raises:
        ConfigError: if it cannot be read.
        CheckpointError: if its weights are not complete, not finite, or of another architecture.
    """
    config = read_model_config(name)
    config.update(settings)
    try:
        model, info = model_class.from_pretrained(name, config=config, dtype=torch.float32, output_loading_info=True)
    except OSError as error:
        raise model_unavailable(name, error) from error
    if not new_heads:
        check_weights(name, info["missing_keys"])
    check_finite(name, model.state_dict())
    return model


def load_base_of(
    model_class: type[PreTrainedModel], folder: str, base: str, settings: Mapping[str, object], new_heads: bool = True
) -> PreTrainedModel:
    """Return the base of the adapter in `folder`, in float32, with the settings of that folder.

    Args:
        base: the base's name, from `base_of`.
        settings: replace those of the folder.
        new_heads: as in `load_full`.

    Raises:
        CheckpointError: as `load_full`, or if the base has other weights than in training.
    """
    model = load_full(model_class, base, read_settings(folder) | settings, new_heads)
    trained_on = saved_base_digest(folder)
    if trained_on is not None and trained_on != base_digest(model):
        raise CheckpointError(
            f"{folder}: its base {base} holds other weights than it was trained on; put those back, or name the "
            f"folder that has them as base_model_name_or_path in {folder}/{ADAPTER_CONFIG}"
        )
    return model


def load_merged(model_class: type[PreTrainedModel], folder: str | Path, base: str | None = None) -> PreTrainedModel:
    """Return an adapter merged into its base, in float32 and evaluation mode; `base` as in `load_for_inference`."""
    adapter = read_adapter_config(folder)
    has_heads = set(HEAD_MODULES) <= set(adapter.modules_to_save or ())
    base = base_of(adapter, str(folder), base)
    model = load_base_of(model_class, str(folder), base, {}, new_heads=has_heads)
    return load_adapter(add_adapter(model, adapter), Path(folder)).merge_and_unload().eval()


def add_adapter(model: PreTrainedModel, config: LoraConfig) -> PeftModel:
    """Put fresh LoRA layers into a model, which their config then names as their base."""
    # peft sets it too, with a warning if the base had another place before.
    config.base_model_name_or_path = model.name_or_path
    config._register_custom_module({nn.Linear: LoraLinear})
    return get_peft_model(model, config)


def load_adapter(model: PeftModel, folder: Path, may_lack: Collection[str] = ()) -> PeftModel:
    """Load a folder's weights into a fresh adapter.

    Args:
        may_lack: modules that stay the base's where the folder has none.

    Raises:
        CheckpointError: if weights are missing, unknown, not finite or of another shape.
    """
    path = folder / ADAPTER_WEIGHTS
    check_weight_files(folder, [ADAPTER_WEIGHTS])
    weights = load_file(path)
    own = get_peft_model_state_dict(model, save_embedding_layers=False)
    missing = {name for name in own.keys() - weights.keys() if not set(name.split(".")) & set(may_lack)}
    shapes = [(name, weights[name].shape, own[name].shape) for name in weights.keys() & own.keys()]
    mismatched = [(name, found, right) for name, found, right in shapes if found != right]
    check_weights(path, missing, weights.keys() - own.keys(), mismatched)
    check_finite(path, weights)
    set_peft_model_state_dict(model, own | weights)
    return model


def base_digest(base: nn.Module) -> str:
    """Return a hex digest of all weights of a float32 base but the heads, which are an adapter's own."""
    own = {name: tensor for name, tensor in base.state_dict().items() if name.split(".")[0] not in HEAD_MODULES}
    return weights_digest(own)


def weights_digest(weights: Mapping[str, torch.Tensor]) -> str:
    """Return a hex digest of tensors on the host, by name.

    Every byte is read, since two models may differ in a few rows of their embeddings. sha256 makes 1 to 2 GB/s a thread
    and lets other threads run: seconds for the 2.2B.
    """
    with ThreadPoolExecutor() as threads:
        parts = threads.map(tensor_digest, weights, weights.values())
    return hashlib.sha256("".join(sorted(parts)).encode()).hexdigest()


def saved_base_digest(folder: str) -> str | None:
    """Return the digest of the base that an adapter was trained on, or None: plain peft does not save one."""
    return PreTrainedConfig.get_config_dict(folder)[0].get("base_digest")


def tensor_digest(name: str, tensor: torch.Tensor) -> str:
    """Return a hex digest of a tensor's name, shape and bytes."""
    digest = hashlib.sha256(f"{name} {list(tensor.shape)}".encode())
    digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
