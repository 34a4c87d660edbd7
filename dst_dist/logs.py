"""Set up logging: our own lines at INFO, those of other libraries at WARNING, without their progress bars."""

import logging
import os
import sys
import warnings

import huggingface_hub
import transformers
from tqdm import tqdm

from dst_dist.devices import on_cpu

logger = logging.getLogger("dst_dist")

LIBRARIES = ("transformers", "accelerate", "deepspeed", "DeepSpeed", "peft", "torch", "datasets", "huggingface_hub")

SHOWN_BY_BAR = "shown_by_bar"
"""`extra={SHOWN_BY_BAR: True}` marks a line whose content a progress bar on a terminal shows already."""


class Console(logging.StreamHandler):
    """Handler that writes lines to standard output, on a terminal above the progress bar."""

    def __init__(self):
        super().__init__(sys.stdout)
        on_terminal = sys.stdout.isatty() and sys.stderr.isatty()
        self.addFilter(lambda record: not (on_terminal and hasattr(record, SHOWN_BY_BAR)))

    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode(sys.stdout):
            super().emit(record)


def say_download(key: str, name: str) -> None:
    """Log that the hub is asked for the model of `key` if it is no folder; without a network that takes minutes."""
    if not os.path.isdir(name) and not huggingface_hub.constants.HF_HUB_OFFLINE:
        logger.info(
            f"{key}: asking the hub for {name}; without a network it tries for minutes: HF_HUB_OFFLINE=1 takes at once "
            f"what `hf download {name}` has fetched"
        )


def set_up_logging(is_main: bool) -> None:
    """Log our own lines at INFO and all others at WARNING, to standard output; on other processes errors alone."""
    logging.captureWarnings(True)
    # A warning is one line: Python would add the line of source.
    warnings.formatwarning = lambda message, category, file, line, source=None: (
        f"{message} ({category.__name__}, {file}:{line})"
    )
    # Libraries tell each other about coming changes; a user can do nothing about them.
    for category in (DeprecationWarning, FutureWarning):
        warnings.simplefilter("ignore", category)
    transformers.utils.logging.disable_progress_bar()
    if on_cpu():
        # Otherwise DeepSpeed logs a warning whenever it is imported.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    handler = Console()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    others = logging.WARNING if is_main else logging.ERROR
    logging.basicConfig(level=others, handlers=[handler], force=True)
    logger.setLevel(logging.INFO if is_main else logging.ERROR)
    for name in LIBRARIES:
        library = logging.getLogger(name)
        library.setLevel(others)
        library.handlers.clear()
        library.propagate = True
    # transformers lists new weights, which we check ourselves, and remarks that tensor parallelism is not used.
    for name in ("transformers.modeling_utils", "transformers.distributed.tensor_parallel"):
        logging.getLogger(name).setLevel(logging.ERROR)
