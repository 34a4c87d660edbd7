"""A script that is ended takes with it what it started: the launcher, which ends its own, and the shell's commands."""

import contextlib
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.launching import REPOSITORY, kill_tree, run_to_end

# A launcher that ends what it started when it is told to, as accelerate's does.
LAUNCHER = 'sleep 300 & child=$!; trap "kill $child; exit 143" TERM; echo $child >"$SEEN"; wait'
PYTHON = [sys.executable, "-c", "import sys; from tests.launching import run_to_end; run_to_end(sys.argv[1:], 300)"]
SHELL = ["bash", "-c", '. launch/ending.sh; run "$@"; echo went on', "script"]
SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
CASES = [*((PYTHON, number) for number in (*SIGNALS, signal.SIGKILL)), *((SHELL, number) for number in SIGNALS)]


@pytest.mark.parametrize("script, number", CASES)
def test_however_a_script_is_ended_nothing_of_it_goes_on(tmp_path, script, number):
    seen = tmp_path / "seen"
    command = [*script, "bash", "-c", LAUNCHER]
    env = {"SEEN": str(seen), "PATH": f"{sys.exec_prefix}/bin:/usr/bin:/bin"}
    started = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=obey_every_signal,
    )
    try:
        wait_for(lambda: seen.exists() and seen.read_text().endswith("\n"))
        processes = psutil.Process(started.pid).children(recursive=True)
        assert len(processes) >= 2
        started.send_signal(number)
        output, _ = started.communicate(timeout=20)
        assert started.returncode != 0 and output == b""
        wait_for(lambda: not any(goes_on(process.pid) for process in processes))
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            kill_tree(started.pid)


def obey_every_signal():
    """Undo what a caller in the background, such as nohup, has left ignored: bash cannot."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def goes_on(pid):
    """Return whether there is such a process, and not only an exit code that nobody has read."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(condition):
    deadline_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_a_command_that_takes_too_long_is_ended_with_what_it_started(tmp_path):
    seen = tmp_path / "seen"
    with pytest.raises(subprocess.TimeoutExpired):
        run_to_end(["bash", "-c", LAUNCHER], 0.5, env={"SEEN": str(seen), "PATH": "/usr/bin:/bin"})
    wait_for(lambda: not goes_on(int(seen.read_text())))


@pytest.mark.parametrize("code", [0, 3])
def test_a_command_ends_as_without_the_script(code):
    command = ["bash", "-c", f"exit {code}"]
    assert run_to_end(command) == code
    script = 'set -e; . launch/ending.sh; run "$@"; echo went on'
    ended = subprocess.run(["bash", "-c", script, "script", *command], cwd=REPOSITORY, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (code, "" if code else "went on\n")


def test_the_scripts_start_long_programs_so_that_they_are_ended_too():
    for name in ("launch/quickstart.sh", "tests/benchmarks/run.sh"):
        text = (REPOSITORY / name).read_text()
        assert "\n. launch/ending.sh\n" in text
        started = re.findall(r"(\w+) (?:accelerate launch|dst-dist |python -m |python -c \"from)", text)
        assert set(started) == {"run"}, started
