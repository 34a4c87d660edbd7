"""Read a recipe: packaged names or YAML files, then `key=value` words. Defaults < files left to right < words."""

import difflib
import os
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from dst_dist.config import Recipe
from dst_dist.errors import ConfigError
from dst_dist.recipes.faults import describe


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, which YAML would resolve without a word."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            line = node.start_mark.line + 1
            raise yaml.YAMLError(f"key given twice in the mapping at line {line}: {', '.join(twice)}")
        return super().construct_mapping(node, deep)


def packaged_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("dst_dist") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_recipe(arguments: Sequence[str]) -> Recipe:
    """Read a recipe from command-line words: packaged names or YAML paths, then `key=value` words.

    Raises:
        ConfigError: with every fault of every source at once.
    """
    if not arguments:
        raise ConfigError(f"name a recipe: {', '.join(packaged_recipes())}, or a YAML file")
    merged, faults = _merged(arguments)
    recipe = _validate(merged, faults)
    if faults:
        raise ConfigError(faults)
    assert recipe is not None
    return recipe


def _merged(arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """All sources in one mapping, and what is wrong with reading them."""
    faults: list[str] = []
    merged: dict[str, Any] = {}
    for word in arguments:
        if not _is_override(word):
            _merge(merged, _read_source(word, faults))
    for word in arguments:
        if _is_override(word):
            _set_override(merged, word, faults)
    return merged, faults


def _is_override(word: str) -> bool:
    # A folder may be named after a setting, such as runs/lr=2e-5/config.yaml.
    return "=" in word and not os.path.isfile(word)


def output_dir_of(arguments: Sequence[str]) -> str | None:
    """`output_dir`, even from a recipe with faults elsewhere. None, which `load_recipe` will say more of, if another may be
    meant: a source cannot be read and nothing after it says, or the key or its value is mistyped."""
    settings = [word for word in arguments if _is_override(word)]
    _, unread = _merged([word for word in arguments if word not in settings])
    # A mistyped option, or the path of a file that is not there.
    unread += [word for word in settings if not re.match(r"[\w.]*=", word)]
    is_unclear = bool(unread) or not arguments
    merged, faults = _merged(settings if is_unclear else arguments)
    unknown = [str(key) for key in merged if key not in Recipe.model_fields]
    if difflib.get_close_matches("output_dir", unknown) or any("output_dir" in fault for fault in faults):
        return None
    value = merged.get("output_dir", None if is_unclear else Recipe().output_dir)
    return value if isinstance(value, str) and value else None


def _parse(text: str) -> Any:
    """What a YAML text says. Raises ValueError with one line of explanation."""
    try:
        return yaml.load(text, _Loader)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except (yaml.YAMLError, ValueError) as error:
        # Values that only look like a date or a binary number raise ValueError themselves.
        raise ValueError(" ".join(str(error).split())) from error


def _read_source(word: str, faults: list[str]) -> dict[str, Any]:
    names = packaged_recipes()
    if word.startswith("-"):
        faults.append(f"{word}: unknown option; keys of the recipe are written like optim.learning_rate=2e-5")
        return {}
    if word in names:
        text = (resources.files("dst_dist") / "recipes" / f"{word}.yaml").read_text()
    elif os.path.isfile(word):
        try:
            text = Path(word).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            faults.append(f"recipe {word}: cannot be read: {error}")
            return {}
    else:
        near = difflib.get_close_matches(word, names, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        faults.append(f"recipe {word}: no such file; {hint}packaged recipes: {', '.join(names)}")
        return {}
    try:
        content = _parse(text)
    except ValueError as error:
        faults.append(f"recipe {word}: not valid YAML: {error}")
        return {}
    if content is None or isinstance(content, dict):
        return content or {}
    faults.append(f"recipe {word}: must be a mapping of sections, found {type(content).__name__}")
    return {}


def _merge(base: dict[str, Any], over: dict[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = value


def _set_override(merged: dict[str, Any], word: str, faults: list[str]) -> None:
    key, _, text = word.partition("=")
    try:
        value = _parse(text)
    except ValueError as error:
        faults.append(f"{word}: the value is not valid YAML: {error}")
        return
    parts = key.split(".")
    if not all(parts):
        faults.append(f"{word}: write section.key=value, for example optim.learning_rate=2e-5")
        return
    for part in reversed(parts):
        value = {part: value}
    _merge(merged, value)


def _validate(merged: dict[str, Any], faults: list[str]) -> Recipe | None:
    try:
        return Recipe.model_validate(merged)
    except ValidationError as error:
        faults.extend(dict.fromkeys(describe(fault, Recipe) for fault in error.errors()))
        return None
