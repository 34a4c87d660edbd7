"""Room on the disk for what a run saves, seen before the first step."""

import os
import subprocess

import pytest

from dst_dist.train import room
from tests.train.in_process import train
from tests.train.runs import cut_words, status_of

pytestmark = pytest.mark.usefixtures("own_logging_of_test")


@pytest.fixture
def words(demo_words, tmp_path):
    return cut_words(demo_words, "full", "data.val=[]", "train.max_steps=1", f"output_dir={tmp_path}/run")


def test_without_room_for_one_checkpoint_nothing_is_trained(words, tmp_path, monkeypatch):
    monkeypatch.setattr(room, "free_bytes", lambda folder: 1 << 20)
    assert train(words) == 2
    reason = status_of(tmp_path / "run")["reason"]
    assert "output_dir: a checkpoint takes 0.01 GiB" in reason and f"{tmp_path}/run has 0.00 GiB free" in reason
    assert not (tmp_path / "run/metrics.jsonl").exists() and not (tmp_path / "run/checkpoints").exists()


@pytest.mark.parametrize("free, is_warned", [(30 << 20, True), (None, False)])
def test_where_not_all_fits_the_log_says_so(words, tmp_path, monkeypatch, free, is_warned):
    monkeypatch.setattr(room, "free_bytes", lambda folder: free)
    assert train(words) == 0
    log = (tmp_path / "run/train.log").read_text()
    assert ("checkpoints and final/ take" in log and "has 0.03 GiB free" in log) == is_warned


def mounted(folder, options):
    """Mount a file system in memory; skip where that is not allowed."""
    folder.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder]).returncode:
        pytest.skip("only root may mount a file system, and not everywhere")


def test_a_small_disk_is_refused(words, tmp_path):
    mounted(tmp_path / "small", "size=1m")
    try:
        assert train([*words, f"output_dir={tmp_path}/small/run"]) == 2
        assert "GiB free; make room" in status_of(tmp_path / "small/run")["reason"]
        (tmp_path / "small/full").write_bytes(bytes((1 << 20) - 4096 * 4))
        with pytest.raises(OSError):
            (tmp_path / "small/full").write_bytes(bytes(1 << 20))
        words = [*words, f"output_dir={tmp_path}/small/run", "--status-file", f"{tmp_path}/status.json"]
        assert train(words) == 2
        assert "No space left on device" in status_of(tmp_path)["reason"]
    finally:
        subprocess.run(["umount", tmp_path / "small"], check=True)
