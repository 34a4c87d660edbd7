"""Runs the command lines that the pages show, as they stand but for their size: the small demo, one step, two clips."""

import configparser
import importlib.util
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser
from accelerate.state import AcceleratorState

from dst_dist import cli
from tests.conftest import SMALL
from tests.launching import REPOSITORY
from tests.train.forking import Starter
from tests.train.in_process import own_logging

FENCE = re.compile(r"^```bash\n(.*?)^```$", re.DOTALL | re.MULTILINE)
ELSEWHERE = ("hf", "touch", "sbatch", "scancel", "squeue", "export", "(.", "cd", "git")
"""Programs of other people, and the shell's own words."""
SMALL_TRAINING = (
    "data.train=[kitchen]",
    "data.val=[]",
    "data.num_workers=0",
    "train.max_steps=1",
    "train.global_batch_size=2",
    "log.report_to=[]",
)
QUIET = ("eval.max_clips=2", "eval.dst_threshold=1", "eval.speaking_threshold=1")
"""A model of one step would otherwise write at every frame."""
LAUNCHED: set[tuple[str, ...]] = set()
"""Small launches that were made."""


def command_lines(page: Path) -> list[str]:
    """The command lines of a page's bash blocks, continued lines joined, without comments."""
    lines = [line for block in FENCE.findall(page.read_text()) for line in block.replace("\\\n", " ").splitlines()]
    return [words for line in lines if (words := shlex.join(shlex.split(line, comments=True)))]


def small_launcher(words: list[str]) -> tuple[str, int]:
    """Read the words behind `accelerate launch` as Accelerate does; return the engine on CPUs, and 2 processes at most.

    Raises SystemExit for a word that Accelerate does not know.
    """
    options = launch_command_parser().parse_args(words)
    file = REPOSITORY / options.config_file
    assert file.exists(), file
    return f"cpu_{file.stem.removeprefix('cpu_')}", min(2, options.num_processes)


