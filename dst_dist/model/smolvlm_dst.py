"""SmolVLM2 with K tokens for each frame, packed samples and the two decision heads."""

import math
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import nn
from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration
from transformers import initialization as init

from dst_dist.heads import HEAD_MODULES, HEADS
from dst_dist.model.adapters import load_merged, read_adapter_config
from dst_dist.model.attention import SEGMENTED_CAUSAL
from dst_dist.model.frame_pooling import frame_grid, pool_patches, pooled_side
from dst_dist.model.kv_cache import KVCache
from dst_dist.model.model_config import SETTINGS
from dst_dist.model.weight_checks import check_weights

START_BIAS = (0.01, 0.0)
"""Bias of a new head's two logits; the first is for nothing to say."""
HEAD_WEIGHTS = {f"{module}.{kind}" for module in HEAD_MODULES for kind in ("weight", "bias")}
OTHER_NAMES = {
    r"^(model\.)?language_model\.lm_head\.": "lm_head.",
    r"^(model\.)?language_model\.(model\.)?": "model.text_model.",
    r"^(vision_model|connector)\.": r"model.\1.",
}
"""Patterns of the names that earlier releases gave the same weights, and our names."""


class DSTOutput(NamedTuple):
    """Logits at the positions given to `forward`. A named tuple, because FSDP2 and DDP do not look into dataclasses.

    lm_logits: [P, vocabulary], compute dtype. decision_logits: [D, 2], float32, by head.
    anchor: float32 scalar zero; adding it to the loss gives every trained parameter that the logits
        do not reach (P = 0 or D = 0) a zero gradient instead of none.
    """

    lm_logits: torch.Tensor
    decision_logits: dict[str, torch.Tensor]
    anchor: torch.Tensor


