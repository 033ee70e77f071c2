"""``python -m oodles`` is the command ``oodles``."""

import sys

from oodles.cli import main

if __name__ == "__main__":
    sys.exit(main())
