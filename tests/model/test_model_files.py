"""The tokenizer and the processor's files: read with the model, and saved with what was trained."""

import shutil

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer
from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer, GPT2Tokenizer

from dst_dist.data.token_writer import TokenWriter
from dst_dist.errors import ConfigError
from dst_dist.model.loading import load_model
from dst_dist.model.model_files import ModelFiles
from tests.model.stock_folders import assert_loaded_whole, published_folder, whole_grid_recipe


def test_a_folder_as_on_the_hub_is_read_with_its_own_tokenizer(tmp_path):
    folder = tmp_path / "hub"
    stock = published_folder(folder)
    files = ModelFiles.read(whole_grid_recipe(folder, tokens=1))
    writer = TokenWriter(files.tokenizer, 1)
    assert (writer.image_id, writer.start_id, writer.end_id, writer.pad_id) == (49190, 1, 49279, 2)
    text = ' [{"id": "S12", "transition": "start"}]'
    whole = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text, add_special_tokens=False).ids
    assert writer.turn("DST_UPDATE", text[1:]).body == [*whole, 49279]
    assert_loaded_whole(load_model(whole_grid_recipe(folder, tokens=1)), stock)


def in_hub_cache(source, cache):
    """Copy a folder into a hub cache as `tiny/model`; return that name."""
    snapshot = cache / "models--tiny--model/snapshots/0123456789abcdef0123456789abcdef01234567"
    shutil.copytree(source, snapshot)
    (cache / "models--tiny--model/refs").mkdir()
    (cache / "models--tiny--model/refs/main").write_text(snapshot.name)
    return "tiny/model"


PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json", "chat_template.json")


@pytest.mark.parametrize("place", ["folder", "hub cache"])
def test_the_stock_processor_is_taken_over_as_it_is(tmp_path, monkeypatch, place):
    published_folder(tmp_path / "hub")
    name = str(tmp_path / "hub")
    if place == "hub cache":
        name = in_hub_cache(tmp_path / "hub", tmp_path / "cache")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    final = tmp_path / "final"
    final.mkdir()
    ModelFiles.read(whole_grid_recipe(name, tokens=1)).save(final)
    for file in PROCESSOR_FILES:
        assert (final / file).read_bytes() == (tmp_path / "hub" / file).read_bytes()
    others = {path.name for path in final.iterdir()} - set(PROCESSOR_FILES)
    assert others == {"tokenizer.json", "tokenizer_config.json"}
    assert AutoImageProcessor.from_pretrained(final).to_dict() == AutoImageProcessor.from_pretrained(name).to_dict()


def test_the_stock_processor_opens_what_was_saved(tmp_path):
    for package in ("num2words", "torchvision"):
        pytest.importorskip(package, reason=f"the stock processor needs {package}: pip install {package}")
    published_folder(tmp_path / "hub")
    (tmp_path / "final").mkdir()
    ModelFiles.read(whole_grid_recipe(tmp_path / "hub", tokens=1)).save(tmp_path / "final")
    stock, ours = (AutoProcessor.from_pretrained(tmp_path / name) for name in ("hub", "final"))
    assert type(ours) is type(stock) and ours.image_seq_len == 64 and ours.chat_template == "{{ messages }}"
    image = Image.effect_noise((60, 40), 80).convert("RGB")
    read = [each(text="<image>Which?", images=[image], return_tensors="pt") for each in (stock, ours)]
    assert all(torch.equal(read[0][key], read[1][key]) for key in ("input_ids", "pixel_values"))


def test_a_tokenizer_that_does_not_split_as_its_file_says_is_an_error(tmp_path, monkeypatch):
    published_folder(tmp_path / "hub")
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", GPT2Tokenizer.from_pretrained)
    with pytest.raises(ConfigError, match="as a GPT2Tokenizer, which splits text otherwise"):
        ModelFiles.read(whole_grid_recipe(tmp_path / "hub", tokens=1))
