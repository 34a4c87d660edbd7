"""Several videos in one batch are what each is alone; and what people are told."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from dst_dist import cli
from dst_dist.data.batching import Draw
from dst_dist.data.clips import Turn
from dst_dist.data.conversation import arrange
from dst_dist.data.frames import open_frames, write_frames
from dst_dist.errors import DataError
from dst_dist.evaluate.open_run import FinishedRun
from dst_dist.evaluate.run import evaluate_run, stream_run
from dst_dist.evaluate.show import _clips_of
from dst_dist.heads import HEAD_NAMES
from dst_dist.model.kv_cache import BLOCK, KVCache
from dst_dist.streaming import watch as watch_module
from dst_dist.streaming.reader import Batch
from dst_dist.streaming.stream import Stream, Streamer
from dst_dist.streaming.watch import _Rows, tell, tell_clip
from tests.streaming.streams import (
    FRAME_NUMBERS,
    NEVER,
    Memory,
    Scripted,
    limits_with,
    maker_like,
    model_with,
    run_of,
    shortened,
    teacher_forced,
    watch_run,
    with_system_turns,
)
from tests.train.in_process import own_logging, train


@pytest.mark.parametrize("tokens_per_frame", [1, 4])
def test_hidden_states_of_a_batch_are_those_of_teacher_forcing(world, monkeypatch, tokens_per_frame):
    """Three rows for six clips of different lengths: rows are begun anew, and moved when no clip is left."""
    data, model = world
    maker = maker_like(data.maker, tokens_per_frame=tokens_per_frame)
    if tokens_per_frame > 1:
        model = model_with(maker.writer.tokenizer, tokens_per_frame)
    streams, read, step, moves = [], {}, [], []

    class Kept(Scripted):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            streams.append(self)

    def record(self, feeds, rows, last_states=Batch._last_states):
        last = last_states(self, feeds, rows)
        pieces = step[-1].split([len(feeds[row].ids) for row in rows])
        read.update({id(feeds[row]): piece for row, piece in zip(rows, pieces, strict=True)})
        return last

    continue_from, move = model.continue_from, KVCache.move
    monkeypatch.setattr(model, "continue_from", lambda *given: step.append(continue_from(*given)) or step[-1])
    monkeypatch.setattr(Batch, "_last_states", record)
    monkeypatch.setattr(watch_module, "Stream", Kept)
    monkeypatch.setattr(KVCache, "move", lambda self, *rows: moves.append(rows) or move(self, *rows))
    clips = [
        shortened(with_system_turns(data.clips.index[index]), length)
        for index, length in enumerate((16, 3, 9, 16, 12, 14))
    ]
    watched = list(watch_run(run_of(model, maker), clips, num_streams=3))
    assert [one.clip for one in watched] == clips and moves
    for stream in streams:
        streamed, forced = (
            torch.cat([read[id(feed)] for feed in stream.feeds]),
            teacher_forced(model, maker, stream.task),
        )
        assert len(streamed) == len(forced) - len(stream._unread)
        torch.testing.assert_close(streamed, forced[: len(streamed)], atol=2e-5, rtol=1e-4)


def written_by(watched):
    return [(one.role, one.frame, one.text, one.transitions, one.num_illegal) for one in watched.events]


@pytest.mark.parametrize("on_full_context", ["carry_state", "drop_middle", "drop_all"])
def test_eight_in_a_batch_write_what_each_writes_alone(world, monkeypatch, on_full_context):
    """Nine clips, contexts that become full, and turns that a model from nothing writes at a third of the frames."""
    data, model = world
    monkeypatch.setattr(watch_module, "Stream", partial(Stream, max_new_tokens=12))
    clips = [shortened(data.clips.index[index], 16 - index) for index in range(9)]
    maker = maker_like(data.maker, limits_with(data.maker, clips[0], 120, 10))
    silent = np.concatenate([one.probabilities for one in watch_run(run_of(model, maker), clips[:3])])
    thresholds = dict(zip(HEAD_NAMES, np.quantile(silent, 0.66, axis=0).tolist(), strict=True))
    run = run_of(model, maker, thresholds, on_full_context)
    alone, together = list(watch_run(run, clips)), list(watch_run(run, clips, 8))
    assert sum(len(one.events) for one in alone) > 20
    assert sum(one.counts[f"contexts that were full: {on_full_context}"] for one in alone) > 5
    for one, other in zip(alone, together, strict=True):
        assert written_by(one) == written_by(other)
        assert one.clip == other.clip and one.states == other.states and one.counts == other.counts
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)
        for event, same in zip(one.events, other.events, strict=True):
            assert event.probability == pytest.approx(same.probability, abs=1e-5)
            assert 0 < same.written_s <= other.frame_s[same.frame - other.clip.start_frame]
        assert other.probabilities.shape == (len(other.states), 2) == (len(other.frame_s), 2)


def test_shares_of_time_add_up_to_the_time_that_passed(world, monkeypatch):
    """A clock that moves by 1 s at every call of the model."""
    data, model = world
    clock = [0.0]
    monkeypatch.setattr(watch_module.time, "perf_counter", lambda: clock[0])
    read = model.continue_from
    monkeypatch.setattr(model, "continue_from", lambda *step: clock.__setitem__(0, clock[0] + 1) or read(*step))
    clips = [replace(shortened(data.clips.index[0], length), turns=()) for length in (2, 5, 3)]
    run = run_of(model, data.maker)
    for num_streams in (1, 2, 3):
        clock[0] = 0.0
        shares = [one.frame_s for one in watch_run(run, clips, num_streams)]
        assert sum(share.sum() for share in shares) == pytest.approx(clock[0])
        if num_streams == 1:
            assert [share.tolist() for share in shares] == [[1.0] * 2, [1.0] * 5, [1.0] * 3]


def test_a_frame_that_is_missing_is_dealt_with_as_the_recipe_says(world, tmp_path):
    data, model = world
    clip = shortened(data.clips.index[0], 4)
    file = open_frames(clip.frames_path)
    write_frames(tmp_path / "broken.arrow", [b"" if row == 2 else file.jpeg(row) for row in range(4)])
    broken = replace(clip, start_frame=0, end_frame=4, frames_path=str(tmp_path / "broken.arrow"), turns=())
    for num_streams in (1, 2):
        (one,) = watch_run(run_of(model, data.maker, on_missing="placeholder"), [broken], num_streams)
        assert one.counts == {watch_module.MISSING: 1}
        with pytest.raises(DataError, match=rf"^{broken.id}: frame 2 of {broken.video} cannot be decoded; mend"):
            list(watch_run(run_of(model, data.maker), [broken], num_streams))


def long_clips(clip, num_frames, path):
    """Two videos, the clip's frames over and over."""
    file = open_frames(clip.frames_path)
    jpegs = [file.jpeg(row) for row in range(clip.start_frame, clip.end_frame)]
    write_frames(path, (jpegs[number % len(jpegs)] for number in range(num_frames)))
    clip = replace(clip, start_frame=0, end_frame=num_frames, frames_path=str(path), turns=())
    return [clip, replace(clip, id="another")]