class Commands:
    """Runs a command line of a page.

    Args:
        starter: starts what is launched.
        run: a finished run of the small demo, evaluated in both ways.
        demo_words: words of a recipe that point at the small demo.
        scratch: an empty folder.
    """

    def __init__(self, starter: Starter, run: Path, demo_words: tuple[str, ...], scratch: Path, monkeypatch):
        self.starter, self.run, self.demo_words = starter, run, demo_words
        self.scratch, self.monkeypatch = scratch, monkeypatch

    def check(self, line: str) -> None:
        """Run a command line. Raises AssertionError if it fails, or is none that is known."""
        words = shlex.split(line)
        if words[0] in ELSEWHERE:
            return
        for beginning, run in self.runners().items():
            if line.startswith(beginning):
                return run(words)
        raise AssertionError(f"nobody knows how to run {line}")

    def runners(self) -> dict[str, Callable[[list[str]], None]]:
        return {
            "accelerate launch": self.launch,
            "python -m tests.": self.module,
            "python -m pytest": self.tests,
            "python -m pip": self.install,
            "pip install": self.install,
            "bash tests/run.sh": self.tests,
            "bash ": self.script,
            "dst-dist": self.verb,
            "python -m dst_dist": self.verb,
        }

    def launch(self, words: list[str]) -> None:
        """Start what `accelerate launch` would, once for lines that are the same when they are small."""
        place = words.index("-m")
        engine, num_processes = small_launcher(words[2:])
        module, rest = words[place + 1], words[place + 2 :]
        if module == "dst_dist":
            rest = self.small_verb(rest)
        else:
            rest = [self.recipe_word(word) for word in rest if not word.startswith(("data.", "model.", "output_dir="))]
            rest += [*self.demo_words, *SMALL_TRAINING]
            if "checkpoint.final=best" in rest:
                rest.append("data.val=[garden]")
        key = (engine, num_processes, module, *(word.replace(str(self.scratch), "") for word in rest))
        if key in LAUNCHED:
            return
        LAUNCHED.add(key)
        done = self.starter.run(engine, rest, self.scratch / "run", num_processes, (module,))
        assert done.returncode == 0, done.output[-6000:]

    def recipe_word(self, word: str) -> str:
        """An empty file for a recipe of somebody's own."""
        if not word.endswith(".yaml"):
            return word
        file = self.scratch / Path(word).name
        file.write_text("")
        return str(file)

    def verb(self, words: list[str]) -> None:
        if ">" in words:
            # What is printed need not be kept.
            words = words[: words.index(">")]
        words = self.small_verb(words[1:] if words[0] == "dst-dist" else words[3:])
        if words[0] == "demo":
            from dst_dist.demo import make

            self.monkeypatch.setattr(make, "make_demo", partial(make.make_demo, sizes=SMALL, workers=1))
        try:
            with own_logging():
                # The doctor ends with 1 on a machine without a GPU.
                allowed = (0, 1) if words[0] == "doctor" else (0,)
                assert cli.main(words) in allowed, shlex.join(words)
        finally:
            AcceleratorState._reset_state(reset_partial_state=True)

    def small_verb(self, words: list[str]) -> list[str]:
        """The words of a verb with names that are placeholders replaced by what the small demo has."""
        if words[0] == "demo":
            return ["demo", "--out", f"{self.scratch}/demo", *words[3:]]
        if words[0] == "build":
            examples = [str(path) for path in sorted((REPOSITORY / "tests/build/examples").glob("*.raw.json"))]
            dialogs = words[: words.index("--dialogs") + 1]
            return [*dialogs, *examples, "--out", f"{self.scratch}/built", *words[words.index("--out") + 2 :]]
        if words[0] == "frames":
            from tests.data.videos import write_video

            write_video(self.scratch / words[1], [50], [0])
            return [words[0], str(self.scratch / words[1]), "--out", f"{self.scratch}/frames", *words[4:]]
        if words[0] == "slurm":
            self.monkeypatch.chdir(REPOSITORY)
            rest = [word for word in words[1:] if not word.startswith(("data.", "output_dir="))]
            return ["slurm", *rest, *self.demo_words, f"output_dir={self.scratch}/run", "--dry-run"]
        if words[0] == "export":
            if "--push" in words:
                words = words[: words.index("--push")]
            return ["export", str(self.run), "--to", str(self.scratch / "out"), *words[4:]]
        if words[0] == "doctor":
            return ["doctor", "--out", str(self.scratch / "runs")]
        if words[0] in ("check", "show"):
            rest = [self.scratch / word if word.endswith(".html") else word for word in words[1:] if word != "RECIPE"]
            return [words[0], "demo", *map(str, rest), *self.demo_words]
        if words[0] in ("recipe", "explain", "schema"):
            return words
        if words[0] in ("features", "plan"):
            recipe = [word for word in words[1:] if not word.startswith("data.")]
            cache = [f"data.feature_cache={self.scratch}/features"] if words[0] == "features" else []
            return [words[0], *recipe, *self.demo_words, *cache]
        if words[0] == "bench":
            return [*words, *self.demo_words, "train.global_batch_size=2", "--steps", "1"]
        words = [re.sub(r"^(\w+=)?(RUN|RUNS/\w+|runs/[\w-]+)$", rf"\g<1>{self.run}", word) for word in words]
        words = [str(self.named_file(word)) if re.search(r"\.(mp4|json)$", word) else word for word in words]
        words = [self.a_video() if word in ("NAME", "VIDEO") else word for word in words]
        return [*words, *QUIET] if words[0] in ("evaluate", "stream") else words

    def named_file(self, word: str) -> Path:
        """A task, or a short video for it."""
        path = self.scratch / Path(word).name
        if word.endswith(".json"):
            path.write_text('{"goal": "Make tea", "steps": ["Boil water"], "fps": 2}')
            return path
        folder = path.with_suffix("")
        folder.mkdir(exist_ok=True)
        from tests.data.handmade import jpeg

        for number in range(3):
            (folder / f"{number}.jpg").write_bytes(jpeg(40 * number))
        return folder

    def a_video(self) -> str:
        root = next(word.split("=")[1] for word in self.demo_words if word.startswith("data.root="))
        return next(Path(root).glob("kitchen/frames/*val*.arrow")).stem

    def module(self, words: list[str]) -> None:
        """A module of the tests: there, and it knows its options."""
        assert importlib.util.find_spec(words[2]), words[2]
        if words[2].startswith("tests.benchmarks"):
            self.monkeypatch.setattr(sys, "argv", [words[2], "--help"])
            with pytest.raises(SystemExit) as end:
                runpy.run_module(words[2], run_name="__main__")
            assert not end.value.code, words

    def tests(self, words: list[str]) -> None:
        """Check that a named file exists and a test has the name."""
        for word in words[2:]:
            if word.startswith("tests/"):
                assert (REPOSITORY / word.split("::")[0]).exists(), word
        if "-k" in words:
            source = "\n".join(f"{path.stem} {path.read_text()}" for path in (REPOSITORY / "tests").rglob("test_*.py"))
            for name in re.findall(r"\w+", words[words.index("-k") + 1]):
                assert name in ("or", "and", "not") or name in source, name

    def install(self, words: list[str]) -> None:
        """An extra that is named is one of setup.cfg's."""
        setup = configparser.ConfigParser()
        setup.read(REPOSITORY / "setup.cfg")
        for extra in re.findall(r"\[(\w+)\]", " ".join(words)):
            assert extra in setup["options.extras_require"], extra

    def script(self, words: list[str]) -> None:
        """It is there, is bash, and knows its options."""
        script = REPOSITORY / words[1]
        subprocess.run([shutil.which("bash"), "-n", str(script)], check=True)
        sources = script.read_text() + "".join(path.read_text() for path in script.parent.glob("*.py"))
        assert all(word in sources for word in words[2:] if word.startswith("--")), words
