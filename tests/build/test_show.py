"""The verb."""

from dst_dist import cli
from tests.build.raw import EXAMPLES, NAMES, video, write


def test_the_verb_says_what_it_wrote_found_and_counted(tmp_path, capsys):
    extra = write(tmp_path / "val.json", [video(video_uid="x", inferred_knowledge="none")])
    paths = [*(str(EXAMPLES / f"{name}.raw.json") for name in NAMES), str(extra)]
    assert cli.main(["build", "--dialogs", *paths, "--out", str(tmp_path / "root"), "--fps", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{tmp_path}/root/ego4d/train_training.json: 2 clips"
    assert "transitions: 21 start, 21 complete, 1 pause, 1 resume" in lines
    assert any(line.startswith("1 videos without numbered steps, left out") for line in lines)
    assert (tmp_path / "root/build.html").is_file()


def test_a_fault_is_code_2(tmp_path, capsys):
    assert cli.main(["build", "--dialogs", str(tmp_path / "none.json"), "--out", str(tmp_path)]) == 2
    assert "DataError" in capsys.readouterr().err
