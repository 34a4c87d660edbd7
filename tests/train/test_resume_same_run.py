"""A run is resumed only as the same run: what differs is named and raises an error unless it is allowed."""

import itertools
import json
import os
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from dst_dist.recipes.loading import load_recipe
from dst_dist.train import resume
from dst_dist.train.checkpoint import read_training
from tests.train.cutting import Cut, cut
from tests.train.in_process import train
from tests.train.killing import AT_WORK, Faults, installed
from tests.train.runs import cut_words, status_of


@pytest.fixture(scope="module")
def cut_folder(demo_words, tmp_path_factory):
    """A LoRA run that was cut after its second step."""
    folder = tmp_path_factory.mktemp("cut") / "run"
    with installed(Faults(cut, "after prune", 2)), pytest.raises(Cut):
        train([*cut_words(demo_words), f"output_dir={folder}"])
    return folder


@pytest.fixture
def continued(cut_folder, tmp_path):
    """`continued(words)` resumes a copy and returns the exit code and the reason in status.json."""

    def go_on(words):
        if not (tmp_path / "run").exists():
            shutil.copytree(cut_folder, tmp_path / "run", symlinks=True)
        code = train([*words, f"output_dir={tmp_path}/run"])
        return code, status_of(tmp_path / "run")["reason"]

    return go_on


@pytest.fixture
def other_data(demo, tmp_path):
    """The demo with one word of one clip changed."""
    shutil.copytree(demo, tmp_path / "data")
    file = tmp_path / "data/kitchen/train_training.json"
    clips = json.loads(file.read_text())
    clips[0]["inferred_goal"] += " again"
    file.write_text(json.dumps(clips))
    return tmp_path / "data"


@pytest.fixture
def other_model(demo, tmp_path):
    """The demo's model with one frozen number changed by its last bit."""
    shutil.copytree(demo / "model", tmp_path / "model")
    file = tmp_path / "model/model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if name.endswith("text_model.layers.1.mlp.down_proj.weight"))
    weights[name].view(torch.int32).view(-1)[5] += 1
    save_file(weights, file, metadata={"format": "pt"})
    return tmp_path / "model"


def test_a_changed_key_is_named_and_refused_unless_allowed(continued, demo_words):
    words = cut_words(demo_words, "lora", "optim.learning_rate=1e-3", "loss.lm=2")
    code, reason = continued(words)
    assert code == 2
    assert "loss.lm was 1.5 and is 2.0" in reason and "optim.learning_rate was 0.002 and is 0.001" in reason
    assert "--allow-changed loss.lm --allow-changed optim.learning_rate" in reason
    code, reason = continued([*words, "--allow-changed", "loss.lm"])
    assert code == 2 and "loss.lm" not in reason and "--allow-changed optim.learning_rate" in reason
    assert continued([*words, "--allow-changed", "loss.lm", "--allow-changed", "optim.learning_rate"]) == (0, "done")


def test_allow_changed_may_be_repeated(continued, demo_words, tmp_path):
    """A job that is queued again repeats it: stopped before and after the first checkpoint with the changed key."""
    words = [*cut_words(demo_words, "lora", "loss.lm=2", "checkpoint.every_steps=1"), "--allow-changed", "loss.lm"]
    for point in (AT_WORK, "after prune"):
        with installed(Faults(cut, point, 1)), pytest.raises(Cut):
            continued(words)
    assert continued(words) == (0, "done")
    assert (tmp_path / "run/train.log").read_text().count("allowed to differ from the run so far: loss.lm was 1.5") == 2


def test_changed_data_is_refused_unless_allowed(continued, demo_words, other_data):
    words = cut_words(demo_words, "lora", f"data.root={other_data}")
    code, reason = continued(words)
    assert code == 2 and "dataset (the training data: " in reason and reason.endswith("or add --allow-changed dataset")
    assert continued([*words, "--allow-changed", "dataset"]) == (0, "done")


def test_other_pictures_under_the_same_clips_are_refused(continued, demo, demo_words, tmp_path):
    """Two frames files are exchanged, which no clip shows. Then one is missing and grey frames replace it."""
    shutil.copytree(demo, tmp_path / "data")
    words = cut_words(demo_words, "lora", f"data.root={tmp_path}/data")
    first, *_, last = sorted((tmp_path / "data/kitchen/frames").glob("*train*.arrow"))
    contents = [path.read_bytes() for path in (first, last)]
    first.write_bytes(contents[1]), last.write_bytes(contents[0])
    code, reason = continued(words)
    assert code == 2 and "dataset (the training data: " in reason
    first.write_bytes(contents[0]), last.unlink()
    code, reason = continued([*words, "data.on_missing=placeholder", "--allow-changed", "data.on_missing"])
    assert code == 2 and "dataset (the training data: " in reason


def test_clips_cut_in_another_way_are_refused_naming_the_keys(continued, demo_words):
    words = cut_words(demo_words, "lora", "train.max_frames=8")
    code, reason = continued(words)
    assert code == 2 and "samples (how clips are cut: by data.max_seq_len, train.max_tokens, train.max_frames" in reason
    assert "dataset" not in reason and continued([*words, "--allow-changed", "samples"]) == (0, "done")


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
def test_a_changed_config_or_tokenizer_is_refused_unless_allowed(continued, demo, demo_words, file):
    """Name and weights are the same: only the digest differs."""
    path, words = demo / "model" / file, cut_words(demo_words)
    kept = path.read_text()
    content = json.loads(kept)
    if file == "config.json":
        content["text_config"]["rms_norm_eps"] = 0.5
    else:
        vocabulary = content["model"]["vocab"]
        vocabulary["a"], vocabulary["e"] = vocabulary["e"], vocabulary["a"]
    path.write_text(json.dumps(content))
    try:
        code, reason = continued(words)
        allowed = continued([*words, "--allow-changed", "model"])
    finally:
        path.write_text(kept)
    assert code == 2 and "model (the model's config and tokenizer) was" in reason
    assert allowed == (0, "done")


