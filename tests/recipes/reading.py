"""The faults of a recipe, and every key it has."""

import pytest
from pydantic import BaseModel

from dst_dist.config import Recipe
from dst_dist.errors import ConfigError
from dst_dist.recipes.loading import load_recipe


def faults_of(*words):
    with pytest.raises(ConfigError) as caught:
        load_recipe(words)
    return caught.value.faults


def all_keys():
    """Every key of the recipe with its path and its field."""

    def walk(section, above):
        for name, field in section.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                yield from walk(field.annotation, (*above, name))
            else:
                yield ".".join((*above, name)), field

    return dict(walk(Recipe, ()))
