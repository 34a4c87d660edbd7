"""`dst-dist show`: a clip exactly as the model sees it, with what each token and position trains."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from dst_dist.data.clips import Clip
from dst_dist.data.dataset import SampleDataset
from dst_dist.data.state import apply_update, format_state
from dst_dist.errors import ConfigError
from dst_dist.heads import HEAD_NAMES
from dst_dist.inspection.pieces import MARKS, Piece, pieces_of, sizes_of
from dst_dist.recipes.loading import load_recipe
from dst_dist.setup import DataSetup

TRAINED = {"lm": "trained", "dst_gen": "trained as an update"}
NUM_NAMED = 5
"""Clips that are named where there is none of the id that was asked for."""


@dataclass(frozen=True)
class ShownClip:
    """A clip with its samples in pieces by name; `states` has the dialog state behind each frame with an update."""

    clip: Clip
    samples: dict[str, list[Piece]]
    states: dict[int, str]


def shown_clip(words: Sequence[str], split: str, clip_id: str | None = None, epoch: int = 0) -> ShownClip:
    """Return a clip of a recipe's split, the first if none is named, with the negatives of an epoch.

    Raises:
        ConfigError: if recipe or model cannot be used, or there is no such split or clip.
        DataError: with every fault of the split's data.
    """
    recipe = load_recipe(words)
    if not getattr(recipe.data, split):
        raise ConfigError(f"data.{split} is empty; add data.{split}=[...], or name another --split")
    setup = DataSetup(recipe, (split,))
    data = setup.datasets(setup.check())[split]
    place = _place_of(data, clip_id)
    numbers = (data.samples["clip"] == place).nonzero()[0].tolist()
    samples = {data.sample_id(number): pieces_of(data, number, epoch) for number in numbers}
    clip = data.clips.index[place]
    return ShownClip(clip, samples, _states(clip))


def _place_of(data: SampleDataset, clip_id: str | None) -> int:
    """Return the position of a clip in the index. Raises ConfigError if there is none."""
    if clip_id is None:
        return 0
    ids = [clip.id for clip in data.clips.index]
    if clip_id not in ids:
        raise ConfigError(f"--clip {clip_id}: there are {len(ids)} clips, for example {', '.join(ids[:NUM_NAMED])}")
    return ids.index(clip_id)


def _states(clip: Clip) -> dict[int, str]:
    state, found, steps = clip.initial_state, {}, [step.id for step in clip.steps]
    for turn in clip.turns:
        if turn.transitions:
            state, _ = apply_update(state, turn.transitions)
            found[turn.frame] = format_state(state, steps)
    return found


def lines_of(shown: ShownClip) -> Iterator[str]:
    """Yield a clip as lines for people; frames in a row with the same marks are one line."""
    clip = shown.clip
    heads = "  ".join(f"{head:>10}" for head in HEAD_NAMES)
    yield f"{clip.id}: {clip.video}, frames {clip.start_frame} to {clip.end_frame - 1} at {clip.fps:g} a second"
    for name, pieces in shown.samples.items():
        yield ""
        yield f"sample {name}: {sizes_of(pieces)}"
        yield f"{'frames':>13} {'seconds':>13}  {heads}"
        frame = clip.start_frame
        for group in _grouped(pieces):
            yield from _group_lines(group, clip.fps)
            frame = frame if group[-1].frame is None else group[-1].frame
            if group[-1].trained == "dst_gen":
                yield f"{'':29}{'state:':22}{shown.states[frame]}"
    yield ""
    yield "yes, no: what a head is to answer; (no): a negative that this epoch does not count; -: not asked"


def _grouped(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Yield frames in a row with the same decisions together, and every text alone."""
    for _, group in groupby(enumerate(pieces), lambda one: one[0] if one[1].frame is None else _marks(one[1])):
        yield [piece for _, piece in group]


def _marks(piece: Piece) -> str:
    return "  ".join(f"{MARKS[piece.decisions[head]] if piece.decisions else '-':>10}" for head in HEAD_NAMES)


def _group_lines(group: list[Piece], fps: float) -> Iterator[str]:
    first, last = group[0], group[-1]
    if first.frame is not None:
        frames = f"{first.frame}" if first is last else f"{first.frame}-{last.frame}"
        seconds = f"{first.frame / fps:.1f}" if first is last else f"{first.frame / fps:.1f}-{last.frame / fps:.1f}"
        yield f"{frames:>13} {seconds:>13}  {_marks(first)}"
        return
    text = first.text.strip()
    if not text and not first.decisions:
        return
    what = TRAINED.get(first.trained, "context")
    for number, line in enumerate(text.splitlines() or [""]):
        yield f"{'':29}{what + ':' if not number else '':22}{line}"
    if first.decisions:
        yield f"{'':13} {'':13}  {_marks(first)}  behind the user's turn"
