"""The samples of one split, and the micro-batches that workers make of them."""

import hashlib
import json
import signal
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import torch.utils.data

from dst_dist import config
from dst_dist.data.batching import Draw, MicroBatchSpec, PackedBatch, collate
from dst_dist.data.clips import ClipIndex
from dst_dist.data.conversation import HEAD_ROLES, IGNORE, frame_list
from dst_dist.data.frames import FrameFaults, FrameReader
from dst_dist.data.reading import read_clips
from dst_dist.data.samples import COUNT_NAMES, Part, Sample, SampleMaker, sample_negatives
from dst_dist.errors import DataError

SAMPLE_DTYPE = np.dtype([(name, np.int32) for name in ("clip", "context", "start", "stop", "tokens", "frames")])


@dataclass
class Clips:
    """The clips of one split and what was found on the way."""

    index: ClipIndex
    weights: list[int]
    notes: list[str]
    missing: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """By position in the index: absolute frames that grey ones stand in for."""
    num_bytes: dict[str, int] = field(default_factory=dict)
    """Size of each frames file by the name of its video."""


def read_split(data: config.Data, split: str) -> Clips:
    """Read the files that the recipe names for `train`, `val` or `test`; frames are not looked at.

    Raises:
        DataError: with every fault found in any file.
    """
    index, weights, report = read_clips(Path(data.root), getattr(data, split), split, data.strict)
    return Clips(index, weights, report.lines())


def apply_frame_faults(clips: Clips, faults: FrameFaults, on_missing: str) -> Clips:
    """Deal with missing and corrupt frames as `data.on_missing` says.

    Raises:
        DataError: naming every clip at fault (`error`), or if nothing is left (`filter`).
    """
    clips = replace(clips, num_bytes=faults.num_bytes)
    if not faults.clips:
        return clips
    if on_missing == "error":
        remedy = "mend the file, or set data.on_missing to filter or placeholder"
        raise DataError([f"{text}; {remedy}" for text in faults.clips.values()])
    if on_missing == "filter":
        return _leave_out(clips, faults)
    number = sum(map(len, faults.missing.values()))
    note = (
        f"{number} frames of {len(faults.missing)} clips are missing ({len(faults.unusable)} clips have no other): "
        "grey ones stand in, their decisions are ignored"
    )
    return replace(clips, missing=faults.missing, notes=[*clips.notes, note, *list(faults.clips.values())[:3]])


def _leave_out(clips: Clips, faults: FrameFaults) -> Clips:
    """The clips whose frames are complete; how many of how many went is said by dataset."""
    keep = [clip for clip in range(len(clips.index)) if clip not in faults.clips]
    if not keep:
        raise DataError(["data.on_missing=filter leaves no clip", *list(faults.clips.values())[:3]])
    total = Counter(clip.dataset for clip in clips.index)
    left_out = Counter(clips.index[clip].dataset for clip in faults.clips)
    notes = [f"{name}: {left_out[name]} of {total[name]} clips left out, frames are missing" for name in sorted(left_out)]
    weights = [clips.weights[clip] for clip in keep]
    return replace(clips, index=clips.index.subset(keep), weights=weights, notes=[*clips.notes, *notes])


