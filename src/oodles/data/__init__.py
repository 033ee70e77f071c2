"""Images to train on and to be tested on: suites of sets, embedded, described in a file, or in a user's folder."""

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from oodles.data import sources
from oodles.data.augment import Augment
from oodles.data.building import build_suite
from oodles.data.conversion import one_shape
from oodles.data.datasets import read_dataset, read_list
from oodles.data.decoded import Decoded, convert, name_broken
from oodles.data.description import Description, describe_folder, folders_of, read_description, resolve_paths
from oodles.data.image_set import ImageSet, as_batch
from oodles.data.names import find
from oodles.data.preprocess import Fit
from oodles.data.raw import BrokenImages, RawImages
from oodles.data.sources import read_path
from oodles.data.suite import Suite
from oodles.spelling import suggestion

__all__ = [
    "SUITES",
    "Augment",
    "Decoded",
    "ImageSet",
    "Suite",
    "as_batch",
    "from_dataset",
    "from_images",
    "load_suite",
    "read_images",
]

SHIPPED = Path(__file__).with_name("suites")
SUITES: dict[str, str | Path] = {
    "digits": "oodles.data.digits:digits",
    "digits-wild": "oodles.data.digits:digits_wild",
    **{name: SHIPPED / f"{name}.toml" for name in sorted(path.stem for path in SHIPPED.glob("*.toml"))},
}
"""Suites by name: a function of the seed, or a file that describes where a user's copies are."""


