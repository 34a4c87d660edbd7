"""Opening a run folder: an earlier run of another recipe is moved aside, one that can be resumed stays."""

from dst_dist.train.held_folder import HeldFolder
from tests.train.runs import status_of


def start(folder, seed):
    """Start a run of this seed; return its folder and the earlier run's new place."""
    run = HeldFolder(folder)
    run.lock()
    moved = run.open({"seed": seed})
    folder.mkdir(exist_ok=True)
    run.write_config(f"seed: {seed}\n")
    return run, moved


def test_a_run_of_another_recipe_is_moved_aside_whole(tmp_path):
    for number in (1, 2):
        run, _ = start(tmp_path / "run", number)
        run.write_status(1, f"end {number}")
    run, moved = start(tmp_path / "run", 3)
    assert moved == tmp_path / "run.earlier-2"
    kept = {path.name: (path / "config.yaml").read_text() for path in tmp_path.iterdir()}
    assert kept == {"run": "seed: 3\n", "run.earlier-1": "seed: 1\n", "run.earlier-2": "seed: 2\n"}
    assert [status_of(tmp_path / f"run.earlier-{number}")["reason"] for number in (1, 2)] == ["end 1", "end 2"]


def test_a_stop_file_stays_when_the_earlier_run_is_moved_aside(tmp_path):
    """It was written while the new run started up."""
    start(tmp_path / "run", 1)
    (tmp_path / "run/STOP").touch()
    _, moved = start(tmp_path / "run", 2)
    assert (tmp_path / "run/STOP").exists() and not (moved / "STOP").exists()
    (tmp_path / "run/STOP").unlink()
    start(tmp_path / "run", 3)
    assert not (tmp_path / "run/STOP").exists()


def test_a_run_that_can_be_continued_stays(tmp_path):
    start(tmp_path / "run", 1)
    assert start(tmp_path / "run", 1)[1] is None
    (tmp_path / "run/checkpoints/step-00000005").mkdir(parents=True)
    # Of another recipe: whether that is allowed is decided when the checkpoint is loaded.
    assert start(tmp_path / "run", 2)[1] is None
    (tmp_path / "run/config.yaml").write_text("seed: [")
    assert start(tmp_path / "run", 2)[1] is None


def test_a_line_that_was_cut_is_removed(tmp_path):
    start(tmp_path / "run", 1)
    (tmp_path / "run/metrics.jsonl").write_text('{"step": 1}\n{"step": 2, "lo')
    start(tmp_path / "run", 1)
    assert (tmp_path / "run/metrics.jsonl").read_text() == '{"step": 1}\n'


def test_a_status_that_cannot_be_written_is_reported(tmp_path, capsys):
    (tmp_path / "file").touch()
    run = HeldFolder(tmp_path / "run", tmp_path / "file/status.json")
    run.may_write_status = True
    run.write_status(1, "x")
    assert "cannot write" in capsys.readouterr().err


def test_a_run_that_goes_on_keeps_the_videos_trained_on_before(tmp_path):
    run = HeldFolder(tmp_path)
    run.write_videos(["b", "a"], goes_on=False)
    run.write_videos(["c", "b"], goes_on=True)
    assert run.videos_file.read_text() == "a\nb\nc\n"
    run.write_videos(["c"], goes_on=False)
    assert run.videos_file.read_text() == "c\n"
    run.videos_file.unlink()
    run.write_videos(["d"], goes_on=True)
    assert run.videos_file.read_text() == "d\n"


def test_what_a_link_points_to_moves_aside_beside_it(tmp_path):
    target, link = tmp_path / "disk/run", tmp_path / "link"
    target.mkdir(parents=True)
    link.symlink_to(target)
    (target / "config.yaml").write_text("seed: 1")
    run = HeldFolder(link)
    run.lock()
    moved = run.open({"seed": 2})
    assert moved == tmp_path / "disk/run.earlier-1" and (moved / "config.yaml").is_file()
    assert link.readlink() == target and (target / ".lock").is_file() and not (target / "config.yaml").exists()
