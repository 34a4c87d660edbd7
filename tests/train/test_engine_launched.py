"""The engine under what a launcher says: pretended cards, precision by flag, DeepSpeed without a JSON file."""

import pytest
import yaml

from tests.launcher_says import said
from tests.launching import REPOSITORY, TINY_RUN
from tests.train.in_process import train
from tests.train.runs import status_of

WORDS = (*TINY_RUN, "data.train=[kitchen]", "train.max_steps=2", "train.global_batch_size=4")


@pytest.fixture(scope="module")
def reference(starter, demo_words, tmp_path_factory):
    """The losses of the training on a machine without a GPU."""
    run = starter.run("cpu_ddp", (*WORDS, *demo_words), tmp_path_factory.mktemp("cards") / "run").check()
    return [line["loss"] for line in run.metrics()]


@pytest.mark.parametrize("engine", ["cpu_ddp", "cpu_zero2", "cpu_fsdp", "cpu_hsdp"])
def test_a_cpu_file_trains_on_the_cpu_beside_a_card(starter, demo_words, tmp_path, reference, engine):
    words = (*WORDS, *demo_words)
    run = starter.run(engine, words, tmp_path / "run", module="tests.train.with_cards", env={"CARDS": "1"}).check()
    assert [line["loss"] for line in run.metrics()] == pytest.approx(reference, abs=1e-5)


@pytest.mark.parametrize("engine, cards", [("ddp", 0), ("fsdp", 0), ("zero2", 1)])
def test_another_file_is_refused_without_a_gpu_for_each_process(starter, demo_words, tmp_path, engine, cards):
    words = (*WORDS, *demo_words)
    run = starter.run(
        engine, words, tmp_path / "run", module="tests.train.with_cards", env={"CARDS": str(cards)}, timeout_s=60
    )
    assert run.returncode == 2 and run.status["code"] == 2
    assert f"2 processes were launched on this node, where torch finds {cards} GPUs" in run.status["reason"]
    assert "Traceback" not in run.output


# As `accelerate config` writes it, with flags that agree with the recipe.
WITHOUT_JSON = {
    "compute_environment": "LOCAL_MACHINE",
    "distributed_type": "DEEPSPEED",
    "gpu_ids": "-1,-1",
    "num_machines": 1,
    "num_processes": 2,
    "deepspeed_config": {
        "zero_stage": 2,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 1.0,
        "offload_optimizer_device": "cpu",
    },
}


def test_deepspeed_without_a_json_file_trains_the_same(starter, demo_words, tmp_path, reference):
    (tmp_path / "written.yaml").write_text(yaml.safe_dump(WITHOUT_JSON))
    env = {"ACCELERATE_DEEPSPEED_CONFIG_FILE": "none", **said(tmp_path / "written.yaml")}
    run = starter.run("cpu_zero2", (*WORDS, *demo_words), tmp_path / "run", env=env).check()
    assert [line["loss"] for line in run.metrics()] == pytest.approx(reference, abs=1e-5)


REFUSED = {
    "precision": ("cpu_ddp", ["--mixed_precision", "bf16"], "mixed_precision is bf16"),
    "precision under ZeRO-2": ("cpu_zero2", ["--mixed_precision", "bf16"], "mixed_precision is bf16"),
    "compiling": ("cpu_ddp", ["--dynamo_backend", "inductor"], "dynamo_backend is INDUCTOR"),
    "FSDP 1": ("cpu_fsdp", ["--fsdp_version", "1"], "fsdp_version is 1"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.usefixtures("own_logging_of_test")
def test_what_is_against_the_recipe_ends_in_code_2_before_anything_is_loaded(
    demo_words, tmp_path, monkeypatch, capsys, case
):
    file, flags, expected = REFUSED[case]
    for name, value in said(REPOSITORY / f"launch/{file}.yaml", *flags).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("dst_dist.setup.DataSetup.check", lambda _: pytest.fail("data was read"))
    assert train([*WORDS, *demo_words, f"output_dir={tmp_path}/run"]) == 2
    assert expected in status_of(tmp_path / "run")["reason"]
    assert "Traceback" not in capsys.readouterr().err
