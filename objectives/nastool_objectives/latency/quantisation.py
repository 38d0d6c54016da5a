"""ONNX files in 8 bits: products of integers for encoders, weights in small blocks for decoders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nastool.errors import MissingDependencyError, one_line
from nastool.runtime.quiet import quiet
from nastool_objectives.latency.export import KEPT, save_onnx

_BITS = 8
_BLOCK = 64
"""Weights that share a scale in a decoder."""

_BY_INTEGERS = 4
"""ONNX Runtime's name for products of 8-bit weights and activations, both in blocks."""

_ZERO = 128
"""What stands for zero."""


def quantise(onnx_file: Path, path: Path) -> None:
    """Quantise an ONNX file: weights to 8 bits, activations as they come.

    In encoders every channel of a product has one scale and the activations of a pass have one,
    so that products are of integers. A few activations of decoders are so large that one scale
    leaves nothing of the others: there, each 64 weights and each 64 activations have their own.

    Args:
        onnx_file: What `export_onnx` wrote.
        path: File to write.

    Raises:
        MissingDependencyError: ONNX Runtime is not installed.
        NastoolError: It cannot be quantised.
    """
    try:
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise MissingDependencyError(
            f"8 bits need {error.name}: pip install 'nastool[export]'"
        ) from error
    with one_line("cannot export to 8 bits"), quiet(warning=Warning):
        file = onnx.load(str(onnx_file))
        if any(given.name.startswith(KEPT) for given in file.graph.input):
            _quantise_blocks(onnx, file, path)
        else:
            quantize_dynamic(onnx_file, path, per_channel=True, weight_type=QuantType.QInt8)


def _quantise_blocks(onnx: Any, file: Any, path: Path) -> None:
    """Quantise a decoder's matrices, and its word embeddings, in blocks of their rows."""
    from onnxruntime.quantization import matmul_nbits_quantizer as nbits

    config = nbits.DefaultWeightOnlyQuantConfig(
        block_size=_BLOCK, is_symmetric=True, accuracy_level=_BY_INTEGERS, bits=_BITS
    )
    graph = file.graph
    tables = {t.name: t for t in graph.initializer if len(t.dims) == 2}
    looked_up = [n for n in graph.node if n.op_type == "Gather" and n.input[0] in tables]
    turned = {
        n.input[0]: n for n in graph.node if n.op_type == "Transpose" and n.input[0] in tables
    }
    quantised = {}
    for node in looked_up:
        name = node.input[0]
        # What quantises reads memory as it lies.
        columns = np.ascontiguousarray(onnx.numpy_helper.to_array(tables[name]).T)
        if name in turned:
            # As a matrix of its own, of which rows are looked up, too, once it is quantised.
            user = turned.pop(name)
            graph.initializer.append(onnx.numpy_helper.from_array(columns, user.output[0]))
            graph.node.remove(user)
            quantised[name] = (f"{user.output[0]}_Q{_BITS}", f"{user.output[0]}_scales")
            continue
        packed, scales, _ = nbits.DefaultWeightOnlyQuantizer(config).qbits_block_quant(columns)
        quantised[name] = names = (f"{name}_Q{_BITS}", f"{name}_scales")
        for values, own in zip((packed, scales), names, strict=True):
            graph.initializer.append(onnx.numpy_helper.from_array(values, own))
    for node in looked_up:
        _look_up_blocks(onnx, graph, node, tables[node.input[0]].dims, *quantised[node.input[0]])
    for name in quantised:
        if not any(name in node.input for node in graph.node):
            graph.initializer.remove(tables[name])
    made = nbits.MatMulNBitsQuantizer(file, algo_config=config)
    made.process()
    save_onnx(onnx, made.model.model, path)


def _look_up_blocks(
    onnx: Any, graph: Any, node: Any, sizes: Sequence[int], values: str, scales: str
) -> None:
    """Let a look-up take rows of 8 bits, (n, blocks, block), and scales of their blocks."""
    rows, width = sizes
    own = f"{node.output[0]}_in_blocks"
    constants = {
        f"{own}_zero": np.array(_ZERO, np.float32),
        f"{own}_last": np.array([-1], np.int64),
        f"{own}_begin": np.array([0], np.int64),
        f"{own}_end": np.array([width], np.int64),
        f"{own}_shape": np.array([0, 0, -1], np.int64),
        f"{own}_table": np.array([rows, -1], np.int64),  # older releases have them in a row
    }
    for name, value in constants.items():
        graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    steps = [
        ("Gather", [values, node.input[1]], f"{own}_rows", {"axis": 0}),
        ("Cast", [f"{own}_rows"], f"{own}_whole", {"to": onnx.TensorProto.FLOAT}),
        ("Sub", [f"{own}_whole", f"{own}_zero"], f"{own}_centred", {}),
        ("Reshape", [scales, f"{own}_table"], f"{own}_all", {}),
        ("Gather", [f"{own}_all", node.input[1]], f"{own}_scales", {"axis": 0}),
        ("Unsqueeze", [f"{own}_scales", f"{own}_last"], f"{own}_each", {}),
        ("Mul", [f"{own}_centred", f"{own}_each"], f"{own}_scaled", {}),
        ("Reshape", [f"{own}_scaled", f"{own}_shape"], f"{own}_row", {}),
        (
            "Slice",
            [f"{own}_row", f"{own}_begin", f"{own}_end", f"{own}_last"],
            node.output[0],
            {},
        ),
    ]
    place = list(graph.node).index(node)
    graph.node.remove(node)
    for offset, (kind, given, output, attributes) in enumerate(steps):
        made = onnx.helper.make_node(kind, given, [output], **attributes)
        graph.node.insert(place + offset, made)
