"""Loads sentence-transformers models, which compare texts by their meaning."""

from typing import Any

from dst_dist.errors import ConfigError
from dst_dist.logs import say_download
from dst_dist.versions import version_fault


def load_sentence_model(key: str, name: str, device: str, otherwise: str) -> Any:
    """Return the model of a folder or hub name. With `HF_HUB_OFFLINE=1` a hub name is read from the local cache.

    Args:
        key: of the recipe, or the option, that names the model.
        otherwise: value of the key that needs no model.

    Raises:
        ConfigError: if the extra is not installed, or the model cannot be loaded.
    """
    try:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.util import is_sentence_transformer_model
    except ImportError as error:
        raise ConfigError(
            f"{key}: {name} needs sentence-transformers, which cannot be imported ({error}): "
            f"pip install 'dst-dist[replies]', or leave {key} at {otherwise}"
        ) from error
    if fault := version_fault("sentence-transformers"):
        raise ConfigError(f"{key}: {fault} for {name}: pip install 'dst-dist[replies]', or leave {key} at {otherwise}")
    say_download(key, name)
    try:
        # Any other model would be loaded too, as one that averages its tokens.
        if is_sentence_transformer_model(name):
            return SentenceTransformer(name, device=device)
        reason = "no modules.json there"
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error)
    raise ConfigError(
        f"{key}: {name} is no sentence-transformers model that can be loaded ({reason}); give a folder of "
        f"one, or download it where there is internet: hf download {name}"
    )
