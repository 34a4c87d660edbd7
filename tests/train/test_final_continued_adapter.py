"""A part of an adapter that was trained earlier and is frozen now is saved again, bit by bit, on every engine."""

import pytest
import torch

from tests.train.in_process import train
from tests.train.runs import cut_words, final_weights

STEPS = ("data.val=[]", "train.max_steps=2", "train.precision=bf16")


@pytest.fixture(scope="module", params=["connector", "vision"])
def first(request, demo_words, tmp_path_factory):
    """The part, and a finished run that trained it."""
    folder = tmp_path_factory.mktemp("first") / "run"
    assert (
        train([*cut_words(demo_words, "lora", *STEPS, f"finetune.train.{request.param}=true"), f"output_dir={folder}"])
        == 0
    )
    return request.param, folder


@pytest.mark.parametrize("engine", [None, "cpu_fsdp", "cpu_zero2"])
def test_a_frozen_part_stays_in_the_adapter(starter, first, demo_words, tmp_path, engine):
    part, folder = first
    words = cut_words(demo_words, "lora", *STEPS, f"finetune.train.{part}=false", f"model.name_or_path={folder}/final")
    if engine is None:
        assert train([*words, f"output_dir={tmp_path}/run"]) == 0
    else:
        starter.run(engine, words, tmp_path / "run").check()
    before, after = final_weights(folder), final_weights(tmp_path / "run")
    assert before.keys() == after.keys()
    frozen = {name for name in before if {"connector": "connector", "vision": "vision_model"}[part] in name.split(".")}
    still = {name for name in before if torch.equal(before[name], after[name])}
    assert frozen and frozen <= still and len(still) < len(before)
