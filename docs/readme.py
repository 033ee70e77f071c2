"""Writes the generated blocks of README.md from the methods' facts and from recorded runs: python docs/readme.py

With --check it writes nothing and fails where a block is out of date.
"""

import json
import re
import sys
from pathlib import Path

from oodles.cards import markdown_table

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def recorded(name: str) -> dict:
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def speed() -> str:
    """The ratios of one recorded run each."""
    steps, imports = recorded("steps.json"), recorded("import_time.json")
    lines = ["| method | a step, over a plain step with as many rows |", "|---|---|"]
    lines += [f"| `{name}` | {row['ratio']:.2f} |" for name, row in steps["steps"].items()]
    lines += [
        "",
        f"`import oodles` adds {imports['import_ms']:.0f} ms to torch's, every public name {imports['every_name_ms']:.0f} ms.",
    ]
    return "\n".join([*lines, "", f"torch {steps['torch']}, {steps['device']}, one thread; medians of one run."])


BLOCKS = {"methods": markdown_table, "speed": speed}


def written(text: str) -> str:
    for name, make in BLOCKS.items():
        start, end = f"<!-- {name}: generated -->", f"<!-- {name}: end -->"
        block = f"{start}\n{make()}\n{end}"
        text, found = re.subn(
            f"{re.escape(start)}.*?{re.escape(end)}", lambda _, block=block: block, text, flags=re.DOTALL
        )
        if found != 1:
            raise SystemExit(f"README.md must hold one block {name!r}, got {found}.")
    return text


if __name__ == "__main__":
    readme = ROOT / "README.md"
    now = readme.read_text(encoding="utf-8")
    if (new := written(now)) != now:
        if "--check" in sys.argv:
            raise SystemExit("README.md is out of date: run python docs/readme.py")
        readme.write_text(new, encoding="utf-8")
