"""Runs the command line as ``python -m onebit.cli``."""

from __future__ import annotations

import sys

from onebit.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
