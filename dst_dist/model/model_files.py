"""Reads and checks a model folder's small files without its weights: config, tokenizer and processor."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, SmolVLMConfig
from transformers.utils import cached_file

from dst_dist.config import Recipe
from dst_dist.data.token_writer import special_ids
from dst_dist.errors import ConfigError, collect
from dst_dist.model.frame_pooling import pooled_side
from dst_dist.model.loading import check_before_loading
from dst_dist.model.model_config import model_unavailable, read_model_config
from dst_dist.model.transformers_4 import keep_tokenizer_readable

PROBE = 'Task: Don\'t turn it 125 degrees!\n- S12: fit  part 3.5\nDST: [{"id": "S12", "transition": "start"}]'
"""Text that tokenizers with different rules of splitting write differently."""
PREPROCESSOR = "preprocessor_config.json"
PROCESSOR_FILES = ("processor_config.json", PREPROCESSOR, "video_preprocessor_config.json", "chat_template.json")
"""Files from which stock transformers makes its processor, besides the tokenizer's."""
PIXELS = {"image_mean": 0.5, "image_std": 0.5, "rescale_factor": 1 / 255}
"""Scaling of a frame's bytes that the model expects, by the preprocessor's keys."""


@dataclass
class ModelFiles:
    """A model folder's small files, which data depends on and which are copied to a trained model."""

    tokenizer: PreTrainedTokenizerBase
    config: SmolVLMConfig
    """The folder's config; an adapter's folder has that of its trained model."""
    processor: dict[str, bytes]
    """Contents by file name, of those PROCESSOR_FILES that the model has."""
    digest: str
    """Hex digest of the config and the tokenizer."""

    @classmethod
    def read(cls, recipe: Recipe, base: str | None = None) -> "ModelFiles":
        """Read the files of the recipe's model, and check what can be checked without weights.

        Args:
            base: as in `load_for_inference`.

        Raises:
            ConfigError: with all faults, if the model cannot be read or does not fit the recipe.
        """
        name = recipe.model.name_or_path
        config = read_model_config(name)
        faults: list[str] = []
        tokenizer = collect(faults, lambda: _read_tokenizer(name, config))
        collect(faults, lambda: pooled_side(config, recipe.model.tokens_per_frame))
        collect(faults, lambda: check_before_loading(recipe, config, base))
        processor = _read_processor_files(name)
        collect(faults, lambda: _check_pixels(name, processor.get(PREPROCESSOR, b"{}")))
        if faults:
            raise ConfigError(faults)
        return cls(tokenizer, config, processor, _digest(config, tokenizer))

    @property
    def image_size(self) -> int:
        return self.config.vision_config.image_size

    @property
    def max_positions(self) -> int:
        """Longest context of the text model in tokens; beyond it the model writes nonsense without an error."""
        return self.config.text_config.max_position_embeddings

    def save(self, folder: Path) -> None:
        """Write the tokenizer, and the processor's files byte for byte, into a trained model's folder."""
        self.tokenizer.save_pretrained(folder)
        keep_tokenizer_readable(folder)
        for file, content in self.processor.items():
            (folder / file).write_bytes(content)


def _digest(config: SmolVLMConfig, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a hash of config and tokenizer that is the same under another version of transformers."""
    values = config.to_diff_dict()
    for key in ("transformers_version", "_name_or_path"):
        values.pop(key, None)
    text = json.dumps(values, sort_keys=True, default=str) + tokenizer.backend_tokenizer.to_str()
    return hashlib.sha256(text.encode()).hexdigest()


def _read_processor_files(name: str) -> dict[str, bytes]:
    """Return the contents, by file name, of those PROCESSOR_FILES that a model has, in its folder or on the hub."""
    # Without internet, the hub's cache does not say that a file does not exist.
    lenient = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    paths = {file: cached_file(name, file, **lenient) for file in PROCESSOR_FILES}
    return {file: Path(path).read_bytes() for file, path in paths.items() if path is not None}


def _read_tokenizer(name: str, config: SmolVLMConfig) -> PreTrainedTokenizerBase:
    """Return the model's tokenizer. Raises ConfigError if it cannot be read, or its ids or splitting are wrong."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except Exception as error:
        # The tokenizers library raises a plain Exception for a file that it cannot read.
        raise model_unavailable(name, error) from error
    image_id, *_ = special_ids(tokenizer)
    if image_id != config.image_token_id or max(tokenizer.get_vocab().values()) >= config.text_config.vocab_size:
        raise ConfigError(f"model.name_or_path: the tokenizer in {name} belongs to another model, its ids differ")
    # A class named in tokenizer_config.json may split text otherwise than the file says, without a warning.
    file = cached_file(name, "tokenizer.json", _raise_exceptions_for_missing_entries=False)
    both = [tokenizer.backend_tokenizer] + ([Tokenizer.from_file(file)] if file else [])
    if len({tuple(one.encode(PROBE, add_special_tokens=False).ids) for one in both}) > 1:
        raise ConfigError(
            f"model.name_or_path: transformers reads the tokenizer of {name} as a {type(tokenizer).__name__}, which "
            "splits text otherwise than its tokenizer.json; set tokenizer_class in tokenizer_config.json to "
            "PreTrainedTokenizerFast"
        )
    return tokenizer


def _check_pixels(name: str, content: bytes) -> None:
    """Raise ConfigError if a model's own preprocessor scales a frame's bytes otherwise than ours."""
    try:
        # A key without a value is the stock processor's default, which is ours.
        values = {key: value for key, value in json.loads(content).items() if value is not None}
        wrong = [key for key, ours in PIXELS.items() if not np.allclose(np.asarray(values.get(key, ours), float), ours)]
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"model.name_or_path: {PREPROCESSOR} in {name} cannot be read: {error}") from error
    if wrong:
        theirs = ", ".join(f"{key} {values[key]}" for key in wrong)
        ours = ", ".join(f"{key} {PIXELS[key]:g}" for key in wrong)
        raise ConfigError(
            f"model.name_or_path: {PREPROCESSOR} in {name} says {theirs}, frames are read with {ours} alone; "
            "name another model"
        )
