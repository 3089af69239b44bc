"""``python -m ate_dispatcher`` is the command ``ate-dispatcher``."""

import sys

from .cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
