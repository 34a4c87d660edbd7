"""Installed versions are compared with the bounds before anything is loaded."""

import importlib.metadata
import json

import pytest

from dst_dist import cli, versions
from dst_dist.data.video_files import read_container
from dst_dist.errors import ConfigError
from dst_dist.sentence_models import load_sentence_model
from dst_dist.train import __main__ as program
from tests.data.videos import write_video


@pytest.fixture
def installed(monkeypatch):
    """`installed(name=version)` pretends that these versions are installed; None means not at all."""
    versions.version_faults.cache_clear()
    intact = importlib.metadata.version

    def pretend(**others):
        def version(name):
            found = others.get(name, intact(name))
            if found is None:
                raise importlib.metadata.PackageNotFoundError(name)
            return found

        monkeypatch.setattr(versions, "version", version)

    yield pretend
    versions.version_faults.cache_clear()


def test_what_is_tested_here_is_within_the_bounds(installed):
    installed()
    versions.check_versions()


BAD = {
    "FSDP2 clips wrongly": ({"torch": "2.8.0"}, r"torch 2.8.0 is installed, torch>=2.9 is needed"),
    "its build for GPUs": ({"torch": "2.7.1+cu128"}, r"torch 2.7.1\+cu128 is installed"),
    "ZeRO-2 trains wrongly": ({"deepspeed": "0.18.2"}, r"deepspeed 0.18.2 is installed, deepspeed>=0.19.4 is needed"),
    "a later major version": ({"transformers": "6.0.0"}, r"transformers 6.0.0 is installed"),
    "an older one": ({"transformers": "4.57.1"}, r"transformers 4.57.1 is installed"),
    "missing": ({"peft": None}, r"peft is not installed, peft>=0.18 is needed"),
}


@pytest.mark.parametrize("others, message", BAD.values(), ids=BAD)
def test_another_version_is_refused_by_name(installed, others, message):
    installed(**others)
    with pytest.raises(ConfigError, match=message):
        versions.check_versions()


@pytest.mark.parametrize("version", ["2.9.0", "2.9.1+cpu", "2.14.0.dev20261101+cu130", "3.0"])
def test_builds_and_nightly_versions_within_the_bounds_are_used(installed, version):
    installed(torch=version)
    versions.check_versions()


def test_all_are_named_at_once(installed):
    installed(torch="2.8.0", peft=None)
    with pytest.raises(ConfigError) as error:
        versions.check_versions()
    assert "torch 2.8.0" in str(error.value) and "peft is not installed" in str(error.value)
    assert "pip install -c constraints.txt -e ." in str(error.value)


@pytest.mark.parametrize(
    "main, words", [(program.main, ["lora", "output_dir={}/run"]), (cli.main, ["explain", "optim"])]
)
def test_every_program_refuses_with_2(installed, tmp_path, capsys, main, words):
    installed(deepspeed="0.18.2")
    assert main([word.format(tmp_path) for word in words]) == 2
    error = capsys.readouterr().err
    assert "deepspeed 0.18.2 is installed" in error and "Traceback" not in error
    if main is program.main:
        assert json.loads((tmp_path / "run/status.json").read_text())["code"] == 2


def test_an_extra_is_for_those_who_ask_for_it(installed):
    installed(av=None, **{"sentence-transformers": None})
    versions.check_versions()


def test_a_tree_that_was_never_installed_has_no_bounds(installed, monkeypatch):
    installed()
    monkeypatch.setattr(versions, "PACKAGE", "no-such-package")
    versions.check_versions()


def test_an_old_pyav_is_refused_where_it_is_used(installed, tmp_path):
    installed(av="13.1.0")
    versions.check_versions()
    write_video(tmp_path / "tea.mp4", [50], [0])
    with pytest.raises(
        ConfigError, match="av 13.1.0 is installed, av>=[0-9.]+ is needed for a video file; pip install"
    ):
        next(read_container(tmp_path / "tea.mp4", 2.0))


def test_an_old_sentence_transformers_is_refused_where_it_is_used(installed):
    pytest.importorskip("sentence_transformers")
    installed(**{"sentence-transformers": "5.1.0"})
    versions.check_versions()
    message = "sentence-transformers 5.1.0 is installed, sentence-transformers>=[0-9.]+ is needed for minilm"
    with pytest.raises(ConfigError, match=message):
        load_sentence_model("--similarity", "minilm", "cpu", "tfidf")
