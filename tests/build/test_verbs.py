"""The words of the room's commands."""

import subprocess
import sys

import pytest

from dst_dist import cli


@pytest.mark.parametrize("fps", ["0", "-1", "nan", "inf", "fast"])
def test_a_rate_is_a_number_above_zero(capsys, fps):
    with pytest.raises(SystemExit) as ended:
        cli.parse(["build", "--dialogs", "x.json", "--out", "data", "--fps", fps])
    assert ended.value.code == 2 and "say a number above 0" in capsys.readouterr().err


def test_reading_the_command_line_imports_nothing_large():
    program = "import sys, dst_dist.build.verbs; print('numpy' in sys.modules, 'sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"]
