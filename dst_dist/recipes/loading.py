"""Read a recipe: packaged names or YAML files, then `key=value` words. Defaults < files left to right < words."""

import difflib
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from dst_dist.config import Recipe
from dst_dist.errors import ConfigError, collect
from dst_dist.paths import expanded
from dst_dist.recipe_types import is_path
from dst_dist.recipes.faults import describe, field_of

FOLDER = resources.files("dst_dist") / "recipes"


def packaged_recipes() -> list[str]:
    """Return the names of the recipes that come with the package."""
    return sorted(entry.name.removesuffix(".yaml") for entry in FOLDER.iterdir() if entry.name.endswith(".yaml"))


def load_recipe(words: Sequence[str]) -> Recipe:
    """Read a recipe from command-line words: packaged names or YAML paths, and `key=value` overrides.

    Raises:
        ConfigError: with every fault of every source at once.
    """
    if not words:
        raise ConfigError(f"name a recipe: {', '.join(packaged_recipes())}, or a YAML file")
    merged, faults = _merge_sources(words)
    try:
        recipe = Recipe.model_validate(merged)
    except ValidationError as error:
        faults += dict.fromkeys(describe(fault, Recipe) for fault in error.errors())
    if faults:
        raise ConfigError(faults)
    return recipe


def output_dir_of(words: Sequence[str]) -> str | None:
    """Return `output_dir`, even of a recipe with faults elsewhere.

    None means that another folder may have been meant: a source cannot be read and no override names the folder, or the
    key or its value is mistyped. `load_recipe` raises the faults of such a recipe.
    """
    overrides = [word for word in words if _is_override(word)]
    _, faults = _merge_sources([word for word in words if word not in overrides])
    # A mistyped option, or the path of a file that is not there.
    faults += [word for word in overrides if not re.match(r"[\w.]*=", word)]
    is_unclear = bool(faults) or not words
    merged, faults = _merge_sources(overrides if is_unclear else words)
    unknown = [str(key) for key in merged if key not in Recipe.model_fields]
    if difflib.get_close_matches("output_dir", unknown) or any("output_dir" in fault for fault in faults):
        return None
    value = merged.get("output_dir", None if is_unclear else Recipe().output_dir)
    if not isinstance(value, str) or not value:
        return None
    with suppress(ValueError):
        return expanded(value)
    return None


def _merge_sources(words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Return all sources in one mapping, and the faults of reading them."""
    faults: list[str] = []
    merged: dict[str, Any] = {}
    for word in sorted(words, key=_is_override):
        read = _read_override if _is_override(word) else _read_file
        _merge(merged, collect(faults, partial(read, word)) or {})
    return merged, faults


def _is_override(word: str) -> bool:
    # A folder may be named after a setting, such as runs/lr=2e-5/config.yaml.
    return "=" in word and not _is_file(word)


def _is_file(word: str) -> bool:
    with suppress(ValueError):
        return os.path.isfile(expanded(word))
    return False


def _read_file(word: str) -> dict[str, Any]:
    """Return the content of a packaged recipe or a YAML file. Raises ConfigError."""
    names = packaged_recipes()
    if word.startswith("-"):
        raise ConfigError(f"{word}: unknown option; keys of the recipe are written like optim.learning_rate=2e-5")
    try:
        path = FOLDER / f"{word}.yaml" if word in names else Path(expanded(word))
    except ValueError as error:
        raise ConfigError(f"recipe {word}: {error}") from error
    if word not in names and not path.is_file():
        near = difflib.get_close_matches(word, names, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"recipe {word}: no such file; {hint}packaged recipes: {', '.join(names)}")
    try:
        content = _parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"recipe {word}: cannot be read: {error}") from error
    except ValueError as error:
        raise ConfigError(f"recipe {word}: not valid YAML: {error}") from error
    if content is not None and not isinstance(content, dict):
        raise ConfigError(f"recipe {word}: must be a mapping of sections, found {type(content).__name__}")
    return content or {}


def _read_override(word: str) -> dict[str, Any]:
    """Return `section.key=value` as nested mappings. Raises ConfigError."""
    key, _, text = word.partition("=")
    names = key.split(".")
    if not all(names):
        raise ConfigError(f"{word}: write section.key=value, for example optim.learning_rate=2e-5")
    try:
        value = _value_of(names, text)
    except ValueError as error:
        raise ConfigError(f"{word}: the value is not valid YAML: {error}") from error
    for part in reversed(names):
        value = {part: value}
    return value


def _value_of(names: list[str], text: str) -> Any:
    """Return the value of an override: a path as it stands, anything else as YAML. Raises ValueError as `_parse`."""
    field = field_of(Recipe, names)
    if field is None or not is_path(field):
        return _parse(text)
    return None if field.default is None and text in ("", "null") else text


def _merge(base: dict[str, Any], over: dict[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = value


def _parse(text: str) -> Any:
    """Return the value of a YAML text. Raises ValueError with one line of explanation."""
    try:
        return yaml.load(text, _Loader)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except (yaml.YAMLError, ValueError) as error:
        # Values that only look like a date or a binary number raise ValueError themselves.
        raise ValueError(" ".join(str(error).split())) from error


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses what YAML takes without a word: a key given twice, and 010 or 1:30 as 8 or 90."""

    def __init__(self, stream):
        super().__init__(stream)
        self._checked = set()

    def flatten_mapping(self, node):
        # Merging adds keys that the mapping may give again, so that only before the first time all are its own.
        if node not in self._checked:
            self._checked.add(node)
            self._check_keys(node)
        super().flatten_mapping(node)

    def _check_keys(self, node):
        merge = "tag:yaml.org,2002:merge"
        keys = [key.value if key.tag == merge else self.construct_object(key, deep=True) for key, _ in node.value]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            line = node.start_mark.line + 1
            raise yaml.YAMLError(f"key given twice in the mapping at line {line}: {', '.join(twice)}")

    def decimal(self, node):
        """Return the number of a scalar that is no octal and no sexagesimal one."""
        text = node.value
        base = "60" if ":" in text else "8" if re.fullmatch("[-+]?0[0-7_]+", text) else None
        if base:
            line = node.start_mark.line + 1
            raise yaml.YAMLError(
                f"{text} at line {line} is a number to base {base}: write it to base 10, text in quotes"
            )
        return yaml.SafeLoader.yaml_constructors[node.tag](self, node)


for tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float"):
    _Loader.add_constructor(tag, _Loader.decimal)
