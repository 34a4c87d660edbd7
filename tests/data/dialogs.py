"""Clips made in memory, the tokenizers that write them, and what a whole sample looks like as text."""

import random
from collections import Counter
from functools import cache

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from dst_dist import config
from dst_dist.data.clips import Clip, Step, Turn
from dst_dist.data.conversation import IGNORE
from dst_dist.data.samples import Limits, Part, Sample, SampleMaker
from dst_dist.data.state import Transition, format_update
from dst_dist.data.token_writer import TokenWriter
from dst_dist.demo.model import train_tokenizer

TEXTS = [
    "You watch and help. Make tea. Boil the water, then pour it. Now pour it.",
    "What now? Take the cup. Done. Well done, 12 more.",
    '[{"id": "S1", "transition": "start"}, {"id": "S2", "transition": "complete"}]',
]
ROOMY = Limits(tokens=4096, frames=2048)


@cache
def demo_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer like that of the demo's model."""
    return train_tokenizer(TEXTS)


@cache
def smol_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE as SmolVLM2's: single digits, GPT-2's splitting, added tokens of which some are not `special`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_tokens(["<row_1_col_1>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<|endoftext|>",
        bos_token="<|im_start|>",
        pad_token="<|im_end|>",
        eos_token="<end_of_utterance>",
        extra_special_tokens=["<global-img>", "<fake_token_around_image>", "<image>"],
    )


TOKENIZERS = {"demo": demo_tokenizer, "smol": smol_tokenizer}
STEPS = (Step("S1", "Boil water"), Step("S2", "Pour water"))


def user(frame: int, text: str = "What now?", first: int | None = None) -> Turn:
    return _turn("user", text, frame, first)


def reply(frame: int, text: str = "Take the cup.", first: int | None = None) -> Turn:
    return _turn("assistant", text, frame, first)


def system(frame: int, text: str = "Be brief.", first: int | None = None) -> Turn:
    return _turn("system", text, frame, first)


def update(frame: int, *changes: str, first: int | None = None) -> Turn:
    """`update(5, "S1 start")`."""
    transitions = tuple(Transition(*change.split()) for change in changes or ("S1 start",))
    return _turn("DST_UPDATE", format_update(transitions), frame, first, transitions)


def _turn(role: str, text: str, frame: int, first: int | None, transitions: tuple[Transition, ...] = ()) -> Turn:
    return Turn(role, text, transitions, frame if first is None else first, frame)


def make_clip(*turns: Turn, start: int = 0, end: int = 8, steps: tuple[Step, ...] = STEPS, **changes) -> Clip:
    """Frames [start, end) of a video with two steps."""
    fields = {
        "id": "kitchen/tea/0",
        "dataset": "kitchen",
        "domain": None,
        "video": "kitchen/frames/tea.arrow",
        "frames_path": "/data/kitchen/frames/tea.arrow",
        "start_frame": start,
        "end_frame": end,
        "fps": 2.0,
        "prompt": "You watch and help.",
        "goal": "Make tea",
        "steps": steps,
        "initial_state": {},
        "turns": turns,
        "has_dst": bool(steps),
    }
    return Clip(**{**fields, **changes})


def make_maker(
    tokenizer: str = "demo",
    tokens_per_frame: int = 1,
    limits: Limits = ROOMY,
    frames: str = "continuous",
    context_seconds: float = 2.0,
    positive_frames: str = "last",
) -> SampleMaker:
    writer = TokenWriter(TOKENIZERS[tokenizer](), tokens_per_frame)
    data = config.Data(frames=frames, context_seconds=context_seconds)
    return SampleMaker(writer, data, config.Labels(positive_frames=positive_frames), limits)


def counts_of(sample: Sample) -> list[int]:
    """The counted positions of a sample in the order of COUNT_NAMES, worked out from its labels."""
    supervised = sample.labels != IGNORE
    heads = [np.sum(labels == value) for labels in sample.decisions.values() for value in (1, 0)]
    return [int(number) for number in (supervised.sum(), (supervised & sample.is_dst).sum(), *heads)]


def whole_sample(maker: SampleMaker, clip: Clip) -> Sample:
    """Return the only sample of a clip that is not too long."""
    (part,) = maker.split(clip, Counter())
    return maker.make(clip, part)


def decoded(maker: SampleMaker, ids) -> str:
    return maker.writer.tokenizer.decode(list(ids), skip_special_tokens=False)


def supervised_texts(maker: SampleMaker, sample: Sample) -> list[str]:
    """Return the texts that `lm` learns, one for each turn."""
    numbers = sorted(set(sample.turn.tolist()) - {-1})
    return [decoded(maker, sample.labels[sample.turn == number]) for number in numbers]


def random_clip(rng: random.Random, num_frames: int, num_turns: int) -> Clip:
    """Any order of roles, any number of turns at a frame, updates that may be illegal."""
    start = rng.randrange(50)
    turns = []
    for frame in sorted(rng.randrange(start, start + num_frames) for _ in range(num_turns)):
        first = max(start, frame - rng.randrange(3))
        role = rng.choice(["user", "assistant", "assistant", "DST_UPDATE", "DST_UPDATE", "system"])
        if role == "DST_UPDATE":
            turns.append(
                update(frame, f"S{rng.choice('12')} {rng.choice(['start', 'complete', 'reset'])}", first=first)
            )
        else:
            turns.append(_turn(role, rng.choice(TEXTS[:2])[: rng.randrange(4, 40)], frame, first))
    return make_clip(*turns, start=start, end=start + num_frames)


def all_parts(maker: SampleMaker, clip: Clip) -> list[tuple[Part, Sample]]:
    """Every part of a clip with its sample."""
    return [(part, maker.make(clip, part)) for part in maker.split(clip, Counter())]
