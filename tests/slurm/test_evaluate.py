"""A finished run evaluated on two nodes of a real Slurm."""

import json

from dst_dist.evaluate.run import evaluate_run
from tests.train.in_process import train

TIMEOUT_S = 150


def test_two_nodes_give_what_one_process_gives(cluster, demo_words, tmp_path):
    run = tmp_path / "run"
    words = (
        "demo",
        *demo_words,
        "train.max_steps=2",
        "data.val=[workshop]",
        "data.num_workers=0",
        "log.report_to=[]",
        "optim.warmup_steps=0",
    )
    assert train([*words, f"output_dir={run}"]) == 0
    expected = evaluate_run(run, "val")
    (run / "evaluation/val-teacher_forced.json").unlink()
    log = tmp_path / "evaluate.log"
    options = ("--nodes=2", "--gpus-per-node=0", "--cpus-per-task=1", "--time=10", f"--output={log}")
    answer = cluster.run(
        "sbatch", *options, "slurm/evaluate.sbatch", str(run), env={"ENGINE": "cpu_ddp", "PROCESSES_PER_NODE": "1"}
    )
    state = cluster.wait_for_end(answer.split()[-1], TIMEOUT_S)
    assert state["JobState"] == "COMPLETED" and state["NumNodes"] == "2", log.read_text()
    assert log.read_text().count("written to") == 1
    result = json.loads((run / "evaluation/val-teacher_forced.json").read_text())
    assert result.keys() == expected.keys()
    assert abs(result["loss"] - expected["loss"]) < 1e-5 and result["num_videos"] == expected["num_videos"] == 2
