"""Bad input of every kind ends in code 2 with a clear message, before any process group or weight."""

import json
import os
import shutil

import pytest

from dst_dist import exit as ending
from dst_dist.train import __main__ as program
from tests.data import test_bad_clips
from tests.data.handmade import make_root, prospect_clip, spoken, write_prospect
from tests.launching import launch

LINES = test_bad_clips.LINES


def words(*extra):
    """Recipe words alone are at fault."""
    return lambda world: list(extra)


def recipe_file(content):
    """A YAML file of this content is merged over the sound recipe."""

    def write(world):
        path = world.folder / "site.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return [str(path)]

    return write


def model(spoil, *extra):
    """The model folder is spoiled."""

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
    """Makes the model folder an adapter's, on itself or another base."""

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
    """The folder has the stock processor's file."""
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


def data(case):
    """A case of the data's own table: the hand-made root is spoiled."""
    return lambda world: test_bad_clips.CASES[case][0](world.root) and ()


def strange_folder(world):
    (world.folder / "strange").mkdir()
    return [f"model.name_or_path={world.folder}/strange"]


def output_in_a_file(world):
    (world.folder / "file").touch()
    return [f"output_dir={world.folder}/file/run"]


def longer_than_fits(world):
    """Two clips with a turn that cannot fit, one clip that does."""
    long = prospect_clip(conversation=[spoken("user", "word " * 300, 2, 4)])
    write_prospect(world.root, [long, {**prospect_clip(), "clip_idx": 1}, {**long, "clip_idx": 2}])
    return ["data.max_seq_len=200"]


