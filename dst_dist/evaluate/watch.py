"""A finished run's model watching one clip."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from dst_dist.data.clips import Clip
from dst_dist.data.frames import FrameReader
from dst_dist.data.state import format_state
from dst_dist.evaluate.finished_run import FinishedRun
from dst_dist.evaluate.stream import Event, Streamer, Thresholds


@dataclass
class Watched:
    """What a model wrote on one clip, and the dialog state it had after each frame."""

    clip: Clip
    events: list[Event]
    states: list[dict[str, str]]
    counts: Counter[str]
    elapsed_s: float

    @classmethod
    def watch(cls, run: FinishedRun, clip: Clip) -> "Watched":
        """Stream a clip from its start, with the user's turns at their frames."""
        streamer = Streamer(run.model, clip, run.data.maker, Thresholds(**run.thresholds), run.recipe.eval.on_full_context)
        said: dict[int, list[str]] = {}
        for turn in clip.turns:
            if turn.role == "user":
                said.setdefault(turn.frame, []).append(turn.text)
        events, states, started_s = [], [], time.perf_counter()
        reader, frame = FrameReader(run.data.image_size), np.empty((1, 3, run.data.image_size, run.data.image_size), np.uint8)
        for index in range(clip.start_frame, clip.end_frame):
            if not reader.read(clip.frames_path, [index], frame)[0]:
                streamer.counts["frames missing, seen as grey"] += 1
            events += streamer.push_frame(torch.from_numpy(frame[0]))
            for text in said.get(index, []):
                events += streamer.push_user(text)
            states.append(dict(streamer.state))
        return cls(clip, events, states, streamer.counts, time.perf_counter() - started_s)

    def lines(self) -> Iterator[str]:
        """For people: what was said and written, in order."""
        clip = self.clip
        yield f"{clip.id}: {clip.goal}"
        said = [(turn.frame, 0, f"user: {turn.text}") for turn in clip.turns if turn.role == "user"]
        written = [(event.frame, 1, _event_text(event)) for event in self.events]
        for frame, _, text in sorted(said + written, key=lambda line: line[:2]):
            yield f"  {frame / clip.fps:8.1f} s  {text}"
        if clip.steps:
            yield f"  state: {format_state(self.states[-1], [step.id for step in clip.steps])}"
        per_frame_s = self.elapsed_s / len(self.states)
        counts = "".join(f"; {number} {kind}" for kind, number in self.counts.items() if number)
        yield f"  {per_frame_s * 1000:.1f} ms a frame, {1 / (per_frame_s * clip.fps):.1f} times real time{counts}"


def _event_text(event: Event) -> str:
    remark = f"  ({event.num_illegal} not allowed)" if event.num_illegal else ""
    return f"{event.role}: {event.text}  [{event.probability:.2f}]{remark}"
