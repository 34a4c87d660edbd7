"""Another recipe in the folder of a finished run: resumed only with `--allow-changed`, otherwise moved aside."""

import json
import shutil

import pytest

from dst_dist.recipes.loading import load_recipe
from dst_dist.run_folder import RunFolder
from dst_dist.train.held_folder import check_start_model
from tests.train.in_process import train
from tests.train.killing import AT_WORK, Faults, installed
from tests.train.runs import assert_same_run, curve, cut_words, final_weights, same, status_of

ALLOWED = ("--allow-changed", "train.max_steps")


@pytest.fixture(scope="module")
def words(demo_words):
    """A recipe whose learning rates do not depend on the number of steps."""
    return cut_words(demo_words, "lora", "data.val=[]", "optim.schedule=constant", "optim.warmup_steps=0")


@pytest.fixture(scope="module")
def longer(words, tmp_path_factory):
    """5 steps without a stop."""
    folder = tmp_path_factory.mktemp("longer") / "run"
    assert train([*words, "train.max_steps=5", f"output_dir={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def shorter(words, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shorter") / "run"
    assert train([*words, "train.max_steps=3", f"output_dir={folder}"]) == 0
    return folder


@pytest.fixture
def folder(shorter, tmp_path):
    """3 steps, finished."""
    return shutil.copytree(shorter, tmp_path / "run", symlinks=True)


def words_of(words, folder, *extra):
    return [*words, "train.max_steps=5", f"output_dir={folder}", *extra]


def is_finished(words, folder, *extra):
    run = RunFolder(folder)
    return run.is_over and run.has_recipe(load_recipe(words_of(words, folder, *extra)).model_dump(mode="json"))


def test_a_finished_run_goes_on_where_the_change_is_allowed(words, longer, folder):
    assert train(words_of(words, folder, *ALLOWED)) == 0
    assert_same_run(folder, longer)
    assert [path.name for path in folder.parent.iterdir()] == ["run"]
    assert is_finished(words, folder)
    assert {path.name for path in folder.iterdir()} == {path.name for path in longer.iterdir()}


def test_it_may_be_stopped_and_resumed(words, longer, folder):
    """The earlier final model stays until the new one is complete, and is never mistaken for it."""
    before = final_weights(folder)
    with installed(Faults(lambda: (folder / "STOP").touch(), AT_WORK, 2)):
        assert train(words_of(words, folder, *ALLOWED)) == 85
    assert status_of(folder)["step"] == 4
    assert same(final_weights(folder), before) and not is_finished(words, folder)
    # The checkpoints are of the new recipe now: nothing is left to allow.
    assert train(words_of(words, folder)) == 0
    assert_same_run(folder, longer)


@pytest.mark.parametrize("point", ["before the earlier goes", "before the new comes"])
def test_cut_while_the_final_model_is_replaced(words, longer, folder, monkeypatch, point):
    intact = type(folder).rename

    def rename(self, target):
        if (self.name, point) in (("final", "before the earlier goes"), (".final", "before the new comes")):
            raise KeyboardInterrupt
        return intact(self, target)

    before = final_weights(folder)
    monkeypatch.setattr(type(folder), "rename", rename)
    assert train(words_of(words, folder, *ALLOWED)) == 1
    monkeypatch.setattr(type(folder), "rename", intact)
    assert not is_finished(words, folder)
    assert not (folder / "final").exists() or same(final_weights(folder), before)
    assert train(words_of(words, folder, *ALLOWED)) == 0
    assert_same_run(folder, longer)
    assert {path.name for path in folder.iterdir()} == {path.name for path in longer.iterdir()}


def test_free_keys_may_change_with_it(words, longer, folder):
    assert train(words_of(words, folder, *ALLOWED, "eval.every_steps=2", "checkpoint.every_steps=2")) == 0
    assert curve(folder) == curve(longer)


@pytest.mark.parametrize(
    "extra, says",
    [(["optim.weight_decay=0.5", *ALLOWED], "weight_decay"), (["--allow-changed", "train.max_step"], "max_steps")],
)
def test_other_differences_are_refused(words, folder, extra, says):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".log"}
    assert train(words_of(words, folder, *extra)) == 2
    assert "add --allow-changed" in status_of(folder)["reason"] and says in status_of(folder)["reason"]
    after = {path: path.read_bytes() for path in before}
    changed = {path.name for path in before if after[path] != before[path]}
    assert changed <= {"status.json", ".lock"} and [path.name for path in folder.parent.iterdir()] == ["run"]
    assert train([*words, "train.max_steps=3", f"output_dir={folder}"]) == 0
    assert status_of(folder) == {"code": 0, "reason": "done", "step": 3}


def test_without_a_checkpoint_it_cannot_go_on(words, folder):
    shutil.rmtree(folder / "checkpoints")
    assert train(words_of(words, folder, *ALLOWED)) == 2
    assert "no checkpoint to go on from" in status_of(folder)["reason"]
    assert (folder / "final").is_dir() and [path.name for path in folder.parent.iterdir()] == ["run"]


def test_without_allow_changed_it_is_moved_aside_with_a_warning(words, folder, capsys):
    assert train(words_of(words, folder)) == 0
    assert "held another run, which is now" in capsys.readouterr().out
    assert json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])["step"] == 1
    assert (folder.with_name("run.earlier-1") / "final").is_dir()


# A run that starts from a model in its own folder


def adapter_on(base, folder):
    """Make an adapter folder that names its base."""
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(base)}))
    return folder


def link_to(place, link):
    link.symlink_to(place)
    return link


INSIDE = {
    "its final": lambda run: run / "final",
    "relative": lambda run: "other/../run/final",
    "itself": lambda run: run,
    "through a link": lambda run: link_to(run, run.parent / "link") / "final",
    "a link in it": lambda run: link_to(run.parent / "other", run / "link"),
    "beyond a link in it": lambda run: link_to(run.parent, run / "link") / "other",
    "an adapter's base": lambda run: adapter_on(run / "final", run.parent / "adapter"),
}


@pytest.mark.parametrize("place", INSIDE)
def test_a_run_does_not_start_from_its_own_folder(words, tmp_path, monkeypatch, capsys, place):
    """It would move its model away, or write over it at its end."""
    monkeypatch.chdir(tmp_path)
    for folder in ("run/final", "other"):
        (tmp_path / folder).mkdir(parents=True)
    model = INSIDE[place](tmp_path / "run")
    for folder in (tmp_path / "run", "run"):
        assert train([*words, f"model.name_or_path={model}", f"output_dir={folder}"]) == 2
        assert "choose another output_dir" in status_of(tmp_path / "run")["reason"]
        assert "lies inside output_dir" in capsys.readouterr().err


@pytest.mark.parametrize("model", ["run-2/final", "run.earlier-1/final", "run/../run-2", "adapter", "hub/name"])
def test_a_run_may_start_from_a_model_outside_its_folder(tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    for folder in ("run-2/final", "run.earlier-1/final", "run/final"):
        (tmp_path / folder).mkdir(parents=True)
    adapter_on("run-2/final", tmp_path / "adapter")
    check_start_model(model, tmp_path / "run")
    # A model of the hub, whatever the folder is called.
    check_start_model("hub/name", tmp_path / "hub")


def test_a_finished_run_is_not_moved_from_under_itself(words, folder):
    before = final_weights(folder)
    own = [*words, f"model.name_or_path={folder}/final", f"output_dir={folder}"]
    for _ in range(2):
        assert train(own) == 2
    assert [path.name for path in folder.parent.iterdir()] == ["run"] and same(final_weights(folder), before)
