"""`dst-dist stream`: the lines that people see."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch

from dst_dist import cli
from dst_dist.data.clips import Turn
from dst_dist.errors import DataError
from dst_dist.evaluate.show import _clips_of, _speed, stream_lines
from dst_dist.streaming.stream import Stream, Streamer
from tests.evaluate.evaluating import trained_one_step
from tests.streaming.streams import NEVER, pixels, run_of, shortened, untrained, watch_run
from tests.train.in_process import own_logging


@pytest.fixture(scope="module")
def world(demo_words):
    """(training data, untrained model in evaluation mode) of the small demo."""
    return untrained(demo_words)


def test_lines_come_as_things_happen(world):
    data, model = world
    clip = shortened(data.clips.index[0], 3)
    turns = tuple(
        Turn("user", text, (), frame, frame)
        for text, frame in (("Hello", clip.start_frame + 1), ("Late", clip.start_frame + 9))
    )
    given = []

    def frames():
        for number in range(3):
            given.append(number)
            yield torch.zeros(3, 48, 48, dtype=torch.uint8)

    lines = stream_lines(
        Streamer(
            model, replace(clip, turns=turns), data.maker, {"dst_update": 2.0, "speaking": -1.0}, max_new_tokens=2
        ),
        frames(),
    )
    assert next(lines) == f"{clip.id}: {clip.goal}" and given == []
    assert " assistant: " in next(lines) and given == [0]
    assert " assistant: " in next(lines) and given == [0, 1]
    assert next(lines) == f"  {(clip.start_frame + 1) / clip.fps:8.1f} s  user: Hello"
    assert " assistant: " in next(lines) and given == [0, 1]
    rest = list(lines)
    assert len(rest) == 3 and rest[1].startswith("  state: ") and "; 1 turns after the video's end" in rest[2]


def test_a_video_without_frames_has_a_last_line_too(world):
    data, model = world
    streamer = Streamer(model, data.clips.index[0], data.maker, NEVER)
    assert list(stream_lines(streamer, iter(())))[-1].startswith("  no frames")


@pytest.mark.parametrize(
    "frame_s, fps, line",
    [
        (0.1282, 2.0, "128.2 ms a frame, 3.9 times as fast as the video: it keeps up"),
        (0.5, 2.0, "500.0 ms a frame, 1.0 times as fast as the video: it keeps up"),
        (1.0, 2.0, "1000.0 ms a frame, 2.0 times as slow as the video: it falls behind"),
        (0.05, 30.0, "50.0 ms a frame, 1.5 times as slow as the video: it falls behind"),
    ],
)
def test_the_last_line_says_whether_the_model_keeps_up(frame_s, fps, line):
    assert _speed(frame_s, fps) == line


def test_lines_have_the_turns_that_watching_the_clip_gives(world):
    data, model = world
    clip = shortened(data.clips.index[0], 4)
    thresholds = {"dst_update": 2.0, "speaking": -1.0}
    (watched,) = watch_run(run_of(model, data.maker, thresholds), [clip], 1, partial(Stream, max_new_tokens=12))
    streamer = Streamer(model, clip, data.maker, thresholds, max_new_tokens=12)
    lines = list(stream_lines(streamer, pixels(clip)))
    assert [line.split("assistant: ")[1].rsplit("  [")[0] for line in lines if "assistant: " in line] == [
        event.text for event in watched.events
    ]


def test_a_name_must_be_the_whole_end_of_one_videos_path(world):
    clips = [
        replace(world[0].clips.index[0], id=video, video=video)
        for video in ("a/x/cup.arrow", "b/cup.arrow", "b/teacup.arrow", "b/cup.arrow")
    ]
    assert _clips_of("teacup", clips, "val") == clips[2:3]
    assert _clips_of("b/cup.arrow", clips, "val") == _clips_of("b/cup", clips, "val") == [clips[1], clips[3]]
    accented = [replace(clips[0], video="b/caf\u00e9.arrow")]
    assert _clips_of("cafe\u0301", accented, "val") == _clips_of("caf\u00e9", accented, "val") == accented
    with pytest.raises(DataError, match=r"2 videos of data.val are called cup: a/x/cup.arrow, b/cup.arrow; give more"):
        _clips_of("cup", clips, "val")
    with pytest.raises(DataError, match="no clip of a video up in data.val; there are cup, teacup, "):
        _clips_of("up", clips, "val")


def test_the_command_prints_what_a_run_writes_on_a_video(demo, demo_words, tmp_path, capsys):
    with own_logging():
        run = trained_one_step(demo_words, tmp_path / "run", "data.val=[]")
        command = f"stream {run} --split test --video kitchen-test-0000 eval.speaking_threshold=1.0".split()
        capsys.readouterr()
        assert cli.main([*command, "eval.dst_threshold=1.0"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert sum(line.startswith("kitchen/kitchen-test-0000/") for line in lines) == 3
        assert sum(" user: " in line for line in lines) > 0 and not any(" DST_UPDATE: " in line for line in lines)
        assert sum("ms a frame" in line for line in lines) == 3
        # A video from outside the data, which is not needed.
        task = {"goal": "Cook", "steps": ["boil water"], "fps": 4, "user": [{"time_s": 0.5, "text": "Well?"}]}
        (tmp_path / "task.json").write_text(json.dumps(task))
        frames = str(demo / "kitchen/frames/kitchen-test-0000.arrow")
        outside = ["stream", str(run), "--video", frames, "--task", f"{tmp_path}/task.json", "data.root=nowhere"]
        assert cli.main([*outside, "eval.speaking_threshold=1.0", "eval.dst_threshold=1.0"]) == 0
        lines = capsys.readouterr().out.splitlines()
        first = ["4 frames a second, without a prompt: the task gives none", "task: Cook", "       0.5 s  user: Well?"]
        assert lines[:3] == first and "ms a frame" in lines[-1]
        command[command.index("kitchen-test-0000")] = "nowhere"
        assert cli.main(command) == 2
        assert "no clip of a video nowhere in data.test; there are garden-test-0000" in capsys.readouterr().err
