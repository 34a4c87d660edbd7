"""`dst-dist export` writes a run's final model with a card to a folder for others, and to the hub if asked."""

from pathlib import Path

import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
from peft import PeftModel
from torch import nn

from dst_dist.errors import CheckpointError, ConfigError
from dst_dist.files import write_whole
from dst_dist.logs import logger
from dst_dist.model.adapters import read_adapter_config
from dst_dist.model.loading import load_for_inference, load_model
from dst_dist.model.model_files import ModelFiles
from dst_dist.model.saving import save_model
from dst_dist.model.smolvlm_dst import SmolVLMForDST
from dst_dist.model.trainable import unwrap
from dst_dist.publish.card import model_card
from dst_dist.recipes.loading import load_recipe
from dst_dist.run_folder import RunFolder

CARD, RECIPE = "README.md", "recipe.yaml"
TOLERANCE = 1e-3
"""Largest difference of a logit between the trained model and the exported one, as a share of the largest logit."""
PROBE_TOKENS, PROBE_FRAMES = 64, 2


def export_run(run_folder: Path, to: Path, merge: bool, push: str | None = None) -> None:
    """Write a finished run's model to a new folder: whole, or an adapter kept as it is.

    The exported folder is read again, and its logits are compared with those of the run's own model.

    Args:
        merge: add an adapter to its base, so that the folder needs no other model.
        push: the hub's name of the model, `user/name`; made private if it is new.

    Raises:
        ConfigError: if the run is not finished, the folder is not empty, or the hub refuses.
        CheckpointError: if the exported model computes other logits.
    """
    run = RunFolder(run_folder)
    if not run.config_file.is_file() or not run.is_over:
        raise ConfigError(f"{run_folder}: not a finished run, it should hold config.yaml and final/")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ConfigError(f"--to {to}: there is something already; name a new folder")
    fixed = f"model.name_or_path={run.final}", "train.compile=false", "train.precision=fp32"
    recipe = load_recipe([str(run.config_file), *fixed])
    files = ModelFiles.read(recipe)
    trained = load_model(recipe)
    before = probe(trained.eval())
    keeps_adapter = read_adapter_config(run.final) is not None and not merge
    local_base = None
    if keeps_adapter:
        local_base = _name_from_anywhere(trained)
        save_model(trained, trained.state_dict(), to)
    else:
        del trained
        whole = load_for_inference(run.final)
        save_model(whole, whole.state_dict(), to)
    files.save(to)
    furthest = max_difference(before, probe(SmolVLMForDST.from_pretrained(to, dtype=torch.float32).eval()))
    if furthest > TOLERANCE:
        raise CheckpointError(f"{to}: its logits are {furthest:.1e} from those of {run.final}; do not use it")
    logger.info("logits before and after differ by %.1e at most, as a share of the largest", furthest)
    write_whole(to / RECIPE, run.config_file.read_text(encoding="utf-8"))
    write_whole(to / CARD, model_card(run, to, keeps_adapter, push, local_base))
    logger.info("exported to %s", to)
    if local_base is not None:
        logger.warning("%s needs its base %s; export with --merge for a folder that needs no other", to, local_base)
    if push is not None:
        _push(to, push)


@torch.no_grad()
def probe(model: nn.Module) -> list[torch.Tensor]:
    """Return a model's logits for a fixed text with frames: of the language head, and of both decision heads."""
    inner = unwrap(model)
    config, generator = inner.config, torch.Generator().manual_seed(0)
    ids = torch.randint(0, config.text_config.vocab_size, (PROBE_TOKENS,), generator=generator)
    ids[ids == config.image_token_id] = 0
    image = torch.full((PROBE_FRAMES * config.tokens_per_frame,), config.image_token_id)
    ids = torch.cat([ids[: PROBE_TOKENS // 2], image, ids[PROBE_TOKENS // 2 :]])
    size, every = config.vision_config.image_size, torch.arange(len(ids))
    frames = torch.randint(0, 256, (PROBE_FRAMES, 3, size, size), dtype=torch.uint8, generator=generator)
    inner.compute_dtype = None
    output = model(ids, frames, [len(ids)], every, every)
    return [output.lm_logits.float(), *output.decision_logits.values()]


def max_difference(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> float:
    """Return the largest difference, as a share of the largest value of its kind."""
    pairs = zip(ours, theirs, strict=True)
    return max(float((one - other).abs().max() / other.abs().max()) for one, other in pairs)


def _name_from_anywhere(adapter: PeftModel) -> Path | None:
    """Make an adapter name its base by the whole path and return that; None if the base is on the hub."""
    config = adapter.peft_config["default"]
    base = Path(config.base_model_name_or_path)
    if not base.is_dir():
        return None
    config.base_model_name_or_path = str(base.absolute())
    return base.absolute()


def _push(folder: Path, name: str) -> None:
    """Upload a folder to the hub. Raises ConfigError with the hub's reason if it refuses."""
    api = HfApi()
    try:
        api.create_repo(name, private=True, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="Upload a model trained with dst_dist")
    except (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"--push {name}: {reason}. The folder {folder} is complete; log in (hf auth login, or HF_TOKEN), then "
            f"hf upload {name} {folder}"
        ) from error
    logger.info("pushed to %s", name)
