"""ONNX files: a tiny network that says it was exported by cnnbench, and files that say so and must be refused."""

import json
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

INPUT = {"channels": 1, "size": [28, 28], "resize": "stretch", "background": [255, 255, 255], "polarity": None}
METADATA = {"task": "classification", "input": INPUT, "class_names": [str(n) for n in range(10)], "temperature": None}


def make_nodes() -> list[onnx.NodeProto]:
    """The class is the mean brightness, in tenths."""
    return [
        helper.make_node("Cast", ["images"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["values", "axes"], ["mean"], keepdims=0),
        helper.make_node("Sub", ["mean", "centres"], ["apart"]),
        helper.make_node("Abs", ["apart"], ["distance"]),
        helper.make_node("Neg", ["distance"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]


def make_onnx(
    nodes: list[onnx.NodeProto] | None = None,
    metadata: Any = METADATA,
    weights: list[onnx.TensorProto] | None = None,
    domains: tuple[str, ...] = ("",),
    outputs: tuple[str, ...] = ("logits", "probabilities"),
) -> bytes:
    tensors = [
        numpy_helper.from_array(np.array([2, 3]), "axes"),
        numpy_helper.from_array(np.linspace(0, 255, 10, dtype=np.float32), "centres"),
    ]
    graph = helper.make_graph(
        make_nodes() if nodes is None else nodes,
        "network",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", 1, "h", "w"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", "k"]) for name in outputs],
        tensors if weights is None else weights,
    )
    imports = [helper.make_opsetid(domain, 20) for domain in domains]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    if metadata is not None:
        text = metadata if isinstance(metadata, str) else json.dumps(metadata)
        helper.set_model_props(model, {"cnnbench": text})
    return bytes(model.SerializeToString())


def add_external(location: str) -> list[onnx.TensorProto]:
    """Weights that lie in another file."""
    axes = numpy_helper.from_array(np.array([2, 3]), "axes")
    centres = TensorProto(name="centres", data_type=TensorProto.FLOAT, dims=[10], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "40")):
        entry = centres.external_data.add()
        entry.key, entry.value = key, value
    return [axes, centres]


def add_huge() -> list[onnx.NodeProto]:
    """A tensor of a terabyte, made from its shape alone."""
    nodes = make_nodes()
    shape = helper.make_node("Constant", [], ["shape"], value=numpy_helper.from_array(np.array([2**38])))
    nodes[2:3] = [
        shape,
        helper.make_node("ConstantOfShape", ["shape"], ["huge"]),
        helper.make_node("ReduceMax", ["huge"], ["zero"], keepdims=0),
        helper.make_node("Sub", ["mean", "centres"], ["closer"]),
        helper.make_node("Add", ["closer", "zero"], ["apart"]),
    ]
    return nodes


def add_endless() -> list[onnx.NodeProto]:
    """A loop of 2^62 rounds."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["x"], ["y"])],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
        ],
    )
    nodes = make_nodes()
    rounds = helper.make_node("Constant", [], ["rounds"], value=numpy_helper.from_array(np.array(2**62)))
    nodes[3:4] = [rounds, helper.make_node("Loop", ["rounds", "", "apart"], ["same"], body=body)]
    return [*nodes[:5], helper.make_node("Abs", ["same"], ["distance"]), *nodes[5:]]


def change(**parts: Any) -> dict[str, Any]:
    return {**METADATA, **parts}


def make_foreign() -> list[onnx.NodeProto]:
    """An operation of another domain, which onnxruntime happens to have."""
    nodes = make_nodes()
    nodes[3] = helper.make_node("Gelu", ["apart"], ["distance"], domain="com.microsoft")
    return nodes


def make_deep() -> bytes:
    """An attribute in an attribute in an attribute …, a thousand times."""
    content = make_onnx()
    graph = b""
    for _ in range(1000):
        node = b"\x2a" + _measure(b"\x32" + _measure(graph))
        graph = b"\x0a" + _measure(node)
    return content + b"\x3a" + _measure(graph)


def _measure(content: bytes) -> bytes:
    """A message with its length in front."""
    length, size = b"", len(content)
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return length + bytes([size]) + content


def list_hostile(secret: str) -> dict[str, bytes]:
    """Files by name; `secret` is a path that none of them may open."""
    return {
        "good": make_onnx(),
        "empty": b"",
        "text": b"hello",
        "cut_short": make_onnx()[:-200],
        "no_metadata": make_onnx(metadata=None),
        "metadata_of_text": make_onnx(metadata="hello"),
        "metadata_deep": make_onnx(metadata="[" * 100_000),
        "no_classes": make_onnx(metadata=change(class_names=[])),
        "classes_of_numbers": make_onnx(metadata=change(class_names=[1])),
        "other_number_of_classes": make_onnx(metadata=change(class_names=["a", "b"])),
        "image_of_a_gigapixel": make_onnx(metadata=change(input={**INPUT, "size": [10**9, 10**9]})),
        "sides_of_text": make_onnx(metadata=change(input={**INPUT, "size": ["8", 8]})),
        "resize_of_another_kind": make_onnx(metadata=change(input={**INPUT, "resize": "os.system"})),
        "background_beyond": make_onnx(metadata=change(input={**INPUT, "background": [0, 0, 999]})),
        "another_task": make_onnx(metadata=change(task="reconstruction")),
        "external_data": make_onnx(weights=add_external(f"{secret}/secret")),
        "external_data_above": make_onnx(weights=add_external("../../../etc/passwd")),
        "external_memory": make_onnx(weights=add_external("*/_ORT_MEM_ADDR_/*")),
        "foreign_operation": make_onnx(make_foreign(), domains=("", "com.microsoft")),
        "unknown_domain": make_onnx(domains=("", "cnnbench.evil")),
        "endless": make_onnx(add_endless()),
        "a_terabyte": make_onnx(add_huge()),
        "other_outputs": make_onnx(outputs=("probabilities", "logits")),
        "no_nodes": make_onnx([]),
        "unknown_operation": make_onnx([helper.make_node("Evil", ["images"], ["logits"]), *make_nodes()[5:]]),
        "deep": make_deep(),
    }
