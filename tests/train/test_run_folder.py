"""What a run leaves behind, how it says that it ended, and that another run can start from it."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoTokenizer, SmolVLMForConditionalGeneration
from transformers.processing_utils import ProcessorMixin

from dst_dist import cli
from dst_dist.errors import ConfigError
from dst_dist.evaluate.run import evaluate_run
from dst_dist.model.smolvlm_dst import SmolVLMForDST
from dst_dist.recipes.loading import load_recipe
from dst_dist.train.held_folder import HeldFolder
from dst_dist.train.resume import Progress
from tests.train.in_process import own_logging, train

LORA = ("finetune.mode=lora", "finetune.train.vision=false", "finetune.lora.rank=4", "finetune.lora.alpha=8")
FULL = ("finetune.mode=full",)
PROCESSOR = {
    "processor_config.json": '{"image_seq_len": 1, "processor_class": "SmolVLMProcessor"}',
    "preprocessor_config.json": (
        '{\n  "image_processor_type": "SmolVLMImageProcessor", "do_image_splitting": false, "image_mean": [0.5, 0.5, 0.5],\n'
        '  "image_std": [0.5, 0.5, 0.5], "max_image_size": {"longest_edge": 48}, "size": {"longest_edge": 96}\n}\n'
    ),
    "chat_template.json": '{"chat_template": "{{ messages[0].content }}"}',
    "chat_template.jinja": "{{ messages }}\n",
}
"""Small files of a stock SmolVLM2, of an older transformers and of today's."""
STAYS = ("optim.learning_rate=0", "train.max_steps=1", "optim.warmup_steps=0")
"""A step that moves nothing."""


def recipe_words(demo_words, folder, *extra):
    return [
        "demo",
        *demo_words,
        "train.max_steps=4",
        "train.global_batch_size=4",
        "data.num_workers=0",
        "optim.learning_rate=2e-3",
        "optim.warmup_steps=2",
        "log.report_to=[]",
        f"output_dir={folder}",
        *extra,
    ]


@pytest.fixture(autouse=True)
def logging_of_commands():
    with own_logging():
        yield


def status_of(folder):
    return json.loads((folder / "status.json").read_text())


def lines_of(folder, split):
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["split"] == split]


