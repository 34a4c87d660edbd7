"""With compiled text layers every engine trains as one process does without them."""

import pytest

from tests.launching import Launched, launch
from tests.train import comparing
from tests.train.in_process import train
from tests.train.test_engines import ENGINES, MODES, RECIPE

THREE_STEPS = (*RECIPE, "train.max_steps=3", "train.gradient_checkpointing=true")


@pytest.fixture(scope="module")
def reference(tmp_path_factory, demo_words):
    """`reference(mode, precision)` returns the training of one process without compiled layers, and its start."""
    folder, done = tmp_path_factory.mktemp("plain"), {}

    def run(*key):
        if key not in done:
            words, place = words_of(demo_words, *key), folder / "-".join(key)
            assert train([*words, f"output_dir={place}"]) == 0
            done[key] = Launched(0, "", place), comparing.initial_weights(words, place / "initial")
        return done[key]

    return run


def words_of(demo_words, mode, precision):
    return (*THREE_STEPS, *MODES[mode], *demo_words, f"train.precision={precision}")


def check(compiled, reference, *key):
    plain, initial = reference(*key)
    assert "text layers are compiled" in compiled.check().output
    assert comparing.faults(comparing.differences(compiled, plain, initial)) == []


def check_graphs(reference, engine, processes, demo_words, folder, *key):
    words = (*words_of(demo_words, *key), "train.compile=true")
    compiled = launch(engine, words, folder, processes, ("tests.train.compiled",)).check()
    assert "2 graphs, 0 parts ran uncompiled" in compiled.output
    check(compiled, reference, *key)


def test_fsdp_trains_the_same_with_working_copies_of_its_weights(reference, demo_words, tmp_path):
    check_graphs(reference, "cpu_fsdp", 1, demo_words, tmp_path / "run", "lora", "bf16")


@pytest.mark.long
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("engine", ENGINES)
def test_compiled_layers_are_the_same_training_everywhere(reference, engine, mode, demo_words, tmp_path):
    check_graphs(reference, engine, 2, demo_words, tmp_path / "run", mode, "fp32")


@pytest.mark.long
def test_true_compiles_on_a_cpu(reference, demo_words, tmp_path):
    words = (*words_of(demo_words, "lora", "fp32"), "train.compile=true")
    check(launch("cpu_ddp", words, tmp_path / "run", num_processes=1), reference, "lora", "fp32")
