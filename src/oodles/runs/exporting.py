"""Export a trained run as one file for other programs: images to logits, outlier score and verdict in one graph."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from copy import deepcopy
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.overrides import TorchFunctionMode

from oodles import __version__
from oodles.checks import check_number
from oodles.classifier import Classifier
from oodles.evaluation import score_named
from oodles.files import in_one_piece
from oodles.precision import at_least_float32
from oodles.runs.deployment import choose_score, named_score, threshold_accepting
from oodles.runs.folder import Run, check_output, open_run, set_name
from oodles.runs.recipe import scores_brought
from oodles.scores import Score

ABOUT = "oodles.json"
"""The key under which a file describes itself: metadata of ONNX, an extra file in ``.pt2``."""
OUTPUTS = ("logits", "score", "accept")
TOLERANCE = 1e-4
"""By how much the numbers of a file may differ from the classifier's, absolutely and relatively."""

Reader = Callable[[Tensor], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Exported:
    """The file that :func:`export` has written."""

    path: Path
    about: Mapping[str, Any]
    """The file's description of itself; see :func:`export`."""
    checked: bool
    """True if the file was loaded again and gave the classifier's numbers; for ONNX, that takes onnxruntime."""

    @property
    def threshold(self) -> float:
        """Return the threshold: inputs that score at most this are accepted."""
        return float(self.about["threshold"])

    def __str__(self) -> str:
        about = self.about
        stated, measured = f"{100 * about['false_alarms']:g} %", f"{about['false_alarms_on_test']:.2%}"
        lines = [
            f"{about['score']} above {self.threshold:.6g} is rejected: "
            f"at most {stated} of the validation rows, and {measured} of the test rows"
        ]
        if about["rejected"]:
            lines.append(
                "rejected of " + ", ".join(f"{set_name(name)} {share:.2%}" for name, share in about["rejected"].items())
            )
        if not self.checked:
            lines.append("not compared with the run, since onnxruntime is not installed: pip install onnxruntime")
        return "\n".join([*lines, str(self.path)])


class Deployed(nn.Module):
    """A classifier with a score and a threshold: images (N, C, H, W) in [0, 1] to ``logits``, ``score`` and ``accept``.

    Args:
        classifier: is taken as it is.
        score: fitted where it has to be.
        threshold: rows that score at most this are accepted.
    """

    def __init__(self, classifier: Classifier, score: Score, threshold: float):
        super().__init__()
        self.classifier = classifier
        self.score = score
        self.threshold = threshold

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = self.classifier.features(images)
        logits = at_least_float32(self.classifier.head(features))
        score = self.score.of(self.classifier, images, at_least_float32(features), logits)
        # an infinite logit gives a score that looks sure
        usable = logits.isfinite().all(1) & score.isfinite()
        return {"logits": logits, "score": score, "accept": usable & (score <= self.threshold)}


def export(
    run: Run | str | Path,
    to: str | Path,
    *,
    score: str | None = None,
    false_alarms: float = 0.05,
    root: str | Path | Sequence[str | Path] = (),
) -> Exported:
    """Write a trained run as one graph: images in [0, 1] to ``logits``, ``score`` and ``accept``, for any batch size.

    The threshold is the smallest that rejects at most the share ``false_alarms`` of the run's validation rows, which
    it was not trained on; the share of test rows that it rejects is measured, too. The file gets its name only when it
    was loaded again and gave the classifier's numbers.

    The file describes itself, as JSON under ``oodles.json``: the classes, the shape of an image, the score, its
    threshold, the stated and the measured share of false alarms, the share that is rejected of every
    out-of-distribution set, the run, and versions.

    Args:
        run: a finished run, or its folder.
        to: a file that ends in ``.onnx``, or in ``.pt2`` for ``torch.export.load``.
        score: an outlier score, such as ``knn(k=5)``; by default the one that the run's methods ask for. One that the
            run has not been tested with needs the run's data at hand, once; the file holds what it has learnt.
        false_alarms: in [0, 1).
        root: where the files of the run's suite are now, if they have moved; for scores that it was not tested with.

    Raises:
        FileNotFoundError: for a folder that is no run or is not finished.
        ImportError: for ONNX without the packages that write it.
        ValueError: for another ending, a share outside [0, 1), an unknown score, and one that no graph can hold.
    """
    to = Path(to)
    check_output(to)
    if to.suffix not in _FORMS:
        raise ValueError(f"A run is exported to a file that ends in {' or '.join(_FORMS)}, got {str(to)!r}.")
    check_number("false_alarms", false_alarms, low=0)
    if false_alarms >= 1:
        raise ValueError(
            f"false_alarms must be below 1, got {false_alarms}: 0.05 rejects at most 5 % of the validation rows."
        )
    if to.suffix == ".onnx" and not all(find_spec(name) for name in ("onnx", "onnxscript")):
        raise ImportError(f"Writing {to.name} needs ONNX: pip install 'oodles[onnx]', or write a .pt2 file.")
    run = run if isinstance(run, Run) else open_run(run)
    _check_differentiates(named_score(run, score), run)
    classifier = run.classifier()
    chosen, values = choose_score(run, score, classifier, root)
    threshold = threshold_accepting(1 - false_alarms, values["validation"])
    channels, height, width = run.record["suite"]["input_shape"]
    about = {
        "classes": list(run.classes),
        "input_shape": [channels, height, width],
        "score": chosen.name,
        "threshold": threshold,
        "false_alarms": false_alarms,
        "false_alarms_on_test": _rejected_share(values["test"], threshold),
        "rejected": {name: _rejected_share(values[name], threshold) for name in run.ood_sets},
        "run": run.label,
        "data": run.data,
        "seed": run.seed,
        "versions": {"oodles": __version__, "torch": torch.__version__},
    }
    images = torch.rand(5, channels, height, width, generator=torch.Generator().manual_seed(0))
    write, read = _FORMS[to.suffix]
    try:
        with _silence():
            program = as_program(classifier, chosen, threshold, images[:2])
            content = write(program, json.dumps(about, ensure_ascii=False))
            reader = read(content)
            difference = _difference(Deployed(classifier, chosen, threshold), reader, images) if reader else ""
    except Exception as error:  # exporters raise what they like
        what = f"{run.folder} with the score {chosen.name}"
        raise ValueError(f"{what} cannot be exported to {to.name}: {_first_cause(error)}.") from error
    if difference:
        raise ValueError(f"{to.name} was not written, since it gives other numbers than {run.folder}: {difference}.")
    with in_one_piece(to) as file:
        file.write(content)
    return Exported(to, about, reader is not None)


def as_program(classifier: Classifier, score: Score, threshold: float, images: Tensor) -> ExportedProgram:
    """Trace a classifier in eval mode and a score as one graph, for any number of rows and without unused heads.

    Args:
        classifier: stays as it is.
        score: fitted where it has to be.
        threshold: rows that score at most this are accepted.
        images: two of the right shape.
    """
    module = Deployed(deepcopy(classifier).requires_grad_(False), score, threshold).eval()
    program = _trace(module, images)
    names = {**program.graph_signature.inputs_to_parameters, **program.graph_signature.inputs_to_buffers}
    used = [names[node.name] for node in program.graph.nodes if node.name in names and node.users]
    heads = module.classifier.heads
    unused = [head for head in heads if not any(name.startswith(f"classifier.heads.{head}.") for name in used)]
    for head in unused:
        del heads[head]
    return _trace(module, images) if unused else program


def _trace(module: nn.Module, images: Tensor) -> ExportedProgram:
    rows = torch.export.Dim("batch", min=1)
    with torch.no_grad(), _AnyNumberOfRows():
        return torch.export.export(module, (images,), dynamic_shapes=({0: rows},), strict=False)


class _AnyNumberOfRows(TorchFunctionMode):
    """Replaces ``cdist``, which takes another path for more than 25 rows, by plain differences."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.cdist and len(args) == 2 and (kwargs or {}).get("p", 2) == 2:
            return torch.linalg.vector_norm(args[0].unsqueeze(-2) - args[1].unsqueeze(-3), dim=-1)
        return func(*args, **(kwargs or {}))


def _check_differentiates(score: Score, run: Run) -> None:
    if not score.differentiates:
        return
    others = [name for name in scores_brought(run.methods) if not score_named(name).differentiates]
    hint = f"choose {' or '.join(others or ['msp'])} instead."
    raise ValueError(f"{score.name} differentiates its inputs, which no exported graph does: {hint}")


def _rejected_share(values: NDArray[Any], threshold: float) -> float:
    return float(np.mean(values > threshold))


def _difference(module: Deployed, reader: Reader, images: Tensor) -> str:
    """Say where a file gives other numbers than the module; near the threshold verdicts may differ."""
    for rows in (images[:1], images):
        with torch.no_grad():
            expected, given = module(rows), reader(rows)
        for name in ("logits", "score"):
            if not torch.allclose(given[name], expected[name], rtol=TOLERANCE, atol=TOLERANCE):
                return f"{name} by up to {float((given[name] - expected[name]).abs().max()):.3g}"
        clear = (expected["score"] - module.threshold).abs() > TOLERANCE * (1 + abs(module.threshold))
        if bool((given["accept"] != expected["accept"])[clear].any()):
            return "other inputs are accepted"
    return ""


def _as_pt2(program: ExportedProgram, about: str) -> bytes:
    for name, value in program.constants.items():
        program.constants[name] = value.contiguous()  # or torch warns of half a tensor
    content = BytesIO()
    torch.export.save(program, content, extra_files={ABOUT: about})
    return content.getvalue()


def _read_pt2(content: bytes) -> Reader:
    module: Reader = torch.export.load(BytesIO(content)).module()
    return module


def _as_onnx(program: ExportedProgram, about: str) -> bytes:
    written = torch.onnx.export(
        program,
        input_names=["images"],
        output_names=OUTPUTS,
        dynamic_shapes=({0: "batch"},),
        dynamo=True,
        verbose=False,
    )
    assert written is not None  # the annotation leaves it open; the exporter with dynamo gives a program or raises
    written.model.metadata_props[ABOUT] = about
    content: bytes = written.model_proto.SerializeToString()
    return content


def _read_onnx(content: bytes) -> Reader | None:
    if find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def read(images: Tensor) -> dict[str, Tensor]:
        values = session.run(list(OUTPUTS), {"images": images.numpy()})
        return {name: torch.from_numpy(value) for name, value in zip(OUTPUTS, values, strict=True)}

    return read


@contextmanager
def _silence() -> Iterator[None]:
    """Hide what torch's exporters print, log and warn about; their exceptions say what matters."""
    log = logging.getLogger("torch")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()), warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
            yield
    finally:
        log.setLevel(level)


def _first_cause(error: BaseException) -> str:
    """Say in one line what went wrong first: exporters wrap it in advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    line = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {' '.join(line.split()).rstrip('.')}"


_FORMS: dict[str, tuple[Callable[[ExportedProgram, str], bytes], Callable[[bytes], Reader | None]]] = {
    ".onnx": (_as_onnx, _read_onnx),
    ".pt2": (_as_pt2, _read_pt2),
}
"""For each ending, a function that writes a graph with its description, and one that reads it if that is possible."""
