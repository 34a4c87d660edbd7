"""Fixtures of the tests of data."""

import pytest

from dst_dist.data.reading import read_clips
from dst_dist.data.samples import Limits
from tests.data.datasets import make_dataset
from tests.data.handmade import make_root, public_style_clip, write_prospect


@pytest.fixture
def root(tmp_path):
    return make_root(tmp_path / "data")


@pytest.fixture
def public_clip(tmp_path):
    """The public kind of clip: an update, the user and a reply at one frame, two updates at another."""
    write_prospect(tmp_path, public_style_clip(), "toys")
    return read_clips(tmp_path, ["toys"], "train", True)[0][0]


@pytest.fixture
def demo_dataset(demo):
    """Several dozen samples, with a tenth of the negatives; one domain is drawn twice an epoch."""
    names = sorted(path.parent.name for path in demo.glob("*/train_training.json"))
    entries = [{names[0]: 2}, *names[1:], "proassist_demo/train.jsonl"]
    return make_dataset(demo, entries, Limits(4096, 12), rate=0.1)
