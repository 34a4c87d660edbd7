"""Holds the samples of one split, and makes the data loader that turns them into micro-batches."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import torch.utils.data

from dst_dist import config
from dst_dist.data.batching import CACHED_FRAME_COST, ENCODED_FRAME_COST, Draw, MicroBatchSpec, PackedBatch, collate
from dst_dist.data.clips import Clip, ClipIndex
from dst_dist.data.conversation import IGNORE, frame_list
from dst_dist.data.cutting import CUT_FIELDS, cut_clips
from dst_dist.data.features import FeatureReader
from dst_dist.data.frames import MAX_OPEN_FILES, FrameReader
from dst_dist.data.frames_check import FrameFaults
from dst_dist.data.frames_finder import FramesFinder
from dst_dist.data.inputs import Stat
from dst_dist.data.loader_worker import start_worker
from dst_dist.data.negatives import Negatives
from dst_dist.data.reading import read_clips
from dst_dist.data.samples import COUNT_NAMES, Part, Sample, SampleMaker
from dst_dist.data.workers import Asked, num_workers
from dst_dist.errors import ConfigError, DataError
from dst_dist.heads import HEAD_NAMES


@dataclass
class Clips:
    """The clips of one split, their weights, and notes for the log."""

    index: ClipIndex
    weights: list[int]
    notes: list[str]
    missing: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Absolute frames that placeholders replace, by position in the index."""
    files: dict[str, Stat] = field(default_factory=dict)
    """Size and time of each frames file by the name of its video."""
    samples: np.ndarray | None = None
    """The table of samples, SAMPLE_DTYPE; None before the clips are cut."""

    def absent_files(self) -> frozenset[str]:
        """Return the paths of the frames files of clips that had no frame when they were checked."""
        lengths = np.diff(self.index.frames)[:, 0]
        blind = (clip for clip, frames in self.missing.items() if len(frames) == lengths[clip])
        return frozenset(map(self.index.frames_path, blind))


def read_split(
    data: config.Data,
    split: str,
    finder: FramesFinder | None = None,
    num_workers: int = 0,
    faults: list[str] | None = None,
) -> Clips:
    """Return the clips of `train`, `val` or `test`; frames are not looked at.

    Args:
        finder, num_workers, faults: as in `read_clips`.

    Raises:
        DataError: as `read_clips`.
    """
    names = getattr(data, split)
    index, weights, report = read_clips(Path(data.root), names, split, data.strict, finder, num_workers, faults)
    return Clips(index, weights, report.lines())


def apply_frame_faults(clips: Clips, faults: FrameFaults, on_missing: str) -> Clips:
    """Return the clips without those that lack frames, or with placeholders, as `data.on_missing` says.

    Raises:
        DataError: with every clip that lacks frames (`error`), or if no clip is left (`filter`).
    """
    clips = replace(clips, files=faults.files, notes=[*clips.notes, *_costs(faults)])
    if not faults.clips:
        return clips
    if on_missing == "error":
        remedy = "mend the file, or set data.on_missing to filter or placeholder"
        raise DataError([f"{text}; {remedy}" for text in faults.clips.values()])
    if on_missing == "filter":
        return _leave_out(clips, faults)
    number = sum(map(len, faults.missing.values()))
    lengths = np.diff(clips.index.frames)[:, 0]
    num_blind = sum(len(frames) == lengths[clip] for clip, frames in faults.missing.items())
    note = (
        f"{number} frames of {len(faults.missing)} clips are missing ({num_blind} clips have no other): "
        "grey ones replace them, their decisions are ignored"
    )
    return replace(clips, missing=faults.missing, notes=[*clips.notes, note, *list(faults.clips.values())[:3]])


def _costs(faults: FrameFaults) -> list[str]:
    """Return a note on the memory that compressed frames files take; none without such files."""
    sizes = sorted(faults.held_bytes.values(), reverse=True)
    if not sizes:
        return []
    most_mib = sum(sizes[:MAX_OPEN_FILES]) / 2**20
    return [
        f"{len(sizes)} of {len(faults.files)} frames files are compressed: each data worker holds those it has open, "
        f"{MAX_OPEN_FILES} at most, whole in its own memory, up to {most_mib:.0f} MiB; written without compression "
        f"they take none, for example {next(iter(faults.held_bytes))}"
    ]