def growth_of(rows, first, last):
    """Of memory while the first stream goes from one frame to another, and of the objects alive.

    From `last` on it goes on until its context holds as many frames as at first: what a context holds is no growth.
    """
    memory, num_held, stream = None, -1, rows.active[0].stream
    while memory is None or stream.frame_index < last or len(stream._groups) != num_held:
        if memory is None and stream.frame_index >= first:
            memory, num_held = Memory.now(), len(stream._groups)
        rows.step()
    return memory.growth()


@pytest.mark.parametrize("num_frames", FRAME_NUMBERS)
def test_memory_stays_flat_in_a_batch(world, tmp_path, monkeypatch, num_frames):
    """The control shows that one small tensor kept of every frame would be seen."""
    data = world[0]
    clips = long_clips(data.clips.index[0], num_frames, tmp_path / "long.arrow")
    model = model_with(data.maker.writer.tokenizer, 1, image_size=16)
    maker = maker_like(data.maker, limits_with(data.maker, clips[0], 400))
    run = run_of(model, maker, image_size=16)
    rows = _Rows(run.model, run.data, clips, run.thresholds, run.recipe.eval.on_full_context, 2)
    num_objects, mib = growth_of(rows, num_frames // 5, num_frames - maker.limits.tokens)
    assert num_objects < 300 and mib < 3
    assert rows._batch.cache.capacity <= maker.limits.tokens + BLOCK
    kept, see = [], watch_module.Stream.see
    monkeypatch.setattr(watch_module.Stream, "see", lambda self, frame: kept.append(frame) or see(self, frame))
    rows = _Rows(run.model, run.data, clips, run.thresholds, run.recipe.eval.on_full_context, 2)
    num_objects, _ = growth_of(rows, 100, 500)
    assert num_objects > 300


def test_what_people_are_told_comes_as_it_happens(world):
    data, model = world
    clip = shortened(data.clips.index[0], 3)
    said = tuple(
        Turn("user", text, (), frame, frame)
        for text, frame in (("Hello", clip.start_frame + 1), ("Late", clip.start_frame + 9))
    )
    given = []

    def frames():
        for number in range(3):
            given.append(number)
            yield np.zeros((3, 48, 48), np.uint8)

    lines = tell(
        Streamer(model, replace(clip, turns=said), data.maker, {"dst_update": 2.0, "speaking": -1.0}, max_new_tokens=2),
        frames(),
    )
    assert next(lines) == f"{clip.id}: {clip.goal}" and given == []
    assert " assistant: " in next(lines) and given == [0]
    assert " assistant: " in next(lines) and given == [0, 1]
    assert next(lines) == f"  {(clip.start_frame + 1) / clip.fps:8.1f} s  user: Hello"
    assert " assistant: " in next(lines) and given == [0, 1]
    rest = list(lines)
    assert len(rest) == 3 and rest[1].startswith("  state: ") and "; 1 turns behind the video's end" in rest[2]


def test_a_video_without_frames_is_told_of(world):
    data, model = world
    streamer = Streamer(model, data.clips.index[0], data.maker, NEVER)
    assert list(tell(streamer, iter(())))[-1].startswith("  no frames")


def test_a_clips_own_frames_are_told_as_they_are_watched(world, monkeypatch):
    data, model = world
    monkeypatch.setattr(watch_module, "Stream", partial(Stream, max_new_tokens=12))
    clip = shortened(data.clips.index[0], 4)
    thresholds = {"dst_update": 2.0, "speaking": -1.0}
    (watched,) = watch_run(run_of(model, data.maker, thresholds), [clip])
    lines = list(tell_clip(Streamer(model, clip, data.maker, thresholds, max_new_tokens=12), data))
    assert [line.split("assistant: ")[1].rsplit("  [")[0] for line in lines if "assistant: " in line] == [
        e.text for e in watched.events
    ]


def test_a_videos_name_is_whole_and_names_one(world):
    clips = [
        replace(world[0].clips.index[0], id=video, video=video)
        for video in ("a/x/cup.arrow", "b/cup.arrow", "b/teacup.arrow", "b/cup.arrow")
    ]
    assert _clips_of("teacup", clips, "val") == clips[2:3]
    assert _clips_of("b/cup.arrow", clips, "val") == _clips_of("b/cup", clips, "val") == [clips[1], clips[3]]
    with pytest.raises(DataError, match=r"2 videos of data.val are called cup: a/x/cup.arrow, b/cup.arrow; say more"):
        _clips_of("cup", clips, "val")
    with pytest.raises(DataError, match="no clip of a video up in data.val; there are cup, teacup, "):
        _clips_of("up", clips, "val")


def test_the_command_prints_what_a_run_writes_on_a_video(demo, demo_words, tmp_path, capsys):
    with own_logging():
        short = (
            "data.val=[]",
            "data.num_workers=0",
            "log.report_to=[]",
            "train.max_steps=1",
            "train.global_batch_size=2",
        )
        assert train(["demo", *demo_words, *short, f"output_dir={tmp_path}/run"]) == 0
        command = [
            "stream",
            f"{tmp_path}/run",
            "--split",
            "test",
            "--video",
            "kitchen-test-0000",
            "eval.speaking_threshold=1.0",
        ]
        capsys.readouterr()
        assert cli.main([*command, "eval.dst_threshold=1.0"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert sum(line.startswith("kitchen/kitchen-test-0000/") for line in lines) == 3
        assert sum(" user: " in line for line in lines) > 0 and not any(" DST_UPDATE: " in line for line in lines)
        assert sum("ms a frame" in line for line in lines) == 3
        # From outside the data, which then need not be there.
        task = {"goal": "Cook", "steps": ["boil water"], "fps": 4, "user": [{"time_s": 0.5, "text": "Well?"}]}
        (tmp_path / "task.json").write_text(json.dumps(task))
        frames = str(demo / "kitchen/frames/kitchen-test-0000.arrow")
        outside = [
            "stream",
            f"{tmp_path}/run",
            "--video",
            frames,
            "--task",
            f"{tmp_path}/task.json",
            "data.root=nowhere",
        ]
        assert cli.main([*outside, "eval.speaking_threshold=1.0", "eval.dst_threshold=1.0"]) == 0
        lines = capsys.readouterr().out.splitlines()
        said = ["4 frames a second, without a prompt: the task gives none", "task: Cook", "       0.5 s  user: Well?"]
        assert lines[:3] == said and "ms a frame" in lines[-1]
        command[command.index("kitchen-test-0000")] = "nowhere"
        assert cli.main(command) == 2
        assert "no clip of a video nowhere in data.test; there are garden-test-0000" in capsys.readouterr().err


def test_evaluation_of_the_training_split_counts_every_negative(demo_words, tmp_path):
    with own_logging():
        words = (
            "labels.neg_frame_sampling_rate=0.1",
            "train.max_steps=1",
            "train.global_batch_size=2",
            "data.num_workers=0",
        )
        assert train(["demo", *demo_words, *words, "log.report_to=[]", f"output_dir={tmp_path}/run"]) == 0
        result = evaluate_run(tmp_path / "run", "train")
    run = FinishedRun.open(tmp_path / "run", "train")
    counts = run.data.counts([Draw(index, 0) for index in range(len(run.data))], 0)
    groups = [group for clip in run.data.clips.index for group in arrange(clip, "continuous", "last")]
    negatives = sum(d["dst_update"] == 0 for group in groups for d in (group.decision, *group.user_decisions))
    assert result["num_dst_update_negatives"] == counts["dst_update_negatives"] == negatives > 100


def test_the_streams_of_a_split_are_measured(demo_words, tmp_path):
    with own_logging():
        words = (
            "train.max_steps=1",
            "train.global_batch_size=2",
            "data.num_workers=0",
            "data.val=[kitchen]",
            "log.report_to=[]",
        )
        assert train(["demo", *demo_words, *words, f"output_dir={tmp_path}/run"]) == 0
        result = stream_run(tmp_path / "run", "val", ["eval.dst_threshold=1.0", "eval.speaking_threshold=1.0"])
    # A model that never writes is the baseline that never does.
    never = result["baselines"]["never"]
    assert never["transition/recall"] == 0 and 0 < never["joint_goal_accuracy/frames"] < 1
    assert {key: result[key] for key in never} == never
    assert result["num_videos"] == 2 and result["real_time_factor"] > 0
    assert json.loads((tmp_path / "run/evaluation/val-streaming.json").read_text()) == result
