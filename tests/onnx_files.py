"""Writes small networks as ONNX files, as exporters of linear layers do."""

from pathlib import Path
from typing import Literal

import pytest
from torch import nn


def write_onnx(
    module: nn.Module, path: Path, layer: Literal["Gemm", "MatMul"] = "Gemm", end: str = "", rows: str | int = "n"
) -> None:
    """Write the network ``small.linear`` as a file, its linear layers in one of two forms, with an end of its own."""
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package, reason="pip install 'oodles[onnx]'")
    from onnx import TensorProto, checker, helper, numpy_helper, save_model

    state = {name: value.detach().numpy() for name, value in module.state_dict().items()}
    nodes = [helper.make_node("Flatten", ["images"], ["rows"])]
    for source, number, target in (("rows", 1, "hidden"), ("features", 3, "out")):
        weight, bias = f"{number}.weight", f"{number}.bias"
        if layer == "Gemm":
            nodes.append(helper.make_node("Gemm", [source, weight, bias], [target], transB=1))
        else:
            state[weight] = state[weight].T.copy()
            nodes.append(helper.make_node("MatMul", [source, weight], [f"{target} without bias"]))
            nodes.append(helper.make_node("Add", [bias, f"{target} without bias"], [target]))
        if target == "hidden":
            nodes.append(helper.make_node("Tanh", ["hidden"], ["features"]))
    if end:
        nodes.append(helper.make_node(end, ["out"], ["ended"]))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [rows, 1, 8, 8])],
        [helper.make_tensor_value_info("ended" if end else "out", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(value, name) for name, value in state.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    checker.check_model(model)
    save_model(model, str(path))
