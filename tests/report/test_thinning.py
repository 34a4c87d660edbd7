"""Fewer points for a line."""

from dst_dist.report.thinning import rounded, thin


def test_thinning_keeps_the_ends_and_the_extremes():
    points = [(step, 1.0 + step % 7 / 10) for step in range(10_000)]
    points[4321], points[6789] = (4321, -5.0), (6789, 50.0)
    thinned = thin(points, 1000)
    assert len(thinned) <= 1000 and thinned == sorted(thinned) and set(thinned) <= set(points)
    assert thinned[0] == points[0] and thinned[-1] == points[-1] and {(4321, -5.0), (6789, 50.0)} <= set(thinned)
    assert thin(points[:1000], 1000) == points[:1000]


def test_values_are_rounded_to_five_digits():
    assert [rounded(value) for value in (123456.7, 0.00012345678, 0.5, -2.0)] == [123460.0, 0.00012346, 0.5, -2.0]
