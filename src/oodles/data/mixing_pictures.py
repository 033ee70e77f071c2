"""Pictures with structure but without meaning, for PixMix: fractals and textures, or the images of a folder."""

import os
import zipfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from oodles.data import read_images
from oodles.data.decoded import Decoded
from oodles.files import cache_folder

Shape = tuple[int, int, int]
"""(C, H, W)."""
Random = np.random.Generator
Fields = NDArray[np.float32]

VERSION = 1
"""One more whenever the same seed gives other pictures."""
COUNT, MEMORY = 1000, 2**26
"""How many pictures there are, fewer where they would take more bytes."""
LARGEST_SIDE = 128
"""The largest side that pictures are made in; larger ones are enlarged."""
AT_ONCE = 2**21
"""Numbers that a generator works on at a time."""
POINTS_PER_PIXEL = 8
"""Of a fractal."""
MAPS, CELLS, DISCS = 4, 24, 40


class MixingPictures:
    """Pictures of one shape, of which rows can be taken on any device.

    Args:
        pixels: (P, C, H, W), uint8, or floating point in [0, 1]; in memory, or decoded on demand.
    """

    def __init__(self, pixels: NDArray[Any] | Decoded):
        self._pixels = pixels
        self._on = cache(self._tensor)

    def __len__(self) -> int:
        return len(self._pixels)

    def rows(self, numbers: NDArray[np.int64], like: Tensor) -> Tensor:
        """Return the pictures of these numbers in [0, 1], on the device of ``like`` and of its type."""
        if isinstance(self._pixels, Decoded):
            chosen = torch.from_numpy(self._pixels[numbers]).to(like.device, non_blocking=True)
        else:
            places = torch.from_numpy(numbers).to(like.device, non_blocking=True)
            chosen = self._on(like.device).index_select(0, places)
        return chosen.to(like.dtype) / 255 if chosen.dtype == torch.uint8 else chosen.to(like.dtype)

    def _tensor(self, device: torch.device) -> Tensor:
        return torch.from_numpy(np.require(self._pixels, requirements="W")).to(device, non_blocking=True)


