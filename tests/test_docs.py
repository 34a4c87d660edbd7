"""The pages are true: made parts are fresh, links and paths exist, recipe keys are known, command lines run."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dst_dist.config import Recipe
from dst_dist.recipes.faults import RENAMED, places_of
from tests.launching import REPOSITORY
from tests.pages import PARTS, with_part
from tests.pages_commands import QUIET, SMALL_TRAINING, Commands, command_lines
from tests.train.in_process import own_logging, train

LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")
CODE = re.compile(r"`([^`\n]+)`")
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
MOST_WORDS = 1200


def pages() -> list[Path]:
    """Every README.md, without what is installed or made."""
    found = subprocess.run(["git", "ls-files", "*README.md"], cwd=REPOSITORY, capture_output=True, text=True).stdout
    return [REPOSITORY / name for name in found.split()] or sorted(REPOSITORY.glob("**/README.md"))


PAGES = pages()
NAMES = [str(page.relative_to(REPOSITORY)) for page in PAGES]
FOLDERS = {path.name for root in (REPOSITORY, REPOSITORY / "dst_dist") for path in root.iterdir() if path.is_dir()}
FOLDERS -= {"runs"}  # Made by users, as by the quickstart.
KEYS = {".".join(place) for place in places_of(Recipe)}


def is_path(code: str) -> bool:
    """Return whether inline code names a file or folder of the repository."""
    first = code.split("/")[0]
    return "/" in code and first in FOLDERS and not re.search(r"[\s<>{}*=$]", code)


def missing_paths(page: Path) -> list[str]:
    """Inline code that names a file which is neither below the page's folder, the package, nor the repository."""
    codes = [code.split(":")[0].rstrip("/") for code in CODE.findall(FENCED.sub("", page.read_text())) if is_path(code)]
    roots = (page.parent, REPOSITORY / "dst_dist", REPOSITORY)
    return [code for code in codes if not any((root / code).exists() for root in roots)]


def missing_names(page: Path) -> list[str]:
    """Inline code `file.py: name` whose name is not in the file."""
    found = []
    for code in CODE.findall(FENCED.sub("", page.read_text())):
        file, _, name = code.partition(": ")
        paths = [path for root in (page.parent, REPOSITORY / "dst_dist", REPOSITORY) if (path := root / file).is_file()]
        if file.endswith(".py") and re.fullmatch(r"[\w.]+", name) and paths:
            found += [code] if name.split(".")[-1] not in paths[0].read_text() else []
    return found


def unknown_keys(text: str) -> list[str]:
    """Inline code that looks like a recipe's key and is none."""
    sections = "|".join(Recipe.model_fields)
    written = re.findall(rf"`((?:{sections})(?:\.[a-z_]+)+)(?:=[^`]*|: [^`]*)?`", text)
    files = (".json", ".jsonl", ".log", ".py", ".yaml", ".js", ".sbatch")
    return [key for key in written if key not in KEYS and not key.endswith(files)]


@pytest.mark.parametrize(("file", "part"), PARTS)
def test_parts_made_from_code_are_fresh(file, part):
    source, make = PARTS[file, part]
    page = (REPOSITORY / file).read_text()
    assert with_part(page, part, source, make()) == page, "run python -m tests.pages"


def test_a_stale_part_is_seen():
    page = "<!-- keys: made from a.py -->\nold\n<!-- end of keys -->"
    assert "new" in with_part(page, "keys", "a.py", "new") != page
    with pytest.raises(ValueError, match="lacks"):
        with_part("nothing", "keys", "a.py", "new")


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page):
    links = [link for link in LINK.findall(page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_paths_and_keys_exist(page):
    assert missing_paths(page) == []
    assert missing_names(page) == []
    assert unknown_keys(page.read_text()) == []


def test_a_missing_path_and_an_unknown_key_are_seen(tmp_path):
    page = tmp_path / "README.md"
    codes = ("data/clips.py: Clip", "dst_dist/data/clisp.py", "data.rot", "optim.lr=3", "data.root=/x", "eval.keep")
    page.write_text(" ".join(f"`{code}`" for code in codes))
    assert missing_paths(page) == ["dst_dist/data/clisp.py"]
    page.write_text(f"{page.read_text()} `dst_dist/data/clips.py: Clisp` `dst_dist/data/clips.py: Clip`")
    assert missing_names(page) == ["dst_dist/data/clips.py: Clisp"]
    assert unknown_keys(page.read_text()) == ["data.rot", "optim.lr", "eval.keep"]


def test_the_first_page_is_short():
    assert len((REPOSITORY / "README.md").read_text().split()) <= MOST_WORDS


def test_no_key_of_another_trainer_is_ours():
    assert not RENAMED.keys() & KEYS and set(RENAMED.values()) <= KEYS


LINES = list(dict.fromkeys(line for page in PAGES for line in command_lines(page)))


@pytest.fixture(scope="module")
def finished(demo_words, tmp_path_factory):
    """A run of the small demo, evaluated in both ways."""
    run = tmp_path_factory.mktemp("pages") / "run"
    words = (*SMALL_TRAINING, "data.val=[kitchen]", "data.test=[kitchen]", "eval.max_clips=2")
    assert train(["demo", *demo_words, *words, f"output_dir={run}"]) == 0
    from dst_dist import cli

    with own_logging():
        for options in (["--split", "val"], ["--split", "test"]):
            for way in ([], ["--streaming"]):
                assert cli.main(["evaluate", str(run), *options, *way, *QUIET]) == 0
    return run


@pytest.mark.parametrize("line", LINES)
def test_command_lines_run(line, starter, finished, demo_words, tmp_path, monkeypatch):
    run = tmp_path / "finished"
    shutil.copytree(finished, run, symlinks=True)
    Commands(starter, run, demo_words, tmp_path, monkeypatch).check(line)


def test_every_page_with_commands_is_read():
    assert any("accelerate launch" in line for line in LINES) and any("dst-dist" in line for line in LINES)
    assert len(LINES) > 8
