"""Frames that are encoded once: the same training, evaluation and streaming as with frames encoded in every step."""

import errno
import shutil
from types import SimpleNamespace

import pytest

from dst_dist import features
from dst_dist.data.features import GREY_FILE, FeatureStore
from dst_dist.errors import ConfigError
from dst_dist.evaluate.run import evaluate_run, stream_run
from dst_dist.recipes.loading import load_recipe
from tests.evaluate.evaluating import assert_close, without_times
from tests.launching import launch
from tests.refusing import refused
from tests.train.finished import LORA, recipe_words
from tests.train.in_process import own_logging, train
from tests.train.runs import curve, final_weights, same

FROZEN = {
    "the tower": ("finetune.mode=full", "finetune.train.vision=false"),
    "tower and connector": (*LORA, "finetune.train.connector=false"),
}


def contents(folder):
    """Return the bytes of every file by its path below the folder, without the digest in its name."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).parts[1:]: path.read_bytes() for path in files}


@pytest.fixture(scope="module", params=FROZEN.values(), ids=FROZEN)
def pair(request, demo_words, tmp_path_factory):
    """Two finished runs of a recipe, with frames and with features, and the folder of features."""
    folder = tmp_path_factory.mktemp("pair")
    words = (*request.param, "data.train=[kitchen]", "data.val=[garden]", "data.test=[]", "eval.every_steps=2")
    for name, more in (("live", ()), ("cached", (f"data.feature_cache={folder}/cache",))):
        assert train(recipe_words(demo_words, folder / name, *words, *more)) == 0
    return folder / "live", folder / "cached", folder / "cache"


def test_losses_metrics_and_weights_are_the_same_to_the_bit(pair):
    live, cached, _ = pair
    assert curve(live) == curve(cached)
    assert same(final_weights(live), final_weights(cached))


def test_evaluation_and_streaming_read_the_same_features(pair, monkeypatch):
    live, cached, folder = pair
    before = contents(folder)
    with own_logging():
        expected = [evaluate_run(live, "val"), stream_run(live, "val")]
        monkeypatch.setattr(FeatureStore, "write", lambda *_: pytest.fail("encoded again"))
        found = [evaluate_run(cached, "val"), stream_run(cached, "val")]
    for ours, theirs in zip(found, expected, strict=True):
        assert_close(without_times(ours), without_times(theirs))
    assert contents(folder) == before


def test_a_measured_delay_has_the_tower_in_it(pair, monkeypatch):
    monkeypatch.setattr(features, "use_features", lambda *_: pytest.fail("features were read"))
    monkeypatch.setattr("dst_dist.evaluate.open_run.use_features", features.use_features)
    with own_logging():
        stream_run(pair[1], "val", ["eval.max_clips=1"], on_the_clock=True)


def words_of(demo_words, folder, *more):
    return recipe_words(demo_words, folder / "run", *FROZEN["the tower"], f"data.feature_cache={folder}/cache", *more)


def test_an_interrupted_encoding_goes_on_to_the_same_bytes(demo_words, tmp_path, monkeypatch):
    words = words_of(demo_words, tmp_path)
    features.make_features(words)
    whole = contents(tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache")
    write, written = FeatureStore.write, []

    def cut(store, path, encode, *rest):
        def encode_some(frames):
            if len(written) == 5:
                raise KeyboardInterrupt
            return encode(frames)

        write(store, path, encode_some, *rest)
        written.append(path)

    monkeypatch.setattr(FeatureStore, "write", cut)
    with pytest.raises(KeyboardInterrupt):
        features.make_features(words)
    partly = contents(tmp_path / "cache")
    assert len(partly) == 6 and partly.items() < whole.items()
    written.clear()
    monkeypatch.setattr(FeatureStore, "write", lambda *given: (written.append(given[1]), write(*given)))
    features.make_features(words)
    assert contents(tmp_path / "cache") == whole and len(written) == len(whole) - 6


OTHERS = {"precision": ("train.precision=bf16",), "a frozen connector": ("finetune.train.connector=false",)}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_another_key_is_another_folder(demo_words, tmp_path, change):
    for words in (words_of(demo_words, tmp_path), words_of(demo_words, tmp_path, *change)):
        features.make_features([*words, "data.train=[kitchen]", "data.val=[]", "data.test=[]"])
    first, second = (tmp_path / "cache").iterdir()
    assert len(list(first.glob("[0-9a-f]*.features"))) == len(list(second.glob("[0-9a-f]*.features"))) > 0


def test_another_tower_or_other_pixels_are_another_key(demo_words, tmp_path, monkeypatch):
    recipe = load_recipe(words_of(demo_words, tmp_path))
    model = features.unwrap(features.load_model(recipe))
    alone = SimpleNamespace(is_main=True, from_main=lambda value: value)

    def folder():
        return features.open_store(recipe, model, alone).folder

    first = folder()
    next(model.model.connector.parameters()).data.add_(1)
    assert folder() == first, "a trained connector is not part of it"
    next(model.model.vision_model.parameters()).data.view(-1)[7].add_(1e-6)
    second = folder()
    monkeypatch.setattr(features, "PIXELS_VERSION", "other pixels")
    assert len({first, second, folder()}) == 3


def test_a_trained_tower_is_refused(demo_words, tmp_path):
    with pytest.raises(ConfigError, match="feature_cache keeps .* a frozen tower .*train.vision trains the tower"):
        load_recipe(words_of(demo_words, tmp_path, "finetune.train.vision=true"))


def test_without_a_folder_there_is_nothing_to_make(demo_words, tmp_path):
    with pytest.raises(ConfigError, match="data.feature_cache is null; name the folder"):
        features.make_features(words_of(demo_words, tmp_path, "data.feature_cache=null"))


def test_a_full_disk_is_said_before_anything_is_written(demo_words, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "free_bytes", lambda folder: 1000)
    with pytest.raises(ConfigError, match=r"data.feature_cache: 0\.\d\d GiB needed, 0.0 GiB free; name a folder with"):
        features.make_features(words_of(demo_words, tmp_path))
    assert contents(tmp_path / "cache") == {}


LACKS = {
    "no room": ("flush file", errno.ENOSPC, "flush a file: No space left"),
    "no renaming over": ("replace", errno.EPERM, "rename a file over another"),
    "no mapping": ("map", errno.ENODEV, "map a file into memory"),
    "read only": ("make folder", errno.EROFS, "Read-only file system"),
}


@pytest.mark.parametrize("call, number, says", LACKS.values(), ids=LACKS)
def test_a_folder_that_cannot_keep_features_is_said_before_a_frame_is_encoded(
    demo_words, tmp_path, monkeypatch, call, number, says
):
    monkeypatch.setattr(FeatureStore, "write", lambda *_: pytest.fail("encoded"))
    with refused(call, number, tmp_path / "cache"), pytest.raises(ConfigError, match=f"data.feature_cache: .*{says}"):
        features.make_features(words_of(demo_words, tmp_path))


def test_a_disk_that_fills_up_while_frames_are_encoded_is_said(demo_words, tmp_path, monkeypatch):
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(FeatureStore, "write", lambda *_: (_ for _ in ()).throw(full))
    with pytest.raises(ConfigError, match="data.feature_cache: .* cannot be written: .*No space left"):
        features.make_features(words_of(demo_words, tmp_path))


@pytest.mark.parametrize("pair", [FROZEN["tower and connector"]], indirect=True, ids=[""])
def test_launched_processes_share_the_videos_and_train_on_their_features(starter, pair, tmp_path):
    """Features by two processes, then FSDP2 on two: nothing is encoded twice, and losses are those of one process."""
    live, _, single = pair
    recipe = [str(live / "config.yaml"), f"data.feature_cache={tmp_path}/cache"]
    made = launch("cpu_ddp", recipe, tmp_path / "made", module=("dst_dist", "features"))
    assert made.returncode == 0, made.output[-3000:]
    assert made.output.count("INFO encoded 240 frames") == 1
    ours, theirs = contents(tmp_path / "cache"), contents(single)
    # A single frame may be rounded in another way in another process.
    assert ours.pop((GREY_FILE,)) and theirs.pop((GREY_FILE,)) and ours == theirs
    trained = starter.run("cpu_fsdp", recipe, tmp_path / "trained").check()
    assert "5 videos are there, 0 videos (0 frames) take 0.00 GiB" in trained.output
    expected = [values["loss"] for (split, _), values in curve(live).items() if split == "train"]
    assert [line["loss"] for line in trained.metrics()] == pytest.approx(expected, rel=1e-5)
