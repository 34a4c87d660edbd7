"""Save a trained model as a Hugging Face folder: in full, or the adapter with its heads."""

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import nn

from dst_dist.model.adapters import ADAPTER_WEIGHTS, weights_digest
from dst_dist.model.trainable import is_in_adapter, unwrap, without_wrappers
from dst_dist.model.transformers_4 import keep_config_readable
from dst_dist.model.weight_checks import check_weights


def save_model(model: nn.Module, state_dict: Mapping[str, torch.Tensor], folder: str | Path) -> None:
    """Write a Hugging Face folder: the full model, or the adapter with its heads (and connector) and its base's digest.

    A digest of the weights goes into its config, by which an evaluation is known to be of them. Contains no collective;
    call it on one process.

    Args:
        model: as trained, wrapped or not.
        state_dict: whole tensors by the names of the unwrapped model, at least `saved_names`.
        folder: new or empty.

    Raises:
        CheckpointError: if tensors are missing from `state_dict`.
    """
    model, folder = without_wrappers(model), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    base, names = unwrap(model), saved_names(model)
    check_weights("the state to save", names - state_dict.keys())
    weights = {name: tensor.detach().cpu() for name, tensor in state_dict.items() if name in names}
    base.config.weights_digest = weights_digest(weights)
    if isinstance(model, PeftModel):
        weights = get_peft_model_state_dict(model, state_dict=weights, save_embedding_layers=False)
        weights = {name: tensor.contiguous() for name, tensor in weights.items()}
        save_file(weights, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
        config = copy.copy(model.peft_config["default"])
        config.inference_mode = True
        config.save_pretrained(folder)
    else:
        # Otherwise transformers gives the weights the names back that they were loaded by.
        base.save_pretrained(folder, state_dict=weights, save_original_format=False)
    # A frozen bf16 tower would make config.json say bfloat16, and `dtype="auto"` round what was trained.
    base.config.dtype = torch.float32
    base.config.save_pretrained(folder)
    keep_config_readable(folder)
    # safetensors makes its files for their owner alone, whatever the umask says.
    mode = (folder / "config.json").stat().st_mode
    for file in folder.glob("*.safetensors"):
        file.chmod(mode)


def saved_names(model: nn.Module) -> set[str]:
    """Return the names of the tensors that `save_model` writes.

    These are all of a full model, or the adapter's own, also those that it trained earlier and that are frozen now.
    """
    model = without_wrappers(model)
    if isinstance(model, PeftModel):
        return {name for name, _ in model.named_parameters() if is_in_adapter(name)}
    return set(model.state_dict())
