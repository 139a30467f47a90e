"""Run the command line as ``python -m fedkd``."""

from __future__ import annotations

import sys

from fedkd.cli import main

if __name__ == "__main__":
    sys.exit(main())
