"""Questions that a run folder answers about its run."""

import json

import pytest

from dst_dist.run_folder import RunFolder, recipe_differences


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path)


def test_a_run_is_over_with_its_final_model_until_it_goes_on(run):
    assert not run.is_over
    run.final.mkdir()
    assert run.is_over
    run.goes_on_file.touch()
    assert not run.is_over


def test_only_whole_checkpoints_count(run):
    for name in ("step-00000001.unfinished-ab", "step-00000002.broken-1", "other"):
        (run.checkpoints / name).mkdir(parents=True)
    assert not run.has_checkpoint
    (run.checkpoints / "step-00000003").mkdir()
    assert run.has_checkpoint


def test_free_keys_do_not_make_another_recipe(run):
    recipe = {"seed": 0, "eval": {"every_steps": 5}, "train": {"max_tokens": 10, "max_steps": 3}}
    assert not run.has_recipe(recipe)
    run.config_file.write_text("seed: 0\neval: {every_steps: 9}\ntrain: {max_tokens: 99, max_steps: 3}\n")
    assert run.has_recipe(recipe)
    run.config_file.write_text("seed: 0\neval: {every_steps: 5}\ntrain: {max_tokens: 10, max_steps: 4}\n")
    assert not run.has_recipe(recipe)


def test_differences_name_both_values():
    was = {"seed": 1, "data": {"root": "/a", "train": ["x"]}, "old": True}
    now = {"seed": 1, "data": {"root": "/b", "train": ["y"]}, "evaluate": 2}
    assert recipe_differences(was, now) == {
        "data.train": "data.train was ['x'] and is ['y']",
        # A key of another version; `eval` frees no key that only begins like it.
        "evaluate": "evaluate was None and is 2",
        "old": "old was True and is None",
    }


@pytest.mark.parametrize("content, steps", [('{"step": 3}\n{"step": 4}\n', 4), ("", 0), ('{"step": 4}\n{"st', 4)])
def test_steps_done(run, content, steps):
    assert run.steps_done() == 0
    run.metrics_file.write_text(content)
    assert run.steps_done() == steps


def test_files_of_an_evaluation(run):
    assert run.result_file("test", "streaming") == run.path / "evaluation/test-streaming.json"
    assert run.clips_file("val") == run.path / "evaluation/val-streaming-clips.jsonl"


RESULTS = {
    "of these weights": ({"weights": "ab"}, "ab", True),
    "of others": ({"weights": "ab"}, "cd", False),
    "of a version that did not say": ({}, "cd", False),
    "of a model that does not say either": ({}, None, True),
    "of a model that is gone": ({"weights": "ab"}, None, False),
}


@pytest.mark.parametrize("basis, digest, expected", RESULTS.values(), ids=RESULTS)
def test_a_result_is_of_final_by_its_weights(run, basis, digest, expected):
    if digest is not None:
        run.final.mkdir()
        (run.final / "config.json").write_text(json.dumps({"weights_digest": digest}))
    assert run.has_weights_of(basis) == expected
