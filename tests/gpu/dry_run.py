"""Puts mocks of libcuda and nvidia-smi into a folder, for ``DRY_RUN=1 tests/gpu/run_all.sh``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from cuda_mock import build

FIELDS = "Mock GPU, 0.0, 0 MHz, 0 MHz, 0 MHz, 0 W, 0"
SCRIPT = f"""#!/bin/sh
case "$1" in
  --query-gpu=*) echo "{FIELDS}" ;;
  *) echo "a mock of the driver" ;;
esac
"""

if __name__ == "__main__":
    folder = build(Path(sys.argv[1]))
    command = folder / "nvidia-smi"
    command.write_text(SCRIPT)
    command.chmod(0o755)
