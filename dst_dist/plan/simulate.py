"""Finds the memory of one micro-batch by running the model itself on tensors that have shapes but no content.

torch's FakeTensorMode runs every operation of forward and backward without computing or allocating, so the 2.2B takes
seconds on any machine. `dst_dist.plan.states` has the memory that an engine adds (shards, moments, buffers).
"""

import copy
import warnings
import weakref
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import SmolVLMConfig

from dst_dist.config import Recipe
from dst_dist.data.samples import COUNT_NAMES
from dst_dist.heads import HEAD_NAMES
from dst_dist.model.adapters import add_adapter
from dst_dist.model.lora import lora_config
from dst_dist.model.losses import compute_loss
from dst_dist.model.smolvlm_dst import SmolVLMForDST
from dst_dist.model.trainable import make_trainable, unwrap

FEW_LAYERS = (2, 3)
"""Depths at which the text model is run; layers are alike, so the true depth lies on the straight line through both."""


@dataclass(frozen=True)
class MicroBatchShape:
    """The sizes of a micro-batch: tokens of each sample, frames, supervised tokens and decision positions."""

    segment_lengths: tuple[int, ...]
    num_frames: int
    num_lm: int
    num_decisions: int

    @property
    def num_tokens(self) -> int:
        return sum(self.segment_lengths)


@dataclass(frozen=True)
class MicroBatchMemory:
    """Bytes at the peak of forward and backward, besides weights, gradients that exist before, and moments."""

    frames: int
    """Pixels or features of the frames."""
    tower: int
    """The vision tower's work; a frozen tower is done before the text model begins."""
    text: int
    """Activations, logits, temporary tensors and new gradients at the peak of the text model."""

    def peak(self, tower_is_trained: bool) -> int:
        """Return the bytes at the peak of the whole micro-batch."""
        work = self.tower + self.text if tower_is_trained else max(self.tower, self.text)
        return self.frames + work


class LiveBytes(TorchDispatchMode):
    """Follows the bytes of all storages that exist, and their peak; works for fake and for real tensors."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.follow(tensor)
        return result

    def follow(self, tensor: torch.Tensor) -> None:
        """Count a tensor's storage until it is freed."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._known:
            self._known.add(key)
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._freed, key, storage.nbytes())

    def _freed(self, key: int, num_bytes: int) -> None:
        self._known.discard(key)
        self.now -= num_bytes


def build_model(recipe: Recipe, config: SmolVLMConfig, depths: tuple[int, int] | None = None) -> nn.Module:
    """Return the model that the recipe trains, on the meta device: shapes, dtypes and what is trained, no weights.

    Args:
        depths: layers of the text model and of the tower, if not its own.
    """
    config = copy.deepcopy(config)
    config.tokens_per_frame = recipe.model.tokens_per_frame
    if depths is not None:
        config.text_config.num_hidden_layers, config.vision_config.num_hidden_layers = depths
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = SmolVLMForDST(config)
        if recipe.finetune.mode == "lora":
            model = add_adapter(model, lora_config(recipe, model))
        make_trainable(model, recipe)
    return model


def micro_batch_memory(
    recipe: Recipe, config: SmolVLMConfig, shape: MicroBatchShape, has_gradients: bool = False
) -> MicroBatchMemory:
    """Return the memory that a micro-batch takes (see MicroBatchMemory).

    Args:
        recipe: with `train.gradient_checkpointing` decided.
        has_gradients: whether an earlier micro-batch of the step left gradients, which then are not counted here.
    """
    size, model = config.vision_config.image_size, unwrap(build_model(recipe, config, (1, 1)))
    if recipe.data.feature_cache is None:
        frames = shape.num_frames * 3 * size * size
        tower = _tower_bytes(recipe, config, min(shape.num_frames, recipe.model.vision_batch_size), shape.num_frames)
    else:
        kept = model.patch_shape if recipe.finetune.train.connector else model.embedding_shape
        width = (model.compute_dtype or torch.float32).itemsize
        frames, tower = shape.num_frames * int(torch.Size(kept).numel()) * width, 0
    return MicroBatchMemory(frames, tower, _text_bytes(recipe, config, shape, has_gradients))


def logits_bytes(recipe: Recipe, config: SmolVLMConfig, shape: MicroBatchShape) -> int:
    """Return the share of the text model's peak that the language head and the loss take."""
    without = replace(shape, num_lm=0)
    return max(0, _text_bytes(recipe, config, shape, False) - _text_bytes(recipe, config, without, False))


