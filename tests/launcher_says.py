"""Variables that `accelerate launch` sets for its processes, made by Accelerate itself without starting any."""

import os
from pathlib import Path
from unittest import mock

from accelerate.commands.launch import launch_command, launch_command_parser


def said(file: Path, *flags: str) -> dict[str, str]:
    """Return the environment variables that a launch file and flags add or change."""
    before, found = dict(os.environ), {}

    def run(arguments):
        found.update(os.environ, TORCHELASTIC_MAX_RESTARTS=str(arguments.max_restarts))

    def popen(command, env):
        found.update(env)
        return mock.Mock(returncode=0)

    words = ["--config_file", str(file), "--main_process_port", "0", *flags, "-m", "x"]
    with mock.patch("torch.distributed.run.run", run), mock.patch("accelerate.commands.launch.subprocess.Popen", popen):
        launch_command(launch_command_parser().parse_args(words))
    return {name: value for name, value in found.items() if before.get(name) != value}
