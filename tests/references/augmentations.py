"""The augmentations of AugMix (Hendrycks et al., ICLR 2020) in plain float64, one pixel at a time."""

import math

import numpy as np

NINE = (
    *("autocontrast", "equalize", "posterize", "solarize"),
    *("rotate", "shear_x", "shear_y", "translate_x", "translate_y"),
)
"""The operations in the order in which they are counted."""
Image = np.ndarray
"""(C, H, W) in [0, 1]."""


def augmented(image: Image, name: str, level: float, sign: float) -> Image:
    """One operation at a level from 0 to 10, in one of two directions."""
    _, height, width = image.shape
    if name == "autocontrast":
        return np.stack([stretched(channel) for channel in image])
    if name == "equalize":
        return np.stack([equalized(channel) for channel in image])
    if name == "posterize":
        return each_pixel(image, lambda v: keep_bits(grey(v), 4 - min(3, int(level * 4 / 10))) / 255)
    if name == "solarize":
        threshold = 256 - int(level * 256 / 10)
        return each_pixel(image, lambda v: v if grey(v) < threshold else 1 - v)
    if name == "rotate":
        angle = math.radians(sign * int(level * 30 / 10))
        return moved(image, lambda x, y: turned(x, y, angle, width / 2, height / 2))
    if name == "shear_x":
        return moved(image, lambda x, y: (x + sign * level * 0.3 / 10 * y, y))
    if name == "shear_y":
        return moved(image, lambda x, y: (x, y + sign * level * 0.3 / 10 * x))
    if name == "translate_x":
        return moved(image, lambda x, y: (x + sign * int(level * width / 3 / 10), y))
    if name == "translate_y":
        return moved(image, lambda x, y: (x, y + sign * int(level * height / 3 / 10)))
    factor = 0.1 + level * 1.8 / 10
    if name == "color":
        return enhanced(image, lambda c, y, x: luminance(image, y, x), factor)
    if name == "contrast":
        mean = sum(luminance(image, y, x) for y in range(height) for x in range(width)) / height / width
        return enhanced(image, lambda c, y, x: mean, factor)
    if name == "brightness":
        return enhanced(image, lambda c, y, x: 0.0, factor)
    assert name == "sharpness"
    return enhanced(image, lambda c, y, x: smooth(image[c], y, x), factor)


def enhanced(image, start, factor):  # type: ignore[no-untyped-def]
    """From the start through the image and on, clipped to [0, 1]."""
    result = np.empty_like(image)
    for place in np.ndindex(image.shape):
        begin = start(*place)
        result[place] = min(1.0, max(0.0, begin + factor * (image[place] - begin)))
    return result


def luminance(image: Image, y: int, x: int) -> float:
    shares = (0.299, 0.587, 0.114) if len(image) == 3 else [1 / len(image)] * len(image)
    return float(sum(share * channel[y, x] for share, channel in zip(shares, image, strict=True)))


def smooth(channel: np.ndarray, y: int, x: int) -> float:
    """A pixel five times and its eight neighbours once each; pixels at an edge as they are."""
    height, width = channel.shape
    if y in (0, height - 1) or x in (0, width - 1):
        return float(channel[y, x])
    total = 4 * channel[y, x]
    for down in (-1, 0, 1):
        for along in (-1, 0, 1):
            total += channel[y + down, x + along]
    return float(total / 13)


def grey(value: float) -> int:
    """The level of an 8-bit image."""
    return round(value * 255)


def keep_bits(level: int, bits: int) -> int:
    """A grey level with the lower ones of its 8 bits at zero."""
    return level >> (8 - bits) << (8 - bits)


def each_pixel(image, change):  # type: ignore[no-untyped-def]
    result = np.empty_like(image)
    for place in np.ndindex(image.shape):
        result[place] = change(float(image[place]))
    return result


def stretched(channel: np.ndarray) -> np.ndarray:
    low, high = min(channel.flat), max(channel.flat)
    return channel if low == high else np.array([[(v - low) / (high - low) for v in row] for row in channel])


def equalized(channel: np.ndarray) -> np.ndarray:
    """How many pixels are darker, of those that are not among the brightest."""
    levels = [grey(v) for v in channel.flat]
    below_top = sum(level < max(levels) for level in levels)
    if not below_top:
        return channel
    darker = [sum(other < level for other in levels) / below_top for level in levels]
    return np.array(darker).reshape(channel.shape)


def turned(x: float, y: float, angle: float, centre_x: float, centre_y: float) -> tuple[float, float]:
    """What is at (x, y) once the picture is turned counter-clockwise; y counts downwards."""
    dx, dy = x - centre_x, y - centre_y
    return (
        centre_x + math.cos(angle) * dx - math.sin(angle) * dy,
        centre_y + math.sin(angle) * dx + math.cos(angle) * dy,
    )


def moved(image, source):  # type: ignore[no-untyped-def]
    """Each pixel shows what is at ``source`` of its centre, black outside of the image."""
    channels, height, width = image.shape
    result = np.zeros_like(image)
    for i in range(height):
        for j in range(width):
            x, y = source(j + 0.5, i + 0.5)
            if 0 <= x <= width and 0 <= y <= height:
                for c in range(channels):
                    result[c, i, j] = between(image[c], x - 0.5, y - 0.5)
    return result


def between(channel: np.ndarray, x: float, y: float) -> float:
    """Linear interpolation between the four pixels around; beyond the outermost centres, the outermost pixels."""
    height, width = channel.shape
    left, top = math.floor(x), math.floor(y)
    total = 0.0
    for i, share_y in ((top, 1 - (y - top)), (top + 1, y - top)):
        for j, share_x in ((left, 1 - (x - left)), (left + 1, x - left)):
            total += share_y * share_x * channel[min(max(i, 0), height - 1), min(max(j, 0), width - 1)]
    return float(total)
