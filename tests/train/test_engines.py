"""Every engine trains the same: one recipe and seed, launched in many ways, compared with one process."""

import itertools
import math
from typing import NamedTuple

import pytest
import torch

from dst_dist.data.batching import BatchPlan, micro_batches
from dst_dist.recipes.loading import load_recipe
from dst_dist.setup import DataSetup
from tests.launching import TINY_RUN, launch
from tests.train import comparing

NUM_STEPS = 12
GLOBAL_BATCH = 8
FRAMES_PER_SAMPLE = 16
MANY_TOKENS = {1: 400, 2: 250}
"""Limits by number of processes, with which steps differ in their number of micro-batches."""

RECIPE = (
    *TINY_RUN,
    # 15 samples: an epoch is a step of 8 and one of 7. The ProAssist samples have no DST terms.
    "data.train=[kitchen, proassist_demo/train.jsonl]",
    f"train.max_steps={NUM_STEPS}",
    f"train.global_batch_size={GLOBAL_BATCH}",
    "optim.learning_rate=2e-3",
    "optim.warmup_steps=2",
    "optim.schedule=constant",
)
MODES = {
    "full": (),
    "lora": ("finetune.mode=lora", "finetune.train.vision=false", "finetune.lora={rank: 8, alpha: 16}"),
}


class Case(NamedTuple):
    """One way to launch the training.

    `micro_batches` is their number per process and step, `tower_calls` the vision tower's calls in the largest one
    (3 is 3 or more).
    """

    engine: str
    processes: int
    mode: str
    checkpointing: bool
    micro_batches: str
    tower_calls: int

    @property
    def name(self) -> str:
        checkpointing = "checkpointing" if self.checkpointing else "plain"
        return f"{self.engine}-{self.processes}-{self.mode}-{checkpointing}-{self.micro_batches}-{self.tower_calls}"

    @property
    def budget(self) -> str:
        """Return the limit that gives this number of micro-batches: frames if it is fixed, tokens if it varies."""
        if self.micro_batches == "varying":
            return f"train.max_tokens={MANY_TOKENS[self.processes]}"
        return f"train.max_frames={GLOBAL_BATCH * FRAMES_PER_SAMPLE // (self.processes * int(self.micro_batches))}"

    @property
    def words(self) -> tuple[str, ...]:
        most_frames = {"1": 128, "2": 64, "4": 32, "varying": 64}[self.micro_batches] // self.processes
        vision_batch_size = 128 if self.tower_calls == 1 else most_frames // 3 + 1
        return (
            *RECIPE,
            *MODES[self.mode],
            f"train.gradient_checkpointing={self.checkpointing}",
            f"model.vision_batch_size={vision_batch_size}",
            self.budget,
        )


REFERENCES = {mode: Case("cpu_ddp", 1, mode, False, "1", 1) for mode in MODES}

# With the two references 14 launches; every pair of values of two columns is in some row.
TABLE = (
    Case("cpu_ddp", 2, "lora", True, "1", 1),
    Case("cpu_ddp", 2, "full", True, "4", 3),
    Case("cpu_ddp", 2, "full", True, "varying", 1),
    Case("cpu_zero2", 1, "lora", True, "1", 3),
    Case("cpu_zero2_offload", 2, "lora", True, "4", 1),
    Case("cpu_zero2", 2, "full", False, "varying", 3),
    Case("cpu_fsdp", 2, "lora", False, "1", 3),
    Case("cpu_fsdp", 2, "full", False, "4", 1),
    Case("cpu_fsdp", 1, "lora", True, "varying", 3),
    Case("cpu_fsdp_no_reshard", 2, "lora", False, "1", 1),
    Case("cpu_fsdp_no_reshard", 1, "full", False, "4", 3),
    Case("cpu_fsdp_no_reshard", 2, "lora", True, "varying", 1),
)
HYBRID = Case("cpu_hsdp", 4, "full", True, "2", 3)
"""Two replicas of two processes that share the weights; it takes four, so it stands beside the table."""
ENGINES = ("cpu_ddp", "cpu_zero2", "cpu_zero2_offload", "cpu_fsdp", "cpu_fsdp_no_reshard")
VALUES = (ENGINES, (1, 2), tuple(MODES), (False, True), ("1", "4", "varying"), (1, 3))
FULL_CROSS = [case for case in itertools.starmap(Case, itertools.product(*VALUES)) if case not in TABLE]


