"""Shows the recipe's keys: one explained, all as a JSON schema for editors, and a packaged recipe to copy."""

import json
from typing import Any, get_args, get_origin

import yaml

from dst_dist.config import Recipe
from dst_dist.errors import ConfigError
from dst_dist.recipes.faults import did_you_mean, field_of, is_section
from dst_dist.recipes.loading import FOLDER, packaged_recipes

SCHEMA_LINE = "# yaml-language-server: $schema="
"""The first line of a recipe: editors that know it complete and check keys."""


def choices(annotation: Any) -> list[str]:
    """Return the words that a key may be, if it takes no other values; else none."""
    arguments = get_args(annotation)
    if get_origin(annotation) is list or not all(isinstance(one, str) for one in arguments):
        return []
    return list(arguments)


def spelled(value: Any) -> str:
    """Return a value as an override or a YAML file spells it, in one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()


def explain(key: str) -> str:
    """Return the sentence, default and choices of a key, or those of all keys of a section.

    Raises:
        ConfigError: if there is no such key, with the nearest right one.
    """
    names = key.split(".")
    field = field_of(Recipe, names)
    if field is None:
        raise ConfigError(f"{key}: no such key; {did_you_mean(names, Recipe)}")
    if is_section(section := field.annotation):
        below = [f"{key}.{name}" for name in section.model_fields]
        return "\n\n".join([f"{key}: {section.__doc__.splitlines()[0]}", *map(explain, below)])
    words = choices(field.annotation)
    lines = [f"{key}={spelled(field.default)}", field.description, f"One of {', '.join(words)}." if words else ""]
    return "\n    ".join(filter(None, lines))


def schema() -> str:
    """Return the JSON schema of a recipe, as text."""
    about = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Recipe.model_json_schema()}
    return json.dumps(about, indent=1) + "\n"


def copy_of(name: str) -> str:
    """Return a packaged recipe with its comments, to be edited anywhere.

    Raises:
        ConfigError: if there is no such recipe.
    """
    if name not in packaged_recipes():
        raise ConfigError(f"{name}: no such recipe; packaged recipes: {', '.join(packaged_recipes())}")
    _, _, text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")
    return f"{SCHEMA_LINE}{FOLDER / 'schema.json'}\n{text}"
