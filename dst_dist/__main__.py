"""`python -m dst_dist` is `dst-dist`."""

import sys

from dst_dist.cli import main

sys.exit(main())
