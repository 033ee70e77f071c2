"""Text intents: the examples of docs/guides/text-intents.md, from which docs/scripts.py makes this file.

All that it writes goes into a new folder.
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


from pathlib import Path

Path("letters.py").write_text("""
import numpy as np


def encode(texts):
    counts = np.zeros((len(texts), 27 * 27), np.float32)
    for row, text in zip(counts, texts):
        letters = [ord(sign) - 96 if "a" <= sign <= "z" else 0 for sign in f" {text.lower()} "]
        np.add.at(row, [27 * one + other for one, other in zip(letters, letters[1:])], 1)
    return np.sqrt(counts)
""")

import itertools
import json
import random

random.seed(0)
PATTERNS = {
    "balance": ["how much is on my {}", "what is the balance of my {}", "show me the {} balance"],
    "transfer": ["send {} from my account", "move {} to savings", "transfer {} to my brother"],
    "card": ["my {} card is lost", "block the {} card", "somebody stole my {} card"],
    "rate": ["what is the interest on a {} loan", "how high is the {} rate", "tell me the {} loan rate"],
}
WORDS = {
    "balance": ["account", "savings", "checking account", "joint account", "travel account", "old account"],
    "transfer": ["ten dollars", "fifty euros", "a hundred", "my rent", "the deposit", "two thousand"],
    "card": ["credit", "debit", "gold", "new", "second", "company"],
    "rate": ["car", "house", "student", "small", "business", "private"],
}
known = [
    (pattern.format(word), intent)
    for intent in PATTERNS
    for pattern, word in itertools.product(PATTERNS[intent], WORDS[intent])
]
polite = ["", "please ", "hello, ", "i want to know, ", "quickly: "]
rows = [{"query": opening + text, "intent": intent} for (text, intent), opening in itertools.product(known, polite)]
random.shuffle(rows)
kitchen = [
    f"{start} {food}"
    for start, food in itertools.product(
        ["how long do i boil", "what goes with", "is there gluten in", "give me a recipe for"],
        ["eggs", "rice", "lentils", "fresh pasta", "a big pumpkin", "mushrooms"],
    )
]
for name, part in (("train", rows[:280]), ("test", rows[280:])):
    Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
Path("kitchen.txt").write_text("\n".join(kitchen))
Path("bank.toml").write_text("""
encoder = "letters:encode"
train = { texts = "train.jsonl", text = "query", label = "intent" }
test = "test.jsonl"
validation = 0.3
[far]
kitchen = "kitchen.txt"
""")

shell('oodles suite check bank.toml')
shell('oodles train cross-entropy --recipe vectors --data bank.toml --to runs/bank')
shell('oodles evaluate runs/bank --data bank.toml --score msp --score energy --score "knn(k=5)"')

shell('oodles score runs/bank kitchen.txt --score "knn(k=5)" --encoder letters:encode --to verdicts.csv')

from oodles import open_run

detector = open_run("runs/bank", data="bank.toml").detector("knn(k=5)")
verdicts = detector(["block my credit card please", "how long do i boil lentils"])
for name, intent, p, accepted in zip(verdicts.names, verdicts.classes, verdicts.p_values, verdicts.accepted):
    print(f"{name}: {intent}, p = {p:.3f}, {'accepted' if accepted else 'refused'}")
