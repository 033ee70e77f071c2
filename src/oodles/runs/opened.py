"""A run that was opened: what its folder holds, and what can be made of it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from oodles.runs.folder import RunFolder, read_run

if TYPE_CHECKING:
    from oodles.detection.detector import Detector
    from oodles.networks import Network


@dataclass(frozen=True, eq=False)
class Run(RunFolder):
    """The content of a run folder; see :func:`open_run`."""

    def detector(
        self,
        score: str | None = None,
        *,
        false_alarms: float = 0.05,
        per_class: bool = False,
        device: Literal["auto", "cpu", "cuda"] = "cpu",
        root: str | Path | Sequence[str | Path] = (),
        encoder: str | None = None,
    ) -> "Detector":
        """Return the detector that the run is deployed as.

        Its threshold comes from the validation rows. Where these have chosen something, such as margins or the best
        score, it comes from the half of them that was kept for it.

        Args:
            score: an outlier score, such as ``knn(k=5)``; ``own`` is the one that the run's methods ask for, and by
                default it is the chosen one, see :func:`oodles.choose_score`, as with ``best``, which refuses where
                nothing can be chosen. One that the run has not been tested with needs the run's data at hand, once.
            false_alarms: the share of known inputs that may be refused, in (0, 1).
            per_class: keep the promise for each predicted class by itself.
            device: ``auto`` takes a GPU where there is one.
            root: where the files of the run's suite are now, if they have moved; for scores that it was not tested
                with.
            encoder: that of the texts that were trained on, if it is ``package.module:function``: what a folder names
                is imported only if you name it too, here or with the run's data.

        Raises:
            FileNotFoundError: for a run that is not finished, and where its data are needed and not there.
            ValueError: for an unknown score, and a rate that needs more validation rows.
        """
        from oodles.runs.deployment import detector_of

        detector = detector_of(self, score, false_alarms=false_alarms, per_class=per_class, device=device, root=root)
        return detector.naming(encoder)


def open_run(folder: str | Path, *, network: "Network | None" = None, data: str | Path | None = None) -> Run:
    """Read a run folder, finished or not, and check what is in its files; arrays are read when they are needed.

    Args:
        folder: of the run.
        network: the run's network, where that is a function of your own, ``package.module:function``: what a folder
            names is imported only if you name it too. For a run of a module, one like it.
        data: the run's suite file, where that names functions of your own, or has moved.

    Raises:
        FileNotFoundError: for a folder that is no run.
        ValueError: for a damaged file, named with its key, and for another network or suite than the run's.

    Example:
        >>> run = open_run("runs/mixup-digits-0")  # doctest: +SKIP
        >>> verdicts = run.detector(false_alarms=0.01)("photos")  # doctest: +SKIP
    """
    read = read_run(folder, network=network, data=data)
    return Run(**{one.name: getattr(read, one.name) for one in fields(read)})
