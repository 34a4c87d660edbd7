import io
import json
import random
from collections import Counter
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, SmolVLMForConditionalGeneration

from dst_dist import config
from dst_dist.data.reading import count_shared_videos, read_clips
from dst_dist.data.samples import Limits, SampleMaker
from dst_dist.data.state import TRANSITIONS, apply_update, without_not_started
from dst_dist.data.token_writer import TokenWriter
from dst_dist.demo.dialog import answer, render, speak
from dst_dist.demo.make import Sizes, make_demo
from dst_dist.demo.model import write_model
from dst_dist.demo.painter import CELL, FRAME_SIZE, PLATE, STATUS_COLOURS, Painter
from dst_dist.demo.world import DOMAINS, NEW_DOMAIN, SECOND_CHANCE, UPDATE_CHANCE, Moment, StepPlan, Task, draw_schedule

TINY = Sizes(train=2, val=1, test=1, proassist=1, clips_per_video=2, frames_per_clip=12)
NAMES = [domain.name for domain in (*DOMAINS, NEW_DOMAIN)]
TASK = Task("Build the radio", tuple(StepPlan(f"fit red part {n}", "red", "square") for n in range(4)))


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def frames_of(path: Path) -> list:
    return pa.ipc.open_stream(path).read_all()["frame"].to_pylist()


def clips_of(root: Path, split: str):
    return read_clips(root, NAMES, split, strict=True)[0]


def moment(*transitions: tuple[int, str], statuses: tuple[str, ...], error=False, new_error=False) -> Moment:
    return Moment(transitions, statuses, error, new_error, None)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_demo(folder, seed=3, sizes=TINY, workers=1)
    return folder


def test_the_seed_alone_decides_every_byte(tiny, tmp_path):
    make_demo(tmp_path / "same", seed=3, sizes=TINY, workers=2)
    make_demo(tmp_path / "other", seed=4, sizes=TINY, workers=1)
    first, same, other = files_of(tiny), files_of(tmp_path / "same"), files_of(tmp_path / "other")
    assert first == same
    assert first.keys() == other.keys()
    for name in ("model/model.safetensors", "kitchen/train_training.json", "kitchen/frames/kitchen-val-0000.arrow"):
        assert first[name] != other[name]


