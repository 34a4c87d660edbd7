"""Choose what is trained: the parts of a model, their dtypes, and gradient checkpointing."""

import functools

import torch
from peft import PeftModel
from peft.utils import ModulesToSaveWrapper
from torch import nn
from torch.utils.checkpoint import checkpoint

from dst_dist.config import Recipe
from dst_dist.heads import HEAD_MODULES
from dst_dist.model.smolvlm_dst import SmolVLMForDST

PARTS = ("text", "connector", "vision", "heads")
PART_OF_MODULE = {"connector": "connector", "vision_model": "vision", **dict.fromkeys(HEAD_MODULES, "heads")}


def make_trainable(model: SmolVLMForDST | PeftModel, recipe: Recipe) -> None:
    """Set `requires_grad`, dtypes, compute precision and checkpointing, and training mode."""
    trained = recipe.finetune.train.model_dump() | {"heads": True}
    bf16 = recipe.train.precision == "bf16"
    for name, parameter in model.named_parameters():
        in_adapter = isinstance(model, PeftModel) and is_in_adapter(name)
        wanted = trained[_part_of(name)] and (in_adapter or not isinstance(model, PeftModel))
        parameter.requires_grad_(wanted)
        # A part of the adapter that is frozen now is saved again, so it must not be rounded.
        exact = wanted or in_adapter or _part_of(name) == "heads" or not bf16
        parameter.data = parameter.data.to(torch.float32 if exact else torch.bfloat16)
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


def parameter_groups(model: nn.Module) -> dict[str, list[tuple[str, nn.Parameter]]]:
    """Return the trained parameters by part: `text` (LoRA and the language head too), `connector`, `vision`, `heads`.

    Names are those of `model.named_parameters()`; a part without trained parameters is an empty list.
    """
    groups: dict[str, list[tuple[str, nn.Parameter]]] = {part: [] for part in PARTS}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[_part_of(name)].append((name, parameter))
    return groups


def _part_of(name: str) -> str:
    return next((PART_OF_MODULE[module] for module in name.split(".") if module in PART_OF_MODULE), "text")


def is_in_adapter(name: str) -> bool:
    """Return whether a parameter of a peft model belongs to the adapter."""
    return ".lora_" in name or ".modules_to_save." in name


def unwrap(model: nn.Module) -> SmolVLMForDST:
    """Return the SmolVLMForDST inside DDP, DeepSpeed, torch.compile and peft wrappers."""
    model = without_wrappers(model)
    return model.get_base_model() if isinstance(model, PeftModel) else model


def active_module(module: nn.Module) -> nn.Module:
    """Return the module that runs: the trained copy where peft keeps one in place of the base's."""
    if isinstance(module, ModulesToSaveWrapper):
        return module.modules_to_save[module.active_adapters[0]]
    return module


def without_wrappers(model: nn.Module) -> SmolVLMForDST | PeftModel:
    """Return the model that was loaded, inside DDP, DeepSpeed and torch.compile wrappers."""
    while not isinstance(model, SmolVLMForDST | PeftModel):
        model = model._orig_mod if hasattr(model, "_orig_mod") else model.module
    return model
