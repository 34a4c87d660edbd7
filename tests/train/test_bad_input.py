"""Bad input of every kind ends in code 2 with a clear message, before any process group or weight."""

import json
import os
import shutil

import pytest

from dst_dist import exit as ending
from dst_dist.train import __main__ as program
from tests.data.bad_data import LINES
from tests.data.formats.test_schema import SHAPE
from tests.data.formats.test_schema_meaning import MEANING
from tests.data.handmade import make_root, prospect_clip, spoken, write_prospect
from tests.data.test_frames_check_faults import FRAME_FILES
from tests.data.test_frames_finder_faults import PATHS
from tests.launching import launch
from tests.train.bad_models import MODELS, cut_off, few_positions, model
from tests.train.bad_recipes import RECIPES, words

CLIPS = {**SHAPE, **MEANING, **PATHS, **FRAME_FILES}
"""The data's own tables of faults."""


def data(case):
    """Return a case of the data's own table, in which the hand-made data root is changed."""
    return lambda world: CLIPS[case][0](world.root) and ()


def longer_than_fits(world):
    """Write two clips with a turn that does not fit and one without."""
    long = prospect_clip(conversation=[spoken("user", "word " * 300, 2, 4)])
    write_prospect(world.root, [long, {**prospect_clip(), "clip_idx": 1}, {**long, "clip_idx": 2}])
    return ["data.max_seq_len=200"]


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

DATA = {f"data: {case}": (data(case), expected) for case, (_, expected) in CLIPS.items()}

CASES = {**RECIPES, **MODELS, **FITTING, **DATA}


class World:
    """The folders of a recipe without faults."""

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
        """Return the exit code, the content of status.json and the output."""
        status = self.folder / "status.json"
        code = program.main([*self.words(*extra), "--status-file", str(status)])
        printed = capsys.readouterr()
        return code, json.loads(status.read_text()), printed.out + printed.err


class Reached(Exception):
    """The training has passed its checks."""


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


def test_layers_that_cannot_be_compiled_are_refused(world, capsys, monkeypatch):
    monkeypatch.setattr("dst_dist.model.compiling.shutil.which", lambda name: None)
    code, status, _ = world.train(capsys, "train.compile=true")
    assert code == 2 and "train.compile: there is no compiler" in status["reason"]
    assert world.train(capsys, "train.compile=auto")[0] == 1


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
def test_without_a_launcher_it_exits_2(starter, world, extra, expected):
    done = starter.run(None, world.words(*extra), world.run, num_processes=1)
    assert done.returncode == 2
    assert done.status["code"] == 2
    assert expected in done.output
    assert "Traceback" not in done.output


def test_without_a_recipe_the_error_names_the_packaged_ones(world, capsys):
    assert program.main(["--status-file", str(world.folder / "status.json")]) == 2
    assert "name a recipe: 2.2B-full, " in capsys.readouterr().err


def test_under_the_launcher_the_status_has_2_and_the_error_is_printed_once(world):
    done = launch("cpu_ddp", world.words("data.train=[garage]"), world.run)
    assert done.returncode == 1
    assert done.status["code"] == 2
    assert done.output.count("data.train: garage: no such file") == 1


@pytest.mark.parametrize(("rank", "slept"), [("0", []), ("1", [ending.LEADER_SPEAKS_FIRST_S])])
def test_a_nodes_leader_prints_first(world, capsys, monkeypatch, rank, slept):
    """The others print only if the launcher has not ended them by then: then the fault is on their side alone."""
    waits = []
    monkeypatch.setenv("LOCAL_RANK", rank)
    monkeypatch.setattr(ending.time, "sleep", waits.append)
    code, status, output = world.train(capsys, "train.max_steps=0")
    assert (code, status["code"], waits) == (2, 2, slept)
    assert "train.max_steps" in output
