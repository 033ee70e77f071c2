"""Export a detector as one file for other programs: inputs to logits, outlier score and verdict in one graph."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from copy import copy, deepcopy
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.overrides import TorchFunctionMode

from oodles import __version__
from oodles.classifier import Classifier
from oodles.data import preprocess
from oodles.detection.inputs import SLACK, Preprocessing, Reading
from oodles.detection.saved import Parts
from oodles.files import check_writable, in_one_piece, write_text
from oodles.inference import finite_rows
from oodles.precision import at_least_float32
from oodles.scores import Score
from oodles.spelling import set_name

ABOUT = "oodles.json"
"""The key under which a file describes itself: metadata of ONNX, an extra file in ``.pt2``."""
OUTPUTS = ("logits", "score", "accept")
MEASURED = ("false_alarms_on_test", "rejected")
"""What a description says of the threshold that it was measured with."""
TOLERANCE = 1e-4
"""By how much the numbers of a file may differ from the classifier's, absolutely and relatively."""

Reader = Callable[[Tensor], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Exported:
    """The file that a detector was exported to."""

    path: Path
    about: Mapping[str, Any]
    """The file's description of itself; see :meth:`oodles.Detector.export`."""
    checked: bool
    """True if the file was loaded again and gave the classifier's numbers; for ONNX, that takes onnxruntime."""
    preprocess: Path | None = None
    """The Python file that makes inputs of images, where inputs are images."""

    @property
    def threshold(self) -> float:
        """Return the threshold: inputs that score at most this are accepted.

        Raises:
            ValueError: where classes have thresholds of their own.
        """
        threshold = self.about["threshold"]
        if isinstance(threshold, list):
            raise ValueError("The threshold must be one for all, and classes have their own: read about['threshold'].")
        return float(threshold)

    def __str__(self) -> str:
        about = self.about
        threshold = about["threshold"]
        above = "its class's threshold" if isinstance(threshold, list) else f"{threshold:.6g}"
        measured = about.get("false_alarms_on_test")
        known = "" if measured is None else f", and {measured:.2%} of the test rows were"
        lines = [
            f"{about['score']} above {above} is rejected: at most {100 * about['false_alarms']:g} % of known inputs, "
            f"by {about['calibration_rows']} held-out rows{known}"
        ]
        if about.get("rejected"):
            shares = (f"{set_name(name)} {share:.2%}" for name, share in about["rejected"].items())
            lines.append("rejected of " + ", ".join(shares))
        if not self.checked:
            lines.append("not compared with the classifier, as onnxruntime is not installed: pip install onnxruntime")
        return "\n".join([*lines, *([] if self.preprocess is None else [str(self.preprocess)]), str(self.path)])


class Deployed(nn.Module):
    """A classifier with a score and a threshold: inputs to ``logits``, ``score`` and ``accept``.

    Args:
        classifier: is taken as it is.
        score: fitted where it has to be.
        threshold: rows that score at most this are accepted; one for all, or one for each predicted class (C,).
        unit_range: never accept inputs outside [0, 1].

    What is not finite, in its inputs, logits or score, is never accepted.
    """

    thresholds: Tensor

    def __init__(
        self, classifier: nn.Module, score: Score, threshold: float | Sequence[float], *, unit_range: bool = False
    ):
        super().__init__()
        self.classifier = classifier
        self.score = score
        self.unit_range = unit_range
        self.register_buffer("thresholds", torch.tensor(threshold, dtype=torch.float64).reshape(-1))

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        if isinstance(self.classifier, Classifier):
            features = self.classifier.features(inputs)
            logits = at_least_float32(self.classifier.head(features))
        else:
            logits = at_least_float32(self.classifier(inputs))
            features = logits[:, :0]
        score = self.score.of(self.classifier, inputs, at_least_float32(features), logits)  # type: ignore[arg-type]
        usable = finite_rows(inputs, logits, score)  # an infinite logit gives a score that looks sure
        if self.unit_range:
            usable &= ((inputs >= -SLACK) & (inputs <= 1 + SLACK)).flatten(1).all(1)
        threshold = self.thresholds if len(self.thresholds) == 1 else self.thresholds[logits.argmax(1)]
        return {"logits": logits, "score": score, "accept": usable & (score.double() <= threshold)}


def check_form(to: Path) -> None:
    """Refuse, before any work, a file that cannot be written.

    Raises:
        ImportError: for ONNX without the packages that write it, or with torch 2.6.
        ValueError: for another ending, and a place that no file can take.
    """
    check_writable(to)
    if to.suffix not in _FORMS:
        raise ValueError(f"A detector is exported to a file that ends in {' or '.join(_FORMS)}, got {str(to)!r}.")
    if to.suffix == ".onnx" and not all(find_spec(name) for name in ("onnx", "onnxscript")):
        raise ImportError(f"Writing {to.name} needs ONNX: pip install 'oodles[onnx]', or write a .pt2 file.")
    if to.suffix == ".onnx" and torch.__version__ < "2.7":  # compared as versions
        here = f"and this is {torch.__version__}: update it, or write a .pt2 file."
        raise ImportError(f"Writing {to.name} needs torch 2.7 or newer, {here}")


def write_graph(parts: Parts, to: Path) -> Exported:
    """Write a detector as one graph, see :meth:`oodles.Detector.export`."""
    check_form(to)
    check_differentiates(parts.score)
    shape, calibration = parts.expected.shape, parts.calibration
    if shape is None:
        raise ValueError("A graph reads one tensor, and this classifier reads a dictionary or rows of several shapes.")
    thresholds = calibration.thresholds.tolist()
    about = {
        "classes": list(calibration.classes),
        "input_shape": list(shape),
        "score": parts.score.name,
        "threshold": thresholds if calibration.per_class else thresholds[0],
        "false_alarms": calibration.false_alarms,
        "calibration_rows": len(calibration.scores),
        "range": [0.0, 1.0] if parts.expected.unit_range else None,
        "preprocessing": None if parts.preprocessing is None else parts.preprocessing.as_dict(),
        **parts.about,
        "versions": {"oodles": __version__, "torch": torch.__version__},
    }
    classifier = deepcopy(parts.classifier).to("cpu").eval()
    score = copy(parts.score)
    if score.needs_fit:
        score.load_state({name: value.cpu() for name, value in score.state().items()})
    deployed = Deployed(classifier.requires_grad_(False), score, thresholds, unit_range=parts.expected.unit_range)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(5, *shape, generator=generator).to(getattr(torch, parts.expected.dtype))
    write, read = _FORMS[to.suffix]
    try:
        with _silence():
            program = _program(deployed, inputs[:2])
            content = write(program, json.dumps(about, ensure_ascii=False), "images" if len(shape) == 3 else "inputs")
            reader = read(content)
            difference = _difference(deployed, reader, inputs) if reader else ""
    except Exception as error:  # exporters raise what they like
        what = f"The classifier with the score {score.name}"
        raise ValueError(f"{what} cannot be exported to {to.name}: {_first_cause(error)}.") from error
    if difference:
        raise ValueError(f"{to.name} was not written, since it gives other numbers than the classifier: {difference}.")
    with in_one_piece(to) as file:
        file.write(content)
    return Exported(to, about, reader is not None, _write_preprocess(parts.preprocessing, to))


def _write_preprocess(preprocessing: Reading | None, to: Path) -> Path | None:
    """Write the file that makes inputs of images, beside the graph."""
    if not isinstance(preprocessing, Preprocessing):
        return None
    path = to.with_name(f"{to.stem}_preprocess.py")
    shape, resize, draft = preprocessing.input_shape, preprocessing.resize, preprocessing.draft
    text = Path(preprocess.__file__).read_text(encoding="utf-8")
    last = _PREPROCESS.format(name=to.name, shape=shape, batch=(1, *shape), resize=resize, draft=draft)
    write_text(path, text + last)
    return path


_PREPROCESS = '''

def preprocess(image: str | Path | Image.Image) -> NDArray[np.float32]:
    """Return what {name} reads of an image, or of the image in a file: float32 of shape {batch}, from 0 to 1."""
    return as_input(image, {shape}, {resize}, draft={draft})
'''


def as_program(classifier: Classifier, score: Score, threshold: float, images: Tensor) -> ExportedProgram:
    """Trace a classifier in eval mode and a score as one graph, for any number of rows and without unused heads.

    Args:
        classifier: stays as it is.
        score: fitted where it has to be.
        threshold: rows that score at most this are accepted.
        images: two of the right shape.
    """
    return _program(Deployed(deepcopy(classifier).requires_grad_(False), score, threshold).eval(), images)


def _program(module: Deployed, inputs: Tensor) -> ExportedProgram:
    """Trace a module, whose unused heads it loses."""
    program = _trace(module, inputs)
    if not isinstance(module.classifier, Classifier):
        return program
    names = {**program.graph_signature.inputs_to_parameters, **program.graph_signature.inputs_to_buffers}
    used = [names[node.name] for node in program.graph.nodes if node.name in names and node.users]
    heads = module.classifier.heads
    unused = [head for head in heads if not any(name.startswith(f"classifier.heads.{head}.") for name in used)]
    for head in unused:
        del heads[head]
    return _trace(module, inputs) if unused else program


def _trace(module: nn.Module, images: Tensor) -> ExportedProgram:
    rows = torch.export.Dim("batch", min=1, max=2**31 - 1)  # without a largest number, torch 2.6 refuses some slices
    with torch.no_grad(), _AnyNumberOfRows():
        return torch.export.export(module, (images,), dynamic_shapes=({0: rows},), strict=False)


class _AnyNumberOfRows(TorchFunctionMode):
    """Replaces ``cdist``, which takes another path for more than 25 rows, by plain differences."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.cdist and len(args) == 2 and (kwargs or {}).get("p", 2) == 2:
            return torch.linalg.vector_norm(args[0].unsqueeze(-2) - args[1].unsqueeze(-3), dim=-1)
        return func(*args, **(kwargs or {}))


def check_differentiates(score: Score, others: Sequence[str] = ()) -> None:
    """Refuse a score that no graph can hold.

    Raises:
        ValueError: that names other scores, or ``msp``.
    """
    if not score.differentiates:
        return
    hint = f"choose {' or '.join(others or ['msp'])} instead."
    raise ValueError(f"{score.name} differentiates its inputs, which no exported graph does: {hint}")


def _difference(module: Deployed, reader: Reader, images: Tensor) -> str:
    """Say where a file gives other numbers than the module; near the threshold verdicts may differ."""
    for rows in (images[:1], images):
        with torch.no_grad():
            expected, given = module(rows), reader(rows)
        for name in ("logits", "score"):
            if not torch.allclose(given[name], expected[name], rtol=TOLERANCE, atol=TOLERANCE):
                return f"{name} by up to {float((given[name] - expected[name]).abs().max()):.3g}"
        threshold = module.thresholds
        limit = threshold if len(threshold) == 1 else threshold[expected["logits"].argmax(1)]
        clear = (expected["score"].double() - limit).abs() > TOLERANCE * (1 + limit.abs())
        if bool((given["accept"] != expected["accept"])[clear].any()):
            return "other inputs are accepted"
    return ""


def _as_pt2(program: ExportedProgram, about: str, name: str = "images") -> bytes:
    for name, value in program.constants.items():
        program.constants[name] = value.contiguous()  # or torch warns of half a tensor
    content = BytesIO()
    torch.export.save(program, content, extra_files={ABOUT: about})
    return content.getvalue()


def _read_pt2(content: bytes) -> Reader:
    module: Reader = torch.export.load(BytesIO(content)).module()
    return module


def _as_onnx(program: ExportedProgram, about: str, name: str = "images") -> bytes:
    written = torch.onnx.export(
        program,
        input_names=[name],
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

    (given,) = session.get_inputs()

    def read(inputs: Tensor) -> dict[str, Tensor]:
        values = session.run(list(OUTPUTS), {given.name: inputs.numpy()})
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
            warnings.filterwarnings("ignore", ".*get_attr", UserWarning)  # torch 2.6 on tensors that a score makes
            yield
    finally:
        log.setLevel(level)


def _first_cause(error: BaseException) -> str:
    """Say in one line what went wrong first: exporters wrap it in advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    line = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {' '.join(line.split()).rstrip('.')}"


_FORMS: dict[str, tuple[Callable[[ExportedProgram, str, str], bytes], Callable[[bytes], Reader | None]]] = {
    ".onnx": (_as_onnx, _read_onnx),
    ".pt2": (_as_pt2, _read_pt2),
}
"""For each ending, a function that writes a graph with its description, and one that reads it if that is possible."""