@pytest.fixture(scope="module")
def runs(starter, tmp_path_factory, demo_words):
    """`runs(case)` returns the finished training, once each.

    `accelerate launch` itself starts LoRA on one process; the others are forked.
    """
    folder, done = tmp_path_factory.mktemp("engines"), {}

    def run(case, module=("dst_dist.train",)):
        if (case, module) not in done:
            run_folder = folder / f"{case.name}-{module[-1]}"
            words = (*case.words, *demo_words)
            start = launch if case.mode == "lora" and case.processes == 1 else starter.run
            done[case, module] = start(case.engine, words, run_folder, case.processes, module).check()
        return done[case, module]

    return run


@pytest.fixture(scope="module")
def initial(tmp_path_factory, demo_words):
    """The weights that every training starts from, by mode."""
    folder = tmp_path_factory.mktemp("initial")
    return {
        mode: comparing.initial_weights((*case.words, *demo_words), folder / mode) for mode, case in REFERENCES.items()
    }


@pytest.fixture(scope="module")
def compare(runs, initial):
    """`compare(case)` returns how far the training is from that of one process; printed too, for `pytest -s`."""

    def to_reference(case, **options):
        found = comparing.differences(runs(case, **options), runs(REFERENCES[case.mode]), initial[case.mode])
        print(case.name, *options.values(), {key: f"{value:.1e}" for key, value in found.items()})
        return found

    return to_reference


def test_the_table_has_every_pair():
    families = [case._replace(engine=case.engine.removesuffix("_offload")) for case in (*REFERENCES.values(), *TABLE)]
    assert len(families) <= 14
    for (i, first), (j, second) in itertools.combinations(enumerate(VALUES), 2):
        for pair in itertools.product(first, second):
            if "cpu_zero2_offload" not in pair:
                assert any((case[i], case[j]) == pair for case in families), pair


