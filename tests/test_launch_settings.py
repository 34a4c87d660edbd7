"""Settings of the launcher, from Accelerate's own list: used where they agree with the recipe, else refused by name."""

import functools

import pytest
import yaml
from accelerate.commands.launch import launch_command_parser

from dst_dist.errors import ConfigError
from dst_dist.launch_settings import read_launch_settings
from dst_dist.recipes.loading import load_recipe
from tests.launcher_says import said
from tests.launching import REPOSITORY

FILES = ("cpu_ddp", "cpu_zero2", "cpu_fsdp", "cpu_hsdp")
ARGUMENTS = {
    action.dest: action
    for action in launch_command_parser()._actions
    if action.option_strings and action.dest not in ("help", "config_file", "module")
}
OTHER_VALUES = {None: "surely", "true": "false", "false": "true", "0": "1"}
VALUES = {"fsdp_version": "1", "mixed_precision": "bf16", "dynamo_backend": "inductor", "gpu_ids": "0,1"}
LAUNCHER_REFUSES = (ValueError, RuntimeError, ImportError, AssertionError, OSError, SystemExit)
ENGINES = {"multi_gpu", "use_deepspeed", "use_fsdp"}
"""Another engine than the file's, with the settings that Accelerate then takes."""

# What the processes may be told in other words than ours, since it decides nothing or is used as it is.
USED = {
    "gpu_ids",
    "num_cpu_threads_per_process",
    "enable_cpu_affinity",
    "debug",
    "dynamo_mode",
    "dynamo_use_dynamic",
    "dynamo_use_fullgraph",
    "dynamo_use_regional_compilation",
    "fsdp_backward_prefetch",
    "fsdp_min_num_params",
    "fsdp_reshard_after_forward",
    "fsdp_state_dict_type",
    "fsdp_sync_module_states",
    "parallelism_config_dp_replicate_size",
    "zero3_init_flag",
    "zero3_save_16bit_model",
}
NAMED_AS = {"cpu": "num_processes", "parallelism_config_dp_shard_size": "make no groups of 3"}


