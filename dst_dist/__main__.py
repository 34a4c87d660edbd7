"""`python -m dst_dist` is `dst-dist`."""

import os
import sys

from dst_dist.cli import main

code = main()
sys.stdout.flush()
sys.stderr.flush()
# Gloo's threads may keep a process of several from ending.
os._exit(code)
