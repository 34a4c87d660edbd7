"""Datasets as a run makes them, and what their micro-batches hold."""

import torch

from dst_dist import config
from dst_dist.data.batching import Draw, MicroBatchSpec
from dst_dist.data.dataset import SampleDataset, apply_frame_faults, cut_split, read_split
from dst_dist.data.frames_check import check_frames
from dst_dist.data.samples import COUNT_NAMES, Limits, SampleMaker
from dst_dist.data.token_writer import TokenWriter
from tests.data.dialogs import demo_tokenizer

SIZE = 14
CPU = torch.device("cpu")
DIALOGS = "cooking/prepared/train.jsonl"
ROOMY = Limits(4096, 2048)


def make_dataset(root, names=("kitchen", "toys", DIALOGS), limits=ROOMY, rate=1.0, on_missing="error", seed=0, **data):
    """Return a dataset as a run makes it: read the clips, check the frames, split."""
    data = config.Data(root=str(root), train=list(names), on_missing=on_missing, context_seconds=1.0, **data)
    clips = read_split(data, "train")
    clips = apply_frame_faults(clips, check_frames(clips.index), on_missing)
    maker = SampleMaker(TokenWriter(demo_tokenizer(), 1), data, config.Labels(), limits)
    return SampleDataset(cut_split(clips, maker), maker, SIZE, seed, rate, on_missing)


def spec_of(dataset, *samples, epoch=0):
    draws = [Draw(sample, 0) for sample in samples]
    return MicroBatchSpec(0, epoch, draws, 0, True)


def frame_values(batch):
    """Return the value of each frame; all of its pixels must have it."""
    flat = batch.frames.reshape(len(batch.frames), -1)
    assert torch.equal(flat.min(1).values, flat.max(1).values)
    return flat[:, 0].tolist()


def labels_by_frame(batch, head):
    """Return the labels of frames, without those of user turns."""
    is_frame = batch.decision_is_frame
    return dict(zip(batch.decision_frames[is_frame].tolist(), batch.decisions[head][is_frame].tolist(), strict=True))


def counted(batches):
    """Return the counted positions in micro-batches, by COUNT_NAMES."""
    counts = dict.fromkeys(COUNT_NAMES, 0)
    for batch in batches:
        counts["lm"] += len(batch.lm_targets)
        counts["dst_gen"] += int(batch.lm_is_dst.sum())
        for head, labels in batch.decisions.items():
            counts[f"{head}_positives"] += int((labels == 1).sum())
            counts[f"{head}_negatives"] += int((labels == 0).sum())
    return counts


def check_counts(dataset, batches):
    """Check that the counts of a step are those in its micro-batches, on all processes together."""
    draws = [draw for batch in batches for draw in batch.spec.draws]
    assert dataset.counts(draws, batches[0].spec.epoch) == counted(batches)