@pytest.fixture(autouse=True)
def four_processes(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")


@pytest.fixture
def read(monkeypatch):
    """`read(variables, *words)` returns the settings and the faults."""

    def of(variables, *words):
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            try:
                return read_launch_settings(load_recipe(["demo", "output_dir=x", *words])), ()
            except ConfigError as error:
                return None, error.faults

    return of


def told(file, *flags):
    return said(REPOSITORY / f"launch/{file}.yaml", *flags)


@functools.cache
def of_file(file):
    return told(file)


def value_of(action):
    if action.nargs == 0:
        return []
    if action.dest in VALUES:
        return [VALUES[action.dest]]
    if action.type in (int, float):
        return ["3"]
    if action.choices:
        return [next(choice for choice in action.choices if choice not in (action.default, "no"))]
    return [OTHER_VALUES.get(action.default, "surely")]


@pytest.mark.parametrize("file", [path.stem for path in sorted((REPOSITORY / "launch").glob("*.yaml"))])
def test_our_own_files_are_used(read, monkeypatch, file):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    settings, faults = read(told(file))
    assert not faults
    engine = {"z": "deepspeed", "f": "fsdp", "h": "fsdp", "d": "ddp"}[file.removeprefix("cpu_")[0]]
    assert settings.engine == engine
    assert settings.reshards is not file.endswith("no_reshard")
    assert settings.num_sharing == {"hsdp": 8, "cpu_hsdp": 2}.get(file)
    assert ("offload_optimizer" in settings.deepspeed.get("zero_optimization", {})) is file.endswith("offload")


@pytest.mark.parametrize("name", ARGUMENTS)
def test_every_argument_that_reaches_a_process_is_used_or_refused_by_name(read, name):
    """The demo trains in fp32, without checkpointing of activations, with gradients clipped to 1."""
    action, reached = ARGUMENTS[name], []
    if isinstance(action.choices, list) and len(action.choices) == 1:
        pytest.skip("there is one value")
    for file in FILES:
        try:
            variables = told(file, action.option_strings[-1], *value_of(action))
        except LAUNCHER_REFUSES:
            continue
        if variables != told(file):
            _, faults = read(variables)
            reached.append((file, faults))
    for file, faults in reached:
        if name in USED:
            assert not faults
        elif name not in ENGINES:
            assert any(NAMED_AS.get(name, name) in fault for fault in faults), (file, faults)


def test_the_arguments_that_matter_most_reach_a_process():
    for file, flags in {
        "cpu_ddp": ["--mixed_precision", "bf16"],
        "cpu_zero2": ["--gradient_clipping", "3"],
        "cpu_fsdp": ["--fsdp_version", "1"],
        "cpu_hsdp": ["--parallelism_config_tp_size", "3"],
    }.items():
        assert told(file, *flags) != told(file)


AGREES = {
    "precision": (["--mixed_precision", "bf16"], "train.precision=bf16"),
    "clipping": (["--gradient_clipping", "0.5"], "optim.max_grad_norm=0.5"),
    "clipping, as a whole number": (["--gradient_clipping", "1"], "optim.max_grad_norm=1.0"),
    "one micro-batch": (["--gradient_accumulation_steps", "1"], ""),
    "the stage of the JSON": (["--zero_stage", "2"], ""),
    "no offload": (["--offload_optimizer_device", "none", "--offload_param_device", "none"], ""),
    "checkpointing": (["--fsdp_activation_checkpointing", "true"], "train.gradient_checkpointing=true"),
    "classes with spaces": (["--fsdp_transformer_layer_cls_to_wrap", "LlamaDecoderLayer, SmolVLMEncoderLayer"], ""),
    "no compiling": (["--dynamo_backend", "no"], ""),
}


@pytest.mark.parametrize("case", AGREES)
def test_what_agrees_is_used(read, case):
    flags, word = AGREES[case]
    for file in FILES:
        assert read(told(file, *flags), *filter(None, [word]))[1] == ()


VARIABLES = {
    "ACCELERATE_TORCH_DEVICE": "cuda:0",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
    "ACCELERATE_USE_MEGATRON_LM": "true",
    "ACCELERATE_USE_SAGEMAKER": "true",
    "ACCELERATE_DOWNCAST_BF16": "1",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "true",
    "ACCELERATE_OF_NEXT_YEAR": "twice",
    "TORCHELASTIC_MAX_RESTARTS": "3",
}


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_of_the_users_shell_is_refused_by_name(read, name):
    (fault,) = read({name: VARIABLES[name]})[1]
    assert name in fault and VARIABLES[name] in fault


@pytest.mark.parametrize("name, value", [("ACCELERATE_OF_NEXT_YEAR", "no"), ("ACCELERATE_LOG_LEVEL", "debug")])
def test_a_variable_that_asks_for_nothing_is_no_fault(read, name, value):
    assert read({name: value})[1] == ()


def test_all_faults_at_once(read):
    flags = ["--mixed_precision", "bf16", "--fsdp_version", "1", "--fsdp_auto_wrap_policy", "SIZE_BASED_WRAP"]
    _, faults = read(told("cpu_fsdp", *flags))
    assert [fault.split()[2] for fault in faults] == ["mixed_precision", "fsdp_auto_wrap_policy", "fsdp_version"]
    assert "train.precision=fp32" in faults[0] and "launch/fsdp.yaml" in faults[1]


LOCAL = {"compute_environment": "LOCAL_MACHINE", "num_machines": 1, "num_processes": 2, "machine_rank": 0}
WRITTEN = {
    "RAM-efficient loading": (
        {
            "distributed_type": "FSDP",
            "fsdp_config": {
                "fsdp_version": 2,
                "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
                "fsdp_cpu_ram_efficient_loading": True,
            },
        },
        ["fsdp_cpu_ram_efficient_loading is true"],
    ),
    "size-based wrapping": (
        {
            "distributed_type": "FSDP",
            "fsdp_config": {
                "fsdp_version": 2,
                "fsdp_auto_wrap_policy": "SIZE_BASED_WRAP",
                "fsdp_min_num_params": 1000,
                "fsdp_cpu_ram_efficient_loading": False,
            },
        },
        ["fsdp_auto_wrap_policy is SIZE_BASED_WRAP"],
    ),
    "FSDP 1": (
        {
            "distributed_type": "FSDP",
            "fsdp_config": {
                "fsdp_version": 1,
                "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
                "fsdp_reshard_after_forward": "FULL_SHARD",
                "fsdp_cpu_ram_efficient_loading": False,
            },
        },
        ["fsdp_version is 1", "fsdp_reshard_after_forward is full_shard"],
    ),
    "ZeRO-3": (
        {"distributed_type": "DEEPSPEED", "deepspeed_config": {"zero_stage": 3, "zero3_init_flag": True}},
        ["zero_stage is 3"],
    ),
    "compiling": (
        {"distributed_type": "MULTI_GPU", "dynamo_config": {"dynamo_backend": "INDUCTOR"}},
        ["dynamo_backend is INDUCTOR"],
    ),
    "several CPU processes": (
        {"distributed_type": "MULTI_CPU", "use_cpu": True},
        ["num_processes is over 1, but one was started"],
    ),
    "ZeRO-2 without a JSON file": (
        {
            "distributed_type": "DEEPSPEED",
            "mixed_precision": "no",
            "deepspeed_config": {
                "gradient_accumulation_steps": 1,
                "gradient_clipping": 1.0,
                "offload_optimizer_device": "none",
                "offload_param_device": "none",
                "zero3_init_flag": False,
                "zero_stage": 2,
            },
        },
        [],
    ),
    "FSDP 2 with the classes left out": (
        {
            "distributed_type": "FSDP",
            "fsdp_config": {
                "fsdp_version": 2,
                "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
                "fsdp_cpu_ram_efficient_loading": False,
                "fsdp_state_dict_type": "FULL_STATE_DICT",
            },
        },
        [],
    ),
}


@pytest.mark.parametrize("case", WRITTEN)
def test_files_as_accelerate_config_writes_them(read, tmp_path, case):
    content, expected = WRITTEN[case]
    (tmp_path / "default_config.yaml").write_text(yaml.safe_dump(LOCAL | content))
    _, faults = read(said(tmp_path / "default_config.yaml"))
    assert len(faults) == len(expected)
    assert all(any(word in fault for fault in faults) for word in expected)


@pytest.mark.parametrize("on_node, sharing", [(4, 8), (6, 4), (2, 1), (2, "two")])
def test_groups_that_share_weights_lie_within_a_node(read, monkeypatch, on_node, sharing):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(on_node))
    given = told("hsdp", "--parallelism_config_dp_shard_size", "2") | {"PARALLELISM_CONFIG_DP_SHARD_SIZE": str(sharing)}
    _, faults = read(given)
    assert f"{on_node} processes on this node make no groups of {sharing}" in faults[0]
