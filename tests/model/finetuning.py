"""Small fine-tuning recipes, and helpers that train, run and save tiny models."""

import torch
from peft import LoraConfig, get_peft_model

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


def backward(model, batch, counts=None):
    """Run forward and backward; return the loss. `counts` are the batch's if it is not part of a larger one."""
    counts = count_terms(batch) if counts is None else counts
    loss, _ = compute_loss(model(**inputs(batch)), batch, counts, Recipe().loss, "classes")
    loss.backward()
    return loss.detach()


def gradients(model):
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


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
    """Return a trained model, saved in `folder`."""
    model = load_model(recipe(name, mode, parts, **settings))
    shake(model)
    save_model(model, model.state_dict(), folder)
    return model


def plain_adapter(stock, folder, **settings):
    """Return an adapter that peft alone made, trained and saved: the recipe's but for `settings`."""
    ours = load_model(recipe(stock, "lora")).peft_config["default"]
    form = dict(
        r=ours.r, lora_alpha=ours.lora_alpha, target_modules=ours.target_modules, modules_to_save=ours.modules_to_save
    )
    base = load_model(recipe(stock, "full", checkpointing=False))
    model = get_peft_model(base, LoraConfig(base_model_name_or_path=str(stock), **form, **settings))
    shake(model)
    model.save_pretrained(folder)
    unwrap(model).config.save_pretrained(folder)
    return model


def is_head(name):
    return "dst_update_head" in name or "speaking_head" in name
