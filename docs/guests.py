"""Run the guides to other libraries, and print what they print: `make guests`, in an environment of their own.

These libraries cannot be installed beside the version of torch that the tests are pinned to; guests.txt has theirs.
"""

import sys
import time
from importlib.metadata import version
from pathlib import Path

import examples

HERE = Path(__file__).parent
PAGES = ("guides/hugging-face-trainer", "guides/lightning", "guides/timm")

if __name__ == "__main__":
    if missing := sorted({package for page in PAGES for package in examples.missing(page)}):
        sys.exit(f"These guides need {', '.join(missing)}: make guests installs them.")
    for line in (HERE / "guests.txt").read_text(encoding="utf-8").splitlines():
        name, _, wanted = line.partition("==")
        if version(name).partition("+")[0] != wanted:
            sys.exit(f"The guides are run with {line}, and {version(name)} is installed: make guests installs it.")
    for page in PAGES:
        start = time.perf_counter()
        for _, out in examples.run_examples((HERE / f"{page}.md").read_text(encoding="utf-8"), page):
            print(out, end="")
        print(f"{page}: {time.perf_counter() - start:.0f} s\n")
