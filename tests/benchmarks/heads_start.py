"""Train the real text half of SmolVLM2-256M from several starts of the decision heads; print a markdown table.

    python -m tests.benchmarks.heads_start starts OUT
    python -m tests.benchmarks.heads_start rates OUT --seeds 0

Each row is trained for 100 steps through the product's own loop, on parts of two hand-written dialogs, once a seed, and
read on a third dialog. `starts` trains a LoRA, `rates` the heads alone; `states` says what the heads read. A cell is
the mean over the seeds and half the distance between the largest and the smallest. Run again, it skips what is done.
The text half comes with the extra `real`, see `tests/real/make_model.py`; the first call makes `OUT/model`.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch
from torch import nn

from dst_dist.config import Recipe
from dst_dist.heads import HEAD_MODULES, HEAD_NAMES
from dst_dist.logs import set_up_logging
from dst_dist.model.loading import load_model
from dst_dist.model.smolvlm_dst import SmolVLMForDST
from dst_dist.model.trainable import active_module, unwrap
from tests.gpu.rows import forget_row, train_row
from tests.real import make_model, reading
from tests.real.dialogs import DIALOGS, write_clips

READ_AT, NUM_STEPS, WINDOW = (10, 50, 100), 100, 10
WORDS = (
    "data.train=[tube, coffee]",
    "data.val=[shelf/train_training.json]",
    # Ten parts, each with a positive of both heads.
    "data.max_seq_len=240",
    "data.context_seconds=5",
    "data.num_workers=0",
    "labels.neg_frame_sampling_rate=1.0",
    "train.global_batch_size=1",
    "train.precision=fp32",
    "train.gradient_checkpointing=false",
    f"train.max_steps={NUM_STEPS}",
    f"eval.every_steps={NUM_STEPS}",
    "log.report_to=[]",
)


def zero(head: nn.Linear) -> None:
    nn.init.zeros_(head.weight)


def normal(head: nn.Linear) -> None:
    nn.init.normal_(head.weight, std=0.002)


def xavier(head: nn.Linear) -> None:
    nn.init.xavier_uniform_(head.weight)


def normalised(head: nn.Linear) -> None:
    """Start with Xavier, and divide the states that the head reads by their root mean square."""
    xavier(head)
    head.register_forward_pre_hook(lambda _, states: nn.functional.rms_norm(states[0], states[0].shape[-1:]))


@dataclass(frozen=True)
class Row:
    """A start of both heads, and the recipe's words.

    Attributes:
        is_frozen: nothing but the heads is trained, so that each sample's states are computed once.
    """

    title: str
    start: Callable[[nn.Linear], None]
    words: tuple[str, ...]
    is_frozen: bool = False


TITLES = {
    xavier: "Xavier uniform",
    normalised: "Xavier uniform, states divided by their RMS",
    normal: "normal, standard deviation 0.002",
    zero: "zero",
}
LORA = ("lora", "finetune.lora={rank: 16, alpha: 32}", "optim.warmup_steps=10")
RATES = (
    *((start, "2e-4", 100) for start in TITLES),
    *((zero, rate, warmup) for rate, warmup in (("2e-4", 0), ("2e-5", 100), ("2e-3", 100))),
)
"""The recipe's rate and warm-up with each start, then others with the best one."""
HEADS_ALONE = ("full", "finetune.train={vision: false, connector: false, text: false}")


def rates_row(start: Callable[[nn.Linear], None], rate: str, warmup: int) -> Row:
    words = (*HEADS_ALONE, f"optim.head_learning_rate={rate}", f"optim.warmup_steps={warmup}")
    return Row(f"{TITLES[start]}, rate {rate}, warm-up {warmup}", start, words, is_frozen=True)


TABLES = {
    "starts": {start.__name__: Row(title, start, LORA) for start, title in TITLES.items()},
    "rates": {
        f"rates-{start.__name__}-{rate}-{warmup}": rates_row(start, rate, warmup) for start, rate, warmup in RATES
    },
}
COLUMNS = {
    "first gradient, heads": "heads/grad_norm",
    "first gradient, all": "grad_norm",
    **{f"heads' loss at {step}": f"heads/{step}" for step in READ_AT},
    "highest": "heads/highest",
    "unseen: heads' loss": "val/heads",
    **{f"unseen: {name} AP": f"val/{name}/average_precision" for name in HEAD_NAMES},
    "unseen: lm": "val/loss/lm",
    "other text": "paragraph",
}


