"""Words the faults of a recipe, with what to do about them."""

import difflib
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

PLAINLY = {
    "model_type": "must be a section of keys",
    "string_type": "must be text: write it in quotes",
    "list_type": "must be a list: write it in [ ]",
    "too_short": "has too few entries",
    "too_long": "has too many entries",
    "string_too_short": "must not be empty",
    "invalid_key": "every key must be a word",
}


def describe(fault: Any, recipe: type[BaseModel]) -> str:
    """Return one of pydantic's faults as a sentence: key, fault and value, and for an unknown key a near one."""
    # The location names validators too, which are no keys of the recipe.
    names = [part for part in fault["loc"] if isinstance(part, str) and "[" not in part]
    key = ".".join(names) or "recipe"
    if fault["type"] == "extra_forbidden":
        return f"{key}: unknown key; {did_you_mean(names, recipe)}"
    message = PLAINLY.get(
        fault["type"], fault["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    )
    field = field_of(recipe, names) if names else None
    if fault["type"] == "value_error" and (not names or (field is not None and is_section(field.annotation))):
        # A fault between keys names them itself, and the whole section behind it would hide it.
        return f"{key}: {message}" if names else message
    found = repr(fault["input"])
    found = found if len(found) <= 80 else f"{found[:77]}..."
    return f"{key}: {message[0].lower() + message[1:]} (found {found})"


RENAMED = {
    "dst_binary_weight": "loss.dst_update",
    "binary_loss_weight": "loss.speaking",
    "num_tokens_per_img": "model.tokens_per_frame",
    "llm_pretrained": "model.name_or_path",
    "model_name_or_path": "model.name_or_path",
    "llm_train_mode": "finetune.mode",
    "finetune_modules": "finetune.train",
    "lora_r": "finetune.lora.rank",
    "lora_alpha": "finetune.lora.alpha",
    "lora_dropout": "finetune.lora.dropout",
    "lora_target_modules": "finetune.lora.target_modules",
    "train_datasets": "data.train",
    "eval_datasets": "data.val",
    "dataloader_num_workers": "data.num_workers",
    "max_seq_length": "data.max_seq_len",
    "lr": "optim.learning_rate",
    "lr_scheduler_type": "optim.schedule",
    "num_train_epochs": "train.num_epochs",
    "per_device_train_batch_size": "train.global_batch_size",
    "logging_steps": "log.every_steps",
    "eval_steps": "eval.every_steps",
}
"""Names of the same settings in earlier trainers (PROSPECT, ProAssist, transformers)."""


def did_you_mean(names: list[str], recipe: type[BaseModel]) -> str:
    """Return a question for the key that was probably meant: renamed, of another section, or of near spelling."""
    name, places = names[-1], places_of(recipe)
    siblings = [place for place in places if place[:-1] == tuple(names[:-1])]
    meant = [RENAMED[name]] if name in RENAMED else [".".join(place) for place in places if place[-1] == name]
    for candidates in (siblings, places):
        near = difflib.get_close_matches(name, [place[-1] for place in candidates], 1, cutoff=0.65)
        meant = meant or [".".join(place) for place in candidates if place[-1] in near]
    if meant:
        return f"did you mean {' or '.join(meant)}?"
    return f"known here: {', '.join(place[-1] for place in siblings)}"


def field_of(section: type[BaseModel], names: list[str]) -> FieldInfo | None:
    """Return the field of the key that these names lead to from a section; None if there is no such key."""
    field = section.model_fields.get(names[0])
    if field is None or len(names) == 1:
        return field
    return field_of(field.annotation, names[1:]) if is_section(field.annotation) else None


def places_of(section: type[BaseModel], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return every section and key below a section, as the names on the way there."""
    places = []
    for name, field in section.model_fields.items():
        places.append((*above, name))
        if is_section(field.annotation):
            places += places_of(field.annotation, (*above, name))
    return places


def is_section(annotation: Any) -> bool:
    """Return whether a field's type is a section of keys."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
