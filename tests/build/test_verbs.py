"""The words of the room's commands."""

import subprocess
import sys


def test_reading_the_command_line_imports_nothing_large():
    program = "import sys, dst_dist.build.verbs; print('numpy' in sys.modules, 'sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"]
