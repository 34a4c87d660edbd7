"""Opening a finished run: its settings, thresholds and warnings."""

import json
import shutil

import pytest

from dst_dist.errors import ConfigError
from dst_dist.evaluate.open_run import FinishedRun
from dst_dist.evaluate.run import evaluate_run, stream_run
from dst_dist.evaluate.show import stream_file, stream_video
from tests.train.in_process import own_logging, train

SAMPLES = "proassist_demo/train.jsonl"
SHORT = ("train.max_steps=1", "train.global_batch_size=2", "data.num_workers=0", "log.report_to=[]")
LORA = ("finetune.mode=lora", "finetune.train.vision=false", "finetune.lora.rank=4", "finetune.lora.alpha=8")


@pytest.fixture(autouse=True)
def logging_of_commands():
    with own_logging():
        yield


@pytest.fixture(scope="module")
def run(demo_words, tmp_path_factory):
    """A run of one step."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert train(["demo", *demo_words, *SHORT, "data.val=[kitchen]", "eval.max_clips=1", f"output_dir={folder}"]) == 0
    return folder


def test_streaming_with_contexts_longer_than_the_models_positions_raises(run, demo, tmp_path):
    """A stream fills its context, even of short clips; teacher-forced evaluation needs only the clips' length."""
    longer = ["data.max_seq_len=5000", "train.max_tokens=6000"]
    video = demo / "kitchen/frames/kitchen-val-0000.arrow"
    (tmp_path / "task.json").write_text(json.dumps({"goal": "Cook"}))
    for start in (
        lambda: stream_run(run, "val", longer),
        lambda: next(stream_video(run, "val", video.name, longer)),
        lambda: next(stream_file(run, video, tmp_path / "task.json", longer)),
    ):
        with pytest.raises(
            ConfigError, match=r"contexts of 5000 tokens, the model has 4096 positions; set data\.max_seq_len=4096"
        ):
            start()
    assert evaluate_run(run, "val", longer)["num_videos"] == 1
    assert next(stream_video(run, "val", video.name, ["data.max_seq_len=4096", *longer[1:]]))


def test_another_output_folder_is_said_to_change_nothing(run, tmp_path, caplog):
    evaluate_run(run, "val", ["eval.max_clips=1", f"output_dir={tmp_path}/elsewhere"])
    assert f"output_dir is not used here: what is written goes to {run}" in caplog.text
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    "words, keys",
    [
        (["model.tokens_per_frame=4"], ["model.tokens_per_frame was 1 and is 4"]),
        (["finetune.mode=lora", "finetune.train.vision=false"], ["finetune.mode was", "finetune.train.vision was"]),
        (["finetune.train.connector=false"], ["finetune.train.connector was True and is False"]),
        (["finetune.lora.rank=2"], ["finetune.lora.rank was"]),
        (["finetune.lora.target_modules=[q_proj]"], ["finetune.lora.target_modules was"]),
    ],
)
def test_an_override_that_the_final_model_contradicts_is_refused(run, demo, tmp_path, words, keys):
    """Every command that uses the model refuses it, before any of it is loaded."""
    (tmp_path / "task.json").write_text(json.dumps({"goal": "Cook"}))
    video = demo / "kitchen/frames/kitchen-val-0000.arrow"
    for start in (
        lambda: evaluate_run(run, "val", words),
        lambda: stream_run(run, "val", words),
        lambda: next(stream_video(run, "val", video.name, words)),
        lambda: list(stream_file(run, video, tmp_path / "task.json", words)),
    ):
        with pytest.raises(ConfigError) as error:
            start()
        assert len(error.value.faults) == len(keys)
        for key, fault in zip(keys, error.value.faults, strict=True):
            assert key in fault and "final was made with the former, so leave this setting out" in fault


@pytest.mark.parametrize(
    "word", ["eval.dst_threshold=0.9", "train.precision=bf16", "model.tokens_per_frame=1", "seed=7"]
)
def test_an_override_that_changes_how_a_model_is_used_is_taken(run, word):
    assert FinishedRun.open(run, None, [word])


def test_a_recipe_that_was_edited_behind_the_final_model_is_refused(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy", symlinks=True)
    text = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(text.replace("tokens_per_frame: 1", "tokens_per_frame: 9"))
    with pytest.raises(ConfigError, match="tokens_per_frame was 1 and is 9"):
        FinishedRun.open(copy, None)


def test_the_vision_batch_size_is_the_recipes(run):
    assert FinishedRun.open(run, None, ["model.vision_batch_size=3"]).model.vision_batch_size == 3


def settings_of(folder):
    settings = json.loads((folder / "final/config.json").read_text())
    return {key: settings.get(key) for key in ("dst_threshold", "dst_update_rate", "speaking_threshold")}


@pytest.mark.parametrize("words", [[f"data.train=[{SAMPLES}]"], ["loss.dst_update=0"]], ids=["no label", "no weight"])
@pytest.mark.parametrize("mode", [("finetune.mode=full",), LORA], ids=["full", "lora"])
def test_a_head_that_was_not_trained_never_decides(words, mode, demo_words, tmp_path, capsys, caplog):
    folder = tmp_path / "run"
    assert (
        train(
            [
                "demo",
                *demo_words,
                *SHORT,
                *words,
                *mode,
                "data.val=[kitchen]",
                "eval.max_clips=1",
                f"output_dir={folder}",
            ]
        )
        == 0
    )
    reason = "no position has a label" if SAMPLES in words[0] else "loss.dst_update is 0"
    log = capsys.readouterr().out
    assert f"dst_update: {reason}, this run does not train the head" in log and "speaking: no position" not in log
    settings = settings_of(folder)
    assert (settings["dst_threshold"], settings["dst_update_rate"]) == (1.0, 0.0) and 0 < settings[
        "speaking_threshold"
    ] < 1
    result = stream_run(folder, "val", ["eval.speaking_threshold=1.0"])
    assert result["dst_update/false_per_minute"] == 0
    assert "dst_update: the head was never trained, it decides nothing (threshold 1)" in caplog.text
    evaluate_run(folder, "val", ["eval.dst_threshold=0.5"])
    assert "dst_update: the head was never trained, what it decides means nothing (threshold 0.5)" in caplog.text


@pytest.mark.parametrize("mode", [("finetune.mode=full",), LORA], ids=["full", "lora"])
def test_a_head_that_an_earlier_run_trained_keeps_its_threshold(mode, demo_words, tmp_path):
    """The data of the second and the third run has no updates."""
    earlier = ["demo", *demo_words, *SHORT, *mode, "data.val=[kitchen]", "eval.max_clips=2"]
    assert train([*earlier, f"output_dir={tmp_path}/1"]) == 0
    for number in (1, 2):
        words = [f"data.train=[{SAMPLES}]", f"model.name_or_path={tmp_path}/{number}/final"]
        assert train([*earlier, *words, f"output_dir={tmp_path}/{number + 1}"]) == 0
    first, *others = (settings_of(tmp_path / str(number)) for number in (1, 2, 3))
    for settings in others:
        assert [settings[key] for key in ("dst_threshold", "dst_update_rate")] == [
            first["dst_threshold"],
            first["dst_update_rate"],
        ]
    assert 0 < first["dst_threshold"] < 1 and first["dst_update_rate"] > 0
