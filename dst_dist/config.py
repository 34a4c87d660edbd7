"""The whole recipe as strict models. Precedence: defaults < YAML files left to right < `key=value`."""

import difflib
import importlib.util
import math
import os
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from dst_dist.errors import ConfigError
from dst_dist.recipe_faults import describe


def _number(value: Any) -> Any:
    """YAML 1.1 reads `2e-5` as a string; a recipe's number is what a person means by it."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _dataset(value: Any) -> Any:
    """A dataset's name, or names with their weights; one fault, where pydantic would name both of its tries."""
    weights = value.items() if isinstance(value, dict) else ()
    if isinstance(value, str) or (weights and all(type(name) is str and type(count) is int for name, count in weights)):
        return value
    raise ValueError("must be a dataset's name, or {name: weight} with a whole number")


Text = Annotated[str, Field(min_length=1)]
Float = Annotated[float, BeforeValidator(_number), AfterValidator(float)]
NonNegative = Annotated[Float, Field(ge=0)]
Positive = Annotated[Float, Field(gt=0)]
Share = Annotated[Float, Field(ge=0, le=1)]
Whole = Annotated[int, Field(ge=0, lt=2**31)]
Count = Annotated[int, Field(ge=1, lt=2**31)]
Dataset = Annotated[str | dict[str, int], BeforeValidator(_dataset)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, validate_default=True)


class Model(Section):
    name_or_path: Text = "HuggingFaceTB/SmolVLM2-2.2B-Instruct"
    """A SmolVLM2 on the hub, a local folder of one, or an earlier run's `final/`."""
    tokens_per_frame: Count = 1
    """K: the connector's grid is pooled to k x k, K = k * k."""
    vision_batch_size: Count = 64
    """Frames per call of the vision tower."""

    @field_validator("tokens_per_frame")
    @classmethod
    def _square(cls, value: int) -> int:
        if math.isqrt(value) ** 2 != value:
            raise ValueError("must be a square number: 1, 4, 9, ... up to the model's whole grid (81 or 64)")
        return value


class TrainedParts(Section):
    vision: bool = False
    connector: bool = True
    text: bool = True


class Lora(Section):
    rank: Count = 64
    alpha: Positive = 128
    dropout: Annotated[Float, Field(ge=0, lt=1)] = 0.0
    target_modules: Annotated[list[str], Field(min_length=1)] = [
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    ]  # fmt: skip


class Finetune(Section):
    mode: Literal["lora", "full"] = "lora"
    train: TrainedParts = TrainedParts()
    lora: Lora = Lora()

    @model_validator(mode="after")
    def _lora_has_text(self) -> "Finetune":
        if self.mode == "lora" and not self.train.text:
            raise ValueError("mode lora adapts the text model: set train.text to true, or mode to full")
        return self


class Data(Section):
    root: Text = "data"
    train: Annotated[list[Dataset], Field(min_length=1)] = ["assembly101"]
    val: list[Dataset] = ["assembly101"]
    test: list[Dataset] = []
    frames: Literal["continuous", "event"] = "continuous"
    on_missing: Literal["error", "filter", "placeholder"] = "error"
    strict: bool = False
    max_seq_len: Count = 4096
    context_seconds: NonNegative = 10.0
    num_workers: Whole = 2


class Labels(Section):
    neg_frame_sampling_rate: Share = 0.1
    positive_frames: Literal["last", "all"] = "last"
    balance: Literal["classes", "none", "focal"] = "classes"


class Loss(Section):
    lm: NonNegative = 1.0
    dst_gen: NonNegative = 1.0
    dst_update: NonNegative = 1.0
    speaking: NonNegative = 1.0

    @model_validator(mode="after")
    def _trains_something(self) -> "Loss":
        if not any(self.model_dump().values()):
            raise ValueError("nothing is trained, every weight is 0: set one of them above 0")
        return self


class Optim(Section):
    learning_rate: NonNegative = 2.0e-4
    head_learning_rate: NonNegative | None = None
    connector_learning_rate: NonNegative | None = None
    vision_learning_rate: NonNegative | None = None
    betas: Annotated[list[Annotated[Float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)] = [0.9, 0.999]
    weight_decay: NonNegative = 0.01
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    decay_share: Annotated[Float, Field(gt=0, le=1)] = 1.0
    """Share of the steps after the warm-up over which the schedule falls; before them the rate stays at its peak."""
    warmup_steps: Whole = 100
    max_grad_norm: Positive = 1.0


class Train(Section):
    num_epochs: Count = 4
    max_steps: Count | None = None
    global_batch_size: Count = 64
    max_tokens: Count = 8192
    max_frames: Count = 2048
    precision: Literal["bf16", "fp32"] = "bf16"
    gradient_checkpointing: bool = True


class Eval(Section):
    every_steps: Count = 200
    max_clips: Count | None = None
    patience: Count | None = None
    """Stop after so many evaluations in a row without a new best."""
    dst_threshold: Share | None = None
    speaking_threshold: Share | None = None
    tolerance_s: NonNegative = 2.0
    on_full_context: Literal["carry_state", "drop_middle", "drop_all"] = "carry_state"
    num_streams: Count = 8
    """Videos that are streamed in one batch."""
    similarity: Text = "lexical"
    """How replies are compared: `lexical`, or a sentence-transformers model by its folder or its name on the hub."""


class Checkpoint(Section):
    every_steps: Count = 200
    keep: Annotated[int, Field(ge=2)] = 3
    best: Literal[
        "val/loss", "val/loss/lm", "val/loss/dst_gen", "val/loss/dst_update", "val/loss/speaking",
        "val/dst_update/average_precision", "val/dst_update/average_precision_at_frames",
        "val/dst_update/precision", "val/dst_update/recall", "val/dst_update/f1",
        "val/speaking/average_precision", "val/speaking/average_precision_at_frames",
        "val/speaking/precision", "val/speaking/recall", "val/speaking/f1",
        "val/update/exact_match", "val/lm/perplexity", "val/lm/token_accuracy",
    ] = "val/loss"  # fmt: skip
    """A metric of validation, of which the best checkpoint is kept."""


class Log(Section):
    every_steps: Count = 10
    report_to: list[Literal["tensorboard", "wandb", "mlflow", "comet_ml"]] = ["tensorboard"]

    @field_validator("report_to")
    @classmethod
    def _installed(cls, value: list[str]) -> list[str]:
        missing = [name for name in value if importlib.util.find_spec(name) is None]
        if missing:
            raise ValueError(f"not installed: {', '.join(missing)}; pip install {' '.join(missing)}")
        return value


class Recipe(Section):
    """Everything that decides a run. Sections and keys are those of `recipes/*.yaml`."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    output_dir: Text = "runs/lora"
    model: Model = Model()
    finetune: Finetune = Finetune()
    data: Data = Data()
    labels: Labels = Labels()
    loss: Loss = Loss()
    optim: Optim = Optim()
    train: Train = Train()
    eval: Eval = Eval()
    checkpoint: Checkpoint = Checkpoint()
    log: Log = Log()

    def to_yaml(self) -> str:
        """The resolved recipe; loading it again gives an equal recipe."""
        return yaml.safe_dump(self.model_dump(), sort_keys=False)


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


def load(arguments: Sequence[str]) -> Recipe:
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
    """`output_dir`, even from a recipe with faults elsewhere. None, which `load` will say more of, if another may be
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
