#!/usr/bin/env bash
# Install what the tests need and run them; arguments go on to pytest (-k name), --long adds the long forms.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/install.sh
install_dst_dist test
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
exec python -m pytest tests "$@"