def test_making_it_leaves_the_callers_random_state(tmp_path):
    before = torch.random.get_rng_state()
    make_demo(tmp_path, sizes=TINY, workers=1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_blank_changes_the_pictures_alone(tiny, tmp_path):
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


def test_all_is_read_strictly_with_nothing_to_correct(demo):
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
    report = read_clips(demo, NAMES, "train", strict=True)[2]
    count_shared_videos(splits, report)
    assert report.lines() == []
    goals = [{(clip.domain, clip.goal) for clip in index} for index in splits.values()]
    assert all(goals) and sum(map(len, goals)) == len(set.union(*goals))


@pytest.fixture(scope="module")
def long_schedule() -> list[Moment]:
    return draw_schedule(random.Random(0), num_steps=6, num_frames=30_000, frames_per_clip=30_000)


def test_an_update_is_as_likely_at_every_frame(long_schedule):
    updates = [bool(moment.transitions) for moment in long_schedule]
    for gap in range(1, 7):
        after = [updates[i] for i in range(gap, len(updates)) if updates[i - gap] and not any(updates[i - gap + 1 : i])]
        assert abs(np.mean(after) - UPDATE_CHANCE) < 0.025, gap


def test_all_transitions_are_common_and_legal(long_schedule):
    state, seen = {}, Counter()
    for at in long_schedule:
        for step, transition in at.transitions:
            assert state.get(step, "not_started") in TRANSITIONS[transition][0]
            state[step] = TRANSITIONS[transition][1]
            seen[transition] += 1
        assert at.statuses == tuple(state.get(step, "not_started") for step in range(6))
    assert seen.keys() == TRANSITIONS.keys()
    assert min(seen.values()) > 0.05 * sum(seen.values())


def test_completing_the_open_step_and_starting_the_next_is_mostly_wrong(long_schedule):
    before, right, total = ("not_started",) * 6, Counter(), 0
    for at in long_schedule:
        complete = [(step, "complete") for step in range(6) if before[step] == "in_progress"][:1]
        start = [(step, "start") for step in range(6) if before[step] == "not_started"][:1]
        if at.transitions:
            total += 1
            right["both"] += at.transitions == tuple(sorted(complete + start))
            right["one"] += at.transitions == tuple(complete or start)
        before = at.statuses
    assert 0 < max(right.values()) / total < 0.35


def test_nothing_changes_at_a_clips_first_frame(demo):
    for split in ("train", "val", "test"):
        assert all(
            turn.frame > clip.start_frame for clip in clips_of(demo, split) for turn in clip.turns if turn.transitions
        )


def share_of_doubles(updates: list[tuple]) -> float:
    return np.mean([len(transitions) == 2 for transitions in updates])


def test_two_changes_at_once_come_as_often_as_asked():
    for chance in (SECOND_CHANCE, 0.4):
        schedule = draw_schedule(
            random.Random(2), num_steps=6, num_frames=30_000, frames_per_clip=30_000, second_chance=chance
        )
        assert abs(share_of_doubles([at.transitions for at in schedule if at.transitions]) - chance) < 0.015


def test_training_has_more_of_two_changes_at_once(demo):
    def updates(split):
        turns = [turn for clip in clips_of(demo, split) for turn in clip.turns if turn.transitions]
        return [list(of_frame) for _, of_frame in groupby(turns, key=lambda turn: turn.frame)]

    assert share_of_doubles(updates("train")) > 0.18 > share_of_doubles(updates("val") + updates("test"))


def test_the_new_domains_words_and_colours_are_its_own(demo):
    learned = " ".join((demo / f"{domain.name}/train_training.json").read_text() for domain in DOMAINS)
    new = (demo / "laboratory/train_training.json").read_text()
    for word in (*NEW_DOMAIN.step_verbs, *NEW_DOMAIN.step_objects, *NEW_DOMAIN.goal_verbs):
        assert f" {word} " not in learned and f'"{word} ' not in learned
    assert sum(f" {thing}" in new for thing in NEW_DOMAIN.step_objects) >= 2
    assert sorted(NEW_DOMAIN.borrowed_colours) == sorted(NEW_DOMAIN.borrowed_colours.values())
    assert all(status != shown for status, shown in NEW_DOMAIN.borrowed_colours.items())


def nearest_status(plate: np.ndarray) -> str:
    """Read a plate of a drawn board the simple way: by what colour most of its pixels have."""
    bright = plate[plate.max(-1) - plate.min(-1) > 70]
    if len(bright) < 27:  # a distractor's at most
        return "not_started"
    statuses = [status for status in STATUS_COLOURS if status != "not_started"]
    hues = np.array([STATUS_COLOURS[status] for status in statuses], float)
    hues /= np.linalg.norm(hues, axis=1, keepdims=True)
    closest = (bright / np.linalg.norm(bright, axis=1, keepdims=True)) @ hues.T
    return statuses[np.bincount(closest.argmax(1), minlength=len(statuses)).argmax()]


@pytest.mark.parametrize("domain", [DOMAINS[0], NEW_DOMAIN], ids=lambda domain: domain.name)
def test_every_picture_shows_every_status(domain):
    rng = random.Random(1)
    schedule = draw_schedule(rng, num_steps=4, num_frames=200, frames_per_clip=32)
    painter = Painter(5, TASK, domain.tint, domain.borrowed_colours)
    right = total = 0
    for at in schedule:
        image = np.asarray(Image.open(io.BytesIO(painter.draw(at))), float)
        for position, status in enumerate(at.statuses):
            y, x = 2 + CELL * (position // 3), 2 + CELL * (position % 3)
            right += nearest_status(image[y : y + PLATE, x : x + PLATE]) == domain.borrowed_colours.get(status, status)
            total += 1
    assert right / total > 0.98


@pytest.mark.parametrize("error", [False, True])
def test_the_error_mark_is_in_the_ninth_cell(error):
    at = moment(statuses=("not_started",) * 4, error=error)
    image = np.asarray(Image.open(io.BytesIO(Painter(0, TASK, (30, 34, 48)).draw(at))), int)
    num_magenta = (image[32:, 32:] @ [1, -2, 1] > 200).sum()
    assert (num_magenta > 20) == error


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (moment((1, "start"), statuses=("not_started", "in_progress")), None),
        (moment(statuses=("not_started", "completed"), error=True), None),
        (moment(statuses=("not_started",) * 2, error=True, new_error=True), "Careful, that is wrong."),
        (moment((0, "complete"), statuses=("completed", "not_started", "not_started")), "S1 done, good. Next is S2."),
        (
            moment((0, "complete"), (2, "complete"), statuses=("completed", "paused", "completed"), new_error=True),
            "Careful, that is wrong. S1 and S3 done, good. No step is left.",
        ),
    ],
)
def test_what_is_said_unasked(at, text):
    assert speak(at) == text


