"""Every file in launch/ and ds_configs/: what it says, and that it starts a training."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file

from dst_dist.recipes.loading import load_recipe, packaged_recipes
from tests.launching import REPOSITORY, TINY_RUN, launch

YAMLS = sorted(path.stem for path in (REPOSITORY / "launch").glob("*.yaml"))
JSONS = sorted(path.name for path in (REPOSITORY / "ds_configs").glob("*.json"))
ENGINES = [name for name in YAMLS if not name.startswith("cpu_")]


def content(name: str) -> dict:
    return yaml.safe_load((REPOSITORY / "launch" / f"{name}.yaml").read_text())


def test_the_engines_are_these():
    assert ENGINES == ["ddp", "fsdp", "fsdp_no_reshard", "hsdp", "zero2", "zero2_offload"]
    assert sorted([*ENGINES, *(f"cpu_{name}" for name in ENGINES)]) == YAMLS


@pytest.mark.parametrize("name", ENGINES)
def test_the_cpu_twin_differs_by_the_machine_alone(name):
    ours, twin = content(name), content(f"cpu_{name}")
    assert twin.pop("gpu_ids") == "-1,-1"
    nodes = 2 if name == "hsdp" else 1
    assert (ours.pop("num_processes"), twin.pop("num_processes")) == (8 * nodes, 2 * nodes)
    if name == "hsdp":
        sizes = [one["parallelism_config"].pop("parallelism_config_dp_shard_size") for one in (ours, twin)]
        assert sizes == [8, 2]
    if name == "zero2_offload":
        # DeepSpeed's own CPU Adam is compiled on first use, and memory is pinned for a GPU.
        assert twin["deepspeed_config"].pop("deepspeed_config_file") == "ds_configs/cpu_zero2_offload.json"
        assert ours["deepspeed_config"].pop("deepspeed_config_file") == "ds_configs/zero2_offload.json"
    assert ours == twin


@pytest.mark.parametrize("name", YAMLS)
def test_accelerate_reads_it(name):
    loaded = load_config_from_file(str(REPOSITORY / "launch" / f"{name}.yaml"))
    assert loaded.num_processes == content(name)["num_processes"]
    assert (loaded.mixed_precision or "no") == "no", "precision is the recipe's"


def test_each_json_is_named_by_a_yaml_and_leaves_precision_and_clipping_to_the_recipe():
    named = {
        Path(file).name
        for name in YAMLS
        if (file := content(name).get("deepspeed_config", {}).get("deepspeed_config_file"))
    }
    assert sorted(named) == JSONS
    for name in JSONS:
        settings = json.loads((REPOSITORY / "ds_configs" / name).read_text())
        assert settings["gradient_clipping"] == "auto" and not {"bf16", "fp16", "torch_autocast"} & set(settings)
        assert settings["gradient_accumulation_steps"] == 1 and settings["zero_optimization"]["stage"] == 2
        assert isinstance(settings["zero_optimization"]["reduce_bucket_size"], int)


@pytest.mark.parametrize("name", packaged_recipes())
def test_lora_and_full_are_one_word(name):
    for mode in ("lora", "full"):
        assert load_recipe([name, f"finetune.mode={mode}"]).finetune.mode == mode


@pytest.mark.long
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here; the twins are launched elsewhere")
@pytest.mark.parametrize("name", ENGINES)
def test_it_trains(name, demo_words, tmp_path):
    if name == "zero2_offload" and shutil.which("g++") is None:
        pytest.skip("DeepSpeed compiles its CPU Adam with g++, which is not here")
    if name == "hsdp":
        pytest.skip("it shards over eight processes")
    num_processes = min(2, torch.cuda.device_count())
    words = (*TINY_RUN, *demo_words, "data.train=[kitchen]", "train.max_steps=2", "train.global_batch_size=4")
    run = launch(name, words, tmp_path / "run", num_processes, timeout_s=400).check()
    assert len(run.metrics()) == 2
