"""Lines on standard output. Logging is set up for a whole program, so each test starts one."""

import subprocess
import sys

import pytest

from dst_dist.errors import ConfigError
from dst_dist.model.model_config import read_model_config

PROGRAM = """
import logging, sys, warnings
from dst_dist import logs
class Terminal:
    def __getattr__(self, name):
        return getattr(sys.__stdout__, name)
    def isatty(self):
        return {on_terminal}
sys.stdout = sys.stderr = Terminal()
logs.set_up_logging(is_main={is_main})
logs.logger.info("our info")
logs.logger.info("shown by the bar", extra={{logs.SHOWN_BY_BAR: True}})
logs.logger.error("our error")
for name in ("transformers", "elsewhere"):
    logging.getLogger(name).info("info of %s", name)
    logging.getLogger(name).warning("warning of %s", name)
warnings.warn("a user should know", UserWarning)
warnings.warn("a library will change", FutureWarning)
"""


def lines(is_main=True, on_terminal=False) -> list[str]:
    """Return the lines that the program logs, without date and time."""
    text = PROGRAM.format(is_main=is_main, on_terminal=on_terminal)
    output = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True).stdout
    return [line.split(" ", 2)[2] for line in output.splitlines()]


@pytest.mark.parametrize("on_terminal", [False, True])
def test_the_main_process_logs_our_info_and_others_warnings(on_terminal):
    *logged, warned = lines(on_terminal=on_terminal)
    of_the_bar = [] if on_terminal else ["INFO shown by the bar"]
    others = ["WARNING warning of transformers", "WARNING warning of elsewhere"]
    assert logged == ["INFO our info", *of_the_bar, "ERROR our error", *others]
    assert warned.startswith("WARNING a user should know (UserWarning, <string>:")


def test_other_processes_log_errors_alone():
    assert lines(is_main=False) == ["ERROR our error"]


@pytest.mark.parametrize(
    "name, offline, says", [("org/model", False, True), ("org/model", True, False), ("model", False, False)]
)
def test_a_wait_for_the_hub_is_said_before_it_begins(tmp_path, monkeypatch, caplog, name, offline, says):
    def no_network(asked):
        assert bool(caplog.messages) is says
        raise OSError("no network")

    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    monkeypatch.setattr("dst_dist.model.model_config.PreTrainedConfig.get_config_dict", no_network)
    with caplog.at_level("INFO", logger="dst_dist"), pytest.raises(ConfigError):
        read_model_config(name)
    assert any("model.name_or_path: asking the hub for org/model" in line for line in caplog.messages) is says
