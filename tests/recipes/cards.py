"""Makes a table on the recipes' page: plans of the packaged recipes on cards of 24, 40 and 80 GB.

python -m tests.recipes.cards     writes the table anew
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator

from dst_dist.config import Recipe
from dst_dist.errors import ConfigError
from dst_dist.plan import fit as planned
from dst_dist.plan.fit import GIB, Fit, decide
from dst_dist.plan.micro_batches import Largest, full_micro_batch
from dst_dist.plan.simulate import MicroBatchShape
from dst_dist.recipes.loading import load_recipe
from tests.gpu.make_models import SHAPES
from tests.pages import REPOSITORY, with_part

PAGE = REPOSITORY / "dst_dist/recipes/README.md"
CARDS_GIB = {"24 GB": 22.5, "40 GB": 39.5, "80 GB": 79.1}
"""Memory that cards report, by name."""
RECIPES = tuple(f"{model}-{mode}" for model in ("256M", "500M", "2.2B") for mode in ("lora", "full"))
LAUNCHES = {"one card": ("ddp", 1), "8 cards, ZeRO-2": ("zero2", 8), "8 cards, FSDP2": ("fsdp", 8)}
SAMPLE = MicroBatchShape((4096,), 600, 614, 600)
"""A sample of `data.max_seq_len` tokens: 600 frames of one token, 15 % of the tokens supervised."""


def table() -> str:
    """Return the table in Markdown."""
    lines = [f"| recipe | launch | {' | '.join(CARDS_GIB)} |", "|---|---|---|---|---|"]
    return "\n".join(lines + [row for name in RECIPES for row in rows(name)])


def rows(name: str) -> list[str]:
    """Return a recipe's rows; model and activations are the same on every card and engine, so each is made once."""
    recipe, found = load_recipe([name]), []
    with _kept():
        for launch, (engine, processes) in LAUNCHES.items():
            cells = (_cell(recipe, name.split("-")[0], engine, processes, card) for card in CARDS_GIB.values())
            found.append(f"| `{name}` | {launch} | {' | '.join(cells)} |")
    return found


def _cell(recipe: Recipe, model: str, engine: str, processes: int, card_gib: float) -> str:
    try:
        chosen = decide(recipe, _largest, _measure(model, engine, processes, card_gib)).train
    except ConfigError:
        return "does not fit"
    return f"{chosen.max_tokens:,}{', checkpointing' if chosen.gradient_checkpointing else ''}"


def _largest(recipe: Recipe) -> Largest:
    shape = full_micro_batch(recipe.train.max_tokens, recipe.data.max_seq_len, SAMPLE)
    return Largest(shape, shape, 2)


def _measure(model: str, engine: str, processes: int, card_gib: float) -> Callable[[Recipe, Largest], Fit]:
    config = SHAPES[model].config()

    def measure(recipe: Recipe, largest: Largest) -> Fit:
        return planned.fit(config, engine, processes, int(card_gib * GIB), recipe, largest)

    return measure


@contextlib.contextmanager
def _kept() -> Iterator[None]:
    """Keep the model and the activations of one recipe."""
    known: dict[object, object] = {}
    intact = planned.build_model, planned.micro_batch_memory

    def build_model(*arguments):
        if "model" not in known:
            known["model"] = intact[0](*arguments)
        return known["model"]

    def micro_batch_memory(recipe, config, shape, has_gradients=False):
        key = recipe.train.gradient_checkpointing, shape
        if key not in known:
            known[key] = intact[1](recipe, config, shape, has_gradients)
        return known[key]

    planned.build_model, planned.micro_batch_memory = build_model, micro_batch_memory
    try:
        yield
    finally:
        planned.build_model, planned.micro_batch_memory = intact


def main() -> None:
    warnings.simplefilter("ignore")
    PAGE.write_text(with_part(PAGE.read_text(), "cards", "dst_dist/plan/", table()))


if __name__ == "__main__":
    main()