class SmolVLMForDST(SmolVLMForConditionalGeneration):
    """SmolVLM2 that reads frames of K tokens each and decides at every frame.

    The config gains `tokens_per_frame` (the whole grid if absent) and, for each of HEADS, its threshold and its share
    of positives in training, None if absent.

    Attributes:
        compute_dtype: dtype of the autocast that `forward` opens (DeepSpeed switches an outer one off);
            None opens none. The heads run in float32 in any case.
        vision_batch_size: frames per call of the vision tower.

    Raises:
        ConfigError: if `tokens_per_frame` is not possible.
    """

    _keep_in_fp32_modules_strict = HEAD_MODULES

    def __init__(self, config: SmolVLMConfig):
        super().__init__(config)
        config = self.config
        for name in SETTINGS:
            setattr(config, name, getattr(config, name, None))
        config.tokens_per_frame = config.tokens_per_frame or frame_grid(config) ** 2
        self.pooled_side = pooled_side(config, config.tokens_per_frame)
        for module in HEAD_MODULES:
            self.add_module(module, nn.Linear(config.text_config.hidden_size, 2))
        self.compute_dtype: torch.dtype | None = None
        self.vision_batch_size = 64
        # Never reaches config.json: stock transformers must be able to open what we save.
        self.model.text_model.set_attn_implementation(SEGMENTED_CAUSAL)
        self.post_init()
        # A padding row gets no gradient; there is no padding, and some models pad with a token that is in use.
        self.get_input_embeddings().padding_idx = None
        # Stock names the tower's attention, which splits a residual block over FSDP2 units.
        self._no_split_modules = {"SmolVLMEncoderLayer", "LlamaDecoderLayer"}

    @classmethod
    def from_pretrained(cls, name, *arguments, **options):
        """Load any SmolVLM2 or a trained `final/`, with the arguments of the stock method.

        An adapter is merged into its base, in float32. Weights are read from safetensors alone, also by the names that
        earlier releases gave them. Only both heads together may be new.

        Raises:
            CheckpointError: with every weight that is missing, of another shape, or of no part of the model.
        """
        if read_adapter_config(name) is not None:
            return load_merged(cls, name)
        with_info = options.pop("output_loading_info", False)
        # Otherwise a weight of another shape ends the loading without its name.
        options = {"key_mapping": OTHER_NAMES, "use_safetensors": True} | options | {"ignore_mismatched_sizes": True}
        model, info = super().from_pretrained(name, *arguments, output_loading_info=True, **options)
        missing = set(info["missing_keys"])
        lost = missing - HEAD_WEIGHTS if missing >= HEAD_WEIGHTS else missing
        check_weights(name, lost, info["unexpected_keys"], info["mismatched_keys"])
        return (model, info) if with_info else model

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if any(module is getattr(self, name, None) for name in HEAD_MODULES):
            # Each head starts undecided, whatever the scale of the states: README.md has what else was tried.
            init.zeros_(module.weight)
            # With balanced classes the first gradient of a zero bias is rounding alone, and Adam makes a full step of
            # it, another one on each engine.
            init.copy_(module.bias, torch.tensor(START_BIAS))

    def forward(
        self,
        input_ids: torch.Tensor,
        frames: torch.Tensor,
        segment_lengths: list[int],
        lm_positions: torch.Tensor,
        decision_positions: torch.Tensor,
        min_vision_calls: int = 1,
    ) -> DSTOutput:
        """Return the logits of one micro-batch: samples packed in a row.

        Args:
            input_ids: int64 [T], K image tokens for each frame.
            frames: as in `encode_frames`, in the order of their tokens; N may be 0.
            segment_lengths: tokens of each sample, sum = T.
            lm_positions: int64 [P], where the language head is read; P may be 0.
            decision_positions: int64 [D], where both decision heads are read; D may be 0.
            min_vision_calls: see `encode_frames`.
        """
        with self._autocast(input_ids.device):
            hidden = self.hidden_states(input_ids, frames, segment_lengths, min_vision_calls)
            lm_logits, anchor = _read(self.lm_head, hidden, lm_positions)
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden.float()
            decision_logits = {}
            for head in HEADS:
                logits, head_anchor = _read(getattr(self, head.module), hidden, decision_positions)
                decision_logits[head.name], anchor = logits, anchor + head_anchor
        return DSTOutput(lm_logits, decision_logits, anchor)

    def hidden_states(
        self, input_ids: torch.Tensor, frames: torch.Tensor, segment_lengths: list[int], min_vision_calls: int = 1
    ) -> torch.Tensor:
        """Return the states after the final norm, [T, hidden]; arguments as in `forward`.

        Raises:
            ValueError: if the image tokens are not frames * K.
        """
        embeddings = self.encode_frames(frames, min_vision_calls)
        positions = torch.cat([torch.arange(length, device=input_ids.device) for length in segment_lengths])
        return self._run_text_model(input_ids, embeddings, positions, segment_lengths=segment_lengths)

    def continue_from(self, input_ids: torch.Tensor, frame_embeddings: torch.Tensor, cache: KVCache) -> torch.Tensor:
        """Return the states after the final norm, [T, hidden], of the step that `cache.begin` prepared, and store it.

        Args:
            input_ids: int64 [T], the tokens of one stream after another, K image tokens for each frame.
            frame_embeddings: [N, K, hidden], in the order of their tokens; N may be 0.
        """
        hidden = self._run_text_model(input_ids, frame_embeddings, cache.positions, kv_cache=cache)
        cache.finish()
        return hidden

    def _run_text_model(
        self, input_ids: torch.Tensor, frame_embeddings: torch.Tensor, positions: torch.Tensor, **attention: object
    ) -> torch.Tensor:
        with self._autocast(input_ids.device):
            embeddings = self._fuse(input_ids, frame_embeddings)
            options = {"position_ids": positions[None], "attention_mask": None, "use_cache": False}
            return self.model.text_model(inputs_embeds=embeddings, **options, **attention).last_hidden_state[0]

    def next_tokens(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the likeliest next token, int64 [n], from states [n, hidden]; never `<image>`, a frame's token."""
        with self._autocast(hidden.device):
            logits = self.lm_head(hidden)
        logits[:, self.config.image_token_id] = -torch.inf
        return logits.argmax(-1)

    def decide(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return each head's probability that its turn follows, float64 [n, heads], from states [n, hidden].

        Thresholds are chosen in float64 too: in float32 many probabilities near 1 are the same.
        """
        with torch.autocast(hidden.device.type, enabled=False):
            logits = [getattr(self, module)(hidden.float()) for module in HEAD_MODULES]
            return torch.stack([one.double().softmax(-1)[:, 1] for one in logits], dim=1)

    def encode_frames(self, frames: torch.Tensor, min_calls: int = 1) -> torch.Tensor:
        """Return the embeddings of frames, [N, K, hidden].

        The tower runs in chunks of at most `vision_batch_size`, and at least `min_calls` times: under
        FSDP2 every process must call it equally often, so one with fewer frames adds blank ones. Their
        embeddings are cut off again, which leaves the connector and a trained tower in the graph with zero
        gradients even where N = 0. A frozen tower stays out of the graph.

        Args:
            frames: uint8 [N, 3, S, S], or what `frame_features` returned for them.

        Raises:
            ValueError: if the frames have another dtype or size.
        """
        count, size = len(frames), self.config.vision_config.image_size
        if frames.dtype == torch.uint8 and frames.shape[1:] == (3, size, size):
            calls = max(min_calls, math.ceil(count / self.vision_batch_size), 1)
            patches = self._encode_patches(_with_blanks(frames, calls), calls)
        elif frames.is_floating_point() and frames.shape[1:] == self.embedding_shape:
            return frames
        elif frames.is_floating_point() and frames.shape[1:] == self.patch_shape:
            patches = _with_blanks(frames, 1).flatten(1, 2)
        else:
            shapes = f"uint8 [N, 3, {size}, {size}], or features of {self.patch_shape} or {self.embedding_shape} each"
            raise ValueError(f"frames must be {shapes}, found {frames.dtype} {list(frames.shape)}")
        with self._autocast(frames.device):
            return self.model.connector(patches)[:count]

    @torch.no_grad()
    def frame_features(self, frames: torch.Tensor, behind_connector: bool) -> torch.Tensor:
        """Return what a frozen part of the model makes of frames, to be kept and given in their place.

        Args:
            frames: uint8 [N, 3, S, S].
            behind_connector: return embeddings, for a connector that is frozen too.

        Returns:
            The tower's pooled output [N, *patch_shape], or embeddings [N, *embedding_shape], in the dtype in which the
            part that follows reads them: the compute dtype.
        """
        if behind_connector:
            features = self.encode_frames(frames)
        else:
            calls = math.ceil(len(frames) / self.vision_batch_size)
            features = self._encode_patches(frames, calls).view(-1, *self.patch_shape)
        return features.to(self.compute_dtype or torch.float32)

    @property
    def patch_shape(self) -> tuple[int, int, int]:
        """Shape of a frame's pooled patches, before the connector: a grid of the tower's channels."""
        side = self.pooled_side * self.config.scale_factor
        return side, side, self.config.vision_config.hidden_size

    @property
    def embedding_shape(self) -> tuple[int, int]:
        """Shape of a frame's embeddings, behind the connector."""
        return self.config.tokens_per_frame, self.config.text_config.hidden_size

    def _encode_patches(self, frames: torch.Tensor, num_calls: int) -> torch.Tensor:
        """Return the pooled output of the tower, [N, K * scale^2, C], of uint8 frames in so many calls."""
        tower = self.model.vision_model
        trained = any(parameter.requires_grad for parameter in tower.parameters())
        dtype, patches = tower.embeddings.patch_embedding.weight.dtype, []
        with self._autocast(frames.device), torch.set_grad_enabled(trained and torch.is_grad_enabled()):
            for chunk in frames.tensor_split(num_calls):
                # The convolution sums in another order if a pixel's values are together, as a reader's are.
                pixels = chunk.to(torch.float32, memory_format=torch.contiguous_format)
                # In place: on a CPU, new memory for each operation is a tenth of the tower's time.
                pixels = pixels.div_(127.5).sub_(1).to(dtype)
                # The tower itself, not get_image_features: that one drops all-zero images.
                output = tower(pixels).last_hidden_state
                patches.append(pool_patches(output, self.config.scale_factor, self.pooled_side))
        return torch.cat(patches)

    def _fuse(self, input_ids: torch.Tensor, frame_embeddings: torch.Tensor) -> torch.Tensor:
        """Return the token embeddings [1, T, hidden], with those of frames in the places of image tokens, in order."""
        # One row from the start: compiled layers take a view for another kind of input than a tensor of its own.
        embeddings = self.get_input_embeddings()(input_ids[None])
        places = (input_ids == self.config.image_token_id).nonzero().squeeze(1)
        tokens = frame_embeddings.flatten(0, 1)
        if len(places) != len(tokens):
            count, per_frame = frame_embeddings.shape[:2]
            raise ValueError(f"{len(places)} image tokens, but {count} frames of {per_frame} tokens each")
        return embeddings.index_copy(1, places, tokens.to(embeddings.dtype)[None])

    def _autocast(self, device: torch.device):
        if self.compute_dtype is None:
            return nullcontext()
        # The cache would keep a compute-dtype copy of every trained weight until the forward ends.
        return torch.autocast(device.type, dtype=self.compute_dtype, cache_enabled=False)


def _with_blanks(frames: torch.Tensor, count: int) -> torch.Tensor:
    """Return the frames with blank ones behind them, `count` at least."""
    missing = count - len(frames)
    return torch.cat([frames, frames.new_zeros(missing, *frames.shape[1:])]) if missing > 0 else frames


def _read(head: nn.Module, hidden: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a head's logits at `positions`, and a zero that reaches the head where there is no position.

    The head runs exactly once either way, so processes with and without positions stay in step.
    """
    if len(positions):
        logits = head(hidden[positions])
        return logits, logits.new_zeros((), dtype=torch.float32)
    logits = head(hidden[:1])
    return logits[:0], 0 * logits.float().sum()