def load_suite(
    name_or_path: str | Path,
    seed: int = 0,
    *,
    augment: Augment | None = None,
    root: str | Path | Sequence[str | Path] = (),
) -> Suite:
    """Load the sets that a comparison needs: train, validation, test, outliers, near-OOD and far-OOD.

    Args:
        name_or_path: a name in ``SUITES``; a TOML file that describes a suite, as ``docs/suites.md`` says; or a folder
            of one's own with ``train`` and ``test``, and where wanted ``validation`` (else a tenth of train),
            ``outliers``, ``validation_outliers``, ``near/NAME`` and ``far/NAME``. Each is a ``.npz`` file or a folder
            of images, see :func:`read_images`; train, validation and test have one folder per class. What is left out,
            such as files that are no images, is told in a warning.
        seed: draws the training rows' augmentation, and the embedded digits; the rows of other suites are always the
            same.
        augment: how training rows and outliers are augmented; by default as the suite says, else by shifts of up to an
            eighth of the side.
        root: folders in which relative paths of a description are looked up first; then come those of the environment
            variable ``OODLES_DATA``, of the description's ``root``, and its own folder.

    Raises:
        ValueError: for a name that is neither a suite nor a file or folder, or data that cannot be used.
        FileNotFoundError: for files that are not there.

    Example:
        >>> suite = load_suite("digits", seed=0)
        >>> suite.input_shape, len(suite.classes)
        ((1, 8, 8), 6)
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed must be a whole number of at least 0, got {seed!r}.")
    known = SUITES.get(name_or_path) if isinstance(name_or_path, str) else None
    if isinstance(known, str):
        module, function = known.split(":")
        suite: Suite = getattr(import_module(module), function)(seed)
        return suite if augment is None else suite.augmented(augment)
    return build_suite(describe_suite(name_or_path, root), seed, augment)


def describe_suite(name_or_path: str | Path, root: str | Path | Sequence[str | Path] = ()) -> Description:
    """Read the description of a suite that is no function, and make its paths absolute; see :func:`load_suite`."""
    shipped = SUITES.get(name_or_path) if isinstance(name_or_path, str) else None
    path = Path(shipped or name_or_path)
    if path.is_dir():
        return resolve_paths(describe_folder(path), ())
    if path.suffix != ".toml" or not path.is_file():
        hint = suggestion(str(name_or_path), SUITES, f"give a folder, a TOML file or one of {', '.join(SUITES)}.")
        raise ValueError(
            f"data must be a suite, a TOML file or a folder with train and test, got {str(name_or_path)!r}{hint}"
        )
    description = read_description(path)
    own = None if shipped else path.absolute().parent
    if "cache" in description:  # beside the suite file, and never in the package
        cache = (own or Path.cwd()) / Path(description["cache"]).expanduser()
        description = {**description, "cache": str(cache)}
    return resolve_paths(description, folders_of(description, root, own))


def read_images(
    path: str | Path,
    input_shape: tuple[int, int, int] | None = None,
    resize: int | None = None,
    *,
    draft: bool = False,
) -> ImageSet:
    """Read the images of a ``.npz``, ``.npy`` or idx file, of a folder (at any depth), or a single image file.

    Args:
        path: a ``.npz`` file with ``images``, uint8 or floating point in [0, 1], of shape (N, H, W), (N, H, W, C) or
            (N, C, H, W), and where there are some ``labels``; such an array in a ``.npy`` file, which stays on the disk
            where it is larger than memory should hold; an idx file of images, gzipped or not; or image files of
            8 bits per channel: the first frame, upright, transparent parts on white.
        input_shape: (C, H, W) of the result; by default the images' own, which then must be one size. Other images are
            cropped about their centre to the aspect ratio asked for and resized by Pillow's bilinear filter; colour
            becomes grey by Rec. 601 luma, and grey fills all channels.
        resize: resize the shorter side to so many pixels instead, and crop the centre.
        draft: decode JPEG files at the least of 1, 1/2, 1/4 and 1/8 of their size that need not be enlarged then, which
            is faster and gives slightly other pixels; ``input_shape`` must be given.

    Returns:
        An image set whose ``names`` are file names, in which ``\\xNN`` is a byte that is no UTF-8, or row numbers;
        labels are −1 where there are none.

    Raises:
        FileNotFoundError: where nothing is at the path.
        ValueError: where it holds no images, or images that cannot be read, which are named together, and for ``draft``
            without ``input_shape``.
    """
    place = find(Path(path)) or Path(path)
    raw = read_path(place)  # folders inside a folder are classes in a suite, and here they may be anything
    return _image_set(replace(raw, labels=None) if place.is_dir() else raw, input_shape, resize, draft)


def holds_vectors(data: str | Path | Suite, root: str | Path | Sequence[str | Path] = ()) -> bool:
    """Tell whether the rows of a suite are feature vectors, without reading them; see :func:`load_suite`."""
    if isinstance(data, Suite):
        return data.vectors
    return not isinstance(SUITES.get(str(data)), str) and sources.holds_vectors(describe_suite(data, root)["train"])


def read_like(suite: Suite, path: str | Path) -> ImageSet:
    """Read new rows in the way of a suite: images of its size, or feature vectors of its columns or encoder."""
    if suite.features is not None:
        return suite.features.read(path)
    channels, height, width = suite.input_shape
    return read_images(path, (channels, height, width), suite.resize, draft=suite.draft)


def from_images(
    images: Sequence[Any],
    input_shape: tuple[int, int, int] | None = None,
    resize: int | None = None,
    *,
    draft: bool = False,
) -> ImageSet:
    """Read the images of a list: files, Pillow's, tensors (C, H, W), or arrays (H, W) or (H, W, C).

    Arguments, result and errors are those of :func:`read_images`; tensors and arrays hold bytes, or floating-point
    numbers in [0, 1].

    Example:
        >>> import numpy as np
        >>> from_images([np.zeros((40, 50, 3), np.uint8), np.ones((32, 32), np.uint8)], (1, 28, 28)).images.shape
        (2, 1, 28, 28)
    """
    return _image_set(read_list(images), input_shape, resize, draft)


def from_dataset(dataset: Any, input_shape: tuple[int, int, int] | None = None) -> ImageSet:
    """Read the images and class ids of a map-style ``Dataset``, into memory where they fit into 2 GiB.

    Args:
        dataset: has a length and gives (image, class id); an image is one of Pillow's, a tensor (C, H, W) or an array
            (H, W) or (H, W, C), in bytes or floating point in [0, 1]: not normalised, not augmented.
        input_shape: (C, H, W) of the result, see :func:`read_images`.

    Raises:
        TypeError: for something that has no length or no rows.
        ValueError: for items that are no image with a class id.

    Example:
        >>> import torch
        >>> svhn = [(torch.zeros(3, 32, 32), 7), (torch.ones(3, 32, 32), 1)]
        >>> from_dataset(svhn, (1, 28, 28)).images.shape
        (2, 1, 28, 28)
    """
    return _image_set(read_dataset(dataset, f"the {type(dataset).__name__}"), input_shape)


def _image_set(
    raw: RawImages, input_shape: tuple[int, int, int] | None, resize: int | None = None, draft: bool = False
) -> ImageSet:
    if draft and input_shape is None:
        raise ValueError("draft needs input_shape: say what size is wanted.")
    labels = np.full(len(raw.names), -1) if raw.labels is None else raw.labels
    try:
        images = convert(raw, Fit(input_shape or one_shape(raw), resize, draft))
    except BrokenImages:
        name_broken([raw])
        raise
    return ImageSet(images, labels, names=raw.names)
