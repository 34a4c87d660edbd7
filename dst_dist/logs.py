"""Who may say what: our own lines at INFO, other libraries at WARNING and without their progress bars."""

import logging
import sys
import warnings

import transformers

logger = logging.getLogger("dst_dist")

LIBRARIES = ("transformers", "accelerate", "deepspeed", "DeepSpeed", "peft", "torch", "datasets", "huggingface_hub")


def set_up_logging(is_main: bool) -> None:
    """Our own lines from the main process at INFO, everything else at WARNING, on standard output."""
    logging.captureWarnings(True)
    # Libraries announcing changes to one another is nothing that a user can act on.
    for category in (DeprecationWarning, FutureWarning):
        warnings.simplefilter("ignore", category)
    transformers.utils.logging.disable_progress_bar()
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logger.setLevel(logging.INFO if is_main else logging.ERROR)
    for name in LIBRARIES:
        library = logging.getLogger(name)
        library.setLevel(logging.WARNING)
        library.handlers.clear()
        library.propagate = True
    # The loader's table of new weights (checked, and an error unless it is the heads) and its remark that no
    # tensor parallelism is used.
    for name in ("transformers.modeling_utils", "transformers.distributed.tensor_parallel"):
        logging.getLogger(name).setLevel(logging.ERROR)