def _leave_out(clips: Clips, faults: FrameFaults) -> Clips:
    """Return the clips whose frames are complete, with a note on the others for each dataset."""
    keep = [clip for clip in range(len(clips.index)) if clip not in faults.clips]
    if not keep:
        raise DataError(["data.on_missing=filter leaves no clip", *list(faults.clips.values())[:3]])
    total = Counter(clip.dataset for clip in clips.index)
    lost = Counter(clips.index[clip].dataset for clip in faults.clips)
    notes = [f"{name}: {lost[name]} of {total[name]} clips left out, frames are missing" for name in sorted(lost)]
    weights = [clips.weights[clip] for clip in keep]
    return replace(clips, index=clips.index.subset(keep), weights=weights, notes=[*clips.notes, *notes])


def cut_split(clips: Clips, maker: SampleMaker, num_workers: int = 0) -> Clips:
    """Return the clips with their table of samples. Raises DataError with every clip with a turn that does not fit."""
    samples, notes = cut_clips(clips.index, clips.missing, maker, num_workers)
    return replace(clips, samples=samples, notes=[*clips.notes, *notes])


class SampleDataset(torch.utils.data.Dataset):
    """Samples of a split as plain arrays; indexed by a `MicroBatchSpec` it returns a `PackedBatch`.

    Clips are tokenized again whenever a sample is made, so an index of 20,000 clips stays a few MiB of arrays.
    Frames are decoded, or their features read, once per sample, straight into the micro-batch's own array.

    Attributes:
        reader: gives the frames of a micro-batch; a FeatureReader in place of it gives their features.

    Args:
        clips: cut, see `cut_split`.
        image_size: S, the side of the tower's square input in pixels.
        negative_rate: share of the negatives that count; 1.0 in evaluation.
    """

    def __init__(
        self, clips: Clips, maker: SampleMaker, image_size: int, seed: int, negative_rate: float, on_missing: str
    ):
        self.clips, self.maker, self.image_size, self.on_missing = clips, maker, image_size, on_missing
        self.notes, self.samples = list(clips.notes), clips.samples
        self.weights = np.array(clips.weights, dtype=np.int64)[self.samples["clip"]]
        available = {head: self.samples[f"{head}_negatives"] for head in HEAD_NAMES}
        self.negatives = Negatives(negative_rate, seed, self.weights, available)
        self.reader: FrameReader | FeatureReader = FrameReader(image_size, absent=clips.absent_files())

    def counts(self, draws: Sequence[Draw], epoch: int) -> dict[str, int]:
        """Return the counted positions of some draws by COUNT_NAMES, from the table of samples alone."""
        chosen = self.samples[[draw.sample for draw in draws]]
        kept = self.negatives.num_kept(draws, epoch)
        negatives = {f"{head}_negatives": int(numbers.sum()) for head, numbers in kept.items()}
        return {name: int(chosen[name].sum()) for name in COUNT_NAMES} | negatives

    def expected_classes(self) -> dict[str, tuple[float, float]]:
        """Return by head the positives and negatives that count in an epoch, by the draws of each clip."""
        rate = self.negatives.rate
        return {head: (positives, negatives * rate) for head, (positives, negatives) in self._classes().items()}

    def positive_rates(self) -> dict[str, float]:
        """Return by head the share of positives in an epoch, with all negatives."""
        return {head: positives / max(1, positives + other) for head, (positives, other) in self._classes().items()}

    def _classes(self) -> dict[str, tuple[int, int]]:
        drawn = {name: int(self.weights @ self.samples[name]) for name in COUNT_NAMES}
        return {head: (drawn[f"{head}_positives"], drawn[f"{head}_negatives"]) for head in HEAD_NAMES}

    @property
    def fingerprint(self) -> str:
        """Hex digest of the clips and of how they are split."""
        return hashlib.sha256(self.clips.index.fingerprint().encode() + self._cuts()).hexdigest()

    def digests(self) -> dict[str, str]:
        """Return the hex digests that must be the same when a run is resumed.

        `dataset` covers the clips, their missing frames and the sizes of the frames files; `samples` covers how clips
        are split.
        """
        clips = self.clips
        sizes = sorted((video, stat.size) for video, stat in clips.files.items())
        frames = json.dumps([sorted(clips.missing.items()), sizes])
        return {
            "dataset": hashlib.sha256(clips.index.fingerprint().encode() + frames.encode()).hexdigest(),
            "samples": hashlib.sha256(self._cuts()).hexdigest(),
        }

    def _cuts(self) -> bytes:
        return np.stack([self.samples[name] for name in CUT_FIELDS], axis=1).tobytes()

    @property
    def frame_cost(self) -> int:
        """Cost of a frame in tokens of the text model, for `pack`."""
        return CACHED_FRAME_COST if isinstance(self.reader, FeatureReader) else ENCODED_FRAME_COST

    def __len__(self) -> int:
        return len(self.samples)

    def sample(self, draw: Draw, epoch: int) -> Sample:
        """Return one sample's arrays with this epoch's negatives."""
        sample = self.whole_sample(draw.sample)
        return replace(sample, decisions=self.negatives.keep(sample.decisions, draw, epoch))

    def whole_sample(self, number: int) -> Sample:
        """Return one sample's arrays with every negative."""
        clip, context, start, stop, num_tokens, _, *counts = self.samples[number].tolist()
        part = Part(context, start, stop, num_tokens, tuple(counts))
        return self.maker.make(self.clips.index[clip], part, self.clips.missing.get(clip, ()))

    def sample_id(self, index: int) -> str:
        """Return a name for messages: the clip's id, and for a part `[first:end]`, its supervised frames (absolute)."""
        row, clip = self.samples[index], self._clip(index)
        frames = frame_list(clip, self.maker.data.frames)
        if row["stop"] - row["start"] == len(frames):
            return clip.id
        return f"{clip.id}[{frames[row['start']]}:{frames[row['stop'] - 1] + 1}]"

    def __getitem__(self, spec: MicroBatchSpec) -> PackedBatch:
        """Return the micro-batch with its frames.

        The labels of a frame found corrupt only here are ignored, but stay in the counts of the step: its means are
        over one position more, on any number of processes. A file that cannot be opened any more is a fault, whatever
        `data.on_missing` says.
        """
        samples = [self.sample(draw, spec.epoch) for draw in spec.draws]
        num_frames = [len(sample.frames) for sample in samples]
        frames = self.reader.empty(sum(num_frames))
        faults, num_placeholders = [], 0
        for draw, sample, out in zip(spec.draws, samples, frames.split(num_frames), strict=False):
            clip = self._clip(draw.sample)
            try:
                bad = sample.frames[~self.reader.read(clip.frames_path, sample.frames.tolist(), out)]
            except DataError as error:
                faults.append(f"{clip.id}: {error}")
                continue
            num_placeholders += len(bad)
            if len(bad) and self.on_missing == "error":
                name = f"{self.sample_id(draw.sample)} in {clip.video}"
                faults.append(
                    f"{len(bad)} frames of {name} cannot be decoded, the first is {bad[0]}; mend the file, or set "
                    "data.on_missing to placeholder"
                )
            blind = np.isin(sample.decision_frames, bad) & sample.decision_is_frame
            for labels in sample.decisions.values():
                labels[blind] = IGNORE
        batch = collate(samples, spec, frames, self.maker.writer.pad_id)
        batch.num_placeholders = num_placeholders
        if faults:
            batch.fault = "; ".join(dict.fromkeys(faults))
        return batch

    def _clip(self, sample: int) -> Clip:
        return self.clips.index[int(self.samples[sample]["clip"])]


def make_loader(
    dataset: SampleDataset, specs: Iterable[MicroBatchSpec], asked_workers: Asked, device: torch.device
) -> Iterator[PackedBatch]:
    """Return the micro-batches of `specs`, in this order, made by workers, which start at once.

    At most two micro-batches a worker wait, of more than four workers one; in shared memory, and for a GPU in pinned
    memory too. Each holds at most `train.max_frames` frames of 3 * S * S bytes.

    Raises:
        ConfigError: if the system refuses the workers or what connects them.
    """
    count = num_workers(asked_workers)
    waiting = 2 if count <= 4 else 1
    loader = torch.utils.data.DataLoader(
        dataset,
        batch_size=None,
        sampler=specs,
        num_workers=count,
        prefetch_factor=waiting if count else None,
        pin_memory=device.type == "cuda",
        # The loader draws a seed for its workers. Nothing here uses it, and training's random state stays as it was.
        generator=torch.Generator(),
        worker_init_fn=start_worker,
    )
    try:
        return iter(loader)
    except OSError as error:
        raise ConfigError(
            f"data.num_workers: {count} data workers cannot be started ({error}); see the limits of processes and "
            "files (ulimit -a) and the room in /dev/shm, or set data.num_workers=0"
        ) from error
