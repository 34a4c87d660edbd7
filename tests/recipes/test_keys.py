"""Keys explained, the schema, and recipes to copy."""

import json

import pytest
import yaml
from pydantic import ValidationError

from dst_dist.config import Recipe
from dst_dist.errors import ConfigError
from dst_dist.recipes import keys
from dst_dist.recipes.faults import is_section, places_of
from dst_dist.recipes.loading import load_recipe, packaged_recipes
from tests.pages import SCHEMA, sections


def test_a_key_has_its_default_its_sentence_and_its_choices():
    lines = keys.explain("optim.schedule").splitlines()
    assert lines[0] == "optim.schedule=cosine"
    assert "rate's fall to 0" in lines[1]
    assert lines[2].strip() == "One of cosine, linear, constant."


def test_every_key_and_section_is_explained():
    for place in places_of(Recipe):
        key = ".".join(place)
        assert keys.explain(key).startswith((f"{key}=", f"{key}: "))


def test_a_section_has_all_its_keys():
    text = keys.explain("finetune")
    assert "finetune.mode=lora" in text and "finetune.lora.rank=64" in text


@pytest.mark.parametrize(
    "key, meant",
    [("lr", "optim.learning_rate"), ("train.max_tokns", "train.max_tokens"), ("", ""), ("seed.x", ""), ("optim.", "")],
)
def test_an_unknown_key_names_the_nearest(key, meant):
    with pytest.raises(ConfigError, match=f"no such key; .*{meant}"):
        keys.explain(key)


def test_the_schema_is_fresh_and_has_every_key_with_its_sentence():
    assert SCHEMA.read_text() == keys.schema(), "run python -m tests.pages"
    schema = json.loads(keys.schema())
    for name, section in sections().items():
        at = schema["$defs"][section.__name__] if name else schema
        assert at["additionalProperties"] is False
        for key, field in section.model_fields.items():
            if not is_section(field.annotation):
                assert at["properties"][key]["description"] == field.description


def takes(schema, number):
    """Whether a JSON schema takes a number, by the keywords that bound one; that of a list, whether as its entries."""
    if "anyOf" in schema:
        return any(takes(one, number) for one in schema["anyOf"])
    schema = schema.get("items", schema)
    if schema.get("type") not in ("integer", "number") or (schema["type"] == "integer" and type(number) is not int):
        return False
    low, above = schema.get("minimum", number), schema.get("exclusiveMinimum", number - 1)
    high, below = schema.get("maximum", number), schema.get("exclusiveMaximum", number + 1)
    return low <= number <= high and above < number < below and number in schema.get("enum", [number])


def loads(place, number):
    value = [number, number] if place[-1] == "betas" else number
    for name in reversed(place):
        value = {name: value}
    try:
        return bool(Recipe.model_validate(value))
    except ValidationError:
        return False


NUMERIC = [place for place in places_of(Recipe) if loads(place, 0.5) or loads(place, 4)]


@pytest.mark.parametrize("place", NUMERIC, ids=".".join)
def test_the_schema_takes_the_numbers_that_the_loader_takes(place):
    name = ".".join(place[:-1])
    written = json.loads(keys.schema())
    section = written["$defs"][sections()[name].__name__] if name else written
    for number in (-1, 0, 0.5, 1, 1.1, 2, 3, 4, 2**31, 2**32):
        assert takes(section["properties"][place[-1]], number) == loads(place, number), number


@pytest.mark.parametrize("name", packaged_recipes())
def test_a_copy_is_the_same_recipe_and_names_the_schema(name, tmp_path):
    text = keys.copy_of(name)
    first, _, rest = text.partition("\n")
    assert first == f"{keys.SCHEMA_LINE}{SCHEMA}"
    assert rest.startswith("# ")
    (tmp_path / "mine.yaml").write_text(text)
    assert load_recipe([str(tmp_path / "mine.yaml")]) == load_recipe([name])
    assert yaml.safe_load(rest)["output_dir"] == f"runs/{name}"


def test_a_copy_of_nothing_names_what_there_is():
    with pytest.raises(ConfigError, match="packaged recipes: .*demo, full, lora"):
        keys.copy_of("loar")
