"""Writes the model card of an exported model in the hub's format: YAML about it, then Markdown."""

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from dst_dist.logs import logger
from dst_dist.metrics import KINDS, how_measured, table_keys
from dst_dist.run_folder import REPLACED, RunFolder

PACKAGES = ("dst-dist", "torch", "transformers", "peft")


def model_card(
    run: RunFolder, folder: Path, keeps_adapter: bool, name: str | None, local_base: Path | None = None
) -> str:
    """Return a card with data, recipe, metrics and their intervals, versions, and how to use the model.

    Args:
        folder: where the model is.
        name: on the hub, if it is pushed.
        local_base: the folder of an adapter's base, without which the model cannot be used.
    """
    recipe = run.read_config()
    about = {
        "library_name": "peft" if keeps_adapter else "transformers",
        "base_model": recipe["model"]["name_or_path"],
        "pipeline_tag": "video-text-to-text",
        "tags": ["dialog-state-tracking", "egocentric-video", "smolvlm2"],
    }
    lines = ["---", yaml.safe_dump(about, sort_keys=False).strip(), "---", "", f"# {name or folder.name}", ""]
    lines += _introduction(recipe, keeps_adapter)
    lines += ["", "## Use", "", *_needs(local_base), *_use(folder, name), "", "## Measured", ""]
    lines += list(_measured(run)) or ["It was not evaluated before it was exported."]
    lines += ["", "## Trained with", "", *_versions(), "", "```yaml"]
    lines += [yaml.safe_dump(recipe, sort_keys=False).strip(), "```"]
    return "\n".join(lines) + "\n"


def _introduction(recipe: Mapping[str, Any], keeps_adapter: bool) -> list[str]:
    base, mode = recipe["model"]["name_or_path"], recipe["finetune"]["mode"]
    datasets = ", ".join(name for one in recipe["data"]["train"] for name in ([one] if isinstance(one, str) else one))
    kind = "A LoRA adapter for" if keeps_adapter else "A model fine-tuned from"
    return [
        f"{kind} `{base}` ({mode}) that follows a procedural video. At every frame it decides whether to speak and "
        "whether the state of the task changes, and writes both as text.",
        "",
        f"Trained on: {datasets}. A frame is {recipe['model']['tokens_per_frame']} image tokens.",
    ]


def _needs(local_base: Path | None) -> list[str]:
    advice = "if it is elsewhere, name its place as `base_model_name_or_path` in `adapter_config.json`."
    return [] if local_base is None else [f"It needs its base, the folder `{local_base}`; {advice}", ""]


def _use(folder: Path, name: str | None) -> list[str]:
    where = name or str(folder)
    fetch = f"hf download {name} --local-dir" if name else f"mkdir -p run && cp -r {shlex.quote(str(folder))}"
    return [
        "Stream a video, with dst_dist installed:",
        "",
        "```bash",
        f"{fetch} run/final",
        "cp run/final/recipe.yaml run/config.yaml",
        "dst-dist stream run --video VIDEO --task task.json",
        "```",
        "",
        "In Python:",
        "",
        "```python",
        "from dst_dist.model.smolvlm_dst import SmolVLMForDST",
        "",
        f"model = SmolVLMForDST.from_pretrained({json.dumps(where, ensure_ascii=False)})",
        "```",
        "",
        "Its backbone opens in stock transformers too, without the decision heads. transformers before 5.21 numbers "
        "a frame's patches wrongly, in float32 or bfloat16 by size.",
    ]


def _measured(run: RunFolder) -> Iterator[str]:
    """Yield a table for each evaluation of the run's present model."""
    for split in ("test", "val"):
        for kind, how in KINDS.items():
            file = run.result_file(split, kind)
            if not file.is_file():
                continue
            result = json.loads(file.read_text(encoding="utf-8"))
            basis = result.get("measured_on", {})
            if run.has_weights_of(basis):
                yield from [
                    "",
                    f"{split}, {how}. {how_measured(basis)}",
                    "",
                    "| metric | value | 95 % interval over videos |",
                    "|---|---|---|",
                ]
                yield from _rows(result, table_keys(kind))
            else:
                logger.warning("%s: left out of the card, %s", file, REPLACED)


def _rows(result: Mapping[str, Any], keys: Iterable[str]) -> Iterator[str]:
    for key in (key for key in keys if key in result):
        between = "{:.3f} to {:.3f}".format(*result[f"{key}/ci95"]) if f"{key}/ci95" in result else ""
        yield f"| `{key}` | {result[key]:.3f} | {between} |"


def _versions() -> list[str]:
    return ["| package | version |", "|---|---|", *(f"| {package} | {version(package)} |" for package in PACKAGES)]
