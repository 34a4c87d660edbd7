"""Recipes of fine-tuning in small, and what the tests of trained and of saved models do with them."""

import torch

from dst_dist.config import Recipe
from dst_dist.model.loading import load_model
from dst_dist.model.losses import compute_loss
from dst_dist.model.saving import save_model
from dst_dist.model.trainable import parameter_groups, unwrap
from tests.model.tiny import count_terms, inputs, pack, sample

SPEAKING_BIAS = "base_model.model.speaking_head.bias"
WAYS = {
    "lora": ("lora", {}),
    "lora-without-connector": ("lora", dict(connector=False)),
    "lora-and-vision": ("lora", dict(vision=True)),
    "full": ("full", {}),
    "everything": ("full", dict(vision=True)),
    "connector-alone": ("full", dict(text=False)),
    "heads-alone": ("full", dict(connector=False, text=False)),
}


def recipe(name, mode="lora", parts=None, tokens=4, precision="fp32", checkpointing=True, seed=0, **lora) -> Recipe:
    return Recipe.model_validate(
        {
            "seed": seed,
            "model": {"name_or_path": str(name), "tokens_per_frame": tokens},
            "finetune": {"mode": mode, "train": parts or {}, "lora": {"rank": 4, "alpha": 8} | lora},
            "train": {"precision": precision, "gradient_checkpointing": checkpointing},
        }
    )


def a_batch(model, frames=(3, 2)):
    return pack([sample(unwrap(model).config, count, seed) for seed, count in enumerate(frames)])


def backward(model, batch):
    loss, _ = compute_loss(model(**inputs(batch)), batch, count_terms(batch), Recipe().loss, "classes")
    loss.backward()
    return loss.detach()


def outputs(model, batch):
    model.eval()
    with torch.no_grad():
        return tuple(model(**inputs(batch))[:3])


def shake(model):
    """Move every trained parameter, as training would (a new adapter changes nothing by itself)."""
    torch.manual_seed(7)
    with torch.no_grad():
        for group in parameter_groups(model).values():
            for _, parameter in group:
                parameter.add_(0.1 * torch.randn_like(parameter))


def train_and_save(folder, name, mode, parts=None, **settings):
    """A trained model and the folder it was saved to."""
    model = load_model(recipe(name, mode, parts, **settings))
    shake(model)
    save_model(model, model.state_dict(), folder)
    return model


def is_head(name):
    return "dst_update_head" in name or "speaking_head" in name
