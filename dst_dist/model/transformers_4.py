"""Keep a saved folder readable by transformers 4, which many tools still use.

transformers 5 writes the rotary base where version 4 does not look: it takes 10,000 without a warning. Version 5 also
names a class of tokenizer and a list of special tokens that version 4 does not know.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def keep_config_readable(folder: Path) -> None:
    """Repeat the text model's rotary settings in config.json under the names of transformers 4."""
    with _edited(folder / "config.json") as config:
        text = config["text_config"]
        rotary = dict(text["rope_parameters"])
        text["rope_theta"] = rotary.pop("rope_theta")
        if rotary.get("rope_type", "default") != "default":
            text["rope_scaling"] = rotary


def keep_tokenizer_readable(folder: Path) -> None:
    """Name tokenizer class and special tokens in tokenizer_config.json as transformers 4 does; 5 reads both."""
    with _edited(folder / "tokenizer_config.json") as config:
        if config.get("tokenizer_class") == "TokenizersBackend":
            config["tokenizer_class"] = "PreTrainedTokenizerFast"
        if isinstance(config.get("extra_special_tokens"), list):
            config["additional_special_tokens"] = config.pop("extra_special_tokens")


@contextmanager
def _edited(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the content of a JSON file, and write it back as the block has changed it."""
    values = json.loads(path.read_text(encoding="utf-8"))
    yield values
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