def run(out: Path, name: str, row: Row, seed: int, states: dict[tuple, torch.Tensor]) -> dict[str, float]:
    """Train one row with one seed, or read its earlier result: its value of each of COLUMNS.

    Args:
        states: those of samples that were read before any training, by their ids.
    """
    result = out / f"{name}-{seed}.json"
    if not result.exists():
        folder, started = out / "runs" / f"{name}-{seed}", Started(row.start)
        at = (f"model.name_or_path={out}/model", f"data.root={out}/data", f"output_dir={folder}", f"seed={seed}")
        kept = remembered(states) if row.is_frozen else nullcontext()
        with mock.patch("dst_dist.train.loop.load_model", started.load), kept:
            train_row([row.words[0], *WORDS, *row.words[1:], *at])
        forget_row()
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        ids, text = reading.paragraph_ids(out / "model"), started.model.eval()
        figures = figures_of(lines) | {"heads/grad_norm": started.first_gradient()}
        figures["paragraph"] = reading.paragraph_loss(
            reading.paragraph_logits(text.model.text_model, text.lm_head, ids), ids
        )
        result.write_text(json.dumps(figures))
    return json.loads(result.read_text())


class Started:
    """Loads the model with another start of its heads; keeps the model and the heads' gradients."""

    def __init__(self, start: Callable[[nn.Linear], None]):
        self.start, self.gradients = start, []

    def load(self, recipe: Recipe):
        model = load_model(recipe)
        self.model = unwrap(model)
        for module in HEAD_MODULES:
            head = active_module(getattr(self.model, module))
            self.start(head)
            for parameter in head.parameters():
                parameter.register_hook(self.gradients.append)
        return model

    def first_gradient(self) -> float:
        """Return the norm of both heads' gradients in the first step, which is one micro-batch."""
        first = self.gradients[: 2 * len(HEAD_MODULES)]
        return torch.cat([gradient.flatten() for gradient in first]).norm().item()


def remembered(states: dict[tuple, torch.Tensor]):
    """Patch the model to compute the states of each sample once; right only while the heads alone are trained."""
    compute = SmolVLMForDST.hidden_states

    def hidden_states(self: SmolVLMForDST, input_ids: torch.Tensor, *arguments) -> torch.Tensor:
        key = tuple(input_ids.tolist())
        if key not in states:
            with torch.no_grad():
                states[key] = compute(self, input_ids, *arguments)
        return states[key]

    return mock.patch.object(SmolVLMForDST, "hidden_states", hidden_states)


def figures_of(lines: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the figures of a run's metrics. The heads' loss is their mean; at a step, over the WINDOW steps to it."""
    steps = [line for line in lines if line["split"] == "train"]
    (val,) = (line for line in lines if line["split"] == "val")
    losses = [heads_loss(line) for line in steps]
    figures = {f"heads/{step}": statistics.mean(losses[step - WINDOW : step]) for step in READ_AT}
    figures |= {"grad_norm": steps[0]["grad_norm"], "heads/highest": max(losses), "val/heads": heads_loss(val)}
    return figures | {f"val/{key}": value for key, value in val.items()}


def heads_loss(line: dict[str, float]) -> float:
    return statistics.mean(line[f"loss/{name}"] for name in HEAD_NAMES)


@torch.no_grad()
def states_line(model_folder: Path, root: Path) -> str:
    """Return how large the states are that the heads read, and how much of them is the same at every position."""
    model, batches = reading.load(model_folder), reading.micro_batches_of(model_folder, root, DIALOGS)
    states = torch.cat(
        [
            model.hidden_states(batch.input_ids, batch.frames, batch.segment_lengths)[batch.decision_positions]
            for batch in batches
        ]
    )
    squares, mean = states.square().sum(1).mean(), states.mean(0)
    return (
        f"{len(states)} states of width {states.shape[1]}: RMS {states.square().mean().sqrt():.2f}, sum of magnitudes "
        f"{states.abs().sum(1).mean():.0f}; their mean has {mean.square().sum() / squares:.0%} of their square, its "
        f"largest element {mean.abs().max():.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=["states", *TABLES])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options = parser.parse_args()
    if reason := make_model.why_unavailable():
        parser.error(reason)
    out = options.out.resolve()
    if not (out / "model").exists():
        make_model.write_model(out / "model")
    write_clips(out / "data")
    if options.table == "states":
        print(states_line(out / "model", out / "data"))
        return
    set_up_logging(is_main=True)
    rows, states = TABLES[options.table], {}
    # A seed of every row first: what is cut short can be compared.
    found = {(name, seed): run(out, name, row, seed, states) for seed in options.seeds for name, row in rows.items()}
    lines = [_line("start", COLUMNS), _line("---", ["---"] * len(COLUMNS))]
    for name, row in rows.items():
        figures = [found[name, seed] for seed in options.seeds]
        lines.append(_line(row.title, [_cell([one[key] for one in figures]) for key in COLUMNS.values()]))
    print("\n".join(lines))


def _cell(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.3g} ± {(max(values) - min(values)) / 2:.2g}"


def _line(title: str, cells: Sequence[str]) -> str:
    return f"| {' | '.join([title, *cells])} |"


if __name__ == "__main__":
    main()
