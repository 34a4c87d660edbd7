"""Keeps what one recording gave in one split: cameras, and the assembly and disassembly of the same toy."""

import re
from collections.abc import Sequence
from dataclasses import replace

from dst_dist.build.dialogs import SPLITS, Video
from dst_dist.data.reading_log import Report

_CAMERA = re.compile(r"_+HMC_\d+.*$", re.IGNORECASE)


def session_of(video: Video) -> tuple[str, str]:
    """Return what all videos of one recording share: the dataset, and the uid without direction and camera."""
    name = video.frames_name
    return video.dataset, _CAMERA.sub("", name) if video.dataset == "assembly101" else name


def with_whole_sessions(videos: Sequence[Video], report: Report) -> list[Video]:
    """Return the videos, those of one recording in the first of train, val, test that has one; moves are counted."""
    splits: dict[tuple[str, str], str] = {}
    for video in videos:
        before = splits.get(session_of(video), video.split)
        splits[session_of(video)] = min(before, video.split, key=SPLITS.index)
    for video in videos:
        if video.split != splits[session_of(video)]:
            moved = f"{video.dataset}/{video.uid} from {video.split} to {splits[session_of(video)]}"
            report.count("videos moved to the split that has another of the same recording", moved)
    return [replace(video, split=splits[session_of(video)]) for video in videos]
