"""An exported model computes what the run's model computes, and opens elsewhere."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import HfApi
from huggingface_hub.errors import LocalTokenNotFoundError
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, SmolVLMForConditionalGeneration

from dst_dist.errors import CheckpointError, ConfigError
from dst_dist.model.loading import load_for_inference
from dst_dist.model.smolvlm_dst import HEAD_WEIGHTS, SmolVLMForDST
from dst_dist.publish import export
from dst_dist.publish.export import export_run, max_difference, probe

KEPT = {"adapter_config.json", "adapter_model.safetensors"}
WHOLE = {"model.safetensors"}
CASES = {
    "adapter kept": ("lora", False, KEPT),
    "adapter merged": ("lora", True, WHOLE),
    "full": ("full", False, WHOLE),
    "full, merged": ("full", True, WHOLE),
}


@pytest.mark.parametrize("mode, merge, weights", CASES.values(), ids=CASES)
def test_an_export_is_the_runs_model(runs, tmp_path, mode, merge, weights):
    export_run(runs[mode], tmp_path / "out", merge)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= weights | {"config.json", "tokenizer.json", "README.md", "recipe.yaml"}
    assert not names & ((KEPT | WHOLE) - weights)
    shutil.move(tmp_path / "out", tmp_path / "elsewhere")
    ours = probe(SmolVLMForDST.from_pretrained(tmp_path / "elsewhere"))
    assert max_difference(ours, probe(load_for_inference(runs[mode] / "final"))) < 1e-5
    AutoTokenizer.from_pretrained(tmp_path / "elsewhere")


def test_a_merged_adapter_opens_in_stock_transformers(runs, tmp_path):
    export_run(runs["lora"], tmp_path / "out", merge=True)
    _, info = SmolVLMForConditionalGeneration.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"] and set(info["unexpected_keys"]) == HEAD_WEIGHTS


def test_it_streams_as_the_card_says(runs, tmp_path, demo):
    """The commands of the card, on the exported folder alone."""
    from dst_dist.evaluate.open_run import FinishedRun

    export_run(runs["full"], tmp_path / "out", merge=False)
    card = (tmp_path / "out/README.md").read_text()
    assert f"cp -r {tmp_path}/out run/final" in card and "cp run/final/recipe.yaml run/config.yaml" in card
    (tmp_path / "run").mkdir()
    shutil.move(tmp_path / "out", tmp_path / "run/final")
    shutil.copy(tmp_path / "run/final/recipe.yaml", tmp_path / "run/config.yaml")
    opened = FinishedRun.open(tmp_path / "run", None)
    assert opened.thresholds == FinishedRun.open(runs["full"], None).thresholds


def test_weights_that_compute_something_else_are_noticed(runs, tmp_path, monkeypatch):
    intact = export.save_model

    def damaged(model, weights, folder):
        intact(model, weights, folder)
        tensors = load_file(folder / "model.safetensors")
        tensors["lm_head.weight"] = tensors["lm_head.weight"] * 1.01
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    monkeypatch.setattr(export, "save_model", damaged)
    with pytest.raises(CheckpointError, match="its logits are .* do not use it"):
        export_run(runs["lora"], tmp_path / "out", merge=True)


def bad_exports(runs, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    (tmp_path / "file").touch()
    (tmp_path / "no run").mkdir()
    return {
        "no run": (tmp_path / "nowhere", tmp_path / "new", "not a finished run"),
        "not a run": (tmp_path / "no run", tmp_path / "new", "not a finished run"),
        "folder in use": (runs["full"], tmp_path / "full", "there is something already"),
        "a file": (runs["full"], tmp_path / "file", "there is something already"),
        "the run itself": (runs["full"], runs["full"], "there is something already"),
    }


def test_bad_input(runs, tmp_path):
    for name, (run, to, message) in bad_exports(runs, tmp_path).items():
        with pytest.raises(ConfigError, match=message):
            export_run(run, to, merge=False)
        assert not (tmp_path / "new").exists(), name


class Hub:
    """Notes what is asked of it; refuses if told so."""

    def __init__(self, monkeypatch, refusal=None):
        self.asked = []
        for name in ("create_repo", "upload_folder"):
            monkeypatch.setattr(HfApi, name, lambda api, *args, _name=name, **options: self.ask(_name, args, options))
        self.refusal = refusal

    def ask(self, name, args, options):
        if self.refusal is not None:
            raise self.refusal
        self.asked.append((name, args, options))


def test_a_push_makes_a_private_repository_and_uploads_the_folder(runs, tmp_path, monkeypatch):
    hub = Hub(monkeypatch)
    export_run(runs["lora"], tmp_path / "out", False, "someone/model")
    (created, names, options), (uploaded, _, what) = hub.asked
    assert (created, names, options["private"]) == ("create_repo", ("someone/model",), True)
    assert (uploaded, what["repo_id"], what["folder_path"]) == ("upload_folder", "someone/model", tmp_path / "out")
    assert "hf download someone/model --local-dir run/final" in (tmp_path / "out/README.md").read_text()


REFUSALS = {
    "no token": LocalTokenNotFoundError("Token is required"),
    "no network": OSError("Name or service not known"),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_a_refused_push_leaves_the_folder_and_says_what_to_do(runs, tmp_path, monkeypatch, refusal):
    Hub(monkeypatch, refusal)
    with pytest.raises(ConfigError, match=f"--push someone/model: {refusal}.*hf auth login"):
        export_run(runs["lora"], tmp_path / "out", False, "someone/model")
    assert (tmp_path / "out/README.md").is_file()


def test_a_name_that_the_hub_has_not_is_refused_in_words(runs, tmp_path):
    with pytest.raises(ConfigError, match="--push a/b/c"):
        export_run(runs["lora"], tmp_path / "out", False, "a/b/c")


def test_the_probe_sees_frames_text_and_both_heads(runs):
    model = load_for_inference(runs["full"] / "final")
    before = [values.clone() for values in probe(model)]
    assert len(before) == 3
    for name in ("model.vision_model.embeddings.patch_embedding.weight", "lm_head.weight", "speaking_head.bias"):
        weight = dict(model.named_parameters())[name]
        intact = weight.detach().clone()
        with torch.no_grad():
            weight.add_(0.1 * torch.randn_like(weight))
        assert max_difference(probe(model), before) > export.TOLERANCE, name
        with torch.no_grad():
            weight.copy_(intact)


def test_the_recipe_goes_along(runs, tmp_path):
    export_run(runs["lora"], tmp_path / "out", merge=False)
    assert yaml.safe_load((tmp_path / "out/recipe.yaml").read_text())["finetune"]["lora"]["rank"] == 4
    assert json.loads((tmp_path / "out/config.json").read_text())["text_config"]["rope_theta"] > 0


def test_an_adapter_on_a_local_base_opens_from_anywhere_and_says_what_it_needs(runs, tmp_path, monkeypatch, caplog):
    run = shutil.copytree(runs["lora"], tmp_path / "run", symlinks=True)
    file = run / "final/adapter_config.json"
    config = json.loads(file.read_text())
    base = Path(config["base_model_name_or_path"])
    file.write_text(json.dumps(config | {"base_model_name_or_path": base.name}))
    monkeypatch.chdir(base.parent)
    export_run(run, tmp_path / "out", merge=False)
    monkeypatch.chdir(tmp_path)
    SmolVLMForDST.from_pretrained(tmp_path / "out")
    assert f"needs its base {base}" in caplog.text and "--merge" in caplog.text
    assert f"It needs its base, the folder `{base}`" in (tmp_path / "out/README.md").read_text()
