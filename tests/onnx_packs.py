"""Small ONNX networks with the inputs and outputs of published ones, for the paths that load and run these."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_OPSET = [helper.make_opsetid("", 13)]
_IR_VERSION = 8  # read by every onnxruntime that this package supports

MARK_KPS = np.array([[-30, -20], [30, -20], [0, 4], [-22, 36], [24, 38]], np.float32)
"""Where the test detector puts eyes, nose and mouth corners around a mark, in pixels of its input."""
MARK_HALF_PX = 64
"""Half the side of the box that it puts around a mark."""


def save_model(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: dict[str, np.ndarray],
) -> None:
    """Write a network after checking it."""
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=_OPSET, ir_version=_IR_VERSION)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def tensor(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
    """A float input or output."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def write_antelope_pack(folder: Path) -> Path:
    """A pack like antelopev2: a detector that takes pure red cells of 8 pixels for faces, and a random embedder."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_detector(folder / "scrfd_10g_bnkps.onnx")
    _write_embedder(folder / "glintr100.onnx")
    return folder


def _write_detector(path: Path) -> None:
    """SCRFD's interface: at strides 8, 16, 32 two anchors per cell; scores, then boxes, then five points."""
    nodes: list[onnx.NodeProto] = []
    outputs: list[onnx.ValueInfoProto] = []
    constants: dict[str, np.ndarray] = {}
    for kind, width in (("score", 1), ("box", 4), ("points", 10)):
        for stride in (8, 16, 32):
            name = f"{kind}{stride}"
            weight, bias = _head(kind, width, stride)
            constants |= {f"{name}_weight": weight, f"{name}_bias": bias, f"{name}_shape": np.array([-1, width])}
            nodes += [
                helper.make_node(
                    "Conv",
                    ["input.1", f"{name}_weight", f"{name}_bias"],
                    [f"{name}_map"],
                    kernel_shape=[stride, stride],
                    strides=[stride, stride],
                ),
                helper.make_node("Transpose", [f"{name}_map"], [f"{name}_last"], perm=[0, 2, 3, 1]),
                helper.make_node(
                    "Reshape", [f"{name}_last", f"{name}_shape"], [f"{name}_rows" if kind == "score" else name]
                ),
            ]
            if kind == "score":
                nodes.append(helper.make_node("Sigmoid", [f"{name}_rows"], [name]))
            outputs.append(tensor(name, [f"cells{stride}", width]))
    save_model(path, nodes, [tensor("input.1", [1, 3, "height", "width"])], outputs, constants)


def _head(kind: str, width: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
    weight = np.zeros((2 * width, 3, stride, stride), np.float32)
    bias = np.zeros(2 * width, np.float32)
    if kind == "score":
        # Red minus green, averaged over the cell, is 1.99 on a mark and at most 1 on other colours of the tests.
        # Only the finest stride looks; one of its two anchors is surer than the other.
        bias[:] = -20
        if stride == 8:
            weight[:, 0], weight[:, 1] = 20 / stride**2, -20 / stride**2
            bias[:] = -30, -32
    elif kind == "box":
        bias[:] = MARK_HALF_PX / stride
    else:
        bias[:] = np.tile(MARK_KPS.reshape(-1) / stride, 2)
    return weight, bias


def _write_embedder(path: Path) -> None:
    """ArcFace's interface: (n, 3, 112, 112) to (n, 512), values far from unit length."""
    random = np.random.default_rng(0)
    weight = random.normal(size=(3 * 14 * 14, 512)).astype(np.float32)
    nodes = [
        helper.make_node("AveragePool", ["input.1"], ["cells"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Flatten", ["cells"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["1333"]),
    ]
    save_model(
        path, nodes, [tensor("input.1", ["None", 3, 112, 112])], [tensor("1333", ["None", 512])], {"weight": weight}
    )


def write_vocal_separator(path: Path, keeps: str = "everything") -> None:
    """A network with the interface of Kim_Vocal_2: spectra ``(1, 4, 3072, 256)`` to the same.

    Args:
        path: of the file.
        keeps: ``everything``, ``nothing``, the ``low`` bins (300, up to 1.7 kHz) or the ``left`` channel.
    """
    mask = np.ones((1, 4, 3072, 1), np.float32)
    if keeps == "low":
        mask[:, :, 300:] = 0
    elif keeps == "nothing":
        mask[:] = 0
    elif keeps == "left":
        mask[:, 2:] = 0
    shape: list[int | str] = ["batch_size", 4, 3072, 256]
    node = helper.make_node("Mul", ["input", "mask"], ["output"])
    save_model(path, [node], [tensor("input", shape)], [tensor("output", shape)], {"mask": mask})
