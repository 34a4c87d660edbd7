"""Model folders that are wrong: what is done to a sound one, and the words that the error must contain."""

import json
import shutil

from tests.train.bad_recipes import words


def model(spoil, *extra):
    """Return a case in which a copy of the model folder is changed by `spoil`."""

    def write(world):
        folder = world.folder / "model"
        shutil.copytree(world.model, folder)
        spoil(folder)
        return [f"model.name_or_path={folder}", *extra]

    return write


def settings(file="config.json", **changes):
    def write(folder):
        values = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(values | changes))

    return write


def adapter(base=None, weights=True, **changes):
    """Turn the model folder into an adapter on a copy of itself, or on another base."""

    def write(folder):
        config = {
            "peft_type": "LORA",
            "base_model_name_or_path": base or str(folder.parent / "base"),
            "r": 4,
            "lora_alpha": 8,
            "target_modules": r"model\.text_model\..*\.(q_proj)",
        }
        shutil.copytree(folder, folder.parent / "base")
        (folder / "model.safetensors").unlink()
        (folder / "adapter_config.json").write_text(json.dumps(config | changes))
        if weights:
            shutil.copy(folder.parent / "base/model.safetensors", folder / "adapter_model.safetensors")

    return write


def cut_off(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def only_pickles(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def few_positions(folder):
    values = json.loads((folder / "config.json").read_text())
    values["text_config"]["max_position_embeddings"] = 50
    (folder / "config.json").write_text(json.dumps(values))


def preprocessor(content):
    """Add the stock processor's file."""
    return lambda folder: (folder / "preprocessor_config.json").write_text(content)


def only_an_index(text):
    def write(folder):
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(text)

    return write


def no_image_token(folder):
    values = json.loads((folder / "tokenizer.json").read_text())
    values["model"]["merges"] = []
    (folder / "tokenizer.json").write_text(json.dumps(values).replace("<image>", "<picture>"))
    config = folder / "tokenizer_config.json"
    config.write_text(config.read_text().replace("<image>", "<picture>"))


def strange_folder(world):
    (world.folder / "strange").mkdir()
    return [f"model.name_or_path={world.folder}/strange"]


MODELS = {
    "no such folder": (words("model.name_or_path=./none"), ("model.name_or_path: ./none is neither a folder here",)),
    "hub name without network": (
        words("model.name_or_path=HuggingFaceTB/SmolVLM2-256M-Video-Instruct"),
        ("neither a folder here nor a model", "login node", "hf download HuggingFaceTB/SmolVLM2-256M-Video-Instruct"),
    ),
    "folder without a model": (strange_folder, ("strange is not a whole model folder", "config.json")),
    "another model": (model(settings(model_type="llama")), ("is of type llama, not a SmolVLM2",)),
    "config.json cut off": (
        model(lambda folder: (folder / "config.json").write_text('{"model_type": ')),
        ("is not a whole model folder", "JSON"),
    ),
    "config.json is a list": (
        model(lambda folder: (folder / "config.json").write_text("[]")),
        ("not a whole model folder",),
    ),
    "config.json of another shape": (model(settings(text_config=5)), ("is not a whole model folder", "text_config")),
    "no tokenizer": (
        model(lambda folder: (folder / "tokenizer.json").unlink()),
        ("not a whole model folder", "tokenizer"),
    ),
    "tokenizer cut off": (
        model(lambda folder: (folder / "tokenizer.json").write_text('{"a":')),
        ("not a whole model folder",),
    ),
    "tokenizer without <image>": (model(no_image_token), ("the model's tokenizer lacks <image>", "model.name_or_path")),
    "tokenizer of another model": (model(settings(image_token_id=4)), ("the tokenizer in", "belongs to another model")),
    "vocabulary too small": (
        model(settings(text_config={"model_type": "llama", "vocab_size": 10})),
        ("the tokenizer in", "belongs to another"),
    ),
    "no weights": (
        model(lambda folder: (folder / "model.safetensors").unlink()),
        ("no model.safetensors", "safetensors only"),
    ),
    "pickled weights": (model(only_pickles), ("no model.safetensors", "safetensors only")),
    "weights cut off": (model(cut_off), ("model.safetensors: not readable", "copied whole")),
    "a shard is missing": (model(only_an_index('{"weight_map": {"a": "b.safetensors"}}')), ("no b.safetensors",)),
    "broken list of shards": (model(only_an_index("{")), ("index.json: not readable",)),
    "pixels of another mean": (
        model(
            preprocessor(
                '{"image_mean": [0.48, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "rescale_factor": 0.00392156862745098}'
            )
        ),
        ("preprocessor_config.json in ", "says image_mean [0.48, 0.5, 0.5], frames are read with image_mean 0.5 alone"),
    ),
    "pixels of another scale": (
        model(preprocessor('{"image_std": [0.2, 0.2, 0.2], "rescale_factor": 1}')),
        ("says image_std [0.2, 0.2, 0.2], rescale_factor 1, frames", "image_std 0.5, rescale_factor 0.00392157"),
    ),
    "processor cut off": (model(preprocessor('{"image_mean": [')), ("preprocessor_config.json in ", "cannot be read")),
    "processor is a list": (model(preprocessor("[1]")), ("preprocessor_config.json in ", "cannot be read")),
    "processor of text": (
        model(preprocessor('{"image_mean": "half"}')),
        ("preprocessor_config.json in ", "cannot be read"),
    ),
    "more frame tokens than the grid": (
        words("model.tokens_per_frame=4"),
        ("model.tokens_per_frame: 4 is not possible", "use 1"),
    ),
    "no such module": (
        words("finetune.mode=lora", "finetune.lora.target_modules=[q_proj, q_prj]"),
        ("finetune.lora.target_modules", "has no q_prj", "v_proj"),
    ),
    "adapter without a base": (model(adapter(base="/nowhere/base")), ("/nowhere/base is neither a folder here",)),
    "adapter without weights": (model(adapter(weights=False)), ("no adapter_model.safetensors",)),
    "adapter of another rank": (
        model(adapter(), "finetune.mode=lora", "finetune.lora.target_modules=[q_proj]", "finetune.lora.alpha=8"),
        ("finetune.lora.rank: 64 differs from the adapter's 4",),
    ),
    "adapter of another kind": (model(adapter(peft_type="IA3")), ("is a ", "IA3 adapter, only LoRA is known")),
}