def test_a_changed_frozen_weight_is_refused_unless_allowed(continued, demo, other_model, demo_words, tmp_path):
    """The recipe is the same, but its model folder has other weights: only their digest differs."""
    words = cut_words(demo_words)
    saved = tmp_path / "saved"
    (demo / "model/model.safetensors").rename(saved)
    shutil.copy(other_model / "model.safetensors", demo / "model/model.safetensors")
    try:
        code, reason = continued(words)
        allowed = continued([*words, "--allow-changed", "frozen"])
    finally:
        saved.replace(demo / "model/model.safetensors")
    assert code == 2 and "frozen (the frozen base weights) was" in reason and "--allow-changed frozen" in reason
    assert allowed == (0, "done")


def test_other_pixels_are_refused_unless_allowed(continued, demo_words, monkeypatch):
    monkeypatch.setattr(resume, "PIXELS_VERSION", "simplejpeg+pillow-1")
    words = cut_words(demo_words)
    code, reason = continued(words)
    assert code == 2 and "pixels (how frames become pixels: the decoder, and the filter that resizes) was " in reason
    assert "and is simplejpeg+pillow-1" in reason
    assert continued([*words, "--allow-changed", "pixels"]) == (0, "done")


def test_another_model_is_refused(continued, demo_words, other_model):
    code, reason = continued(cut_words(demo_words, "lora", f"model.name_or_path={other_model}"))
    assert code == 2 and "model.name_or_path was" in reason and "frozen (the frozen base weights) was" in reason


def test_a_checkpoint_of_an_earlier_version_is_refused_by_name(continued, demo_words, tmp_path, monkeypatch):
    def without_model(path):
        return {key: value for key, value in read_training(path).items() if key != "model"}

    monkeypatch.setattr(resume, "read_training", without_model)
    code, reason = continued([*cut_words(demo_words), "--allow-changed", "model"])
    assert code == 2 and "an earlier version of dst_dist wrote it, without model; go on with that version" in reason


def test_other_trained_parameters_are_refused_even_if_allowed(continued, demo_words):
    words = cut_words(demo_words, "lora", "finetune.train.connector=false")
    keys = ("finetune.train.connector", "frozen")
    code, reason = continued([*words, *itertools.chain(*(("--allow-changed", key) for key in keys))])
    assert code == 2 and "other parameters are trained now" in reason and "connector" in reason


def test_what_does_not_change_the_training_is_free(continued, demo_words):
    words = cut_words(
        demo_words, "lora", "eval.every_steps=2", "checkpoint.keep=5", "log.every_steps=3", "train.max_frames=64"
    )
    assert continued(words) == (0, "done")


# Only tensors and JSON are read


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


def test_pickles_in_a_checkpoint_and_in_final_are_never_run(continued, demo_words, tmp_path):
    sprung = tmp_path / "sprung"
    continued([*cut_words(demo_words), "train.max_steps=3"])  # refused; makes the copy
    checkpoint = (tmp_path / "run/last").resolve()
    for name in (
        "optimizer.pt",
        "pytorch_model.bin",
        "mp_rank_00_model_states.pt",
        ".metadata",
        "state-00007.safetensors",
    ):
        (checkpoint / name).write_bytes(pickle.dumps(Trap(sprung)))
    assert continued(cut_words(demo_words)) == (0, "done")
    final = tmp_path / "run/final"
    assert {path.suffix for path in final.iterdir()} <= {".safetensors", ".json", ".jinja", ".txt", ".md"}
    for name in ("adapter_model.bin", "pytorch_model.bin"):
        (final / name).write_bytes(pickle.dumps(Trap(sprung)))
    start = [f"model.name_or_path={final}", "train.max_steps=1", "data.val=[]"]
    assert train([*cut_words(demo_words, "lora", *start), f"output_dir={tmp_path}/next"]) == 0
    # Where the pickle is all there is, it is refused.
    (final / "adapter_model.safetensors").unlink()
    assert train([*cut_words(demo_words, "lora", *start), f"output_dir={tmp_path}/none"]) == 2
    assert "safetensors only" in status_of(tmp_path / "none")["reason"]
    assert not sprung.exists()
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists(), "the trap works"


def test_another_engine_is_refused_unless_allowed(starter, cut_folder, demo_words, tmp_path):
    shutil.copytree(cut_folder, tmp_path / "run", symlinks=True)
    refused = starter.run("cpu_fsdp", cut_words(demo_words), tmp_path / "run", 1)
    assert refused.status["code"] == 2
    assert "engine (the way to train on several processes) was ddp and is fsdp" in refused.status["reason"]
    assert "--allow-changed engine" in refused.status["reason"]


def test_what_was_compiled_is_compared_and_not_the_key():
    recipes = [load_recipe(["lora", f"train.compile={value}"]).model_dump(mode="json") for value in ("auto", "true")]
    saved, now = ({**dict.fromkeys(resume.IDENTITY, "same"), "recipe": recipe} for recipe in recipes)
    assert resume.differences(saved, now) == {}
    found = resume.differences(saved | {"layers": "plain"}, now | {"layers": "compiled"})
    assert list(found) == ["layers"] and "was plain and is compiled" in found["layers"]
