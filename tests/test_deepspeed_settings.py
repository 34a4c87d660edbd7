"""DeepSpeed's JSON: `auto` is filled, what the recipe or the loop decides is refused by name."""

import json

import pytest

from dst_dist.deepspeed_settings import read_deepspeed
from tests.launching import REPOSITORY

# As the documentation of transformers and Accelerate shows it.
COMMON = {
    "bf16": {"enabled": "auto"},
    "fp16": {"enabled": "auto", "loss_scale": "auto"},
    "zero_optimization": {
        "stage": 2,
        "allgather_bucket_size": 2e8,
        "reduce_bucket_size": "auto",
        "overlap_comm": True,
        "reduce_scatter": True,
        "offload_optimizer": {"device": "none"},
        "stage3_gather_16bit_weights_on_model_save": "auto",
    },
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "steps_per_print": 2000,
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "wall_clock_breakdown": False,
}


def read(settings, tmp_path, **environment):
    """Return the settings and the faults."""
    (tmp_path / "ds.json").write_text(settings if isinstance(settings, str) else json.dumps(settings))
    faults: list[str] = []
    environment = {"ACCELERATE_DEEPSPEED_CONFIG_FILE": str(tmp_path / "ds.json"), **environment}
    return read_deepspeed(environment, 0.5, faults), faults


def test_auto_is_filled(tmp_path):
    settings, faults = read(COMMON, tmp_path)
    assert not faults
    zero = settings["zero_optimization"]
    assert (zero["stage"], zero["reduce_bucket_size"], zero["allgather_bucket_size"]) == (2, 50_000_000, 2e8)
    assert (settings["gradient_clipping"], settings["gradient_accumulation_steps"]) == (0.5, 1)
    assert not {"bf16", "fp16", "train_batch_size"} & settings.keys() and "auto" not in json.dumps(settings)


@pytest.mark.parametrize("name", ["zero2", "zero2_offload", "cpu_zero2_offload"])
def test_our_own_files_keep_what_they_say(tmp_path, name):
    content = json.loads((REPOSITORY / f"ds_configs/{name}.json").read_text())
    settings, faults = read(content, tmp_path)
    assert not faults
    assert content | {"gradient_clipping": 0.5} == {key: settings[key] for key in content}


@pytest.mark.parametrize("offload", ["none", "cpu"])
def test_without_a_file_accelerates_settings_are_completed(tmp_path, offload):
    environment = {"DEEPSPEED_ZERO_STAGE": "1", "DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": offload}
    environment |= {"DEEPSPEED_CONFIG_FILE": "none"}
    settings, faults = read({}, tmp_path, **{f"ACCELERATE_{name}": value for name, value in environment.items()})
    assert not faults
    zero = settings["zero_optimization"]
    assert (zero["stage"], zero["offload_optimizer"]["device"]) == (1, offload)


FAULTS = {
    "precision": ({"bf16": {"enabled": True}}, "remove bf16; the recipe's train.precision"),
    "half precision": ({"fp16": {"enabled": True}}, "remove fp16; the recipe's train.precision"),
    "clipping": ({"gradient_clipping": 3}, "remove gradient_clipping; the recipe's optim.max_grad_norm"),
    "accumulation": ({"gradient_accumulation_steps": 8}, "remove gradient_accumulation_steps"),
    "batch": ({"train_batch_size": 64}, "remove train_batch_size; the recipe's train.global_batch_size"),
    "micro-batch": ({"train_micro_batch_size_per_gpu": 4}, "remove train_micro_batch_size_per_gpu"),
    "optimizer": ({"optimizer": {"type": "AdamW", "params": {"lr": 1e-4}}}, "remove optimizer; the recipe's optim"),
    "scheduler": ({"scheduler": {"type": "WarmupLR"}}, "remove scheduler; the recipe's optim"),
    "rounded gradients": ({"communication_data_type": "fp16"}, "remove communication_data_type"),
    "checkpointing": ({"activation_checkpointing": {"partition_activations": True}}, "train.gradient_checkpointing"),
    "another curriculum": ({"data_efficiency": {"enabled": True}}, "remove data_efficiency"),
    "quantized": ({"zero_optimization": {"zero_quantized_gradients": True}}, "zero_optimization.zero_quantized"),
    "stage 3": ({"zero_optimization": {"stage": 3}}, "zero_stage is 3: it must be 1 or 2"),
    "stage 0": ({"zero_optimization": {"stage": 0}}, "zero_stage is 0: it must be 1 or 2"),
    "weights in host memory": ({"zero_optimization": {"offload_param": {"device": "cpu"}}}, "offload_param"),
    "disk": ({"zero_optimization": {"offload_optimizer": {"device": "nvme"}}}, "offload_optimizer_device is nvme"),
    "no section": ({"zero_optimization": "stage2"}, 'zero_optimization must be an object, found "stage2"'),
    "no offload": (
        {"zero_optimization": {"offload_optimizer": "cpu"}},
        'offload_optimizer must be an object, found "cpu"',
    ),
    "no offload of weights": (
        {"zero_optimization": {"offload_param": True}},
        "offload_param must be an object, found true",
    ),
    "no JSON": ("{", "cannot be read as JSON"),
    "a list": ("[]", "must hold a JSON object"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_what_contradicts_the_recipe_is_refused_by_name(tmp_path, case):
    content, expected = FAULTS[case]
    (fault,) = read(content, tmp_path)[1]
    assert expected in fault


@pytest.mark.parametrize(
    "content",
    [
        {"fp16": {"enabled": False}},
        {"data_efficiency": {"enabled": False}},
        {"zero_optimization": {"offload_optimizer": None}},
        {},
    ],
)
def test_what_is_switched_off_is_no_fault(tmp_path, content):
    assert read(content, tmp_path)[1] == []


def test_a_file_that_is_not_there_is_named(tmp_path):
    """It is missing in another folder than the repository's root."""
    (fault,) = read({}, tmp_path, ACCELERATE_DEEPSPEED_CONFIG_FILE="ds_configs/none.json")[1]
    assert "ds_configs/none.json" in fault and "repository's root" in fault


@pytest.mark.parametrize(
    "variables", [{"ZERO_STAGE": "1"}, {"OFFLOAD_OPTIMIZER_DEVICE": "cpu"}], ids=["stage", "offload"]
)
def test_a_flag_against_the_file_is_refused(tmp_path, variables):
    (fault,) = read(COMMON, tmp_path, **{f"ACCELERATE_DEEPSPEED_{name}": value for name, value in variables.items()})[1]
    assert "are not those of the DeepSpeed JSON" in fault
