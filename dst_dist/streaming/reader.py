"""Reads several streams with one model, in one call for all of them."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from dst_dist.model.kv_cache import KVCache
from dst_dist.model.smolvlm_dst import SmolVLMForDST

TOGETHER = 16
"""A feed with more tokens, and more than two frames, is read alone: in a batch the others' queries are padded to it."""


class Feed(NamedTuple):
    """Tokens and frames that a stream reads next, and the kind of reading at the last token.

    Attributes:
        ids: with K image tokens for each of `frames`.
        frames: embeddings [K, hidden].
        wants_token: whether it needs the likeliest next token; otherwise the probabilities of both heads.
        is_fresh: whether it begins a new context.
    """

    ids: list[int]
    frames: list[torch.Tensor]
    wants_token: bool
    is_fresh: bool


Reading = int | tuple[float, float]
"""The next token, or the probabilities of an update and of a reply."""


class Batch:
    """Reads the feeds of up to `num_rows` streams together: row i of the cache is the i-th feed's."""

    def __init__(self, model: SmolVLMForDST, num_rows: int):
        self.model = model
        self.cache = KVCache(model.config.text_config.num_hidden_layers, num_rows, model.device)
        self._together = max(TOGETHER, 2 * model.config.tokens_per_frame)

    @torch.no_grad()
    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        """Return embeddings [N, K, hidden] of frames, uint8 [N, 3, S, S], or of their features."""
        return self.model.encode_frames(frames.to(self.model.device))

    @torch.no_grad()
    def read(self, feeds: Sequence[Feed]) -> list[Reading]:
        """Read all feeds and return the reading of each."""
        for row, feed in enumerate(feeds):
            if feed.is_fresh:
                self.cache.clear(row)
        short = [row for row, feed in enumerate(feeds) if len(feed.ids) <= self._together]
        long = [row for row in range(len(feeds)) if row not in short]
        last = torch.cat([self._last_states(feeds, rows) for rows in (short, *([row] for row in long)) if rows])
        order = {row: place for place, row in enumerate(short + long)}
        return self._answer(feeds, last[[order[row] for row in range(len(feeds))]])

    def _last_states(self, feeds: Sequence[Feed], rows: list[int]) -> torch.Tensor:
        """Read the feeds of `rows` and return the state after each, [rows, hidden]."""
        counts = [len(feeds[row].ids) if row in rows else 0 for row in range(rows[0], rows[-1] + 1)]
        self.cache.begin(rows[0], counts)
        ids = torch.tensor([token for row in rows for token in feeds[row].ids], device=self.model.device)
        frames = [frame for row in rows for frame in feeds[row].frames]
        size = self.model.config.tokens_per_frame, self.model.config.text_config.hidden_size
        embeddings = torch.stack(frames) if frames else torch.empty(0, *size, device=self.model.device)
        hidden = self.model.continue_from(ids, embeddings, self.cache)
        return hidden[torch.tensor([len(feeds[row].ids) for row in rows]).cumsum(0) - 1]

    def _answer(self, feeds: Sequence[Feed], last: torch.Tensor) -> list[Reading]:
        deciding = [row for row, feed in enumerate(feeds) if not feed.wants_token]
        writing = [row for row, feed in enumerate(feeds) if feed.wants_token]
        answers: dict[int, Reading] = {}
        if deciding:
            answers |= zip(deciding, map(tuple, self.model.decide(last[deciding]).tolist()), strict=True)
        if writing:
            answers |= zip(writing, self.model.next_tokens(last[writing]).tolist(), strict=True)
        return [answers[row] for row in range(len(feeds))]