@lru_cache(maxsize=4)
def mixing_pictures(place: str, shape: Shape) -> MixingPictures:
    """Read the pictures of a folder or ``.npz`` file in this shape, or without a place the generated ones.

    Raises:
        ValueError: where nothing is at the place, or no images.
    """
    if place and not Path(place).exists():
        raise ValueError(f"pictures must be a folder or .npz file of pictures, but nothing is at {place!r}.")
    if place:
        return MixingPictures(read_images(place, shape).images)
    return MixingPictures(kept_pictures(shape, max(1, min(COUNT, MEMORY // int(np.prod(shape))))))


def kept_pictures(shape: Shape, count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return generated pictures, kept in ``$XDG_CACHE_HOME/oodles`` (``~/.cache/oodles``) where that is writable."""
    name = f"mixing-pictures-{VERSION}-{'x'.join(map(str, shape))}-{count}-{seed}.npz"
    folder = cache_folder()
    try:
        with (folder / name).open("rb") as kept_file, np.load(kept_file, allow_pickle=False) as archive:
            kept = archive["pictures"]
        if kept.shape == (count, *shape) and kept.dtype == np.uint8:
            return np.asarray(kept)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # not there, or cut off
    pictures = generated_pictures(shape, count, seed)
    unfinished = folder / f".{name}.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            np.savez_compressed(file, pictures=pictures)
        unfinished.replace(folder / name)
    except OSError:  # next time they are made again
        with suppress(OSError):
            unfinished.unlink()
    return pictures


def generated_pictures(shape: Shape, count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Generate pictures (count, C, H, W): half of them fractals, the others noise, stripes, cells and discs in turn.

    Args:
        shape: (C, H, W), any number of channels.
        count: how many.
        seed: of all random numbers.
    """
    channels, height, width = shape
    square = max(height, width)
    side = min(square, LARGEST_SIDE)
    top, left = (square - height) // 2, (square - width) // 2
    makers: tuple[Callable[..., Fields], ...] = (fractals, noise, fractals, stripes, fractals, cells, fractals, discs)
    pictures = np.empty((count, *shape), np.uint8)
    for kind, make in enumerate(makers):
        rows = np.arange(kind, count, len(makers))
        at_once = max(1, AT_ONCE // (side * side * MAPS))
        random = np.random.default_rng((seed, kind))
        for start in range(0, len(rows), at_once):
            some = rows[start : start + at_once]
            images = torch.from_numpy(make(random, len(some), channels, side))
            if side < square:
                images = interpolate(images, (square, square), mode="bilinear")
            images = images[:, :, top : top + height, left : left + width]
            pictures[some] = (images.clamp(0, 1) * 255).round().numpy().astype(np.uint8)
    return pictures


def fractals(random: Random, count: int, channels: int, side: int) -> Fields:
    """Draw attractors of iterated function systems: points under random contractions, in the colours of their maps."""
    turn, flip = random.uniform(0, 2 * np.pi, (2, count, MAPS))
    used = np.arange(MAPS) < random.integers(2, MAPS + 1, (count, 1))
    long = random.uniform(0.4, 0.9, (count, MAPS))
    short = long * random.uniform(0.2, 1.0, (count, MAPS))
    # maps that together keep little of the area leave dust
    kept = random.uniform(0.6, 1.1, (count, 1)) / (long * short * used).sum(1, keepdims=True)
    long, short = (np.minimum(size * np.sqrt(kept), 0.9) for size in (long, short))
    linear = _rotation(turn) @ (np.stack([long, short], -1)[..., None] * _rotation(flip))
    shift = random.uniform(-1, 1, (count, MAPS, 2))
    likely = (long * short + 0.02) * used
    likely = (likely / likely.sum(1, keepdims=True)).cumsum(1)

    walkers, warm_up = 64, 20
    steps = max(32, POINTS_PER_PIXEL * side * side // walkers)
    points, taken = np.zeros((count, walkers, 2)), np.zeros((count, walkers), np.int64)
    visited = np.empty((steps, count, walkers, 2), np.float32)
    chosen = np.empty((steps, count, walkers), np.int8)
    row = np.arange(count)[:, None]
    for step in range(-warm_up, steps):
        taken = (random.random((count, walkers, 1)) >= likely[:, None, :-1]).sum(2)
        points = np.einsum("pwij,pwj->pwi", linear[row, taken], points) + shift[row, taken]
        if step >= 0:
            visited[step], chosen[step] = points, taken

    low, high = np.quantile(visited[:: max(1, steps // 32)], (0.01, 0.99), axis=(0, 2))
    scale = (high - low).max(1, keepdims=True) + 1e-6
    places = ((visited - (low + high)[None, :, None] / 2) / scale[None, :, None] + 0.5) * side
    inside = ((places >= 0) & (places < side)).all(3)
    x, y = places[inside].astype(np.int64).T
    picture, colour = np.broadcast_to(row[:, 0, None], inside.shape)[inside], chosen[inside]
    pixel = (picture * side + y) * side + x
    cells = count * side * side
    hits = np.bincount(pixel, minlength=cells).reshape(count, 1, side, side)
    shades = random.random((count, MAPS, channels))
    sums = [np.bincount(pixel, shades[picture, colour, channel], cells) for channel in range(channels)]
    mean = np.stack(sums, 0).reshape(channels, count, side, side).swapaxes(0, 1) / np.maximum(hits, 1)
    density = np.log1p(hits) / np.log1p(hits).max((1, 2, 3), keepdims=True)
    ground = random.random((count, channels, 1, 1)) * random.integers(0, 2, (count, 1, 1, 1))
    return _single(ground + np.sqrt(density) * (mean - ground))


def noise(random: Random, count: int, channels: int, side: int) -> Fields:
    """Draw noise whose amplitudes fall as a power of the frequency, almost white to clouds, more or less in colour."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    frequency[0, 0] = 1
    power = random.uniform(0.5, 2.5, (count, 1, 1, 1))
    white = np.fft.rfft2(random.standard_normal((count, channels + 1, side, side)))
    fields = np.fft.irfft2(white * frequency**-power, (side, side))
    alike = random.uniform(0, 1, (count, 1, 1, 1))
    fields = alike * fields[:, :1] + (1 - alike) * fields[:, 1:]
    return _stretch(fields)


def stripes(random: Random, count: int, channels: int, side: int) -> Fields:
    """Draw two gratings, bent by slow waves, in the colours of a random palette."""
    y, x = (np.arange(side) / side for _ in range(2))
    field = np.zeros((count, side, side))
    for _ in range(2):
        angle, phase, bend = (random.uniform(0, 2 * np.pi, (count, 1, 1)) for _ in range(3))
        often, slow = random.uniform(1, 10, (count, 1, 1)), random.uniform(0.5, 3, (count, 1, 1))
        along = x * np.cos(angle) + y[:, None] * np.sin(angle)
        across = y[:, None] * np.cos(angle) - x * np.sin(angle)
        field += np.sin(2 * np.pi * often * along + phase + bend * np.sin(2 * np.pi * slow * across))
    return _paint(random, _stretch(field[:, None])[:, 0], channels)


def cells(random: Random, count: int, channels: int, side: int) -> Fields:
    """Draw the cells nearest to each of some points, in one colour each, darker away from the point."""
    sites = random.random((count, CELLS, 2, 1, 1))
    grid = (np.arange(side) + 0.5) / side
    apart = np.hypot(grid[:, None] - sites[:, :, 0], grid - sites[:, :, 1])
    nearest, distance = apart.argmin(1), apart.min(1)
    colours = random.random((count, CELLS, channels))
    shade = 1 - random.uniform(0, 3, (count, 1, 1)) * distance
    flat = colours[np.arange(count)[:, None, None], nearest]
    return _single(np.moveaxis(flat * shade[..., None].clip(0, 1), 3, 1))


def discs(random: Random, count: int, channels: int, side: int) -> Fields:
    """Draw discs of many sizes that cover one another, as fallen leaves do."""
    centre = random.uniform(-0.1, 1.1, (count, DISCS, 2, 1, 1))
    radius = 0.05 / random.uniform(0.1, 1, (count, DISCS, 1, 1))
    radius[:, -1] = 9  # the ground
    grid = (np.arange(side) + 0.5) / side
    covers = np.hypot(grid[:, None] - centre[:, :, 0], grid - centre[:, :, 1]) < radius
    colours = random.random((count, DISCS, channels))
    first = colours[np.arange(count)[:, None, None], covers.argmax(1)]
    return _single(np.moveaxis(first, 3, 1))


def _rotation(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)


def _stretch(fields: NDArray[np.float64]) -> Fields:
    """Stretch each channel of each picture to [0, 1]."""
    low, high = fields.min((2, 3), keepdims=True), fields.max((2, 3), keepdims=True)
    return _single((fields - low) / np.maximum(high - low, 1e-12))


def _paint(random: Random, field: Fields, channels: int) -> Fields:
    """Colour a field in [0, 1] by colours between those of a random palette."""
    palette = random.random((len(field), MAPS, channels))
    place = field * (MAPS - 1)
    below = np.minimum(place.astype(np.int64), MAPS - 2)
    row, share = np.arange(len(field))[:, None, None], (place - below)[..., None]
    colours = palette[row, below] * (1 - share) + palette[row, below + 1] * share
    return _single(np.moveaxis(colours, 3, 1))


def _single(fields: NDArray[np.float64]) -> Fields:
    return fields.astype(np.float32)
