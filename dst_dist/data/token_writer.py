"""Writes a clip as token ids: the opening turn, frames and turns, each tokenized apart."""

import json
import os
from dataclasses import dataclass

from tokenizers import Tokenizer

from dst_dist.data.clips import Clip
from dst_dist.data.state import format_state
from dst_dist.errors import ConfigError

ROLE_HEADERS = {"system": "System:", "user": "User:", "assistant": "Assistant:", "DST_UPDATE": "DST:"}
MAX_UPDATES = 2000
"""Texts of updates whose ids are remembered."""

# A batch would start threads, which do not live on in forked data workers.
os.environ["TOKENIZERS_PARALLELISM"] = "false"


@dataclass(slots=True)
class TurnIds:
    """A turn's ids in three parts; `body`, which `lm` learns, ends with `<end_of_utterance>`."""

    header: list[int]
    body: list[int]
    end: list[int]

    def __len__(self) -> int:
        return len(self.header) + len(self.body) + len(self.end)


class TokenWriter:
    """Writes ids with the model's own tokenizer, the same in training, evaluation and streaming.

    Args:
        tokenizer: a fast Hugging Face tokenizer with SmolVLM2's special tokens.
        tokens_per_frame: K, the `<image>` positions of one frame.

    Raises:
        ConfigError: if the tokenizer lacks a special token, or writes one for plain text.
    """

    def __init__(self, tokenizer, tokens_per_frame: int):
        self.tokenizer = tokenizer
        self.tokens_per_frame = tokens_per_frame
        self.image_id, self.start_id, self.end_id, self.pad_id = special_ids(tokenizer)
        self._plain = _plain_tokenizer(tokenizer)
        special = {self.image_id, self.start_id, self.end_id, self.pad_id}
        names = tokenizer.convert_ids_to_tokens(sorted(special))
        # A tokenizer that was trained on texts with special tokens writes them for plain text.
        if merged := [name for name in names if special & set(self._text(name))]:
            raise ConfigError(
                f"the model's tokenizer makes a special token of the plain text {', '.join(merged)}, also where a user "
                "writes it; train it on texts without special tokens"
            )
        self._headers = {role: self._text(header) for role, header in ROLE_HEADERS.items()}
        self.newline = self._text("\n")
        self.frame = [self.image_id] * tokens_per_frame
        self._update_bodies: dict[str, list[int]] = {}
        assert len(self.newline) == 1, "a user turn's last token is its newline"

    def _text(self, text: str) -> list[int]:
        # Without the offsets that `encode` finds, which nobody reads: a sixth faster.
        return self._plain.encode_batch_fast([text], add_special_tokens=False)[0].ids

    def header(self, clip: Clip, state: dict[str, str]) -> list[int]:
        """Return the system turn that opens a sample: prompt, task, steps and the dialog state reached."""
        text = f" {clip.prompt}"
        if clip.goal:
            text += f"\n\nTask: {clip.goal}"
        if clip.steps:
            steps = "".join(f"\n- {step.id}: {step.name}" for step in clip.steps)
            text += f"\nSteps:{steps}\nState: {format_state(state, [step.id for step in clip.steps])}"
        return [self.start_id, *self._headers["system"], *self._text(text), self.end_id, *self.newline]

    def turn(self, role: str, text: str) -> TurnIds:
        """Return a turn after the opening; header, body and end are tokenized apart."""
        body = self._update_bodies.get(text)
        if body is None:
            body = [*self._text(f" {text}"), self.end_id]
            # Updates of all clips are a few texts, half of all turns.
            if role == "DST_UPDATE" and len(self._update_bodies) < MAX_UPDATES:
                self._update_bodies[text] = body
        return TurnIds(self._headers[role], body, self.newline)


def special_ids(tokenizer) -> list[int]:
    """Return the ids of `<image>`, `<|im_start|>`, `<end_of_utterance>` and padding. Raises ConfigError without one."""
    names = ["<image>", "<|im_start|>", "<end_of_utterance>", tokenizer.pad_token]
    vocabulary = tokenizer.get_vocab()
    missing = [name or "a padding token" for name in names if name not in vocabulary]
    if missing:
        raise ConfigError(f"the model's tokenizer lacks {', '.join(missing)}; name a SmolVLM2 in model.name_or_path")
    return [vocabulary[name] for name in names]


def _plain_tokenizer(tokenizer) -> Tokenizer:
    """Return the tokenizer without its added tokens, so that text which spells one, such as "<image>", stays text.

    It is called directly: several times as fast, and no thread is started before data workers are forked.
    """
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    return Tokenizer.from_str(json.dumps({**content, "added_tokens": [], "truncation": None, "padding": None}))
