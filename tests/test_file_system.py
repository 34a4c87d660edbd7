"""Operations of a file system: tried in the folder, done without where possible, refused with the true reason."""

import errno
import os

import pytest

from dst_dist.errors import ConfigError
from dst_dist.file_system import FEATURE_CACHE, RUN_FOLDER, WRITES, try_folder
from tests.refusing import LACKS, REFUSES, refused

WITHOUT_LOCKS = {case: lack for case, lack in LACKS.items() if lack[0] != "lock"}


def test_an_ordinary_folder_lacks_nothing_and_stays_empty(tmp_path):
    for asks in (RUN_FOLDER, FEATURE_CACHE, WRITES):
        assert try_folder("output_dir", tmp_path / "new/folder", asks) == []
    assert os.listdir(tmp_path / "new/folder") == []


@pytest.mark.parametrize("call, number, words", WITHOUT_LOCKS.values(), ids=WITHOUT_LOCKS)
def test_what_can_be_done_without_is_named_with_its_reason(tmp_path, call, number, words):
    with refused(call, number, tmp_path):
        (clause,) = try_folder("output_dir", tmp_path, RUN_FOLDER)
    assert clause.startswith(f"cannot {words} ({os.strerror(number)}): ")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("call, number, says", REFUSES.values(), ids=REFUSES)
def test_what_cannot_is_an_error_with_its_reason(tmp_path, call, number, says):
    with refused(call, number, tmp_path), pytest.raises(ConfigError) as caught:
        try_folder("output_dir", tmp_path, RUN_FOLDER)
    assert str(caught.value).startswith("output_dir: ") and says in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_several_things_at_once(tmp_path):
    with refused("link", errno.EPERM, tmp_path), refused("flush file", errno.EINVAL, tmp_path):
        assert len(try_folder("output_dir", tmp_path, RUN_FOLDER)) == 2


def test_a_cache_must_be_mapped(tmp_path):
    with (
        refused("map", errno.ENODEV, tmp_path),
        pytest.raises(ConfigError, match="map a file into memory: No such dev"),
    ):
        try_folder("data.feature_cache", tmp_path, FEATURE_CACHE)
