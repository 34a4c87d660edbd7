"""Makes the datasets of a run, after every check that needs no process group and no weights."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from dst_dist import launched
from dst_dist.config import Recipe
from dst_dist.data.certificates import Certificates
from dst_dist.data.dataset import Clips, SampleDataset, apply_frame_faults, cut_split, read_split
from dst_dist.data.frames_check import FrameFaults, check_frames
from dst_dist.data.frames_finder import FramesFinder
from dst_dist.data.index_cache import IndexCache
from dst_dist.data.inputs import stat_of
from dst_dist.data.reading import shared_videos
from dst_dist.data.reading_log import FAULTS_PER_FILE
from dst_dist.data.samples import Limits, SampleMaker
from dst_dist.data.token_writer import TokenWriter
from dst_dist.data.workers import num_cores
from dst_dist.errors import ConfigError, DataError, collect
from dst_dist.logs import logger
from dst_dist.model.model_files import ModelFiles


@dataclass(frozen=True)
class SplitCheck:
    """Findings of the main process about a split; every process makes the same dataset of it."""

    faults: FrameFaults
    entry: str | None
    """Name of the cache's entry; None if it is not kept."""
    fingerprint: str


Checks = dict[str, SplitCheck]


class DataSetup:
    """The model's small files, and the datasets of a run.

    The main process reads, checks and cuts the clips (`check`), or finds that an earlier start has done it. The others
    map what it kept; only where they cannot see it, they read and cut for themselves.

    Args:
        splits: those that the recipe has no data for are left out.
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
        self._splits = [split for split in splits if getattr(recipe.data, split)]
        self._training_rate = recipe.labels.neg_frame_sampling_rate if training_rate is None else training_rate
        self.faults: list[str] = []
        self.model_files = collect(self.faults, lambda: ModelFiles.read(recipe, base))
        self._cache = IndexCache(recipe.data)
        self._num_workers = num_cores() if recipe.data.num_workers else 0
        self._clips: dict[str, Clips] = {}
        self._has_complained = False

    def use(self, recipe: Recipe) -> None:
        """Set the recipe and its limits of micro-batches."""
        self.recipe = recipe
        # Whatever `auto` becomes, a sample has at most `data.max_seq_len` tokens.
        most = recipe.data.max_seq_len if recipe.train.max_tokens == "auto" else recipe.train.max_tokens
        self.limits = Limits(most, recipe.train.max_frames)

    def check(self) -> Checks:
        """Read the clips of every split, check their frames, and cut them; called on the main process alone.

        Returns:
            The argument of `datasets` on every process.

        Raises:
            DataError: with every fault of model folder, data files, frames and lengths.
        """
        faults = list(self.faults)
        checks = {split: collect(faults, partial(self._check_split, split)) for split in self._splits}
        if faults:
            raise DataError(faults)
        return checks

    def datasets(self, checks: Checks) -> dict[str, SampleDataset]:
        """Return the clips of each split, cut into samples.

        Raises:
            DataError: if the data that this process sees is not that of the main process.
        """
        if self.faults:
            raise DataError(self.faults)
        clips = {split: self._clips.get(split) or self._open(split, checks[split]) for split in self._splits}
        if launched.is_node_leader() and not launched.is_main():
            self._compare_files(checks)
        datasets = {split: self._dataset(split, of_split) for split, of_split in clips.items()}
        for data in list(datasets.values())[:1]:
            data.notes.extend(shared_videos({split: of_split.index for split, of_split in clips.items()}))
        return datasets

    def maker(self) -> SampleMaker:
        """Return the maker of the run's samples. Only for a model folder without faults."""
        recipe = self.recipe
        tokens = min(recipe.data.max_seq_len, self.limits.tokens)
        writer = TokenWriter(self.model_files.tokenizer, recipe.model.tokens_per_frame)
        return SampleMaker(writer, recipe.data, recipe.labels, Limits(tokens, self.limits.frames))

    def check_context(self, num_tokens: int, what: str) -> None:
        """Raise ConfigError if `num_tokens` exceeds the model's positions; `what` names the source of the number."""
        most = self.model_files.max_positions
        if num_tokens > most:
            raise ConfigError(
                f"{what} {num_tokens} tokens, the model has {most} positions; "
                f"set data.max_seq_len={most} or train.max_tokens={most}"
            )

    def _check_split(self, split: str) -> SplitCheck | None:
        """Find or make the clips of a split. Without a model folder nothing is cut; its faults stop the run anyway."""
        finder = FramesFinder(self._cache.root)
        maker = None if self.model_files is None else self.maker()
        key = None if maker is None else self._key(split, maker)
        found = None if key is None else self._cache.find(key, finder)
        if found is not None:
            entry, clips, faults = found
        else:
            clips, faults = self._make(split, finder, maker)
            entry = None if key is None else self._write(lambda: self._keep(key, clips, faults, finder))
            # Mapped, it is shared with the other processes.
            clips = clips if entry is None else self._cache.open(entry)
        if maker is None:
            return None
        self.check_context(int(clips.samples["tokens"].max()), f"data.{split}: the longest sample has")
        self._clips[split] = clips
        return SplitCheck(faults, entry, clips.index.fingerprint())

    def _make(self, split: str, finder: FramesFinder, maker: SampleMaker | None) -> tuple[Clips, FrameFaults]:
        """Read and check a split, and cut it if there is a maker. Raises DataError with what all three find."""
        data, workers, faults = self.recipe.data, self._num_workers, []
        clips = read_split(data, split, finder, workers, faults)
        certificates = Certificates(self._cache.certificates_file)
        of_frames = check_frames(clips.index, data.check, certificates, workers)
        self._write(certificates.save)
        clips = collect(faults, lambda: apply_frame_faults(clips, of_frames, data.on_missing)) or clips
        if maker is not None and len(clips.index):
            clips = collect(faults, lambda: cut_split(clips, maker, workers)) or clips
        if faults:
            raise DataError(faults)
        return clips, of_frames

    def _keep(self, key: dict[str, Any], clips: Clips, faults: FrameFaults, finder: FramesFinder) -> str | None:
        """Keep a split and return its entry, if there is one. Raises OSError if it cannot be written, or mapped."""
        entry = self._cache.keep(key, clips, faults, finder)
        if entry is not None and self._cache.open(entry) is None:
            raise OSError("its files cannot be mapped into memory")
        return entry

    def _key(self, split: str, maker: SampleMaker) -> dict[str, Any] | None:
        """Return the key of a split's entry; None if a file has faults, which reading it raises with all others."""
        try:
            return self._cache.key(self.recipe.data, split, maker, self.model_files.digest)
        except DataError:
            return None

    def _write(self, write: Callable[[], Any]) -> Any:
        """Return what `write` returns; None if it raises OSError, with one warning that there is no cache."""
        try:
            return write()
        except OSError as error:
            if not self._has_complained:
                logger.warning(
                    f"{self._cache.folder}: cannot be used ({error.strerror or error}), so every start reads and "
                    "checks the data anew and each process holds its own copy; set data.index_cache to a folder"
                )
            self._has_complained = True
            return None

    def _open(self, split: str, check: SplitCheck) -> Clips:
        """Return the clips that the main process has checked, mapped if this process sees them."""
        clips = None if check.entry is None else self._cache.open(check.entry)
        if clips is None:
            data = self.recipe.data
            clips = cut_split(apply_frame_faults(read_split(data, split), check.faults, data.on_missing), self.maker())
            if clips.index.fingerprint() != check.fingerprint:
                raise DataError(
                    f"data.{split}: {data.root} holds other clips here than for the main process; copy it again"
                )
        return clips

    def _compare_files(self, checks: Checks) -> None:
        """Raise DataError if this node has other frames files than the main process has checked."""
        stats = {video: stat for check in checks.values() for video, stat in check.faults.files.items()}
        sizes = {video: (stat.size, stat_of(self._cache.root / video).size) for video, stat in stats.items()}
        faults = [
            f"{video}: {here} bytes on this node, {checked} where frames were checked; copy data.root again"
            for video, (checked, here) in sizes.items()
            if here != checked
        ]
        if faults:
            raise DataError(faults[:FAULTS_PER_FILE])

    def _dataset(self, split: str, clips: Clips) -> SampleDataset:
        rate = self._training_rate if split == "train" else 1.0
        recipe, image_size = self.recipe, self.model_files.image_size
        return SampleDataset(clips, self.maker(), image_size, recipe.seed, rate, recipe.data.on_missing)
