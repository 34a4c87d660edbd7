"""Builds the clips, prints the summary of `dst-dist build`, and leaves its page beside the clips."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from dst_dist.build.make import build, write_result
from dst_dist.build.page import page_of
from dst_dist.build.proposals import FOLDER, Proposer
from dst_dist.errors import ConfigError

PAGE = "build.html"


def build_lines(
    paths: Sequence[Path],
    out: Path,
    fps: float | None,
    similarity: str,
    clip_s: float | None,
    llm: tuple[str | None, str | None] = (None, None),
) -> Iterator[str]:
    """Build the clips and the page, and yield what was written, found and counted, a line each.

    Args:
        llm: address of a server and name of its model, or neither.

    Raises:
        ConfigError: for one of the two alone, and as `build` does.
    """
    url, model = llm
    if (url is None) != (model is None):
        raise ConfigError("--llm and --llm-model belong together: the server's address, and the name of its model")
    proposer = None if url is None or model is None else Proposer(url, model, out / FOLDER)
    built = build(paths, out, fps, similarity, clip_s, proposer)
    for name, clips in built.files.items():
        yield f"{out / name}: {len(clips)} clips"
    kinds = Counter(change.transition for dialog in built.dialogs for change in dialog.changes)
    yield "transitions: " + ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
    yield from built.report.lines()
    write_result(out / PAGE, page_of(built))
    yield f"{out / PAGE}: what was found in each dialog, and why"
