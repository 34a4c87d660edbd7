"""The tables of heads and loss terms are what data, model and recipe follow."""

from dst_dist.data.token_writer import ROLE_HEADERS
from dst_dist.heads import HEAD_NAMES, HEADS, TERM_NAMES
from dst_dist.measure.timeline import Timeline
from dst_dist.model.losses import TERMS


def test_every_term_has_its_function():
    assert tuple(TERMS) == TERM_NAMES == ("lm", "dst_gen", *HEAD_NAMES)


def test_heads_are_told_apart_by_every_field_but_the_last():
    for field in ("name", "role", "threshold_key", "events", "label", "module", "rate_key"):
        assert len({getattr(head, field) for head in HEADS}) == len(HEADS), field


def test_every_head_decides_on_turns_that_can_be_written_and_measured():
    assert {head.role for head in HEADS} <= set(ROLE_HEADERS)
    assert all(hasattr(Timeline(), head.events) for head in HEADS)
