"""Saved folders are read rightly by transformers 4."""

import json
import os
import subprocess
import sys

import pytest
import torch
from transformers import AutoTokenizer, SmolVLMConfig

from dst_dist.model.saving import save_model
from dst_dist.model.smolvlm_dst import SmolVLMForDST
from dst_dist.model.transformers_4 import keep_tokenizer_readable
from tests.gpu.make_models import make_tokenizer
from tests.model.tiny import tiny_config

TEXT = 'DST: [{"id": "S1"}] é <image>x<|im_end|>'
IN_4 = """
import sys
sys.path.insert(0, sys.argv[1])
import torch, transformers
from transformers import AutoTokenizer, SmolVLMForConditionalGeneration
assert transformers.__version__.startswith("4.")
model = SmolVLMForConditionalGeneration.from_pretrained(sys.argv[2], dtype=torch.float32).eval()
with torch.no_grad():
    logits = model(input_ids=torch.arange(5, 25)[None]).logits[0]
torch.save({"logits": logits, "ids": AutoTokenizer.from_pretrained(sys.argv[2]).encode(sys.argv[4])}, sys.argv[3])
"""


def saved(folder, **rotary):
    torch.manual_seed(0)
    config = tiny_config()
    config.text_config.rope_parameters = {"rope_type": "default", "rope_theta": 123456.0, **rotary}
    model = SmolVLMForDST(config).eval()
    save_model(model, model.state_dict(), folder)
    make_tokenizer().save_pretrained(folder)
    keep_tokenizer_readable(folder)
    return model


@pytest.mark.parametrize("rotary", [{}, {"rope_type": "linear", "factor": 2.0}], ids=["default", "scaled"])
def test_rotary_settings_have_both_names_and_are_read_back(tmp_path, rotary):
    saved(tmp_path, **rotary)
    text = json.loads((tmp_path / "config.json").read_text())["text_config"]
    assert text["rope_theta"] == 123456.0
    assert text.get("rope_scaling") == (rotary or None)
    read = SmolVLMConfig.from_pretrained(tmp_path).text_config.rope_parameters
    assert read["rope_theta"] == 123456.0 and read.get("factor") == rotary.get("factor")


def test_the_tokenizer_has_names_that_4_knows_and_splits_alike(tmp_path):
    saved(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert "<image>" in config["additional_special_tokens"] and "extra_special_tokens" not in config
    again, intact = AutoTokenizer.from_pretrained(tmp_path), make_tokenizer()
    assert again.encode(TEXT) == intact.encode(TEXT)
    assert set(again.all_special_tokens) == set(intact.all_special_tokens)


@pytest.mark.long
def test_transformers_4_itself_computes_the_same_text(tmp_path):
    """Frames are left out: 4.57 numbers a frame's patches wrongly in float32."""
    model = saved(tmp_path / "model")
    packages = ("transformers==4.57.6", "tokenizers==0.22.2", "huggingface_hub==0.36.0")
    install = [sys.executable, "-m", "pip", "install", "-q", "--target", str(tmp_path / "four"), "--no-deps"]
    needed = ("requests", "urllib3", "charset_normalizer", "idna", "certifi", "hf-xet")
    subprocess.run([*install, *packages, *needed], check=True)
    words = [str(tmp_path / "four"), str(tmp_path / "model"), str(tmp_path / "out.pt"), TEXT]
    env = {**os.environ, "PYTHONPATH": ""}
    subprocess.run([sys.executable, "-c", IN_4, *words], check=True, env=env, cwd=tmp_path)
    theirs = torch.load(tmp_path / "out.pt")
    with torch.no_grad():
        ids = torch.arange(5, 25)
        ours = model(ids, torch.empty(0, 3, 48, 48, dtype=torch.uint8), [20], torch.arange(20), torch.tensor([0]))
    torch.testing.assert_close(ours.lm_logits, theirs["logits"])
    assert theirs["ids"] == make_tokenizer().encode(TEXT)
