"""Who may say what: our own lines at INFO, other libraries at WARNING and without their progress bars."""

import logging
import os
import sys
import warnings

import torch
import transformers
from tqdm import tqdm

logger = logging.getLogger("dst_dist")

LIBRARIES = ("transformers", "accelerate", "deepspeed", "DeepSpeed", "peft", "torch", "datasets", "huggingface_hub")

NOT_BESIDE_BAR = "not_beside_bar"
"""`extra={NOT_BESIDE_BAR: True}`: a line that a terminal's progress bar says already."""


class Console(logging.StreamHandler):
    """Lines on standard output; on a terminal they stand above the progress bar, which stays one."""

    def __init__(self):
        super().__init__(sys.stdout)
        on_terminal = sys.stdout.isatty() and sys.stderr.isatty()
        self.addFilter(lambda record: not (on_terminal and hasattr(record, NOT_BESIDE_BAR)))

    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode(sys.stdout):
            super().emit(record)


def set_up_logging(is_main: bool) -> None:
    """Our own lines at INFO and everything else at WARNING, on standard output; of other processes errors alone."""
    logging.captureWarnings(True)
    # One line each: the place, but not the source that Python would add.
    warnings.formatwarning = lambda message, category, file, line, source=None: (
        f"{message} ({category.__name__}, {file}:{line})"
    )
    # Libraries announcing changes to one another is nothing that a user can act on.
    for category in (DeprecationWarning, FutureWarning):
        warnings.simplefilter("ignore", category)
    transformers.utils.logging.disable_progress_bar()
    if not torch.cuda.is_available():
        # Untold, DeepSpeed warns of it whenever anything imports it.
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
    # The loader's table of new weights (checked, and an error unless it is the heads) and its remark that no
    # tensor parallelism is used.
    for name in ("transformers.modeling_utils", "transformers.distributed.tensor_parallel"):
        logging.getLogger(name).setLevel(logging.ERROR)
