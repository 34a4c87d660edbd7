"""The verb."""

from pathlib import Path

import pytest

from dst_dist import cli
from tests.build.raw import EXAMPLES, NAMES, turn, video, write


def test_the_verb_says_what_it_wrote_found_and_counted(tmp_path, capsys):
    extra = write(tmp_path / "val.json", [video(video_uid="x", inferred_knowledge="none")])
    paths = [*(str(EXAMPLES / f"{name}.raw.json") for name in NAMES), str(extra)]
    assert cli.main(["build", "--dialogs", *paths, "--out", str(tmp_path / "root"), "--fps", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{tmp_path}/root/ego4d/train_training.json: 3 clips"
    assert "transitions: 38 start, 38 complete, 6 pause, 6 resume" in lines
    assert any(line.startswith("1 videos without numbered steps, left out") for line in lines)
    assert (tmp_path / "root/build.html").is_file()


NOT_JSON = {"cut off": b'[{"video_uid": "x"', "empty": b"", "bytes": b"\xff\xfe\x00\x80", "text": b"hello"}


@pytest.mark.parametrize("kind", NOT_JSON)
def test_a_file_that_is_no_json_is_code_2(tmp_path, capsys, kind):
    (tmp_path / "train.json").write_bytes(NOT_JSON[kind])
    assert _fault(tmp_path, capsys).startswith("DataError: ")


@pytest.mark.parametrize(
    ("raw", "words", "said"),
    [
        ([], [], "no clip is left"),
        ([video(conversations=[])], [], "no clip is left"),
        ([{"reason_to_exclude": "x"}], [], "no clip is left"),
        ([video(conversations=None)], [], "conversations"),
        ([video(turn("user", 2e6, "Now?"))], [], "`conversations[0].conversation[0].time`"),
        ([video()], ["--similarity", "no/such-model"], "--similarity: no/such-model"),
        ([video()], ["--llm", "http://localhost:1/v1"], "--llm-model"),
        ([video()], ["--llm", "http://localhost:1/v1", "--llm-model", "x"], "OPENAI_API_KEY"),
    ],
)
def test_a_fault_is_code_2_and_nothing_is_written(tmp_path, capsys, raw, words, said):
    write(tmp_path / "train.json", raw)
    assert said in _fault(tmp_path, capsys, *words)
    assert not list(tmp_path.rglob("*_training.json"))


@pytest.mark.parametrize("kind", ["no file", "a folder"])
def test_a_path_that_cannot_be_read_is_code_2(tmp_path, capsys, kind):
    if kind == "a folder":
        (tmp_path / "train.json").mkdir()
    assert "name a file of generated dialogs" in _fault(tmp_path, capsys)


def test_a_frames_file_that_is_none_is_code_2(tmp_path, capsys):
    write(tmp_path / "train.json", [video()])
    (tmp_path / "root/ego4d/frames").mkdir(parents=True)
    (tmp_path / "root/ego4d/frames/tea.arrow").write_bytes(b"no frames")
    assert "tea.arrow" in _fault(tmp_path, capsys)


@pytest.mark.parametrize("blocked", ["root", "root/ego4d", "root/build.html/", "root/ego4d/train_training.json/"])
def test_what_cannot_be_written_is_code_2(tmp_path, capsys, blocked):
    write(tmp_path / "train.json", [video()])
    path = tmp_path / blocked
    if blocked.endswith("/"):
        path.mkdir(parents=True)
    else:
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    assert str(path) in _fault(tmp_path, capsys)


def _fault(folder: Path, capsys, *words: str) -> str:
    """Build `train.json` of a folder, which is the user's fault; returns what is said about it."""
    assert cli.main(["build", "--dialogs", f"{folder}/train.json", "--out", f"{folder}/root", *words]) == 2
    return capsys.readouterr().err
