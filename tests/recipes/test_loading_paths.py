"""Keys that take a path: a word's value is the path as it stands; home and variables are put in from every source."""

from pathlib import Path

import pytest
import yaml

from dst_dist.recipe_types import is_path
from dst_dist.recipes.loading import load_recipe, output_dir_of
from tests.recipes.reading import all_keys, faults_of

PATH_KEYS = [
    "output_dir",
    "model.name_or_path",
    "data.root",
    "data.feature_cache",
    "data.index_cache",
    "eval.similarity",
]
MEANS_SOMETHING_IN_YAML = [
    "runs/1e3",
    "1e3",
    "007",
    "2024-01-01",
    "true",
    "a: b",
    "a #b",
    "#b",
    "[x]",
    "[x",
    "{a: 1}",
    "'x'",
    '"',
    "&a",
    "*a",
    "!x",
    "- x",
    "%x",
    "|",
    " x",
    "a=b",
]
OTHERS = {"null": None, "": None, "~": str(Path.home())}


def value_at(recipe, key):
    value = recipe.model_dump()
    for name in key.split("."):
        value = value[name]
    return value


def test_these_keys_take_a_path():
    assert [key for key, field in all_keys().items() if is_path(field)] == PATH_KEYS


@pytest.mark.parametrize("key", PATH_KEYS)
def test_a_word_is_the_path_as_it_stands(tmp_path, key):
    for text in MEANS_SOMETHING_IN_YAML:
        recipe = load_recipe(["lora", f"{key}={text}"])
        assert value_at(recipe, key) == text
        path = tmp_path / "config.yaml"
        path.write_text(recipe.to_yaml())
        assert load_recipe([str(path)]) == recipe


@pytest.mark.parametrize("text", OTHERS)
def test_null_clears_what_may_be_null(text):
    for key in ("data.feature_cache", "data.index_cache"):
        assert value_at(load_recipe(["lora", f"{key}=x", f"{key}={text}"]), key) == OTHERS[text]


def test_where_null_has_no_meaning_it_is_a_name():
    assert load_recipe(["lora", "output_dir=null"]).output_dir == "null"
    assert faults_of("lora", "output_dir=") == ("output_dir: must not be empty (found '')",)


@pytest.mark.parametrize("key", PATH_KEYS)
def test_home_and_variables_are_put_in_from_every_source(tmp_path, monkeypatch, key):
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    names, value = key.split("."), "$SCRATCH/a"
    for name in reversed(names):
        value = {name: value}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(value))
    monkeypatch.setenv("HERE", str(tmp_path))
    for words in (["lora", f"{key}=$SCRATCH/a"], ["$HERE/a.yaml"], ["lora", f"{names[0]}={value[names[0]]}"]):
        recipe = load_recipe(words)
        assert value_at(recipe, key) == "/scratch/me/a"
    assert faults_of("lora", f"{key}=$NOT_SET/a") == (f"{key}: $NOT_SET is not set (found '$NOT_SET/a')",)


def test_a_recipe_in_a_folder_that_is_not_there_is_a_fault_with_its_reason():
    assert faults_of("$NOT_SET/a.yaml") == ("recipe $NOT_SET/a.yaml: $NOT_SET is not set",)


def test_a_number_in_a_file_is_no_path():
    assert faults_of("lora", "model={name_or_path: 7}") == (
        "model.name_or_path: must be text: write it in quotes (found 7)",
    )


def test_the_output_folder_of_a_recipe_with_faults(monkeypatch):
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    assert output_dir_of(["demo", "seed=x", "output_dir=$SCRATCH/[1e3]: #"]) == "/scratch/me/[1e3]: #"
    assert output_dir_of(["demo", "output_dir=~/x"]) == f"{Path.home()}/x"
    assert output_dir_of(["demo", "output_dir=$NOT_SET/x"]) is None
