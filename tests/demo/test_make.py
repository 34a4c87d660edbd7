"""The demo on disk: files, splits, what follows from the seed."""

import io
import signal
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dst_dist.data.reading import read_clips, shared_videos
from dst_dist.data.state import apply_update, without_not_started
from dst_dist.demo.make import Sizes, make_demo
from dst_dist.demo.painter import FRAME_SIZE
from dst_dist.demo.world import DOMAINS, NEW_DOMAIN, OBJECTS
from tests.demo.reading import NAMES, clips_of, frames_of

TINY = Sizes(train=2, val=1, test=1, proassist=1, clips_per_video=2, frames_per_clip=12)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


SHORT = Sizes(train=12, val=2, test=2, proassist=1, clips_per_video=1, frames_per_clip=6)


@pytest.fixture(scope="module")
def objects(tmp_path_factory) -> Path:
    """The world of objects: more tasks than in `tiny`, of fewer frames."""
    folder = tmp_path_factory.mktemp("objects")
    make_demo(folder, seed=3, sizes=SHORT, workers=1, world=OBJECTS)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_demo(folder, seed=3, sizes=TINY, workers=1)
    return folder


def test_workers_draw_the_same_where_sigterm_is_heard(tiny, tmp_path):
    """A training hears SIGTERM; its forks must end all the same."""
    signal.signal(signal.SIGTERM, lambda *_: None)
    make_demo(tmp_path, seed=3, sizes=TINY, workers=2)
    assert files_of(tmp_path) == files_of(tiny)


def test_the_seed_alone_decides_every_byte(tiny, tmp_path):
    make_demo(tmp_path / "same", seed=3, sizes=TINY, workers=2)
    make_demo(tmp_path / "other", seed=4, sizes=TINY, workers=1)
    first, same, other = files_of(tiny), files_of(tmp_path / "same"), files_of(tmp_path / "other")
    assert first == same
    assert first.keys() == other.keys()
    for name in ("model/model.safetensors", "kitchen/train_training.json", "kitchen/frames/kitchen-val-0000.arrow"):
        assert first[name] != other[name]


def test_the_seed_alone_decides_every_byte_of_the_world_of_objects(objects, tmp_path):
    make_demo(tmp_path, seed=3, sizes=SHORT, workers=2, world=OBJECTS)
    assert files_of(objects) == files_of(tmp_path)


def test_the_world_of_objects_is_read_without_corrections_and_its_tasks_are_new(objects):
    _, _, report = read_clips(objects, [*NAMES, "proassist_demo/train.jsonl"], "train", strict=True)
    assert report.lines() == []
    tasks = {
        split: {frozenset(step.name for step in clip.steps) for clip in clips_of(objects, split)}
        for split in ("train", "val", "test")
    }
    assert sum(map(len, tasks.values())) == len(set.union(*tasks.values())) >= 30
    for steps in set.union(*tasks.values()):
        # "fit red wheel": no other step of the task has this colour and thing.
        assert len({name.split(" ", 1)[1] for name in steps}) == len(steps)


def test_the_callers_random_state_is_left_as_it_was(tmp_path):
    before = torch.random.get_rng_state()
    make_demo(tmp_path, sizes=TINY, workers=1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_blank_changes_only_the_pictures(tiny, tmp_path):
    make_demo(tmp_path, seed=3, blank=True, sizes=TINY, workers=1)
    seen, blank = files_of(tiny), files_of(tmp_path)
    assert seen.keys() == blank.keys()
    assert {name for name in seen if seen[name] != blank[name]} == {name for name in seen if name.endswith(".arrow")}
    for name in seen:
        if name.endswith(".arrow"):
            grey = frames_of(tmp_path / name)
            assert len(grey) == len(frames_of(tiny / name)) == 24 and len(set(grey)) == 1
    pixels = np.asarray(Image.open(io.BytesIO(frames_of(tmp_path / "garden/frames/garden-val-0000.arrow")[0])))
    assert pixels.shape == (FRAME_SIZE, FRAME_SIZE, 3) and (pixels == 127).all()


def test_everything_is_read_strictly_without_corrections(demo):
    names = [*NAMES, "proassist_demo/train.jsonl"]
    index, _, report = read_clips(demo, names, "train", strict=True)
    assert report.lines() == []
    # Three domains of 3 videos, the new one of 1, 2 ProAssist videos; 3 clips each.
    assert len(index) == (3 * 3 + 1 + 2) * 3
    spoken_only = [clip for clip in index if not clip.has_dst]
    assert len(spoken_only) == 6 and {clip.dataset for clip in spoken_only} == {"proassist_demo"}
    assert all({turn.role for turn in clip.turns} <= {"user", "assistant"} for clip in spoken_only)
    assert isinstance(frames_of(Path(spoken_only[0].frames_path))[0], str)
    assert isinstance(frames_of(Path(index[0].frames_path))[0], bytes)


def test_the_state_is_carried_from_clip_to_clip(demo):
    reached: dict[str, dict] = {}
    carried = 0
    for clip in clips_of(demo, "train"):
        assert 4 <= len(clip.steps) <= 8
        state = without_not_started(clip.initial_state)
        assert state == without_not_started(reached.get(clip.video, {}))
        carried += bool(state)
        for turn in clip.turns:
            state, illegal = apply_update(state, turn.transitions)
            assert illegal == 0
        reached[clip.video] = state
    assert carried >= 12


def test_splits_share_no_video_and_no_goal(demo):
    splits = {split: clips_of(demo, split) for split in ("train", "val", "test")}
    assert read_clips(demo, NAMES, "train", strict=True)[2].lines() == shared_videos(splits) == []
    goals = [{(clip.domain, clip.goal) for clip in index} for index in splits.values()]
    assert all(goals) and sum(map(len, goals)) == len(set.union(*goals))


def test_nothing_changes_at_a_clips_first_frame(demo):
    for split in ("train", "val", "test"):
        assert all(
            turn.frame > clip.start_frame for clip in clips_of(demo, split) for turn in clip.turns if turn.transitions
        )


def share_of_doubles(updates: list[tuple]) -> float:
    return np.mean([len(transitions) == 2 for transitions in updates])


def test_training_has_more_of_two_changes_at_once(demo):
    def updates(split):
        turns = [turn for clip in clips_of(demo, split) for turn in clip.turns if turn.transitions]
        return [list(of_frame) for _, of_frame in groupby(turns, key=lambda turn: turn.frame)]

    assert share_of_doubles(updates("train")) > 0.18 > share_of_doubles(updates("val") + updates("test"))


def test_the_new_domain_has_words_and_colours_of_its_own(demo):
    learned = " ".join((demo / f"{domain.name}/train_training.json").read_text() for domain in DOMAINS)
    new = (demo / "laboratory/train_training.json").read_text()
    for word in (*NEW_DOMAIN.step_verbs, *NEW_DOMAIN.step_objects, *NEW_DOMAIN.goal_verbs):
        assert f" {word} " not in learned and f'"{word} ' not in learned
    assert sum(f" {thing}" in new for thing in NEW_DOMAIN.step_objects) >= 2
    assert sorted(NEW_DOMAIN.borrowed_colours) == sorted(NEW_DOMAIN.borrowed_colours.values())
    assert all(status != shown for status, shown in NEW_DOMAIN.borrowed_colours.items())
