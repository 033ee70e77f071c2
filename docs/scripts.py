"""Write the examples of the guides as scripts that run by themselves, into examples: python docs/scripts.py"""

from pathlib import Path

import examples

HERE = Path(__file__).parent
FOLDER = HERE.parent / "examples"
START = '''"""{title}: the examples of docs/{page}.md, from which docs/scripts.py makes this file.

{needs}All that it writes goes into a new folder.
"""

import os
import shlex
import sys
import tempfile

os.chdir(tempfile.mkdtemp(prefix="oodles-"))
sys.path[0] = os.getcwd()  # modules are looked for there
print("In", os.getcwd())

from oodles.cli import main


def shell(command):
    """Run a command as in a shell, and stop where it fails."""
    print("$", command)
    if code := main(shlex.split(command)[1:]):
        sys.exit(code)
'''


def script(page: str) -> str:
    """Return the examples of a page as one script."""
    text = (HERE / f"{page}.md").read_text(encoding="utf-8")
    packages = ", ".join(examples.WANTED.get(page, ()))
    needs = f"It needs {packages}. " if packages else ""
    parts = [START.format(title=text.splitlines()[0].removeprefix("# "), page=page, needs=needs).rstrip()]
    for block in examples.in_turn(text):
        if block.language == "python":
            parts.append(block.code.rstrip())
        elif commands := [command for command in block.commands if examples.can_run(command)]:
            parts.append("\n".join(f"shell({' '.join(command.split())!r})" for command in commands))
    return "\n\n\n".join(parts[:2]) + "".join(f"\n\n{part}" for part in parts[2:]) + "\n"


def scripts() -> dict[str, str]:
    """Return the scripts of all guides, by the names of their files."""
    pages = sorted((HERE / "guides").glob("*.md"))
    return {f"{page.stem.replace('-', '_')}.py": script(f"guides/{page.stem}") for page in pages}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in scripts().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
