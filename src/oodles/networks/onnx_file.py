"""A network from an ONNX file, as it is: it gives features and logits, and nothing of it is trained."""

from collections import OrderedDict
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

CPU = "CPUExecutionProvider"
ALONE = (
    "a network from an ONNX file runs in ONNX Runtime alone, so save the detector in its place, with "
    "detector.save(folder), or adopt the model that the file was made from"
)
"""Why no other graph holds it."""


class OnnxBackbone(nn.Module):
    """Runs an ONNX graph on the CPU: images to features, without gradients."""

    def __init__(self, graph: bytes, runtime: Any):
        super().__init__()
        self.graph = graph
        self._runtime = runtime
        self._open()

    def _open(self) -> None:
        options = self._runtime.SessionOptions()
        options.log_severity_level = 3
        self._session = self._runtime.InferenceSession(self.graph, options, providers=[CPU])
        self.input = self._session.get_inputs()[0]

    def forward(self, images: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            raise ValueError(ALONE)
        rows = images.detach().to("cpu", torch.float32).numpy()
        (features,) = self._session.run(None, {self.input.name: np.ascontiguousarray(rows)})
        return torch.from_numpy(features).to(images.device)

    def __deepcopy__(self, memo: object) -> "OnnxBackbone":  # sessions cannot be copied
        return OnnxBackbone(self.graph, self._runtime)

    def get_extra_state(self) -> Tensor:
        """Return the graph's fingerprint, so that weights of a run tell whether the file is the same."""
        return torch.frombuffer(bytearray(sha256(self.graph).digest()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Refuse the fingerprint of another graph."""
        if not torch.equal(state, self.get_extra_state()):
            raise ValueError("it is of another ONNX file, so name the one that the run was made of")


class Linear(NamedTuple):
    """The last layer of a graph: features · weightᵀ + bias."""

    features: str
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


def onnx_network(onnx: Any, runtime: Any, path: Path, input_shape: tuple[int, ...]) -> nn.Module:
    """Return the module of an ONNX file whose logits a linear layer ``fc`` gives; ONNX Runtime runs what is before it.

    Args:
        onnx: the package.
        runtime: the package ``onnxruntime``.
        path: of a graph whose one input is a batch of images (N, C, H, W) in float32. ``logits`` is its output of that
            name, or else its first one; features are what the linear layer reads.
        input_shape: (C, H, W).

    Raises:
        FileNotFoundError: for a file that is not there.
        ValueError: for another file or input, and for logits that no linear layer gives.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no network at {path}: give the path of an ONNX file.")
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except Exception as error:  # files that are damaged fail in many ways
        raise ValueError(f"{path} must be an ONNX file, but: {(str(error).splitlines() or [''])[0]}.") from error
    last = _last_layer(onnx, model.graph)
    if last is None:
        raise ValueError(
            f"{path} must give logits by a linear layer (Gemm, or MatMul and Add) that nothing follows: export the "
            "model without a softmax."
        )
    del model.graph.output[:]
    model.graph.output.append(onnx.ValueInfoProto(name=last.features))
    backbone = OnnxBackbone(model.SerializeToString(), runtime)
    rows, *shape = backbone.input.shape  # names stand for what is free
    same = len(shape) == len(input_shape) and all(
        there in (size, None) or isinstance(there, str) for there, size in zip(shape, input_shape, strict=True)
    )
    if backbone.input.type != "tensor(float)" or isinstance(rows, int) or not same:
        wanted, there = ", ".join(map(str, input_shape)), ", ".join(map(str, (rows, *shape)))
        raise ValueError(
            f"{path} must read float32 rows of shape (N, {wanted}), N being free, and reads {backbone.input.type} of "
            f"shape ({there}): export it for these."
        )
    head = nn.Linear(last.weight.shape[1], last.weight.shape[0]).requires_grad_(False)
    head.load_state_dict({"weight": torch.tensor(last.weight), "bias": torch.tensor(last.bias)})
    return nn.Sequential(OrderedDict(network=backbone, fc=head))


def _last_layer(onnx: Any, graph: Any) -> Linear | None:
    """Return the linear layer that gives the logits, if one does: a Gemm, or a MatMul and perhaps an Add."""
    makers = {name: node for node in graph.node for name in node.output}
    constants: Mapping[str, Any] = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    names = [output.name for output in graph.output]
    node = makers.get("logits" if "logits" in names else names[0])
    biases: list[str] = []
    if node is not None and node.op_type == "Add":
        biases = [name for name in node.input if name in constants]
        node = next((makers[name] for name in node.input if name in makers), None) if len(biases) == 1 else None
    if node is None or node.op_type not in ("Gemm", "MatMul"):
        return None
    features, matrix, *more = node.input
    weight = constants.get(matrix)
    settings = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    scaled = any(settings.get(name, usual) != usual for name, usual in (("transA", 0), ("alpha", 1), ("beta", 1)))
    biases += more
    if weight is None or weight.ndim != 2 or scaled or len(biases) > 1 or not set(biases) <= set(constants):
        return None
    weight = weight if settings.get("transB", 0) else weight.T
    bias = constants[biases[0]].reshape(-1) if biases else np.zeros(1)
    return Linear(features, weight.astype(np.float32), np.broadcast_to(bias, len(weight)).astype(np.float32))
