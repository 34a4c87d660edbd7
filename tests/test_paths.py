"""Paths that users write: what a shell would put in is put in, and no other character means anything."""

import argparse
import os
from pathlib import Path

import pytest

from dst_dist.paths import expanded, path_argument

HOME = Path.home()


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty current folder, and a few variables."""
    monkeypatch.chdir(tmp_path)
    for name in ("NONE", "b", "EMPTY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.setenv("DOLLAR", "$SCRATCH")


EXPANDED = {
    "~": str(HOME),
    "~/runs/x": f"{HOME}/runs/x",
    "~root/x": f"{os.path.expanduser('~root')}/x",
    "$SCRATCH/x": "/scratch/me/x",
    "${SCRATCH}x": "/scratch/mex",
    "~/$SCRATCH/${SCRATCH}": f"{HOME}//scratch/me//scratch/me",
    "$DOLLAR": "$SCRATCH",
}
LITERAL = [
    "runs/x",
    "a~/~b",
    "runs/1e3",
    "a: b",
    "[x]",
    "null",
    "#1",
    " x ",
    "50%",
    "$",
    "$5",
    "a*?",
    "'q'",
    "\\n",
    "é",
]
REFUSED = {
    "~nobody-here/x": "nobody's home",
    "$NONE/x": r"\$NONE is not set",
    "x/${NONE}": r"\$\{NONE\} is not set",
    "$EMPTY/x": r"\$EMPTY is not set",
    "${SCRATCH:-/tmp}": "is not set",
    "a\0b": "NUL",
    "a\udcff": "not UTF-8",
}


@pytest.mark.parametrize("text", EXPANDED)
def test_home_and_variables_are_put_in(text):
    assert expanded(text) == EXPANDED[text]


@pytest.mark.parametrize("text", LITERAL)
def test_every_other_character_stands_for_itself(text):
    assert expanded(text) == text


@pytest.mark.parametrize("text", REFUSED)
def test_what_names_nothing_is_refused(text):
    with pytest.raises(ValueError, match=REFUSED[text]):
        expanded(text)
    with pytest.raises(argparse.ArgumentTypeError, match=REFUSED[text]):
        path_argument(text)


@pytest.mark.parametrize("name", ["~nobody-here", "a$b", "${NONE}"])
def test_a_folder_that_has_such_a_name_is_taken_as_it_stands(name):
    Path(name).mkdir()
    assert expanded(f"{name}/x") == f"{name}/x"


@pytest.mark.parametrize("name, place", [("~", HOME), ("$SCRATCH", "/scratch/me")])
def test_a_folder_that_is_named_by_mistake_is_not_taken_for_the_one_that_is_meant(name, place):
    Path(name).mkdir()
    assert path_argument(f"{name}/x") == Path(place, "x")
