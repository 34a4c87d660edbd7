"""A model folder's small files: config, tokenizer and processor, read and checked without its weights."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tokenizers import Tokenizer
from transformers import AutoTokenizer, SmolVLMConfig
from transformers.utils import cached_file

from dst_dist.config import Recipe
from dst_dist.data.token_writer import special_ids
from dst_dist.errors import ConfigError, collect
from dst_dist.logs import logger
from dst_dist.model.folders import cannot_be_had, read_model_config, read_processor_files
from dst_dist.model.loading import check_before_loading
from dst_dist.model.smolvlm_dst import pooled_side

PROBE = 'Task: Don\'t turn it 125 degrees!\n- S12: fit  part 3.5\nDST: [{"id": "S12", "transition": "start"}]'
"""Text on which tokenizers that split differently differ."""

PREPROCESSOR = "preprocessor_config.json"
PIXELS = {"image_mean": 0.5, "image_std": 0.5, "rescale_factor": 1 / 255}
"""What the model takes from a frame's bytes, in the names of that file."""
LANCZOS = int(Image.Resampling.LANCZOS)


@dataclass
class ModelFiles:
    """A model folder's small files: what data needs to know of the model, and what a trained model takes over as it is."""

    tokenizer: object
    config: SmolVLMConfig
    """As the folder holds it; of an adapter, what its run left beside it."""
    processor: dict[str, bytes]
    """By file name; the stock processor's, which a model may lack."""
    digest: str
    """Hex, of the config and the tokenizer."""

    @classmethod
    def read(cls, recipe: Recipe, base: str | None = None) -> "ModelFiles":
        """`base` is as in `load_for_inference`. Raises ConfigError if the model cannot be had or does not fit the recipe, as
        far as its weights do not tell."""
        name = recipe.model.name_or_path
        config = read_model_config(name)
        faults: list[str] = []
        tokenizer = collect(faults, lambda: _read_tokenizer(name, config))
        collect(faults, lambda: pooled_side(config, recipe.model.tokens_per_frame))
        collect(faults, lambda: check_before_loading(recipe, config, base))
        processor = read_processor_files(name)
        collect(faults, lambda: _check_pixels(name, processor.get(PREPROCESSOR)))
        if faults:
            raise ConfigError(faults)
        return cls(tokenizer, config, processor, _digest(config, tokenizer))

    @property
    def image_size(self) -> int:
        return self.config.vision_config.image_size

    @property
    def max_positions(self) -> int:
        """Tokens that the text model was made for in one context; behind them it writes nonsense without a word."""
        return self.config.text_config.max_position_embeddings

    def save(self, folder: Path) -> None:
        """Put the tokenizer, and the processor as its files stand, beside a trained model."""
        self.tokenizer.save_pretrained(folder)
        for file, content in self.processor.items():
            (folder / file).write_bytes(content)


def _digest(config: SmolVLMConfig, tokenizer) -> str:
    """Of what makes the model beside its weights; the same under another version of transformers."""
    stands = {
        key: value
        for key, value in config.to_diff_dict().items()
        if key not in ("transformers_version", "_name_or_path")
    }
    text = json.dumps(stands, sort_keys=True, default=str) + tokenizer.backend_tokenizer.to_str()
    return hashlib.sha256(text.encode()).hexdigest()


def _read_tokenizer(name: str, config: SmolVLMConfig):
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except Exception as error:
        # The tokenizers library raises a plain Exception for a file that it cannot read.
        raise ConfigError(cannot_be_had(name, error)) from error
    image_id, *_ = special_ids(tokenizer)
    if image_id != config.image_token_id or max(tokenizer.get_vocab().values()) >= config.text_config.vocab_size:
        raise ConfigError(f"model.name_or_path: the tokenizer in {name} belongs to another model, its ids differ")
    _check_splitting(name, tokenizer)
    return tokenizer


def _check_splitting(name: str, tokenizer) -> None:
    """A class named in tokenizer_config.json may split text its own way instead of the file's, without a word."""
    file = cached_file(name, "tokenizer.json", _raise_exceptions_for_missing_entries=False)
    if file is None:
        return
    ours, written = tokenizer.backend_tokenizer, Tokenizer.from_file(file)
    if ours.encode(PROBE, add_special_tokens=False).ids != written.encode(PROBE, add_special_tokens=False).ids:
        raise ConfigError(
            f"model.name_or_path: transformers reads the tokenizer of {name} as a {type(tokenizer).__name__}, which splits text "
            "otherwise than its tokenizer.json; set tokenizer_class in tokenizer_config.json to PreTrainedTokenizerFast"
        )


def _check_pixels(name: str, content: bytes | None) -> None:
    """Raise ConfigError if a model's own processor gives it pixels of other values than ours; another resampling is warned of."""
    try:
        # A key without a value is the stock processor's default, which is ours.
        values = {key: value for key, value in json.loads(content or b"{}").items() if value is not None}
        others = [
            key for key, ours in PIXELS.items() if not np.allclose(np.asarray(values.get(key, ours), float), ours)
        ]
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"model.name_or_path: {PREPROCESSOR} in {name} cannot be read: {error}") from error
    if others:
        says = ", ".join(f"{key} {values[key]}" for key in others)
        ours = ", ".join(f"{key} {PIXELS[key]:g}" for key in others)
        raise ConfigError(
            f"model.name_or_path: {PREPROCESSOR} in {name} says {says}, frames are read with {ours} alone; name another model"
        )
    if values.get("resample", LANCZOS) != LANCZOS:
        logger.warning(
            "%s in %s says resample %s, frames are resized with %d (Lanczos)",
            PREPROCESSOR,
            name,
            values["resample"],
            LANCZOS,
        )