@pytest.fixture(scope="module")
def full(demo_words, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "full"
    assert train(recipe_words(demo_words, folder, *FULL)) == 0
    return folder


@pytest.fixture(scope="module")
def lora(demo_words, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "lora"
    assert train(recipe_words(demo_words, folder, *LORA)) == 0
    return folder


@pytest.fixture
def earlier(request, full, lora):
    return {"full": full, "lora": lora}[request.param]


both = pytest.mark.parametrize("earlier", ["full", "lora"], indirect=True)


@both
def test_the_recipe_can_be_loaded_again_and_is_the_same(earlier, demo_words):
    words = recipe_words(demo_words, earlier, *(FULL if earlier.name == "full" else LORA))
    assert load_recipe([str(earlier / "config.yaml")]) == load_recipe(words)


@both
def test_a_finished_run_says_so(earlier):
    assert status_of(earlier) == {"code": 0, "reason": "done", "step": 4}


@both
def test_nothing_in_the_folder_is_pickled(earlier):
    files = [path for path in earlier.rglob("*") if path.is_file() and path.name != ".lock"]
    assert {path.suffix for path in files} <= {".yaml", ".json", ".jsonl", ".log", ".txt", ".safetensors"}
    # Pickles, and the zip files that torch.save makes.
    assert not [
        path for path in files if path.read_bytes()[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
    ]


def test_the_final_model_and_tokenizer_load_like_any_others(full, demo):
    model, info = SmolVLMForDST.from_pretrained(full / "final", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    text = 'DST: [{"id": "S1", "transition": "start"}]<end_of_utterance>\n'
    ours, stock = (AutoTokenizer.from_pretrained(place).encode(text) for place in (full / "final", demo / "model"))
    assert ours == stock


@both
def test_the_final_folder_holds_nothing_that_the_source_has_not(earlier):
    weights = {"model.safetensors"} if earlier.name == "full" else {"adapter_model.safetensors", "adapter_config.json"}
    assert {path.name for path in (earlier / "final").iterdir()} <= {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        *weights,
    }


@pytest.mark.parametrize("mode", [FULL, LORA], ids=["full", "lora"])
def test_the_final_folder_takes_over_the_stock_processor(mode, demo, demo_words, tmp_path):
    shutil.copytree(demo / "model", tmp_path / "model")
    for name, content in PROCESSOR.items():
        (tmp_path / "model" / name).write_text(content)
    short = (*mode, "data.val=[]", "train.max_steps=1")
    source = tmp_path / "model"
    for run in ("first", "second"):
        extra = [*short, f"model.name_or_path={source}"]
        assert train(recipe_words(demo_words, tmp_path / run, *extra)) == 0
        final = tmp_path / run / "final"
        assert {name: (final / name).read_text() for name in PROCESSOR} == PROCESSOR
        source = final
    image_processor = AutoImageProcessor.from_pretrained(final)
    assert (image_processor.size.longest_edge, image_processor.do_image_splitting) == (96, False)
    settings, _ = ProcessorMixin.get_processor_dict(final)
    assert settings == ProcessorMixin.get_processor_dict(tmp_path / "model")[0]
    assert settings["image_seq_len"] == 1 and settings["chat_template"] == "{{ messages[0].content }}"
    assert AutoTokenizer.from_pretrained(final).chat_template == "{{ messages }}\n"


def test_the_final_model_is_a_stock_model_beside_its_heads(full):
    opened, info = SmolVLMForConditionalGeneration.from_pretrained(full / "final", output_loading_info=True)
    assert not info["missing_keys"] and all(
        "_head." in name and "lm_head" not in name for name in info["unexpected_keys"]
    )
    ours = SmolVLMForDST.from_pretrained(full / "final")
    text = AutoTokenizer.from_pretrained(full / "final").encode("DST: start")
    ids = torch.tensor([*text, ours.config.image_token_id, *text])
    white, pixels = torch.full((1, 3, 48, 48), 255, dtype=torch.uint8), torch.ones(1, 1, 3, 48, 48)
    with torch.no_grad():
        theirs = opened.eval()(input_ids=ids[None], pixel_values=pixels).logits[0]
        output = ours.eval()(ids, white, [len(ids)], torch.arange(len(ids)), torch.tensor([len(text)]))
    torch.testing.assert_close(output.lm_logits, theirs, rtol=1e-4, atol=1e-4)


def test_training_moved_the_weights(full, demo):
    before, after = load_file(demo / "model/model.safetensors"), load_file(full / "final/model.safetensors")
    assert set(after) - set(before) == {
        f"{head}_head.{kind}" for head in ("dst_update", "speaking") for kind in ("weight", "bias")
    }
    assert all(not torch.equal(before[name], after[name]) for name in before)


@both
def test_the_thresholds_chosen_on_validation_are_stored_with_the_model(earlier):
    settings = json.loads((earlier / "final/config.json").read_text())
    last = lines_of(earlier, "val")[-1]
    assert settings["dst_threshold"] == last["dst_update/threshold"]
    assert settings["speaking_threshold"] == last["speaking/threshold"]
    assert settings["tokens_per_frame"] == 1


@both
@pytest.mark.parametrize("mode", [FULL, LORA], ids=["to_full", "to_lora"])
def test_a_run_starts_from_an_earlier_final(earlier, mode, demo_words, tmp_path):
    """Before anything moves it is worth exactly what the earlier run was worth at its end."""
    extra = [*mode, *STAYS, f"model.name_or_path={earlier}/final"]
    assert train(recipe_words(demo_words, tmp_path / "run", *extra)) == 0
    before, after = lines_of(earlier, "val")[-1], lines_of(tmp_path / "run", "val")[-1]
    for key in ("loss/lm", "loss/dst_gen", "loss/dst_update", "loss/speaking", "dst_update/threshold"):
        assert after[key] == pytest.approx(before[key], rel=1e-5)


def test_a_continued_adapter_is_the_same_adapter(lora, demo_words, tmp_path):
    extra = [*LORA, *STAYS, f"model.name_or_path={lora}/final"]
    assert train(recipe_words(demo_words, tmp_path / "run", *extra)) == 0
    before, after = (load_file(folder / "final/adapter_model.safetensors") for folder in (lora, tmp_path / "run"))
    assert set(before) == set(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


@both
def test_evaluate_gives_what_the_run_measured_at_its_end(earlier, capsys):
    result = evaluate_run(earlier, "val")
    last = lines_of(earlier, "val")[-1]
    for key in set(last) - {"step", "split"}:
        assert result[key] == pytest.approx(last[key], abs=1e-4), key
    assert result == json.loads((earlier / "evaluation/val-teacher_forced.json").read_text())
    assert "update/exact_match" in capsys.readouterr().out


@both
def test_evaluation_does_not_depend_on_packing(earlier):
    one = evaluate_run(earlier, "val", ["train.max_tokens=300"])
    packed = evaluate_run(earlier, "val", ["train.max_tokens=100000"])
    assert set(one) == set(packed)
    for key in (key for key, value in one.items() if not isinstance(value, dict)):
        assert one[key] == pytest.approx(packed[key], rel=1e-4, abs=1e-6), key


def test_another_split_is_measured_with_the_stored_thresholds(full):
    result = evaluate_run(full, "test", ["data.test=[kitchen]"])
    assert result["num_videos"] == 2
    assert result["dst_update/threshold"] == lines_of(full, "val")[-1]["dst_update/threshold"]
    assert evaluate_run(full, "val", ["eval.dst_threshold=0.9"])["dst_update/threshold"] == 0.9


def test_without_validation_the_run_says_so_and_stores_no_threshold(demo_words, tmp_path, capsys):
    assert train(recipe_words(demo_words, tmp_path / "run", "data.val=[]", "train.max_steps=1")) == 0
    assert "data.val is empty" in capsys.readouterr().out
    assert not lines_of(tmp_path / "run", "val")
    assert json.loads((tmp_path / "run/final/config.json").read_text()).get("dst_threshold") is None
    assert evaluate_run(tmp_path / "run", "val", ["data.val=[kitchen]"])["dst_update/threshold"] == 0.5


def test_the_best_is_never_an_evaluation_without_its_metric():
    """A head that decides nothing has no precision; it may have one later. A metric that never comes is an error."""
    silent = {"speaking/threshold": 0.5, "speaking/recall": 0.0}
    spoken, progress = silent | {"speaking/precision": 0.25}, Progress()
    for step, metrics, is_best in ((1, silent, False), (2, spoken, True), (3, silent, False)):
        progress.step = step
        assert progress.note_evaluation(metrics, "speaking/precision") == is_best
        assert progress.evaluated_step == step
    assert (progress.best_step, progress.best_value) == (2, 0.25)
    for name in ("dst_update/precision", "lm/perplexity"):
        with pytest.raises(ConfigError, match=f"no metric val/{name}"):
            progress.note_evaluation(silent, name)


def test_a_crash_says_where_and_a_new_start_forgets_it(demo_words, tmp_path, monkeypatch, capsys):
    from dst_dist.train import loop

    folder, seen = tmp_path / "run", []
    intact = loop.optimizer_step

    def crash(*arguments):
        seen.append((folder / "status.json").exists())
        if len(seen) == 3:
            raise RuntimeError("the disk is on fire")
        return intact(*arguments)

    monkeypatch.setattr(loop, "optimizer_step", crash)
    assert train(recipe_words(demo_words, folder)) == 1
    assert status_of(folder) == {"code": 1, "reason": "RuntimeError: the disk is on fire", "step": 2}
    assert "Traceback" in capsys.readouterr().err
    assert not (folder / "final").exists()
    # While the same command runs again, nobody is told of the crash before.
    assert train(recipe_words(demo_words, folder)) == 0
    assert seen[3] is False
    assert status_of(folder)["code"] == 0


@pytest.mark.parametrize("between", [(), ("train.max_steps=0",)], ids=["done", "after bad input"])
def test_a_finished_run_that_is_started_again_keeps_its_step(full, demo_words, between):
    if between:
        assert train(recipe_words(demo_words, full, *FULL, *between)) == 2
    assert train(recipe_words(demo_words, full, *FULL)) == 0
    assert status_of(full) == {"code": 0, "reason": "done", "step": 4}


def test_a_finished_run_without_its_metrics_is_still_done(full, demo_words, tmp_path):
    shutil.copytree(full, tmp_path / "run", symlinks=True)
    for content in ("", "\0\0", '{"step": 4}\n{"st'):
        (tmp_path / "run/metrics.jsonl").write_text(content)
        assert train(recipe_words(demo_words, tmp_path / "run", *FULL)) == 0
        assert status_of(tmp_path / "run")["code"] == 0


def test_bad_input_leaves_an_earlier_run_as_it_is_but_for_the_status(full, demo_words):
    before = {path: path.read_bytes() for path in full.rglob("*") if path.is_file() and path.name != "status.json"}
    status = (full / "status.json").read_text()
    assert train(recipe_words(demo_words, full, "train.max_steps=0")) == 2
    assert status_of(full)["code"] == 2
    assert {
        path: path.read_bytes() for path in full.rglob("*") if path.is_file() and path.name != "status.json"
    } == before
    (full / "status.json").write_text(status)


@pytest.mark.parametrize("words", [["dmeo.yaml"], ["lora", "output_dir="], ["lora", "--output-dir", "runs/mine"], []])
def test_a_recipe_that_does_not_say_which_folder_touches_none(tmp_path, monkeypatch, capsys, words):
    """Not the default's either, where another run may have ended well."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "status").write_text("of an earlier start")
    assert train([*words, "--status-file", "status"]) == 2
    assert "ConfigError: " in capsys.readouterr().err
    told = json.loads((tmp_path / "status").read_text())
    assert (told["code"], told["step"]) == (2, 0) and told["reason"]
    assert [path.name for path in tmp_path.iterdir()] == ["status"]
    assert train(words) == 2


def start(folder, seed):
    run = HeldFolder(folder)
    run.lock()
    run.forget_status()
    moved = run.open({"seed": seed})
    folder.mkdir(exist_ok=True)
    run.write_config(f"seed: {seed}\n")
    return run, moved


def test_a_run_of_another_recipe_is_moved_aside_whole(tmp_path):
    for number in (1, 2):
        run, _ = start(tmp_path / "run", number)
        run.write_status(1, f"end {number}")
    run, moved = start(tmp_path / "run", 3)
    assert moved == tmp_path / "run.earlier-2"
    kept = {path.name: (path / "config.yaml").read_text() for path in tmp_path.iterdir()}
    assert kept == {"run": "seed: 3\n", "run.earlier-1": "seed: 1\n", "run.earlier-2": "seed: 2\n"}
    assert [status_of(tmp_path / f"run.earlier-{number}")["reason"] for number in (1, 2)] == ["end 1", "end 2"]


def test_a_request_to_stop_stays_when_the_run_before_is_moved_aside(tmp_path):
    """It was written while the new run started up."""
    start(tmp_path / "run", 1)
    (tmp_path / "run/STOP").touch()
    _, moved = start(tmp_path / "run", 2)
    assert (tmp_path / "run/STOP").exists() and not (moved / "STOP").exists()
    (tmp_path / "run/STOP").unlink()
    start(tmp_path / "run", 3)
    assert not (tmp_path / "run/STOP").exists()


def test_a_run_that_can_be_continued_stays(tmp_path):
    start(tmp_path / "run", 1)
    assert start(tmp_path / "run", 1)[1] is None
    (tmp_path / "run/checkpoints/step-00000005").mkdir(parents=True)
    # Of another recipe: whether that is allowed is the checkpoint's to say.
    assert start(tmp_path / "run", 2)[1] is None
    (tmp_path / "run/config.yaml").write_text("seed: [")
    assert start(tmp_path / "run", 2)[1] is None


def test_a_line_that_was_cut_is_dropped(tmp_path):
    start(tmp_path / "run", 1)
    (tmp_path / "run/metrics.jsonl").write_text('{"step": 1}\n{"step": 2, "lo')
    start(tmp_path / "run", 1)
    assert (tmp_path / "run/metrics.jsonl").read_text() == '{"step": 1}\n'


def test_a_status_that_cannot_be_written_is_said(tmp_path, capsys):
    (tmp_path / "file").touch()
    run = HeldFolder(tmp_path / "run", tmp_path / "file/status.json")
    run.is_held = True
    run.write_status(1, "x")
    assert "cannot write" in capsys.readouterr().err


def test_the_command_line_of_dst_dist(full, tmp_path, capsys, monkeypatch):
    assert cli.main(["evaluate", str(full), "--split", "test", "data.test=[kitchen]"]) == 0
    assert cli.main(["evaluate", str(full), "--split", "test", "data.test=[]"]) == 2
    assert "data.test is empty" in capsys.readouterr().err
    assert cli.main(["evaluate", str(tmp_path / "none")]) == 2
    assert "not a finished run" in capsys.readouterr().err
    for words in (
        ["evaluate"],
        ["evaluate", "x", "--split", "dev"],
        ["evaluate", "x", "--splt=val"],
        ["demo", "x"],
        ["nothing"],
        [],
    ):
        with pytest.raises(SystemExit) as ended:
            cli.main(words)
        assert ended.value.code == 2
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0


def test_demo_on_the_command_line(tmp_path, monkeypatch, capsys):
    made = []
    monkeypatch.setattr("dst_dist.demo.make.make_demo", lambda out, **settings: made.append((out, settings)))
    assert cli.main(["demo", "--out", str(tmp_path / "demo"), "--seed", "3", "--blank"]) == 0
    assert made == [(tmp_path / "demo", {"seed": 3, "blank": True})]
    assert str(tmp_path / "demo") in capsys.readouterr().out


def test_the_same_recipe_gives_the_same_run(full, demo_words, tmp_path):
    assert train(recipe_words(demo_words, tmp_path / "again", *FULL)) == 0
    losses = [[line["loss"] for line in lines_of(folder, "train")] for folder in (full, tmp_path / "again")]
    assert losses[0] == losses[1] and np.all(np.isfinite(losses[0]))
