"""The recipe's keys: their types, their limits and their documentation."""

import math
import re

import pytest
import yaml
from pydantic import BaseModel

from dst_dist import config
from dst_dist.heads import HEADS, TERM_NAMES
from dst_dist.recipes.loading import load_recipe
from tests.recipes.reading import all_keys, faults_of


def test_a_fraction_of_a_count_is_not_rounded_and_text_is_no_count():
    assert faults_of("lora", "train.num_epochs=1e1") == ("train.num_epochs: must be a valid integer (found '1e1')",)
    assert faults_of("lora", "train.num_epochs=2.0") == ("train.num_epochs: must be a valid integer (found 2.0)",)


def test_the_resolved_recipe_names_every_key_in_the_order_of_the_sections():
    values = yaml.safe_load(load_recipe(["lora"]).to_yaml())
    assert list(values)[:7] == ["seed", "output_dir", "model", "finetune", "data", "labels", "loss"]
    for key in all_keys():
        value = values
        for part in key.split("."):
            value = value[part]


def test_every_key_refuses_a_value_of_another_type(tmp_path):
    """A mapping under a key that is none of the recipe's sections is wrong for every single key."""
    for key in all_keys():
        value = {"wrong": [1]}
        for name in reversed(key.split(".")):
            value = {name: value}
        (tmp_path / "a.yaml").write_text(yaml.safe_dump(value))
        (fault,) = dict.fromkeys(fault.split(":")[0] for fault in faults_of(str(tmp_path / "a.yaml")))
        assert fault == key


def test_every_number_refuses_what_is_not_finite():
    numbers = [key for key, field in all_keys().items() if "float" in str(field.annotation)]
    assert len(numbers) >= 15
    for key in numbers:
        for value in (".nan", ".inf", "-.inf", "nan", "inf"):
            assert faults_of("lora", f"{key}={value}" if key != "optim.betas" else f"{key}=[{value}, 0]")[0].startswith(
                key
            )


def test_every_choice_is_named_when_another_is_found():
    choices = {
        key: re.findall(r"'(\w+)'", str(field.annotation))
        for key, field in all_keys().items()
        if "Literal" in str(field.annotation)
    }
    choices.pop("log.report_to")
    assert len(choices) >= 6
    for key, names in choices.items():
        (fault,) = faults_of("lora", f"{key}=nothing_known")
        assert all(repr(name) in fault for name in names)


def test_a_recipe_cannot_be_changed_afterwards():
    recipe = load_recipe(["lora"])
    with pytest.raises(ValueError):
        recipe.seed = 1


def test_defaults_are_within_their_own_limits():
    assert config.Recipe.model_validate(config.Recipe().model_dump()) == config.Recipe()
    assert math.isfinite(config.Recipe().optim.learning_rate)


def test_every_key_has_its_sentence():
    without = [key for key, field in all_keys().items() if not (field.description or "").strip().endswith(".")]
    assert without == []


def test_every_section_has_its_sentence():
    sections = [one for one in vars(config).values() if isinstance(one, type) and issubclass(one, BaseModel)]
    assert [one.__name__ for one in sections if one is not BaseModel and not one.__doc__] == []


def test_every_loss_term_has_a_weight_and_every_head_a_threshold():
    assert tuple(config.Loss.model_fields) == TERM_NAMES
    assert {head.threshold_key for head in HEADS} <= set(config.Eval.model_fields)


@pytest.mark.parametrize("words", ["-1", "1.5", "true", "Auto", "'2'"])
def test_data_workers_are_a_whole_number_or_auto(words):
    (fault,) = faults_of("lora", f"data.num_workers={words}")
    assert fault.startswith("data.num_workers: must be 'auto' or a whole number from 0")
