"""`python -m dst_dist` is `dst-dist`."""

from dst_dist.cli import main
from dst_dist.exit import leave

leave(main())
