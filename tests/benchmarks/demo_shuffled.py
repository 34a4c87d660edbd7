"""Measure a run of the demo on test tasks whose step names are given to other steps: what is left without reading.

    python -m tests.benchmarks.demo_shuffled RUN OUT

Writes `shuffled.json` beside each domain's test clips, and the model to OUT, whose `evaluation/` has the figures.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from dst_dist.demo.world import DOMAINS
from dst_dist.recipes.loading import load_recipe
from tests.launching import end_with_parent

SHUFFLED = "shuffled.json"


def shuffle_names(clip: dict[str, Any], seed: int) -> None:
    """Give every step of a clip another step's name; clips of one task are changed alike."""
    steps = clip["dst"]
    names = [step["name"] for step in steps]
    turn = random.Random(f"{seed}/{clip['video_uid']}").randrange(1, len(names))
    for step, name in zip(steps, names[turn:] + names[:turn], strict=True):
        step["name"] = name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run of the recipe demo")
    parser.add_argument("out", type=Path, help="folder to write")
    options = parser.parse_args()
    root = Path(load_recipe([str(options.run / "config.yaml")]).data.root)
    for domain in DOMAINS:
        clips = json.loads((root / domain.name / "test_training.json").read_text())
        for clip in clips:
            shuffle_names(clip, seed=0)
        (root / domain.name / SHUFFLED).write_text(json.dumps(clips))
    shutil.copytree(options.run / "final", options.out / "final")
    shutil.copy(options.run / "config.yaml", options.out)
    test = f"data.test=[{', '.join(f'{domain.name}/{SHUFFLED}' for domain in DOMAINS)}]"
    command = [sys.executable, "-m", "dst_dist", "evaluate", str(options.out), "--split", "test", test]
    subprocess.run(command, check=True, preexec_fn=end_with_parent)


if __name__ == "__main__":
    main()
