"""Every tracker has one run with one value a step, also when training was cut and steps were undone."""

import json
from types import SimpleNamespace

import accelerate.accelerator
import accelerate.tracking
import pytest
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import LoggerType, ProjectConfiguration
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dst_dist.recipes.loading import load_recipe
from dst_dist.run_folder import RunFolder
from dst_dist.train.trackers import Trackers
from tests.train.in_process import train
from tests.train.killing import Faults, installed
from tests.train.runs import curve, cut_words

OTHERS = ("wandb", "mlflow", "comet_ml", "trackio")


class Crash(RuntimeError):
    """Ends a training."""


def crash():
    raise Crash


def values_of(tag, folder):
    events = EventAccumulator(str(folder / "tensorboard/dst_dist"), size_guidance={"scalars": 0})
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_tensorboard_has_each_step_once_and_the_later_values(demo_words, tmp_path):
    """Cut after step 3 and its evaluation were logged and before they were saved; continued at another rate."""
    folder = tmp_path / "run"
    words = cut_words(demo_words, "lora", "eval.every_steps=1", "eval.max_clips=1", "train.max_frames=64")
    words += ["train.max_steps=4", "log.every_steps=1", "log.report_to=[tensorboard]", f"output_dir={folder}"]
    with installed(Faults(crash, "before state", 3)):
        assert train([*words, "checkpoint.background=false"]) == 1
    assert train([*words, "optim.learning_rate=1e-3", "--allow-changed", "optim.learning_rate"]) == 0
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["split"] == "train"] == [1, 2, 3, 3, 4]
    for split, prefix in (("train", ""), ("val", "val/")):
        expected = {step: line["loss"] for (of, step), line in curve(folder).items() if of == split}
        found = values_of(f"{prefix}loss", folder)
        assert [step for step, _ in found] == sorted(expected) == [1, 2, 3, 4]
        assert [value for _, value in found] == pytest.approx(list(expected.values()))
    assert not (folder / "trackers.json").exists()
    assert "the learning rate jumps: step 2 was trained with 2.00e-03" in (folder / "train.log").read_text()


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """A list of what trackers are told, in place of the real ones: (tracker, kind of call, what)."""
    calls = []

    class Tracked:
        def __init__(self, name):
            self.name = name
            self.info = type("Info", (), {"run_id": "mlflow's own"})

        def set_name(self, name):
            calls.append((self.name, "name", name))

    def tracker(kind):
        class Tracker(accelerate.tracking.GeneralTracker):
            name, requires_logging_directory = kind, False

            def __init__(self, project, /, **settings):
                super().__init__(_blank=True)
                calls.append((kind, "open", {"project": project, **settings}))

            tracker = property(lambda self: Tracked(kind))

            def store_init_configuration(self, values):
                calls.append((kind, "recipe", values))

            def log(self, values, step):
                calls.append((kind, "log", (step, values)))

        return Tracker

    packages = tmp_path / "packages"
    for name in OTHERS:
        (packages / name).mkdir(parents=True)
        (packages / name / "__init__.py").touch()
        monkeypatch.setitem(accelerate.accelerator.LOGGER_TYPE_TO_CLASS, name, tracker(name))
    monkeypatch.syspath_prepend(str(packages))
    available = [*accelerate.tracking._available_trackers, *map(LoggerType, OTHERS)]
    monkeypatch.setattr(accelerate.tracking, "_available_trackers", available)
    return calls


class Start:
    """A start of a run that logs steps, each with an evaluation, as a training does: first the line, then trackers."""

    def __init__(self, folder, trackers, start_step, steps):
        folder.mkdir(exist_ok=True)
        project = ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder / "tensorboard"))
        try:
            engine = SimpleNamespace(is_main=True, accelerator=Accelerator(log_with=trackers, project_config=project))
            recipe = load_recipe(["demo", f"output_dir={folder}", f"log.report_to=[{', '.join(trackers)}]"])
            shown = Trackers(engine, RunFolder(folder), recipe, start_step)
            for step in steps:
                for split in ("train", "val"):
                    with open(folder / "metrics.jsonl", "a") as file:
                        file.write(json.dumps({"step": step, "split": split}) + "\n")
                    shown.log(step, split, {"loss": float(step)})
            engine.accelerator.end_training()
        finally:
            AcceleratorState._reset_state(reset_partial_state=True)


CUTS = {
    "in the middle": ([1, 2, 3], 2, [3, 4, 5]),
    "before the first checkpoint": ([1, 2, 3], 0, [1, 2, 3, 4, 5]),
    "at a checkpoint": ([1, 2, 3], 3, [4, 5]),
    "again at the same place": ([1, 2, 3], 1, [2, 3, 4, 5]),
}


@pytest.mark.parametrize("before, start_step, after", CUTS.values(), ids=CUTS)
def test_wherever_training_is_cut_tensorboard_has_each_step_once(tmp_path, before, start_step, after):
    Start(tmp_path, ["tensorboard"], 0, before)
    Start(tmp_path, ["tensorboard"], start_step, after)
    for tag in ("loss", "val/loss"):
        assert values_of(tag, tmp_path) == [(step, step) for step in range(1, 6)]


@pytest.mark.parametrize("before, start_step, after", CUTS.values(), ids=CUTS)
def test_wherever_training_is_cut_the_others_go_on_in_one_run(tmp_path, shown, before, start_step, after):
    folder = tmp_path / "my run"
    Start(folder, OTHERS, 0, before)
    Start(folder, OTHERS, start_step, after)
    key = json.loads((folder / "trackers.json").read_text())["id"]
    for name in OTHERS:
        told = [(kind, what) for of, kind, what in shown if of == name]
        (first, second), recipes = ([what for kind, what in told if kind == asked] for asked in ("open", "recipe"))
        assert len(recipes) == (2 if name == "trackio" else 1), "trackio empties it when the run goes on"
        assert all(recipe["finetune.mode"] == "full" for recipe in recipes) and first["project"] == "dst_dist"
        logged = [what for kind, what in told if kind == "log"]
        assert logged == [(step, {tag: step}) for step in range(1, 6) for tag in ("loss", "val/loss")]
        if name == "mlflow":
            assert (first["run_id"], second["run_id"]) == (None, "mlflow's own") and first["run_name"] == "my run"
        else:
            assert first == second, "the same name or key"
    opened = {of: what for of, kind, what in shown if kind == "open"}
    assert opened["wandb"]["name"] == "my run" and opened["wandb"]["id"] == opened["comet_ml"]["experiment_key"] == key
    assert opened["trackio"]["name"] == f"my run-{key[:8]}" and len(key) == 32
    assert ("comet_ml", "name", "my run") in shown


def test_two_runs_are_two_tracked_runs(tmp_path, shown):
    for name in ("a", "b"):
        Start(tmp_path / name, ["wandb"], 0, [1])
    first, second = (what["id"] for _, kind, what in shown if kind == "open")
    assert first != second


def test_a_tracker_that_is_added_later_gets_the_recipe_too(tmp_path, shown):
    Start(tmp_path, ["wandb"], 0, [1])
    Start(tmp_path, ["wandb", "mlflow"], 1, [2])
    assert [of for of, kind, _ in shown if kind == "recipe"] == ["wandb", "mlflow"]
