"""Short trainings of the real text model on the hand-written dialogs."""

from pathlib import Path

import yaml

from tests.launching import Launched, launch
from tests.real.dialogs import write_clips

ENGINES = ("cpu_zero2", "cpu_fsdp")
STEPS = {"lora": 60, "full": 20}
"""Steps by mode: full training needs fewer, and each takes far longer."""
CLIP_SECONDS = 26
RECIPE = {
    "finetune": {"mode": "lora", "lora": {"rank": 16, "alpha": 32}},
    "data": {"train": ["tube", "coffee"], "val": [], "num_workers": 0},
    "optim": {"learning_rate": 2e-4, "warmup_steps": 5},
    "train": {"global_batch_size": 2, "precision": "fp32", "gradient_checkpointing": False},
    "log": {"report_to": []},
}


def train(folder: Path, engine: str, mode: str, model: Path) -> Launched:
    """Train with the recipe above, in which `mode` is the only word that changes; return the run."""
    folder.mkdir(exist_ok=True)
    write_clips(folder / "data", CLIP_SECONDS)
    text = yaml.safe_dump(RECIPE).replace("mode: lora", f"mode: {mode}")
    (folder / "recipe.yaml").write_text(text)
    words = [str(folder / "recipe.yaml"), f"model.name_or_path={model}", f"data.root={folder}/data"]
    words.append(f"train.max_steps={STEPS[mode]}")
    return launch(engine, words, folder / "run", timeout_s=1800).check()
