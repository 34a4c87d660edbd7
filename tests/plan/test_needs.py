"""Needs and costs of a launch beside memory are said before it."""

from pathlib import Path

import pytest

from dst_dist.config import Recipe
from dst_dist.errors import ConfigError
from dst_dist.launch_settings import read_launch_settings
from dst_dist.plan.needs import check_offload, missing_tools, needs_lines
from dst_dist.train import engine
from tests.model.tiny import tiny_config

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Return a function that leaves only these programs to be found."""
    monkeypatch.delenv("CXX", raising=False)

    def leave(*names):
        for name in names:
            (tmp_path / name).write_text("#!/bin/sh\n")
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return leave


@pytest.mark.parametrize(
    "there, missing", [((), ["c++", "ninja"]), (("ninja",), ["c++"]), (("c++",), ["ninja"]), (("c++", "ninja"), [])]
)
def test_offload_is_refused_where_its_adam_cannot_be_compiled(programs, there, missing):
    programs(*there)
    assert missing_tools() == missing
    if not missing:
        check_offload()
        return
    with pytest.raises(ConfigError) as error:
        check_offload()
    assert f"{' and '.join(missing)} cannot be found here; install a C++ compiler" in str(error.value)


def test_another_compiler_may_be_named(programs, monkeypatch):
    programs("my-compiler", "ninja")
    monkeypatch.setenv("CXX", "my-compiler")
    assert missing_tools() == []


@pytest.mark.parametrize("name, is_refused", [("zero2_offload", True), ("zero2", False)])
def test_a_training_on_gpus_refuses_before_it_builds_anything(programs, monkeypatch, tmp_path, name, is_refused):
    programs()
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", str(REPOSITORY / f"ds_configs/{name}.json"))
    monkeypatch.setattr(engine, "Accelerator", lambda **_: "built")
    settings = read_launch_settings(Recipe())
    if is_refused:
        with pytest.raises(ConfigError, match="install a C.. compiler .* and ninja"):
            engine._build_accelerator(settings, False, [], str(tmp_path))
    else:
        assert engine._build_accelerator(settings, False, [], str(tmp_path)) == "built"


def lines(launch_file, precision="bf16", key_heads=1):
    config = tiny_config()
    config.text_config.num_attention_heads, config.text_config.num_key_value_heads = 3, key_heads
    recipe = Recipe.model_validate({"train": {"precision": precision}})
    return list(needs_lines(recipe, config, launch_file, longest=4096))


def test_a_plan_says_what_offload_needs(programs):
    programs("ninja")
    (line,) = lines("zero2_offload")
    assert line == "needs a C++ compiler and ninja on every node, to compile DeepSpeed's CPU Adam; not found here: c++"
    for launch_file in ("zero2", "cpu_zero2_offload", "fsdp", "ddp"):
        assert lines(launch_file) == []


@pytest.mark.parametrize(
    "launch_file, precision, key_heads, is_said",
    [
        ("ddp", "fp32", 1, True),
        ("zero2", "fp32", 1, True),
        ("ddp", "bf16", 1, False),
        ("ddp", "fp32", 3, False),
        ("cpu_ddp", "fp32", 1, False),
    ],
)
def test_a_plan_says_where_attention_holds_a_square(launch_file, precision, key_heads, is_said):
    said = lines(launch_file, precision, key_heads)
    assert len(said) == is_said
    if said:
        assert "3 heads share 1 groups of keys" in said[0] and "0.19 GiB a layer for 4096 tokens" in said[0]
