"""Names the needs and costs of a launch that the sum of a plan's memory does not have."""

import os
import shutil
from collections.abc import Iterator

from transformers import SmolVLMConfig

from dst_dist.config import Recipe
from dst_dist.errors import ConfigError
from dst_dist.model.attention import square_attention


def missing_tools() -> list[str]:
    """Return the programs that compile DeepSpeed's Adam for the CPU and are not installed."""
    return [name for name in (os.environ.get("CXX", "c++"), "ninja") if shutil.which(name) is None]


def check_offload() -> None:
    """Raise ConfigError if DeepSpeed's Adam for the CPU, which offload from a GPU takes, cannot be compiled here."""
    if missing := missing_tools():
        raise ConfigError(
            f"offload of the optimizer compiles DeepSpeed's CPU Adam in its first start, and {' and '.join(missing)} "
            "cannot be found here; install a C++ compiler (or name one in CXX) and ninja (pip install ninja), or use "
            "launch/zero2.yaml"
        )


def needs_lines(recipe: Recipe, config: SmolVLMConfig, engine: str, longest: int) -> Iterator[str]:
    """Yield lines for people with the needs and costs of a launch that the sum of a plan's memory does not have.

    Args:
        engine: a file of launch/, without its ending.
        longest: tokens of the longest sample.
    """
    if engine == "zero2_offload":
        missing = missing_tools()
        here = f"not found here: {', '.join(missing)}" if missing else "both are here"
        yield f"needs a C++ compiler and ninja on every node, to compile DeepSpeed's CPU Adam; {here}"
    device_type = "cpu" if engine.startswith("cpu_") else "cuda"
    if costly := square_attention(config, recipe.train.precision, longest, device_type):
        yield costly
