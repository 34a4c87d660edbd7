"""Everything that can be checked before a process group or a weight is loaded."""

import os
from dataclasses import dataclass

from transformers import AutoTokenizer, PreTrainedConfig, SmolVLMConfig

from dst_dist.config import Recipe
from dst_dist.data.conversation import TokenWriter
from dst_dist.data.dataset import Clips, SampleDataset, apply_frame_faults, read_split
from dst_dist.data.findings import Report
from dst_dist.data.frames import FrameFaults, check_frames
from dst_dist.data.reading import count_shared_videos
from dst_dist.data.samples import Limits, SampleMaker
from dst_dist.errors import ConfigError, DataError
from dst_dist.model.finetune import cannot_be_had
from dst_dist.model.smolvlm_dst import pooled_side

Faults = dict[str, FrameFaults]


@dataclass
class ModelFiles:
    """A model folder's small files: what data needs to know of the model."""

    tokenizer: object
    image_size: int

    @classmethod
    def read(cls, name: str, tokens_per_frame: int) -> "ModelFiles":
        """Raises ConfigError if the model cannot be had, or cannot give that many tokens a frame."""
        try:
            values, _ = PreTrainedConfig.get_config_dict(name)
            tokenizer = AutoTokenizer.from_pretrained(name)
        except (OSError, ValueError) as error:
            raise ConfigError(cannot_be_had(name, error)) from error
        if values.get("model_type") != "smolvlm":
            raise ConfigError(f"model.name_or_path: {name} is of type {values.get('model_type')}, not a SmolVLM2")
        config = SmolVLMConfig.from_dict(values)
        pooled_side(config, tokens_per_frame)
        return cls(tokenizer, config.vision_config.image_size)


class DataSetup:
    """The datasets of a run. The recipe's files are read at once; frames are looked at once a node.

    Raises:
        DataError, ConfigError: with every fault found.
    """

    def __init__(self, recipe: Recipe, splits: tuple[str, ...] = ("train", "val")):
        self.recipe = recipe
        self.limits = Limits(recipe.train.max_tokens, recipe.train.max_frames)
        faults: list[str] = []
        self.model_files = _collect(faults, lambda: ModelFiles.read(recipe.model.name_or_path, recipe.model.tokens_per_frame))
        named = [split for split in splits if getattr(recipe.data, split)]
        self.clips: dict[str, Clips] = {}
        for split in named:
            clips = _collect(faults, lambda split=split: read_split(recipe.data, split))
            if clips is not None:
                self.clips[split] = clips
        if faults:
            raise DataError(faults)
        shared = Report()
        count_shared_videos({split: clips.index for split, clips in self.clips.items()}, shared)
        self.clips[named[0]].notes.extend(shared.lines())

    def look_at_frames(self) -> Faults:
        """Check the frames of every split; done by one process a node."""
        return {split: check_frames(clips.index) for split, clips in self.clips.items()}

    def datasets(self, frame_faults: Faults) -> dict[str, SampleDataset]:
        """Cut the clips into samples. Raises DataError with the faults of all splits."""
        faults: list[str] = []
        made = {
            split: _collect(faults, lambda split=split: self._dataset(split, frame_faults[split])) for split in self.clips
        }
        if faults:
            raise DataError(faults)
        return made

    def _dataset(self, split: str, frame_faults: FrameFaults) -> SampleDataset:
        recipe = self.recipe
        clips = apply_frame_faults(self.clips[split], frame_faults, recipe.data.on_missing)
        tokens = min(recipe.data.max_seq_len, self.limits.tokens)
        writer = TokenWriter(self.model_files.tokenizer, recipe.model.tokens_per_frame)
        maker = SampleMaker(writer, recipe.data, recipe.labels, Limits(tokens, self.limits.frames))
        rate = recipe.labels.neg_frame_sampling_rate if split == "train" else 1.0
        return SampleDataset(clips, maker, self.model_files.image_size, recipe.seed, rate, recipe.data.on_missing)


def _collect(faults: list[str], make):
    """What `make` returns, or None with its faults added to the list."""
    try:
        return make()
    except (ConfigError, DataError) as error:
        faults += error.faults
        return None


def is_node_leader() -> bool:
    """One process a node looks at the files; the launcher says which."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0
