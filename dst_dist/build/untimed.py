"""Places steps that are described without a time: between the timed lines around their description."""

from collections.abc import Sequence

from dst_dist.build.evidence import Evidence
from dst_dist.build.hearing import NAMED
from dst_dist.build.similarity import Similarity, compare
from dst_dist.build.steps import Step

SHORTEST_S = 1.0
"""A gap between lines that is shorter holds no step."""


def place_untimed(
    steps: Sequence[Step], evidence: Evidence, similarity: Similarity
) -> dict[int, tuple[float, float | None]]:
    """Return the range in seconds of each step that an untimed text describes; its end is None after the last line."""
    scores = compare(similarity, [text for _, _, text in evidence.untimed], steps)
    placed: dict[int, tuple[float, float | None]] = {}
    for (after, before, _), row in zip(evidence.untimed, scores, strict=True):
        step = int(row.argmax())
        if row[step] >= NAMED and evidence.lines and (before is None or before - after >= SHORTEST_S):
            placed.setdefault(step, (after, before))
    return placed
