"""Words of a recipe on a copy of the small demo's data, so that nothing is kept from other tests."""

import shutil

import pytest


@pytest.fixture(scope="session")
def words(demo, demo_words, tmp_path_factory):
    root = tmp_path_factory.mktemp("inspected") / "data"
    shutil.copytree(demo, root, ignore=shutil.ignore_patterns(".dst_dist", "model"))
    return ["demo", *demo_words, f"data.root={root}", "labels.neg_frame_sampling_rate=0.4"]
