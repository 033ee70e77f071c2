"""Images to train on and to be tested on: suites of sets, embedded or read from a user's folder."""

from importlib import import_module
from pathlib import Path

from oodles.data.image_set import Augment, ImageSet, as_batch
from oodles.data.suite import Suite
from oodles.spelling import suggestion

__all__ = ["SUITES", "Augment", "ImageSet", "Suite", "as_batch", "load_suite", "read_images"]

SUITES = {"digits": "oodles.data.digits:digits"}
"""Embedded suites: name -> function of the seed."""


def load_suite(name_or_path: str | Path, seed: int = 0, *, augment: Augment | None = None) -> Suite:
    """The sets that a comparison needs: train, validation, test, outliers, near-OOD and far-OOD.

    Args:
        name_or_path: ``"digits"``, or a folder of one's own with ``train`` and ``test``, and where wanted
            ``validation`` (else a tenth of train), ``outliers``, ``near/NAME`` and ``far/NAME``. Each is a ``.npz``
            file or a folder of images, see :func:`read_images`; train, validation and test have one folder per class.
        seed: draws the split and the training rows' augmentation.
        augment: how training rows and outliers are augmented; by default what the suite says, and for a folder
            shifts by up to an eighth of the side.

    Raises:
        ValueError: for a name that is neither an embedded suite nor a folder, or data that cannot be used.
        FileNotFoundError: for a folder that lacks ``train`` or ``test``.

    Example:
        >>> suite = load_suite("digits", seed=0)
        >>> suite.input_shape, len(suite.classes)
        ((1, 8, 8), 6)
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed must be a whole number of at least 0, got {seed!r}.")
    if isinstance(name_or_path, str) and name_or_path in SUITES:
        module, function = SUITES[name_or_path].split(":")
        suite: Suite = getattr(import_module(module), function)(seed)
        return suite if augment is None else suite.augmented(augment)
    if not Path(name_or_path).is_dir():
        hint = suggestion(str(name_or_path), SUITES, f"give a folder or one of {', '.join(SUITES)}.")
        raise ValueError(f"data must be a suite or a folder with train and test, got {str(name_or_path)!r}{hint}")
    from oodles.data.files import read_suite

    return read_suite(Path(name_or_path), seed, augment)


def read_images(path: str | Path, input_shape: tuple[int, int, int] | None = None) -> ImageSet:
    """Images of a ``.npz`` file, of a folder (at any depth), or of a single image file.

    Args:
        path: a ``.npz`` file with ``images``, uint8 or floating point in [0, 1], of shape (N, H, W), (N, H, W, C) or
            (N, C, H, W), and where there are some ``labels``; or image files of 8 bits per channel.
        input_shape: (C, H, W) of the result; by default the images' own, which then must be one size. Other images are
            cropped about their centre to the aspect ratio asked for and resized by Pillow's bilinear filter; colour
            becomes grey by Rec. 601 luma, and grey fills all channels.

    Returns:
        An image set whose ``names`` are file names or row numbers; labels are −1 where there are none.

    Raises:
        FileNotFoundError: where nothing is at the path.
        ValueError: where it holds no images, or images that cannot be read.
    """
    from oodles.data.files import read_set

    return read_set(Path(path), input_shape)
