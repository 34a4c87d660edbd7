"""Generated dialogs, harder than the examples: against the ceiling, a monotone alignment and plain argmax."""

import random

import pytest

from dst_dist.build.similarity import tfidf
from tests.benchmarks.alignment import CEILING, table
from tests.build.generate import generate
from tests.build.raw import build_videos, read_strictly, turn, video
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


WORDS = (
    "I'm done with {}.",
    "Hold on, the doorbell.",
    "I'm back.",
    "I give up on {}.",
    "I'll leave {} for now.",
    "That's wrong, take {} off and do it again.",
    "Back to {}.",
    "While that is going on, continue with {}.",
    "Is {} next?",
)


def nonsense(goal: str, steps: tuple, seed: int) -> dict:
    """Lines and sentences that contradict each other in every way."""
    rng = random.Random(f"{goal} {seed}")
    lines = []
    for _ in range(rng.randrange(12)):
        start, step = rng.uniform(0, 60), rng.choice(steps)
        end = start + rng.choice((0, 0.3, 5, 30))
        text = rng.choice((rng.choice(step.written), f"remove {step.thing}", f"unscrew {step.thing} (mistake: x)"))
        lines.append(rng.choice((f"[{start:.1f}s-{end:.1f}s] {text}", f"[{start:.1f}s] {text}", text)))
    said = []
    for _ in range(rng.randrange(1, 14)):
        step, role = rng.choice(steps), rng.choice(("user", "assistant"))
        text = rng.choice((rng.choice(step.told), rng.choice(WORDS).format(step.thing)))
        said.append(turn(role, round(rng.uniform(0, 70), 1), text))
    knowledge = "\n".join([goal, *(f"{number}. {step.name}" for number, step in enumerate(steps, start=1))])
    annotations = {"all_step_descriptions": "\n".join(lines)}
    return video(*said, video_uid=f"{goal}{seed}", inferred_knowledge=knowledge, annotations=annotations)


@pytest.mark.parametrize("clip_s", [None, 7.0])
def test_no_evidence_leads_to_a_transition_that_is_not_allowed(tmp_path, clip_s):
    videos = [nonsense(goal, steps, seed) for goal, steps in TASKS.items() for seed in range(6)]
    built = build_videos(tmp_path, *videos, clip_s=clip_s)
    assert len(built.dialogs) == len(videos)
    assert read_strictly(tmp_path / "root", built) == []
