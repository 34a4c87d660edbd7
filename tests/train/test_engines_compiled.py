"""With compiled text layers every engine trains as one process does without them."""

import pytest

from tests.launching import Launched, launch
from tests.train import comparing
from tests.train.in_process import train
from tests.train.test_engines import ENGINES, MODES, RECIPE

THREE_STEPS = (*RECIPE, "train.max_steps=3", "train.gradient_checkpointing=true")
GRAPHS = ("tests.train.compiled",)
ORDINARY = [("cpu_fsdp", "lora")]
LONG = [(engine, mode) for engine in ENGINES for mode in MODES if (engine, mode) not in ORDINARY]


@pytest.fixture(scope="module")
def reference(tmp_path_factory, demo_words):
    """`reference(mode)` returns the training of one process without compiled layers, and its first weights."""
    folder, done = tmp_path_factory.mktemp("compiled"), {}

    def run(mode):
        if mode not in done:
            words = (*THREE_STEPS, *MODES[mode], *demo_words)
            assert train([*words, f"output_dir={folder / mode}"]) == 0
            plain = Launched(0, "", folder / mode)
            done[mode] = plain, comparing.initial_weights(words, folder / f"{mode}-initial")
        return done[mode]

    return run


def check_compiled(reference, engine, mode, demo_words, folder):
    words = (*THREE_STEPS, *MODES[mode], *demo_words, "train.compile=true")
    compiled = launch(engine, words, folder, module=GRAPHS).check()
    assert "text layers are compiled" in compiled.output
    assert "2 graphs, 0 parts ran uncompiled" in compiled.output
    plain, initial = reference(mode)
    assert comparing.faults(comparing.differences(compiled, plain, initial)) == []


@pytest.mark.parametrize("engine, mode", ORDINARY)
def test_compiled_layers_are_the_same_training(reference, engine, mode, demo_words, tmp_path):
    check_compiled(reference, engine, mode, demo_words, tmp_path / "run")


@pytest.mark.long
def test_true_compiles_on_a_cpu(reference, demo_words, tmp_path):
    words = (*THREE_STEPS, *MODES["lora"], *demo_words, "train.compile=true")
    plain, initial = reference("lora")
    compiled = launch("cpu_ddp", words, tmp_path / "run", num_processes=1).check()
    assert "text layers are compiled" in compiled.output
    assert comparing.faults(comparing.differences(compiled, plain, initial)) == []


@pytest.mark.long
@pytest.mark.parametrize("engine, mode", LONG)
def test_compiled_layers_are_the_same_training_everywhere(reference, engine, mode, demo_words, tmp_path):
    check_compiled(reference, engine, mode, demo_words, tmp_path / "run")