class SampleDataset(torch.utils.data.Dataset):
    """Samples of a split as plain arrays; asked for a `MicroBatchSpec`, gives a `PackedBatch`.

    Clips are tokenized again whenever a sample is made: an index of 20,000 clips stays a few MiB of arrays.
    Frames are decoded once per sample, straight into the micro-batch's own array.

    Args:
        image_size: S, the side of the tower's square input in pixels.
        negative_rate: the share of negatives counted; evaluation always counts all.

    Raises:
        DataError: naming every clip with a turn that cannot fit.
    """

    def __init__(
        self, clips: Clips, maker: SampleMaker, image_size: int, seed: int, negative_rate: float, on_missing: str
    ):
        self.clips, self.maker, self.image_size = clips, maker, image_size
        self.seed, self.negative_rate, self.on_missing = seed, negative_rate, on_missing
        self.notes = list(clips.notes)
        self.samples = self._split_all()
        self.weights = np.array([clips.weights[clip] for clip in self.samples["clip"]], dtype=np.int64)
        self._reader: FrameReader | None = None

    def _split_all(self) -> np.ndarray:
        rows, faults, counts = [], [], Counter()
        self._classes: Counter[tuple[str, int]] = Counter()
        for position, weight in enumerate(self.clips.weights):
            of_clip: Counter[str | tuple[str, int]] = Counter()
            try:
                parts = self.maker.split(self.clips.index[position], of_clip)
            except DataError as error:
                faults += error.faults
                continue
            rows += [(position, *part, part.num_frames) for part in parts]
            counts.update({kind: number for kind, number in of_clip.items() if isinstance(kind, str)})
            self._classes.update({kind: weight * number for kind, number in of_clip.items() if isinstance(kind, tuple)})
        self.notes += [f"{number} {kind}" for kind, number in counts.items() if number]
        if faults:
            raise DataError(faults)
        if not rows:
            raise DataError("there is no sample: no clip has a frame to look at")
        return np.array(rows, dtype=SAMPLE_DTYPE)

    def expected_classes(self) -> dict[str, tuple[float, float]]:
        """By head, the positives and the negatives that count in an epoch, each as often as its clip is drawn."""
        return {
            head: (self._classes[head, 1], self._classes[head, 0] * self.negative_rate) for head in HEAD_ROLES
        }

    def positive_rates(self) -> dict[str, float]:
        """By head, the share of positives among all its positions of an epoch, all negatives counted."""
        return {head: self._classes[head, 1] / max(1, self._classes[head, 1] + self._classes[head, 0]) for head in HEAD_ROLES}

    @property
    def fingerprint(self) -> str:
        """Hex digest of the clips and of how they are cut."""
        return hashlib.sha256(self.clips.index.fingerprint().encode() + self.samples.tobytes()).hexdigest()

    def digests(self) -> dict[str, str]:
        """What a run that goes on must find as it was, each as hex: `dataset`, the clips, which of their frames are
        there, and the sizes of the frames files; `samples`, how clips are cut."""
        clips = self.clips
        frames = json.dumps([sorted(clips.missing.items()), sorted(clips.num_bytes.items())])
        return {
            "dataset": hashlib.sha256(clips.index.fingerprint().encode() + frames.encode()).hexdigest(),
            "samples": hashlib.sha256(self.samples.tobytes()).hexdigest(),
        }

    def __len__(self) -> int:
        return len(self.samples)

    def sample(self, draw: Draw, epoch: int) -> Sample:
        """One sample's arrays with this epoch's negatives."""
        row = self.samples[draw.sample]
        clip = self.clips.index[int(row["clip"])]
        part = Part(*(int(row[name]) for name in ("context", "start", "stop", "tokens")))
        sample = self.maker.make(clip, part, self.clips.missing.get(int(row["clip"]), ()))
        if self.negative_rate == 1:
            return sample
        rng = np.random.default_rng([self.seed, epoch, draw.sample, draw.repeat])
        return replace(
            sample,
            dst_update=sample_negatives(sample.dst_update, self.negative_rate, rng),
            speaking=sample_negatives(sample.speaking, self.negative_rate, rng),
        )

    def counts(self, draws: Sequence[Draw], epoch: int) -> np.ndarray:
        """Counted positions of some draws, float64 in the order of COUNT_NAMES; no frame is read."""
        return sum((self.sample(draw, epoch).counts() for draw in draws), np.zeros(len(COUNT_NAMES)))

    def sample_id(self, index: int) -> str:
        """A name for messages: the clip and, of a split clip, the supervised frames (absolute, without the end)."""
        row = self.samples[index]
        clip = self.clips.index[int(row["clip"])]
        frames = frame_list(clip, self.maker.data.frames)
        if row["stop"] - row["start"] == len(frames):
            return clip.id
        return f"{clip.id}[{frames[row['start']]}:{frames[row['stop'] - 1] + 1}]"

    def __getitem__(self, spec: MicroBatchSpec) -> PackedBatch:
        """The micro-batch with its frames.

        A frame found corrupt only here is left out of the labels, but stays in `step_counts`: the means of that step
        are over one position more, on every number of processes alike.
        """
        samples = [self.sample(draw, spec.epoch) for draw in spec.draws]
        num_frames = [len(sample.frames) for sample in samples]
        frames = np.empty((sum(num_frames), 3, self.image_size, self.image_size), np.uint8)
        faults, num_placeholders = [], 0
        for draw, sample, out in zip(spec.draws, samples, np.split(frames, np.cumsum(num_frames)), strict=False):
            bad = self._read_frames(draw, sample, out)
            num_placeholders += len(bad)
            if bad and self.on_missing == "error":
                faults.append(self._describe_faults(draw, bad))
            blind = np.isin(sample.decision_frames, bad) & sample.decision_is_frame
            sample.dst_update[blind] = IGNORE
            sample.speaking[blind] = IGNORE
        batch = collate(samples, spec, frames, self.maker.writer.pad_id)
        batch.num_placeholders = num_placeholders
        if faults:
            batch.fault = "; ".join([*faults, "mend the file, or set data.on_missing to placeholder"])
        if spec.rank_draws is not None:
            batch.step_counts = torch.from_numpy(self.counts(spec.rank_draws, spec.epoch))
        return batch

    def _describe_faults(self, draw: Draw, bad: list[int]) -> str:
        video = self.clips.index[int(self.samples[draw.sample]["clip"])].video
        return f"{len(bad)} frames of {self.sample_id(draw.sample)} in {video} cannot be decoded, the first is {bad[0]}"

    def _read_frames(self, draw: Draw, sample: Sample, out: np.ndarray) -> list[int]:
        """Decode a sample's frames into `out`; the absolute indexes of those that could not be read."""
        if self._reader is None:
            # Opened in the worker that reads: memory maps and file handles are not carried over a fork.
            self._reader = FrameReader(self.image_size)
        clip = self.clips.index[int(self.samples[draw.sample]["clip"])]
        readable = self._reader.read(clip.frames_path, sample.frames.tolist(), out)
        return [int(frame) for frame in sample.frames[~readable]]


def make_loader(
    dataset: SampleDataset, specs: Iterable[MicroBatchSpec], num_workers: int, device: torch.device
) -> torch.utils.data.DataLoader:
    """Micro-batches in the order of `specs`, made by workers.

    At most `2 * num_workers` micro-batches wait, in shared memory and for a GPU in pinned memory too; each holds
    at most `train.max_frames` frames of 3 * S * S bytes.
    """
    return torch.utils.data.DataLoader(
        dataset,
        batch_size=None,
        sampler=specs,
        num_workers=num_workers,
        prefetch_factor=2 if num_workers else None,
        pin_memory=device.type == "cuda",
        # The loader draws a seed for its workers. Nothing here uses it, and training's random state stays as it was.
        generator=torch.Generator(),
        worker_init_fn=_leave_signals_to_the_trainer,
    )


def _leave_signals_to_the_trainer(worker: int) -> None:
    """A signal to the whole process group asks the trainer to stop; its workers go on until it tells them."""
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
