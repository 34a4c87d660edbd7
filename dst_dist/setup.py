"""The datasets of a run, with every check that needs no process group and no weights."""

from dst_dist.config import Recipe
from dst_dist.data.dataset import Clips, SampleDataset, apply_frame_faults, read_split
from dst_dist.data.frames_check import FrameFaults, check_frames
from dst_dist.data.reading import count_shared_videos
from dst_dist.data.reading_log import Report
from dst_dist.data.samples import Limits, SampleMaker
from dst_dist.data.token_writer import TokenWriter
from dst_dist.errors import ConfigError, DataError, collect
from dst_dist.model.model_files import ModelFiles

Faults = dict[str, FrameFaults]
"""What is wrong with the frames of each split."""


class DataSetup:
    """The model's small files, the clips and the datasets of a run.

    Every process reads the files when it makes a DataSetup; one process a node checks the frames. Faults of the files
    are kept, and `check` and `datasets` raise them together with those that they find.

    Args:
        base: as in `load_for_inference`.
        training_rate: share of the training split's negatives that count; the recipe's if None.
    """

    def __init__(
        self,
        recipe: Recipe,
        splits: tuple[str, ...] = ("train", "val"),
        base: str | None = None,
        training_rate: float | None = None,
    ):
        self.use(recipe)
        self._training_rate = recipe.labels.neg_frame_sampling_rate if training_rate is None else training_rate
        self.faults: list[str] = []
        self._checked: tuple[Faults, dict[str, SampleDataset]] | None = None
        self.model_files = collect(self.faults, lambda: ModelFiles.read(recipe, base))
        self.clips: dict[str, Clips] = {}
        for split in (split for split in splits if getattr(recipe.data, split)):
            clips = collect(self.faults, lambda split=split: read_split(recipe.data, split))
            if clips is not None:
                self.clips[split] = clips
        shared = Report()
        count_shared_videos({split: clips.index for split, clips in self.clips.items()}, shared)
        for clips in list(self.clips.values())[:1]:
            clips.notes.extend(shared.lines())

    def use(self, recipe: Recipe) -> None:
        """Set the recipe, and the limits of micro-batches that follow from it."""
        self.recipe = recipe
        # However many tokens `auto` comes to, a sample has `data.max_seq_len` at most.
        most = recipe.data.max_seq_len if recipe.train.max_tokens == "auto" else recipe.train.max_tokens
        self.limits = Limits(most, recipe.train.max_frames)

    def check(self) -> Faults:
        """Check the frames of every split, and that all clips can be cut; called on one process a node.

        Returns:
            The faulty frames, which `datasets` wants on every process.

        Raises:
            DataError: with every fault of model folder, data files, frames and lengths.
        """
        frame_faults = {split: check_frames(clips.index) for split, clips in self.clips.items()}
        # This process needs the same datasets next, and cutting hundreds of hours takes a while.
        self._checked = frame_faults, self.datasets(frame_faults)
        return frame_faults

    def datasets(self, frame_faults: Faults) -> dict[str, SampleDataset]:
        """Return the clips of each split, cut into samples. Raises DataError with the faults of all splits."""
        if self._checked is not None and self._checked[0] == frame_faults:
            return self._checked[1]
        faults = list(self.faults)
        made = {
            split: collect(faults, lambda split=split: self._dataset(split, frame_faults[split]))
            for split in self.clips
        }
        if faults:
            raise DataError(faults)
        return made

    def maker(self) -> SampleMaker:
        """Return what makes the run's samples. Only for a model folder without faults."""
        recipe = self.recipe
        tokens = min(recipe.data.max_seq_len, self.limits.tokens)
        writer = TokenWriter(self.model_files.tokenizer, recipe.model.tokens_per_frame)
        return SampleMaker(writer, recipe.data, recipe.labels, Limits(tokens, self.limits.frames))

    def _dataset(self, split: str, frame_faults: FrameFaults) -> SampleDataset | None:
        recipe = self.recipe
        clips = apply_frame_faults(self.clips[split], frame_faults, recipe.data.on_missing)
        if self.model_files is None:
            # Without a tokenizer nothing can be cut; the faults say why there is none.
            return None
        rate = self._training_rate if split == "train" else 1.0
        image_size = self.model_files.image_size
        data = SampleDataset(clips, self.maker(), image_size, recipe.seed, rate, recipe.data.on_missing)
        self.check_context(int(data.samples["tokens"].max()), f"data.{split}: the longest sample has")
        return data

    def check_context(self, num_tokens: int, what: str) -> None:
        """Raise ConfigError if `num_tokens` exceeds the model's positions; `what` names the source of the number."""
        most = self.model_files.max_positions
        if num_tokens > most:
            raise ConfigError(
                f"{what} {num_tokens} tokens, the model has {most} positions; "
                f"set data.max_seq_len={most} or train.max_tokens={most}"
            )
