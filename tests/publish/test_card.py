"""The model card."""

import json
import shutil
from pathlib import Path

import yaml

from dst_dist.publish.card import model_card
from dst_dist.run_folder import RunFolder
from tests.publish.conftest import BASIS, RESULT


def test_a_card_says_what_it_is_how_it_was_measured_and_how_to_use_it(runs):
    card = model_card(RunFolder(runs["lora"]), Path("out"), keeps_adapter=True, name="someone/model")
    _, about, text = card.split("---\n", 2)
    about = yaml.safe_load(about)
    assert about["library_name"] == "peft" and about["base_model"].endswith("/model")
    assert text.startswith("\n# someone/model\n")
    assert "| `update/exact_match` | 0.500 | 0.250 to 0.750 |" in text
    assert "Measured on 3 clips, data.frames=all, eval.max_clips=3." in text
    assert "Trained on: kitchen." in text and "A LoRA adapter for" in text
    assert "| torch |" in text and "rank: 4" in text
    assert 'SmolVLMForDST.from_pretrained("someone/model")' in text


def test_a_run_without_evaluation_says_so(runs):
    card = model_card(RunFolder(runs["full"]), Path("out"), keeps_adapter=False, name=None)
    assert "It was not evaluated before it was exported." in card
    assert "cp -r out run/final" in card and "A model fine-tuned from" in card


def test_a_result_of_a_model_that_was_replaced_is_left_out_with_a_warning(runs, tmp_path, caplog):
    run = RunFolder(shutil.copytree(runs["lora"], tmp_path / "run", symlinks=True))
    file = run.result_file("val", "teacher_forced")
    file.write_text(json.dumps(RESULT | {"measured_on": BASIS | {"weights": "old"}}))
    card = model_card(run, Path("out"), keeps_adapter=True, name=None)
    assert "It was not evaluated" in card and "`update/exact_match`" not in card
    assert f"{file}: left out of the card" in caplog.text


def test_a_card_names_all_data_that_was_mixed(runs, tmp_path):
    run = RunFolder(tmp_path)
    recipe = RunFolder(runs["lora"]).read_config()
    recipe["data"]["train"] = ["workshop", {"kitchen": 2, "garden": 3}]
    run.config_file.write_text(yaml.safe_dump(recipe, sort_keys=False))
    card = model_card(run, Path("out"), keeps_adapter=True, name=None)
    assert "Trained on: workshop, kitchen, garden." in card


def test_a_path_with_a_space_is_quoted(runs):
    card = model_card(RunFolder(runs["lora"]), Path('my "out'), keeps_adapter=True, name=None)
    assert "cp -r 'my \"out' run/final" in card and r'from_pretrained("my \"out")' in card