@pytest.mark.parametrize("case", [*REFERENCES.values(), *TABLE, HYBRID], ids=lambda case: case.name)
def test_micro_batches_are_as_many_as_named(case, demo_words):
    recipe = load_recipe((*case.words, *demo_words))
    setup = DataSetup(recipe, ("train",))
    data = setup.datasets(setup.check())["train"]
    plan = BatchPlan(data.weights, GLOBAL_BATCH, recipe.seed, data.fingerprint)
    shares = [
        micro_batches(*step, data.samples, setup.limits, rank, case.processes)
        for step in plan.steps(0, NUM_STEPS)
        for rank in range(case.processes)
    ]
    numbers = {len(share) for share in shares}
    assert len(numbers) > 1 if case.micro_batches == "varying" else numbers == {int(case.micro_batches)}
    calls = {-(-spec.round_frames // recipe.model.vision_batch_size) for share in shares for spec in share}
    assert max(calls) == 1 if case.tower_calls == 1 else max(calls) >= 3
    if case.processes > 1 and case.micro_batches in ("2", "4"):
        # Steps of 7 samples leave one process with an empty micro-batch.
        assert any(not spec.draws for share in shares for spec in share)


@pytest.mark.parametrize("mode", MODES)
def test_one_process_learns(runs, mode):
    lines = runs(REFERENCES[mode]).metrics()
    assert len(lines) == NUM_STEPS
    assert lines[2]["learning_rate"] == 2e-3
    assert lines[-1]["loss"] < 0.7 * lines[0]["loss"]


@pytest.mark.parametrize("case", [*TABLE, HYBRID], ids=lambda case: case.name)
def test_engine_is_the_same_training(compare, case):
    assert comparing.faults(compare(case)) == []


@pytest.mark.long
@pytest.mark.parametrize("case", FULL_CROSS, ids=lambda case: case.name)
def test_every_combination_is_the_same_training(compare, case):
    assert comparing.faults(compare(case)) == []


BROKEN = {
    "micro_batch": Case("cpu_zero2", 2, "full", False, "4", 1),
    "rank": Case("cpu_fsdp", 2, "full", False, "1", 1),
    "scaling": Case("cpu_ddp", 2, "full", False, "1", 1),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_training_is_noticed(compare, kind):
    found = compare(BROKEN[kind], module=("tests.train.broken", kind))
    assert any(fault.startswith(("loss", "grad_norm")) for fault in comparing.faults(found)), found


NO_CONNECTOR = (*MODES["lora"], "finetune.train.connector=false")
HEADS_ALONE = ("finetune.train={vision: false, connector: false, text: false}",)

# With one sample a step, one of two processes has no frame, no label and no token. These two also leave DeepSpeed
# with parts of which nothing is trained.
ODD = {"heads alone": ("cpu_zero2", HEADS_ALONE), "LoRA without connector": ("cpu_zero2_offload", NO_CONNECTOR)}
KINDS = {
    "LoRA": MODES["lora"],
    "LoRA without connector": NO_CONNECTOR,
    "all trained": MODES["full"],
    "heads alone": HEADS_ALONE,
}
ODD_LONG = {f"{engine}, {kind}": (engine, words) for engine in ENGINES for kind, words in KINDS.items()}
ODD_TIMEOUT_S = 240


def check_odd(launched, words, demo_words, folder):
    """Check three finite steps, and that exactly what the recipe trains has moved."""
    lines = launched.metrics()
    assert [line["num_samples"] for line in lines] == [1, 1, 1]
    assert all(math.isfinite(line["loss"]) and line["grad_norm"] > 0 for line in lines)
    initial = comparing.initial_weights((*RECIPE, *words, *demo_words), folder)
    final = comparing.weights_of(launched.folder / "final")
    moved = {part_of(name) for name in final if not torch.equal(final[name], initial[name])}
    parts = load_recipe((*RECIPE, *words)).finetune.train.model_dump()
    assert moved == {"heads"} | {part for part, trained in parts.items() if trained}


def part_of(name):
    parts = {"vision_model": "vision", "connector": "connector", "_head.": "heads", "lm_head": "text"}
    return next((part for piece, part in reversed(parts.items()) if piece in name), "text")


def launch_odd(starter, engine, words, demo_words, folder):
    odd_words = (*RECIPE, *words, *demo_words, "train.global_batch_size=1", "train.max_steps=3")
    return starter.run(engine, odd_words, folder, timeout_s=ODD_TIMEOUT_S).check()


@pytest.mark.parametrize("engine, words", ODD.values(), ids=ODD)
def test_a_process_without_samples_takes_part(starter, engine, words, demo_words, tmp_path):
    check_odd(launch_odd(starter, engine, words, demo_words, tmp_path / "run"), words, demo_words, tmp_path / "initial")


@pytest.mark.long
@pytest.mark.parametrize("engine, words", ODD_LONG.values(), ids=ODD_LONG)
def test_every_process_without_samples_takes_part(starter, engine, words, demo_words, tmp_path):
    check_odd(launch_odd(starter, engine, words, demo_words, tmp_path / "run"), words, demo_words, tmp_path / "initial")


def test_a_world_that_was_not_launched_is_refused(starter, demo_words, tmp_path):
    words = (*RECIPE, *demo_words)
    launched = starter.run("cpu_fsdp", words, tmp_path / "run", module=("tests.train.broken", "world"))
    assert launched.returncode != 0
    assert launched.status["code"] == 2
    assert "2 processes were launched, but Accelerate sees 1" in launched.status["reason"]
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