RECIPE = {
    "no such recipe": (words("lroa"), ("recipe lroa", "did you mean lora?", "demo, full, lora")),
    "a folder is no recipe": (words("/tmp"), ("recipe /tmp", "no such file")),
    "unknown option": (words("--learning-rate", "3"), ("--learning-rate: unknown option", "optim.learning_rate=2e-5")),
    "option with a value": (words("--learning_rate=3"), ("--learning_rate: unknown key", "optim.learning_rate?")),
    "not YAML": (recipe_file("optim: [1"), ("site.yaml: not valid YAML", "line 1")),
    "tabs in YAML": (recipe_file("optim:\n\tbetas: 1"), ("site.yaml: not valid YAML", "line 2")),
    "YAML of a list": (recipe_file("- a"), ("site.yaml", "mapping of sections", "found list")),
    "YAML of two documents": (recipe_file("seed: 1\n---\nseed: 2"), ("site.yaml: not valid YAML", "single document")),
    "YAML makes objects": (recipe_file("seed: !!python/object:os.system x"), ("site.yaml: not valid YAML", "tag")),
    "YAML too deep": (recipe_file("[" * 1000), ("site.yaml: not valid YAML", "nested too deeply")),
    "not text": (recipe_file(b"\xff\xfe\x00"), ("site.yaml: cannot be read", "utf-8")),
    "key twice": (recipe_file("seed: 1\nseed: 2"), ("site.yaml", "key given twice", "line 1", "seed")),
    "section twice": (recipe_file("optim: {betas: [0, 0]}\nseed: 0\noptim: {}"), ("key given twice", "optim")),
    "key twice in a section": (recipe_file("optim:\n  lr: 1\n  lr: 2"), ("key given twice", "line 2", "lr")),
    "key is a number": (recipe_file("1: 2"), ("every key must be a word", "found 1")),
    "impossible date": (words("seed=2024-99-99"), ("seed=2024-99-99", "not valid YAML")),
    "value is no YAML": (words("data.train=[kitchen"), ("data.train=[kitchen: the value is not valid YAML",)),
    "no key": (words("=3"), ("=3: write section.key=value",)),
    "empty part of a key": (words("optim..betas=3"), ("optim..betas=3: write section.key=value",)),
    "mistyped key": (
        words("optim.lerning_rate=1"),
        ("optim.lerning_rate: unknown key; did you mean optim.learning_rate?",),
    ),
    "mistyped section": (words("modle.tokens_per_frame=1"), ("modle: unknown key; did you mean model?",)),
    "key of another section": (words("train.learning_rate=1"), ("did you mean optim.learning_rate?",)),
    "key of two sections": (words("train.every_steps=1"), ("eval.every_steps or ", "log.every_steps?")),
    "key without its section": (words("tokens_per_frame=1"), ("did you mean model.tokens_per_frame?",)),
    "section without its section": (words("lora.rank=1"), ("lora: unknown key; did you mean finetune.lora?",)),
    "unlike any key": (words("optim.quux=1"), ("optim.quux: unknown key; known here: learning_rate,",)),
    "the predecessor's weight": (words("dst_binary_weight=2"), ("did you mean loss.dst_update?",)),
    "the predecessor's rate": (words("neg_frame_sampling_rate=0"), ("did you mean labels.neg_frame_sampling_rate?",)),
    "the predecessor's tokens": (words("data.num_tokens_per_img=1"), ("did you mean model.tokens_per_frame?",)),
    "peft's rank": (words("lora_r=8"), ("did you mean finetune.lora.rank?",)),
    "peft's alpha": (words("finetune.lora.lora_alpha=8"), ("did you mean finetune.lora.alpha?",)),
    "section is a number": (words("optim=3"), ("optim: must be a section of keys (found 3)",)),
    "section is empty": (recipe_file("optim:\nseed: 1"), ("optim: must be a section of keys (found None)",)),
    "text for a number": (
        words("optim.learning_rate=fast"),
        ("optim.learning_rate: must be a valid number (found 'fast')",),
    ),
    "true for a number": (
        words("optim.learning_rate=true"),
        ("optim.learning_rate: must be a valid number (found True)",),
    ),
    "number that is none": (words("optim.learning_rate=.nan"), ("optim.learning_rate: must be a finite number",)),
    "infinite weight": (words("loss.lm=.inf"), ("loss.lm: must be a finite number (found inf)",)),
    "negative rate": (words("optim.learning_rate=-1e-4"), ("optim.learning_rate: must be greater than or equal to 0",)),
    "zero clipping": (words("optim.max_grad_norm=0"), ("optim.max_grad_norm: must be greater than 0 (found 0)",)),
    "a beta of 1": (words("optim.betas=[0.9, 1]"), ("optim.betas: must be less than 1 (found 1)",)),
    "no weight above 0": (
        words("loss={lm: 0, dst_gen: 0, dst_update: 0, speaking: 0}"),
        ("loss: nothing is trained, every weight is 0",),
    ),
    "one beta": (words("optim.betas=[0.9]"), ("optim.betas: has too few entries (found [0.9])",)),
    "fraction of a step": (words("train.max_steps=1.5"), ("train.max_steps: must be a valid integer (found 1.5)",)),
    "zero epochs": (words("train.num_epochs=0"), ("train.num_epochs: must be greater than or equal to 1 (found 0)",)),
    "absurd size": (words(f"train.max_tokens={10**20}"), ("train.max_tokens: must be less than 2147483648",)),
    "negative seed": (words("seed=-1"), ("seed: must be greater than or equal to 0 (found -1)",)),
    "share above 1": (
        words("labels.neg_frame_sampling_rate=1.5"),
        ("neg_frame_sampling_rate: must be less than or equal to 1",),
    ),
    "no bool": (
        words("finetune.train.vision=maybe"),
        ("finetune.train.vision: must be a valid boolean (found 'maybe')",),
    ),
    "unknown choice": (words("data.on_missing=skip"), ("data.on_missing: must be 'error', 'filter' or 'placeholder'",)),
    "unknown mode": (words("finetune.mode=qlora"), ("finetune.mode: must be 'lora' or 'full' (found 'qlora')",)),
    "dropout of everything": (words("finetune.lora.dropout=1"), ("finetune.lora.dropout: must be less than 1",)),
    "lora without text": (
        words("finetune.mode=lora", "finetune.train.text=false"),
        ("finetune: mode lora", "set train.text"),
    ),
    "frame tokens are no square": (words("model.tokens_per_frame=2"), ("model.tokens_per_frame: must be a square",)),
    "dataset is no list": (
        words("data.train=kitchen"),
        ("data.train: must be a list: write it in [ ] (found 'kitchen')",),
    ),
    "no dataset": (words("data.train=[]"), ("data.train: has too few entries",)),
    "weight is text": (
        words("data.train=[{kitchen: twice}]"),
        ("data.train: must be a dataset's name, or {name: weight}",),
    ),
    "weight of zero": (words("data.train=[{kitchen: 0}]"), ("data.train: kitchen: weight 0", "1 or more")),
    "empty output_dir": (words("output_dir=''"), ("output_dir: must not be empty",)),
    "output_dir below a file": (output_in_a_file, ("output_dir", "cannot be written", "Not a directory")),
    "unknown tracker": (words("log.report_to=[tensorbord]"), ("log.report_to: must be 'tensorboard'", "'tensorbord'")),
    "tracker not installed": (
        words("log.report_to=[comet_ml]"),
        ("log.report_to: not installed: comet_ml", "pip install"),
    ),
}

