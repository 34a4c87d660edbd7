"""The commands about recipes."""

import pytest

from dst_dist import cli


@pytest.mark.parametrize(
    ("words", "start"),
    [(["recipe", "demo"], "# "), (["explain", "train.max_tokens"], "train.max_tokens"), (["schema"], "{")],
)
def test_a_verb_prints_what_it_is_asked_for(capsys, words, start):
    assert cli.main(words) == 0
    assert capsys.readouterr().out.startswith(start)
