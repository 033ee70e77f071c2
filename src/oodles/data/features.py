"""How tables and texts become feature vectors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from oodles.data.image_set import ImageSet
from oodles.data.names import some
from oodles.data.raw import RawImages
from oodles.data.sources import LABEL, TEXT, read_path
from oodles.data.texts import Texts, encoded, encoder_named


@dataclass(frozen=True)
class Features:
    """What a suite remembers of its vectors, so that new rows become vectors in the same way.

    Args:
        columns: names of a table's columns with numbers, in the order of the vector.
        encoder: of texts, ``package.module:function`` or a folder of sentence-transformers.
        text: the column or key that holds a text.
        label: the column or key that holds a class, and is no feature.
        cache: the folder in which encoded texts are kept; they are not, without one.
        trusted: False for an encoder of one's own that a folder names, which is not imported for that.
    """

    columns: tuple[str, ...] = ()
    encoder: str = ""
    text: str = TEXT
    label: str = LABEL
    cache: str = ""
    trusted: bool = True

    def read(self, path: str | Path) -> ImageSet:
        """Read new rows from a table, texts or an array, whatever their labels.

        Raises:
            FileNotFoundError: where nothing is at the path.
            ValueError: for what holds no such rows.
        """
        words = {"columns": self.columns, "label": self.label, "text": self.text}
        return self._rows(read_path(Path(path), self._encode if self.encoder else None, words))

    def of_texts(self, texts: Sequence[str]) -> ImageSet:
        """Encode texts.

        Raises:
            ValueError: where there is no encoder.
        """
        if not self.encoder:
            raise ValueError("texts need an encoder, and these features have none: hand over vectors (N, F).")
        words = tuple(texts)
        return self._rows(self._encode(Texts("the list of texts", words, None, (), words)))

    def naming(self, encoder: str | None) -> "Features":
        """Return these with their encoder trusted, since the caller names it too.

        Raises:
            ValueError: for another one.
        """
        if encoder is None:
            return self
        if encoder != self.encoder:
            raise ValueError(f"encoder must be the one that was trained with, {self.encoder!r}, got {encoder!r}.")
        return replace(self, trusted=True)

    def _encode(self, texts: Texts) -> RawImages:
        if not self.trusted:
            raise ValueError(
                f"Texts are encoded by a function of one's own, {self.encoder!r}, and no code is imported because a "
                f"folder names it: if you trust it, add --encoder {self.encoder}, or encoder={self.encoder!r}."
            )
        return encoded(texts, encoder_named(self.encoder), Path(self.cache) if self.cache else None)

    def _rows(self, raw: RawImages) -> ImageSet:
        raw = check_columns(raw, self.columns)
        if not isinstance(raw.images, np.ndarray) or raw.images.ndim != 2:
            raise ValueError(f"{raw.place} must hold feature vectors, and holds images.")
        return ImageSet(raw.images, np.full(len(raw.names), -1), names=raw.names)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for a record, of what does something."""
        columns = {"columns": list(self.columns)} if self.columns else {}
        encoder = {"encoder": self.encoder, "text": self.text} if self.encoder else {}
        return {**columns, **encoder, "label": self.label}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Features":
        """Return what :meth:`as_dict` has described."""
        own_code = ":" in values.get("encoder", "")
        return cls(**{**values, "columns": tuple(values.get("columns", ()))}, trusted=not own_code)


def check_columns(raw: RawImages, columns: tuple[str, ...]) -> RawImages:
    """Return the rows of a table, and refuse other columns than another's.

    Raises:
        ValueError: that names both.
    """
    if columns and raw.columns not in ((), columns):
        raise ValueError(
            f"{raw.place} must have the columns of train, {some(columns)}, got {some(raw.columns)}: say columns of "
            "train alone."
        )
    return raw
