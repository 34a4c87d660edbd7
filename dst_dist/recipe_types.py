"""Types of the recipe's values, and the base of its sections."""

from contextlib import suppress
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo

from dst_dist.paths import expanded


def _number(value: Any) -> Any:
    """Return the number that a text spells: YAML 1.1 reads `2e-5` as a string."""
    if isinstance(value, str):
        with suppress(ValueError):
            return float(value)
    return value


def _dataset(value: Any) -> Any:
    """Return a dataset's name, or names with their weights; one fault, where pydantic would name both of its tries."""
    weights = value.items() if isinstance(value, dict) else ()
    if isinstance(value, str) or (weights and all(type(name) is str and type(count) is int for name, count in weights)):
        return value
    raise ValueError("must be a dataset's name, or {name: weight} with a whole number")


def _auto_or_whole(least: int) -> BeforeValidator:
    """Return a check for `auto` or a whole number; one fault, where pydantic would name both of its tries."""

    def check(value: Any) -> Any:
        if value == "auto" or (type(value) is int and least <= value < 2**31):
            return value
        raise ValueError(f"must be 'auto' or a whole number from {least} to 2147483647")

    return BeforeValidator(check)


def _auto_or_switch(value: Any) -> Any:
    """Return `auto`, true or false; 1 equals true, and a Literal would take it."""
    if value == "auto" or isinstance(value, bool):
        return value
    raise ValueError("must be 'auto', true or false")


def _expanded_or_none(value: str | None) -> str | None:
    return None if value is None else expanded(value)


def is_path(field: FieldInfo) -> bool:
    """Return whether a key's value is a path: then a `key=value` word is not YAML but the path as it stands."""
    return any(getattr(one, "func", None) is _expanded_or_none for one in field.metadata)


Text = Annotated[str, Field(min_length=1)]
Names = Annotated[list[str], Field(min_length=1)]
PathText = Annotated[Text, AfterValidator(_expanded_or_none)]
PathOrNull = Annotated[Text | None, AfterValidator(_expanded_or_none)]
# Bounds come before the validator, which would hide them from the JSON schema.
NonNegative = Annotated[float, Field(ge=0), BeforeValidator(_number)]
Positive = Annotated[float, Field(gt=0), BeforeValidator(_number)]
Share = Annotated[float, Field(ge=0, le=1), BeforeValidator(_number)]
PositiveShare = Annotated[float, Field(gt=0, le=1), BeforeValidator(_number)]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1), BeforeValidator(_number)]
Whole = Annotated[int, Field(ge=0, lt=2**31)]
Count = Annotated[int, Field(ge=1, lt=2**31)]
AutoOrWhole = Annotated[Whole | Literal["auto"], _auto_or_whole(0)]
AutoOrCount = Annotated[Count | Literal["auto"], _auto_or_whole(1)]
AutoOrSwitch = Annotated[Literal["auto", True, False], BeforeValidator(_auto_or_switch)]
Dataset = Annotated[str | dict[str, int], BeforeValidator(_dataset)]


class Section(BaseModel):
    """A section of the recipe. The sentence below a key is its documentation."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        validate_default=True,
        use_attribute_docstrings=True,
    )
