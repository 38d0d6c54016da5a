"""Deployed architectures as files for other runtimes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nastool.devices import Deployment
from nastool.errors import MissingDependencyError, one_line
from nastool.runtime.quiet import quiet
from nastool_objectives.latency.torch_devices import require_torch

OPSET = 18
"""Operator set of the files: old enough for the runtimes on phones, with LayerNormalization."""

_MASK = "attention_mask"
_BATCH, _LENGTH = "batch", "length"
_PLAIN = "output"
"""Name of an output that has none."""


def export_onnx(deployment: Deployment, path: Path) -> None:
    """Write an architecture as ONNX, for batches and lengths of any size, weights in the same file.

    What is timed and what ships are written here, so that they are the same graph.

    Args:
        deployment: What to write; its inputs are (batch size, sequence length, ...).
        path: File to write.

    Raises:
        MissingDependencyError: onnx is not installed.
        NastoolError: The architecture cannot be exported.
    """
    torch = require_torch()
    try:
        import onnx
    except ImportError as error:
        raise MissingDependencyError(
            "this form needs onnx: pip install 'nastool[export]'"
        ) from error
    inputs = _example(deployment)
    module = NamedOutputs(torch, deployment.module, tuple(inputs))
    with one_line("cannot export to ONNX"), quiet(warning=Warning), torch.no_grad():
        # By tracing: the newer exporter takes a minute where this one takes a second, and a
        # campaign exports every architecture several times.
        torch.onnx.export(
            module,
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            opset_version=OPSET,
            dynamo=False,
            dynamic_axes={name: {0: _BATCH, 1: _LENGTH} for name in inputs},
        )
        file = onnx.load(str(path))
        _name_outputs(file.graph, module.names)
        _share_transposed(onnx, file.graph)
        onnx.save(file, str(path))


def _example(deployment: Deployment) -> dict[str, Any]:
    """Inputs to trace with."""
    inputs = {name: value.clone() for name, value in deployment.inputs.items()}
    if _MASK in inputs:
        # Where nothing is masked, models of transformers leave the mask out of what is traced.
        inputs[_MASK][..., -1] = 0
    return inputs


def output_names(output: Any) -> list[str]:
    """Names of what a model computes: logits, or hidden states where it has no head."""
    if not isinstance(output, Mapping):
        return [_PLAIN]
    known = [name for name in output if name.endswith("logits")]
    return known or [name for name in output if name == "last_hidden_state"] or [_PLAIN]


def _name_outputs(graph: Any, names: Sequence[str]) -> None:
    """Call outputs and their sizes as the model does, which is known once it has been traced."""
    for output, name in zip(graph.output, names, strict=True):
        for node in graph.node:
            for values in (node.input, node.output):
                values[:] = [name if value == output.name else value for value in values]
        output.name = name
        sizes = output.type.tensor_type.shape.dim
        # Labels and scores of a whole text have no length.
        known = (_BATCH, _LENGTH) if name != "logits" or len(sizes) > 2 else (_BATCH,)
        for size, text in zip(sizes, known if name != _PLAIN else (), strict=False):
            size.dim_param = text


def _share_transposed(onnx: Any, graph: Any) -> None:
    """Let a decoder that is the word embeddings, transposed, share their weights again."""
    looked_up = {node.input[0] for node in graph.node if node.op_type == "Gather"}
    tables = [t for t in graph.initializer if t.name in looked_up and len(t.dims) == 2]
    for copy in list(graph.initializer):
        for table in tables:
            if list(copy.dims) != list(table.dims)[::-1] or copy.name == table.name:
                continue
            values, other = (onnx.numpy_helper.to_array(t) for t in (copy, table))
            if np.array_equal(values, other.T):
                node = onnx.helper.make_node("Transpose", [table.name], [copy.name], perm=[1, 0])
                # After the look-up: what quantises replaces a table from there on.
                users = [copy.name in other.input for other in graph.node]
                graph.node.insert(users.index(True), node)
                graph.initializer.remove(copy)
                return


def quantise(onnx_file: Path, path: Path) -> None:
    """Quantise an ONNX file: weights to 8 bits channel by channel, activations as they come.

    Args:
        onnx_file: What `export_onnx` wrote.
        path: File to write.

    Raises:
        MissingDependencyError: ONNX Runtime is not installed.
        NastoolError: It cannot be quantised.
    """
    try:
        import onnx  # noqa: F401 - what quantises imports it late
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise MissingDependencyError(
            f"8 bits need {error.name}: pip install 'nastool[export]'"
        ) from error
    with one_line("cannot export to 8 bits"), quiet(warning=Warning):
        quantize_dynamic(onnx_file, path, per_channel=True, weight_type=QuantType.QInt8)


def export_torchscript(deployment: Deployment, path: Path) -> None:
    """Write an architecture as TorchScript, traced on its inputs.

    Args:
        deployment: What to write.
        path: File to write.

    Raises:
        NastoolError: The architecture cannot be traced.
    """
    torch = require_torch()
    with one_line("cannot export to TorchScript"), quiet(warning=Warning), torch.no_grad():
        module = NamedOutputs(torch, deployment.module, tuple(deployment.inputs))
        # A file holds whole storages: weights that share one with others would bring all of it.
        for parameter in module.parameters():
            parameter.data = parameter.data.clone()
        traced = torch.jit.trace(module, tuple(deployment.inputs.values()), check_trace=False)
        torch.jit.save(traced, str(path))


def NamedOutputs(  # noqa: N802 - makes an object, as a class does
    torch: Any, module: Any, inputs: Sequence[str]
) -> Any:
    """A module of plain tensors, in the order of their names, where transformers take mappings.

    Once it has run, its `names` are those of its outputs.
    """

    class NamedOutputs(torch.nn.Module):  # type: ignore[misc]  # torch is imported lazily
        def __init__(self) -> None:
            super().__init__()
            self.module = module
            self.names: list[str] = []

        def forward(self, *values: Any) -> Any:
            output = self.module(**dict(zip(inputs, values, strict=True)))
            self.names = output_names(output)
            if torch.is_tensor(output):
                return output
            if self.names == [_PLAIN]:
                return next(iter(output.values() if isinstance(output, Mapping) else output))
            found = tuple(output[name] for name in self.names)
            return found if len(found) > 1 else found[0]

    return NamedOutputs().eval()