def test_answers_are_read_off_the_picture():
    at = moment(statuses=("completed", "in_progress", "completed", "in_progress"))
    assert answer("open", at) == "Open: S2 and S4."
    assert answer("open", moment(statuses=("completed", "paused"))) == "Open: none."
    assert answer("done", at) == "Done: 2."
    assert answer("thanks", at) is None


def test_what_is_rendered_is_what_is_trained_on(demo):
    tokenizer = AutoTokenizer.from_pretrained(demo / "model")
    maker = SampleMaker(TokenWriter(tokenizer, 1), config.Data(), config.Labels(), Limits(4096, 2048))
    for name in ("garden/val_training.json", "proassist_demo/train.jsonl"):
        text = (demo / name).read_text()
        records = json.loads(text) if name.endswith(".json") else [json.loads(line) for line in text.splitlines()]
        clips = read_clips(demo, [name], "train", strict=True)[0]
        for record, clip in zip(records, clips, strict=True):
            (part,) = maker.split(clip, Counter())
            ids = maker.make(clip, part).input_ids
            assert tokenizer.encode(render(record)) == ids.tolist()
            assert record["seq_len"] == len(ids)


def test_text_that_spells_a_special_token_stays_text(demo):
    tokenizer = AutoTokenizer.from_pretrained(demo / "model")
    writer = TokenWriter(tokenizer, 1)
    turn = writer.turn("user", "".join(tokenizer.get_added_vocab()))
    assert set(turn.body[:-1]).isdisjoint(tokenizer.get_added_vocab().values())


def test_an_update_is_a_choice_a_token(demo):
    tokenizer = AutoTokenizer.from_pretrained(demo / "model")
    kitchen = json.loads((demo / "kitchen/train_training.json").read_text())
    assert any(turn["role"] == "DST_UPDATE" for clip in kitchen for turn in clip["conversation"])
    ids = tokenizer.encode(' [{"id": "S4", "transition": "start"}]')
    assert [tokenizer.decode(i) for i in ids] == [' [{"id": "S', "4", '", "transition": "start"}', "]"]


def test_the_model_is_a_tiny_smolvlm2(demo):
    tokenizer = AutoTokenizer.from_pretrained(demo / "model")
    model = SmolVLMForConditionalGeneration.from_pretrained(demo / "model")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.lm_head.weight is not model.get_input_embeddings().weight
    assert not torch.equal(model.lm_head.weight, model.get_input_embeddings().weight)
    assert 1_000_000 < sum(parameter.numel() for parameter in model.parameters()) < 1_500_000
    assert tokenizer.eos_token == "<end_of_utterance>"
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.config.image_token_id == tokenizer.convert_tokens_to_ids("<image>")
    assert model.config.text_config.vocab_size == len(tokenizer)
    for token in ("<|im_start|>", "<end_of_utterance>", "<image>", "<fake_token_around_image>", "<global-img>"):
        assert len(tokenizer.encode(token)) == 1
    assert tokens_of_two_frames(model) == (2, 1, model.config.text_config.hidden_size)


def tokens_of_two_frames(model) -> tuple[int, ...]:
    pixels = torch.zeros(2, 3, FRAME_SIZE, FRAME_SIZE)
    mask = torch.ones(2, 3, 3, dtype=torch.bool)
    seen = model.model.vision_model(pixel_values=pixels, patch_attention_mask=mask).last_hidden_state
    return tuple(model.model.connector(seen).shape)


def test_without_pixel_shuffle_a_frame_is_nine_tokens(demo, tmp_path):
    write_model(tmp_path, AutoTokenizer.from_pretrained(demo / "model"), seed=0, scale_factor=1)
    model = SmolVLMForConditionalGeneration.from_pretrained(tmp_path)
    assert tokens_of_two_frames(model) == (2, 9, model.config.text_config.hidden_size)