MODEL = {
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

FITTING = {
    "a turn longer than the context": (
        longer_than_fits,
        ("2 faults", "clip kitchen/tea/0", "clip kitchen/tea/2", "does not fit", "data.max_seq_len"),
    ),
    "a sample longer than the model's positions": (
        model(few_positions),
        ("data.train: the longest sample has ", "the model has 50 positions", "data.max_seq_len=50"),
    ),
    "no such root": (words("data.root=./none"), ("data.root none: no such folder",)),
    "no such dataset": (
        words("data.train=[garage]"),
        ("data.train: garage: no such file", "garage/train_training.json"),
    ),
    "validation without a file": (
        words("data.val=[kitchen]"),
        ("data.val: kitchen: no such file", "train_training.json"),
    ),
    "nothing is left": (
        lambda world: (
            os.remove(world.root / "kitchen/frames/tea.arrow") or ["data.on_missing=filter", "data.train=[kitchen]"]
        ),
        ("data.on_missing=filter leaves no clip", "no such file"),
    ),
}

DATA = {f"data: {case}": (data(case), expected) for case, (_, expected) in test_bad_clips.CASES.items()}

CASES = {**RECIPE, **MODEL, **FITTING, **DATA}


class World:
    """A sound recipe's places."""

    def __init__(self, folder, model_folder):
        self.folder, self.model = folder, model_folder
        self.root = make_root(folder / "root")
        self.run = folder / "run"

    def words(self, *extra):
        return [
            "demo",
            f"model.name_or_path={self.model}",
            f"data.root={self.root}",
            f"data.train=[kitchen, {LINES}]",
            "data.val=[]",
            "data.strict=true",
            "data.num_workers=0",
            f"output_dir={self.run}",
            *extra,
        ]

    def train(self, capsys, *extra):
        """Exit code, what status.json says, what was printed."""
        status = self.folder / "status.json"
        code = program.main([*self.words(*extra), "--status-file", str(status)])
        printed = capsys.readouterr()
        return code, json.loads(status.read_text()), printed.out + printed.err


class Reached(Exception):
    """The training went beyond its checks."""


def reached(*_, **__):
    raise Reached


@pytest.fixture
def world(tmp_path, demo, monkeypatch):
    monkeypatch.setattr("dst_dist.train.loop.Engine", reached)
    monkeypatch.setattr("dst_dist.train.loop.load_model", reached)
    monkeypatch.setattr("dst_dist.logs.set_up_logging", lambda is_main: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return World(tmp_path, demo / "model")


def test_there_are_many_cases():
    assert len(CASES) >= 60


def test_sound_input_goes_on_to_the_process_group(world, capsys):
    code, status, _ = world.train(capsys)
    assert (code, status["code"], status["reason"]) == (1, 1, "Reached: ")


@pytest.mark.filterwarnings("ignore:Unexpected keyword arguments")
@pytest.mark.parametrize("case", CASES)
def test_bad_input(world, capsys, case):
    spoil, expected = CASES[case]
    code, status, output = world.train(capsys, *(spoil(world) or ()))
    assert code == 2, output
    assert status["code"] == 2
    assert "Traceback" not in output
    for word in expected:
        assert word in output
        assert word in status["reason"]


def test_all_faults_of_a_recipe_at_once(world, capsys):
    (world.folder / "site.yaml").write_text("optim: {lerning_rate: 1}\nlog: {every_steps: 0}\n")
    site = str(world.folder / "site.yaml")
    _, _, output = world.train(capsys, site, "train.precision=fp8", "lora_r=3", "data.frames", "seed='")
    for word in (
        "6 faults",
        "optim.lerning_rate",
        "log.every_steps",
        "train.precision",
        "lora_r",
        "recipe data.frames",
        "seed='",
    ):
        assert word in output


def test_faults_of_model_data_frames_and_lengths_at_once(world, capsys):
    os.remove(world.root / "kitchen/frames/tea.arrow")
    shutil.copytree(world.model, world.folder / "model")
    cut_off(world.folder / "model")
    world.root.joinpath(LINES).write_text("[")
    extra = ["model.tokens_per_frame=4", f"model.name_or_path={world.folder}/model", "data.val=[toys, garage]"]
    _, _, output = world.train(capsys, *extra)
    for word in (
        "tokens_per_frame: 4",
        "copied whole",
        f"{LINES}: is not valid JSON",
        "toys: no such file",
        "garage: no such",
    ):
        assert word in output
    # The frames of a split that cannot be read are not looked at; those of one that can are.
    write_prospect(world.root, [prospect_clip()], split="val")
    _, _, output = world.train(capsys, *extra[:-1], "data.val=[kitchen]")
    for word in (
        "tokens_per_frame: 4",
        "copied whole",
        f"{LINES}: is not valid JSON",
        "clip kitchen/tea/0: 8 of 8 frames",
    ):
        assert word in output


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        (["optim.lerning_rate=1"], "did you mean optim.learning_rate?"),
        (["data.train=[garage]", "model.tokens_per_frame=4"], "2 faults"),
        (["--frobnicate"], "--frobnicate: unknown option"),
    ],
)
def test_run_by_itself_it_exits_2(world, extra, expected):
    done = launch(None, world.words(*extra), world.run)
    assert done.returncode == 2
    assert done.status["code"] == 2
    assert expected in done.output
    assert "Traceback" not in done.output


def test_without_a_recipe_it_says_which_there_are(world, capsys):
    assert program.main(["--status-file", str(world.folder / "status.json")]) == 2
    assert "name a recipe: demo, full, lora" in capsys.readouterr().err


def test_under_the_launcher_the_status_says_2_and_the_fault_is_told_once(world):
    done = launch("cpu_ddp", world.words("data.train=[garage]"), world.run, timeout_s=100)
    assert done.returncode == 1
    assert done.status["code"] == 2
    assert done.output.count("data.train: garage: no such file") == 1


@pytest.mark.parametrize(("rank", "slept"), [("0", []), ("1", [ending.LEADER_SPEAKS_FIRST_S])])
def test_a_nodes_leader_speaks_first(world, capsys, monkeypatch, rank, slept):
    """The others say the same only if the launcher has not ended them by then: the fault is theirs alone."""
    waits = []
    monkeypatch.setenv("LOCAL_RANK", rank)
    monkeypatch.setattr(ending.time, "sleep", waits.append)
    code, status, output = world.train(capsys, "train.max_steps=0")
    assert (code, status["code"], waits) == (2, 2, slept)
    assert "train.max_steps" in output
