"""Drops points that do not change how a line looks."""

from collections.abc import Sequence

Point = tuple[float, float]


def thin(points: Sequence[Point], most: int) -> list[Point]:
    """Return at most `most` (4 or more) points: the first, the last, and the lowest and highest of each stretch."""
    if len(points) <= most:
        return list(points)
    inner = range(1, len(points) - 1)
    num_stretches = (most - 2) // 2
    kept = {0, len(points) - 1}
    for number in range(num_stretches):
        stretch = inner[number * len(inner) // num_stretches : (number + 1) * len(inner) // num_stretches]
        kept |= {min(stretch, key=lambda i: points[i][1]), max(stretch, key=lambda i: points[i][1])}
    return [points[i] for i in sorted(kept)]


def rounded(value: float) -> float:
    """Return the value to five digits, as many as a chart can show."""
    return float(f"{value:.5g}")
