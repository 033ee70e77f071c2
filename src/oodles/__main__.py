"""``python -m oodles`` is the command ``oodles``."""

import os
import sys

if not sys.flags.safe_path and sys.path[0] == os.getcwd():  # as the command: a folder may hold a stranger's modules
    del sys.path[0]

from oodles.cli import main

if __name__ == "__main__":
    sys.exit(main())