def _text_bytes(recipe: Recipe, config: SmolVLMConfig, shape: MicroBatchShape, has_gradients: bool) -> int:
    """Return the text model's bytes at its peak at the true depth."""
    peaks = (_peak_of_layers(recipe, config, shape, layers, has_gradients) for layers in FEW_LAYERS)
    return _at_depth(config.text_config.num_hidden_layers, *peaks)


def _at_depth(num_layers: int, few: int, more: int) -> int:
    """Return the bytes at a depth, from those at both FEW_LAYERS."""
    return few + (more - few) * (num_layers - FEW_LAYERS[0]) // (FEW_LAYERS[1] - FEW_LAYERS[0])


def _peak_of_layers(
    recipe: Recipe, config: SmolVLMConfig, shape: MicroBatchShape, layers: int, has_gradients: bool
) -> int:
    model = build_model(recipe, config, (layers, 1))
    with FakeTensorMode(allow_non_fake_inputs=True), LiveBytes() as live:
        materialize(model)
        if has_gradients:
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.grad = torch.zeros_like(parameter)
        batch = _Batch(unwrap(model), shape)
        before = live.peak = live.now
        run_micro_batch(model, recipe, batch)
    return live.peak - before


class _Batch:
    """Tensors of a micro-batch's sizes; frames come as features, so that the tower is left out."""

    def __init__(self, model: SmolVLMForDST, shape: MicroBatchShape):
        self.input_ids = torch.zeros(shape.num_tokens, dtype=torch.int64)
        self.frames = torch.zeros(shape.num_frames, *model.patch_shape, dtype=model.compute_dtype or torch.float32)
        self.segment_lengths = list(shape.segment_lengths)
        self.lm_positions = torch.zeros(shape.num_lm, dtype=torch.int64)
        self.lm_targets, self.lm_is_dst = torch.zeros_like(self.lm_positions), self.lm_positions == 0
        self.decision_positions = torch.zeros(shape.num_decisions, dtype=torch.int64)
        self.decisions = {head: torch.zeros_like(self.decision_positions) for head in HEAD_NAMES}


def run_micro_batch(model: nn.Module, recipe: Recipe, batch) -> None:
    """Run forward, loss and backward on fake tensors."""
    base = unwrap(model)
    # Where the frames' embeddings go depends on the ids' content, which fake tensors have not; the sizes are the same.
    places = torch.arange(len(batch.frames) * base.config.tokens_per_frame)

    def fuse(input_ids: torch.Tensor, frame_embeddings: torch.Tensor) -> torch.Tensor:
        embeddings = base.get_input_embeddings()(input_ids[None])
        return embeddings.index_copy(1, places, frame_embeddings.flatten(0, 1).to(embeddings.dtype)[None])

    base._fuse = fuse
    output = model(batch.input_ids, batch.frames, batch.segment_lengths, batch.lm_positions, batch.decision_positions)
    counts = dict.fromkeys(COUNT_NAMES, 1)
    compute_loss(output, batch, counts, recipe.loss, recipe.labels.balance)[0].backward()


def _tower_bytes(recipe: Recipe, config: SmolVLMConfig, num_at_once: int, num_frames: int) -> int:
    """Return the tower's bytes: at the peak of a chunk if it is frozen, else of all activations that it saves."""
    if not recipe.finetune.train.vision:
        return _tower_peak(recipe, config, 1, num_at_once)
    peaks = (_tower_peak(recipe, config, layers, num_frames) for layers in FEW_LAYERS)
    return _at_depth(config.vision_config.num_hidden_layers, *peaks)


def _tower_peak(recipe: Recipe, config: SmolVLMConfig, layers: int, num_frames: int) -> int:
    model = build_model(recipe, config, (1, layers))
    with FakeTensorMode(allow_non_fake_inputs=True), LiveBytes() as live:
        materialize(model)
        size = config.vision_config.image_size
        frames = torch.zeros(num_frames, 3, size, size, dtype=torch.uint8)
        before = live.peak = live.now
        embeddings = unwrap(model).encode_frames(frames)
        if recipe.finetune.train.vision:
            embeddings.float().sum().backward()
    return live.peak - before


def materialize(model: nn.Module) -> None:
    """Give a model on the meta device tensors of the current mode, on the CPU; shared ones stay shared."""
    model.to_empty(device="cpu")
    unwrap(model).tie_weights()
