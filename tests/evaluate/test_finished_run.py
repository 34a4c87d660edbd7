"""What a run's final model is used with, and what is said of it."""

import json

import pytest

from dst_dist.errors import ConfigError
from dst_dist.evaluate.run import evaluate_run, stream_file, stream_run, stream_video
from tests.train.in_process import own_logging, train


@pytest.fixture(autouse=True)
def logging_of_commands():
    with own_logging():
        yield


@pytest.fixture(scope="module")
def run(demo_words, tmp_path_factory):
    """Of one step."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    words = ("train.max_steps=1", "train.global_batch_size=2", "data.val=[kitchen]", "data.num_workers=0", "log.report_to=[]")
    assert train(["demo", *demo_words, *words, "eval.max_clips=1", f"output_dir={folder}"]) == 0
    return folder


def test_a_stream_is_refused_contexts_longer_than_the_models_positions(run, demo, tmp_path):
    """Clips stay short, but a stream fills its context; evaluation with the gold history looks at the clips."""
    longer = ["data.max_seq_len=5000", "train.max_tokens=6000"]
    video = demo / "kitchen/frames/kitchen-val-0000.arrow"
    (tmp_path / "task.json").write_text(json.dumps({"goal": "Cook"}))
    for start in (
        lambda: stream_run(run, "val", longer),
        lambda: next(stream_video(run, "val", video.name, longer)),
        lambda: next(stream_file(run, video, tmp_path / "task.json", longer)),
    ):
        with pytest.raises(ConfigError, match=r"contexts of 5000 tokens, the model has 4096 positions; set data\.max_seq_len=4096"):
            start()
    assert evaluate_run(run, "val", longer)["num_videos"] == 1
    assert next(stream_video(run, "val", video.name, ["data.max_seq_len=4096", *longer[1:]]))
