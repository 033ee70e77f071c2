"""Images per second from JPEG files, beside torchvision's where it is installed: python benchmarks/decoding.py [FOLDER]

Files are drawn, or those of FOLDER, which has one folder per class; nothing is cached but by the system. torchvision
needs a torch build that it imports with, so this usually runs in an environment of its own. The memory of a pass over
links to 100 files is measured in processes of their own.
"""

import os
import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from subprocess import run
from typing import Any

import numpy as np
import torch
from mixers import import_peer
from PIL import Image
from timing import ratios, record, show
from torch.utils.data import DataLoader

from oodles.data import load_suite, read_images
from oodles.data.decoded import Decoded

THREADS = min(8, len(os.sched_getaffinity(0)))
SIDE, FILES, BATCH = 128, 200, 32
LINKS = {"20,000 links": 20_000, "100,000 links": 100_000}
WIDE = 224  # so that the fewer links do not fit into memory either


def draw_photos(folder: Path, width: int, height: int, count: int = FILES) -> Path:
    """Write JPEG files in two classes, as smooth and as grainy as photos."""
    random = np.random.default_rng(0)
    for number in range(count):
        small = Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8))
        smooth = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
        image = np.clip(smooth + random.integers(-12, 13, smooth.shape), 0, 255).astype(np.uint8)
        path = folder / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path, quality=90)
    return folder


def decoders(folder: Path) -> dict[str, Callable[[], object]]:
    """Return ways to read a whole folder, the shorter side resized and the centre cropped."""
    shape = (3, SIDE, SIDE)
    functions: dict[str, Callable[[], object]] = {
        "oodles": lambda: read_images(folder, shape, SIDE),
        "oodles, draft": lambda: read_images(folder, shape, SIDE, draft=True),
    }
    if vision := import_peer("torchvision"):
        transforms, datasets = import_peer("torchvision.transforms.v2"), import_peer("torchvision.datasets")
        assert transforms and datasets
        fit = [transforms.Resize(SIDE), transforms.CenterCrop(SIDE)]
        as_float = [transforms.ToImage(), transforms.ToDtype(torch.float32, scale=True)]
        for name, last in (("bytes", [transforms.PILToTensor()]), ("floats", as_float)):
            data: Any = datasets.ImageFolder(folder, transforms.Compose([*fit, *last]))
            loader: Any = DataLoader(data, batch_size=BATCH, num_workers=THREADS, persistent_workers=True)
            functions[f"torchvision {vision.__version__}, {name}"] = lambda loader=loader: [len(x) for x, _ in loader]
    return functions


def peak_memory(links: int) -> dict[str, float]:
    """Return mebibytes of a process that loads a suite of links and of the one of its workers that took most."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = sorted(draw_photos(folder / "test", 150, 150, 100).rglob("*.jpg"))
        for row in range(links):
            link = folder / "train" / "ab"[row % 2] / f"{row}.jpg"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(files[row % len(files)])
        about = f"input_shape = [3, {WIDE}, {WIDE}]\nvalidation = 500\n"  # which are in memory
        (folder / "links.toml").write_text(f'train = "train"\ntest = "test"\n{about}')
        told = run([sys.executable, __file__, "--pass", str(folder / "links.toml")], capture_output=True, text=True)
    if told.returncode:
        raise RuntimeError(told.stderr)
    own, worker = map(float, told.stdout.split()[-2:])
    return {"process": own, "worker": worker}


def one_pass(suite_file: str) -> None:
    """Load a suite and read every training image once; print the peaks of memory."""
    suite = load_suite(suite_file)
    assert isinstance(suite.train.images, Decoded)
    rows = sum(len(labels) for _, labels in suite.train.loader(BATCH, shuffle=True))
    assert rows == len(suite.train)
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    print(*(round(resource.getrusage(one).ru_maxrss / 1024, 1) for one in who))


if __name__ == "__main__":
    torch.set_num_threads(THREADS)  # of which loading takes as many
    if sys.argv[1:2] == ["--pass"]:
        one_pass(sys.argv[2])
        sys.exit()
    tables: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folders = {"1000 x 750": draw_photos(Path(name) / "large", 1000, 750)}
        folders["150 x 150"] = draw_photos(Path(name) / "small", 150, 150, 5 * FILES)
        if sys.argv[1:]:
            folders["photos"] = Path(sys.argv[1])
        for title, folder in folders.items():
            tables[title] = ratios(decoders(folder), "oodles", rounds=7, repeats=1)
            count = sum(1 for _ in folder.rglob("*.jpg"))
            for row in tables[title].values():
                row["images_per_second"] = round(1e3 * count / row["ms"], 1)
            show(f"{count} files of {title} to {SIDE}, {THREADS} threads", "oodles", tables[title])
    tables["peak_mebibytes"] = {name: peak_memory(links) for name, links in LINKS.items()}
    print(tables["peak_mebibytes"])
    record("decoding", tables)
