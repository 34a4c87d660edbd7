"""A sample taken apart into frames and texts, from the very arrays that training reads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dst_dist.data.batching import Draw
from dst_dist.data.conversation import IGNORE
from dst_dist.data.dataset import SampleDataset
from dst_dist.data.samples import Sample

UNDRAWN = 2
"""Mark of a negative that does not count in the epoch that is shown."""
MARKS = {1: "yes", 0: "no", IGNORE: "-", UNDRAWN: "(no)"}
"""Words for a head's answer at a position: `(no)` is a negative that was not drawn."""


@dataclass(frozen=True)
class Piece:
    """A frame, or a text between frames.

    Attributes:
        frame: absolute index; None for a text.
        text: decoded tokens; empty for a frame.
        num_tokens: of the piece.
        trained: `lm` for a supervised text, `dst_gen` for one of an update, empty otherwise.
        decisions: what each head is to answer behind the piece, a value of MARKS; empty where none is read.
    """

    frame: int | None
    text: str
    num_tokens: int
    trained: str
    decisions: dict[str, int]


def pieces_of(data: SampleDataset, number: int, epoch: int = 0) -> list[Piece]:
    """Return a sample's pieces in order; put together they have its tokens, labels and decisions."""
    sample, every = data.sample(Draw(number, 0), epoch), data.whole_sample(number)
    tokenizer = data.maker.writer.tokenizer
    marks = {head: _marks(sample.decisions[head], every.decisions[head]) for head in sample.decisions}
    at = {int(position): place for place, position in enumerate(sample.decision_positions)}
    found, frames = [], iter(sample.frames.tolist())
    for start, stop, kind in _runs(sample, data.maker.writer.image_id, data.maker.writer.tokens_per_frame, at):
        place = at.get(stop - 1)
        decisions = {} if place is None else {head: int(values[place]) for head, values in marks.items()}
        frame = next(frames) if kind == "frame" else None
        text = "" if kind == "frame" else tokenizer.decode(sample.input_ids[start:stop].tolist())
        found.append(Piece(frame, text, stop - start, kind if kind in ("lm", "dst_gen") else "", decisions))
    return found


def sizes_of(pieces: Sequence[Piece]) -> str:
    """Return the size of a sample in words."""
    num_frames = sum(piece.frame is not None for piece in pieces)
    return f"{sum(piece.num_tokens for piece in pieces)} tokens, {num_frames} frames"


def _marks(drawn: np.ndarray, every: np.ndarray) -> np.ndarray:
    """Return the labels of an epoch, with UNDRAWN where a negative was not drawn."""
    return np.where((drawn == IGNORE) & (every == 0), UNDRAWN, drawn)


def _runs(sample: Sample, image_id: int, num_a_frame: int, at: dict[int, int]) -> Iterator[tuple[int, int, str]]:
    """Yield (start, stop, kind) of the tokens of each piece; a text ends behind a position where heads are read."""
    kinds = np.where(sample.labels != IGNORE, np.where(sample.is_dst, "dst_gen", "lm"), "text")
    of_frames = np.flatnonzero(sample.input_ids == image_id)
    kinds[of_frames] = "frame"
    # Places of the last tokens of pieces.
    last = {*at, *of_frames[num_a_frame - 1 :: num_a_frame].tolist(), len(kinds) - 1}
    last.update(np.flatnonzero(kinds[1:] != kinds[:-1]).tolist())
    for start, stop in pairwise([0, *(place + 1 for place in sorted(last))]):
        yield start, stop, str(kinds[start])
