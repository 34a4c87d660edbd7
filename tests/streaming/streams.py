"""Shared by the tests of streaming: models, makers, shortened clips, and streams that write a script."""

import gc
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from dst_dist.data.clips import Turn
from dst_dist.data.conversation import arrange
from dst_dist.data.frames import FrameReader
from dst_dist.data.samples import Limits, SampleMaker
from dst_dist.data.token_writer import TokenWriter
from dst_dist.model.loading import load_model
from dst_dist.model.smolvlm_dst import SmolVLMForDST
from dst_dist.recipes.loading import load_recipe
from dst_dist.setup import DataSetup
from dst_dist.streaming.stream import Stream, Streamer
from dst_dist.streaming.watch import watch
from tests.model.tiny import tiny_config, with_random_heads

NEVER = {"dst_update": 2.0, "speaking": 2.0}
FRAME_NUMBERS = [1_000, pytest.param(10_000, marks=pytest.mark.long)]
"""Lengths of the video on which memory must stay flat."""


def model_with(tokenizer, tokens_per_frame, image_size=48):
    """Return a tiny model for the demo's tokenizer with this many tokens a frame; the demo's own has one."""
    torch.manual_seed(0)
    config = tiny_config(image_size=image_size, tokens_per_frame=tokens_per_frame)
    config.text_config.vocab_size = 768
    config.image_token_id = tokenizer.convert_tokens_to_ids("<image>")
    return with_random_heads(SmolVLMForDST(config).eval())


def maker_like(maker, limits=None, tokens_per_frame=None, **data):
    """Return the same maker with other limits, another K, or other keys of the recipe's `data`."""
    writer = maker.writer if tokens_per_frame is None else TokenWriter(maker.writer.tokenizer, tokens_per_frame)
    return SampleMaker(writer, maker.data.model_copy(update=data), maker.labels, limits or maker.limits)


def run_of(model, maker, thresholds=NEVER, on_full_context="carry_state", image_size=48, on_missing="error"):
    """Return a model, as much of a dataset as `watch` needs, and what makes streams of these settings."""

    def new_stream(task, make=Stream):
        return make(task, maker, thresholds, on_full_context)

    return SimpleNamespace(
        model=model, data=SimpleNamespace(reader=FrameReader(image_size), on_missing=on_missing), new_stream=new_stream
    )


def watch_run(run, clips, num_streams=1, make=Stream):
    """Yield what the run's model writes on clips."""
    return watch(run.model, run.data, clips, partial(run.new_stream, make=make), num_streams)


def untrained(demo_words):
    """Return the training data of the small demo, and its model in evaluation mode, with random heads."""
    recipe = load_recipe(["demo", *demo_words, "data.val=[]"])
    setup = DataSetup(recipe)
    torch.manual_seed(0)
    return setup.datasets(setup.check())["train"], with_random_heads(load_model(recipe).eval())


def with_system_turns(clip):
    """Return the clip with two system turns at one frame without other turns, after its first turn."""
    quiet = set(range(min(turn.frame for turn in clip.turns), clip.end_frame - 1)) - {turn.frame for turn in clip.turns}
    new = [Turn("system", text, (), min(quiet), min(quiet)) for text in ("From now on be brief.", "Say <image> twice.")]
    return replace(clip, turns=tuple(sorted((*clip.turns, *new), key=lambda turn: turn.frame)))


def shortened(clip, num_frames):
    end = clip.start_frame + num_frames
    return replace(clip, end_frame=end, turns=tuple(turn for turn in clip.turns if turn.frame < end))


def pixels(clip, size=48):
    frames = torch.empty(clip.end_frame - clip.start_frame, 3, size, size, dtype=torch.uint8)
    assert FrameReader(size).read(clip.frames_path, range(clip.start_frame, clip.end_frame), frames).all()
    return frames


def teacher_forced(model, maker, clip, size=48):
    """Return the hidden states of the whole clip as one sample, [T, hidden]."""
    (part,) = maker.split(clip, Counter())
    sample = maker.make(clip, part)
    with torch.no_grad():
        return model.hidden_states(torch.from_numpy(sample.input_ids), pixels(clip, size), [len(sample.input_ids)])


def script_of(clip):
    """Return the gold turns that are written after each decision position, in order."""
    outcomes = []
    for group in arrange(clip, "continuous", "last"):
        outcomes.append([])
        for turn in group.turns:
            if turn.role == "user":
                outcomes.append([])
            elif turn.role != "system":
                outcomes[-1].append(turn)
    return outcomes


class Scripted(Stream):
    """Writes the gold turns at their decision positions; keeps its feeds."""

    def __init__(self, task, *arguments, **options):
        self.script, self.feeds = script_of(task), []
        super().__init__(task, *arguments, **options)

    def _feed(self, wants_token):
        self.feeds.append(super()._feed(wants_token))
        return self.feeds[-1]

    def _decide(self):
        yield self._feed(wants_token=False)
        for turn in self.script.pop(0):
            ids = self.writer.turn(turn.role, turn.text)
            self._put([*ids.header, *ids.body, *ids.end])
        return []


class Recording(Streamer):
    """Keeps its feeds. It writes `saying`, if that is set, instead of what the model would."""

    def __init__(self, *arguments, **options):
        self.feeds, self.saying = [], None
        super().__init__(*arguments, **options)

    def _feed(self, wants_token):
        self.feeds.append(super()._feed(wants_token))
        return self.feeds[-1]

    def _generate(self, role):
        if self.saying is None:
            return (yield from super()._generate(role))
        yield from ()
        return self.saying


def limits_with(maker, clip, num_tokens, num_frames=1000):
    """Return limits with room for `num_tokens` after the opening turn."""
    return Limits(len(maker.writer.header(clip, clip.initial_state)) + num_tokens, num_frames)


@dataclass(frozen=True)
class Memory:
    """Number of objects that can hold others, tensors among them, and this process's MiB that are not of files."""

    num_objects: int
    mib: float

    @classmethod
    def now(cls) -> "Memory":
        gc.collect()
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
        return cls(len(gc.get_objects()), int(line.split()[1]) / 1024)

    def growth(self) -> tuple[int, float]:
        """Return by how much both grew since then."""
        now = Memory.now()
        return now.num_objects - self.num_objects, now.mib - self.mib


def steady_growth(*growths: tuple[int, float]) -> tuple[int, float]:
    """Return the smallest growth of objects and of MiB in several stretches of a stream.

    What is kept for each frame grows in every stretch; what the allocator takes at once, in one of them.
    """
    return tuple(map(min, zip(*growths, strict=True)))
