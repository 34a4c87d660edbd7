"""Generated dialogs, harder than the examples: against the ceiling, a monotone alignment and plain argmax."""

import pytest

from dst_dist.build.similarity import tfidf
from tests.benchmarks.alignment import CEILING, table
from tests.build.generate import generate
from tests.build.raw import build_videos, read_strictly
from tests.build.tasks import HELD_OUT, TASKS

SHARE = 0.9


@pytest.fixture(scope="module", params=["chosen on", "held out"])
def rows(request):
    return table(TASKS if request.param == "chosen on" else HELD_OUT, range(3), tfidf)


def test_soft_order_is_near_the_ceiling(rows):
    for soft, ceiling in zip(rows["soft order"], rows[CEILING], strict=True):
        assert soft >= SHARE * ceiling
    assert rows[CEILING][0] > 0.9


def test_soft_order_is_better_than_a_monotone_one(rows):
    assert rows["soft order"][0] > rows["monotone"][0] + 0.05


def test_generated_dialogs_give_clips_that_are_read_strictly(tmp_path):
    built = build_videos(tmp_path, *(generate(goal, steps, 7)[0] for goal, steps in (TASKS | HELD_OUT).items()))
    assert len(built.dialogs) == len(TASKS | HELD_OUT)
    assert read_strictly(tmp_path / "root", built) == []
