"""Deployed architectures as files for other runtimes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.devices import Deployment
from nastool.errors import InvalidInputError, MissingDependencyError, one_line
from nastool.runtime.quiet import quiet
from nastool_objectives.latency.torch_devices import require_torch

OPSET = 18
"""Operator set of the files: old enough for the runtimes on phones, with LayerNormalization."""

MASK = "attention_mask"
PLACES = "position_ids"
KEPT, NEW_KEPT = "past_key_values.", "present."
"""What begins the names of keys and values that go into a decoder, and that come out of it."""

_BATCH, _LENGTH, _READ, _ALL = "batch", "length", "past_length", "total_length"
_BEFORE = 3
"""Tokens read before, while a decoder is traced."""

_MOST_IN_A_FILE = 2_000_000_000
"""Bytes of weights that a file of ONNX can hold, about."""

_PLAIN = "output"
"""Name of an output that has none."""


def export_onnx(deployment: Deployment, path: Path) -> None:
    """Write an architecture as ONNX, for batches and lengths of any size.

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
    inputs = _example(torch, deployment)
    module = NamedOutputs(torch, deployment.module, tuple(inputs))
    exporting = one_line("cannot export to ONNX")
    # Of weights beyond what a file holds, the exporter writes a file each.
    beside = TemporaryDirectory(dir=path.parent, ignore_cleanup_errors=True)
    with exporting, beside as folder, quiet(warning=Warning), torch.no_grad():
        traced = str(Path(folder) / path.name)
        # By tracing: the newer exporter takes a minute where this one takes a second, and a
        # campaign exports every architecture several times.
        torch.onnx.export(
            module,
            tuple(inputs.values()),
            traced,
            input_names=list(inputs),
            opset_version=OPSET,
            dynamo=False,
            dynamic_axes={name: _sizes(name, inputs) for name in inputs},
        )
        file = onnx.load(traced)
        _name_outputs(file.graph, module.names)
        _share_transposed(onnx, file.graph)
        save_onnx(onnx, file, path)


def save_onnx(onnx: Any, file: Any, path: Path) -> None:
    """Write an ONNX model; weights that one file cannot hold go to `weights_beside` it."""
    if sum(len(weight.raw_data) for weight in file.graph.initializer) <= _MOST_IN_A_FILE:
        onnx.save(file, str(path))
        return
    beside = weights_beside(path)
    beside.unlink(missing_ok=True)  # it would be added to
    onnx.save(file, str(path), save_as_external_data=True, location=beside.name)
    # It is made for its owner alone.
    beside.chmod(path.stat().st_mode)


def weights_beside(path: Path) -> Path:
    """Where the weights of an ONNX file lie that cannot hold them."""
    return path.with_name(f"{path.name}.data")


def _example(torch: Any, deployment: Deployment) -> dict[str, Any]:
    """Inputs to trace with."""
    inputs = {name: value.clone() for name, value in deployment.inputs.items()}
    kept = [name for name in inputs if name.startswith(KEPT)]
    if kept:
        # Of nothing that was read, the tracer would take the size for a constant.
        pad = torch.nn.functional.pad
        inputs[MASK] = pad(inputs[MASK], (_BEFORE, 0), value=1)
        inputs |= {name: pad(inputs[name], (0, 0, _BEFORE, 0)) for name in kept}
    if MASK in inputs:
        # Where nothing is masked, models of transformers leave the mask out of what is traced.
        inputs[MASK][..., -1] = 0
    return inputs


def _sizes(name: str, inputs: Iterable[str]) -> dict[int, str]:
    """Which sizes of an input or output are those of what is read, by axis."""
    if name.startswith((KEPT, NEW_KEPT)):
        return {0: _BATCH, 2: _READ if name.startswith(KEPT) else _ALL}
    after_others = any(other.startswith(KEPT) for other in inputs)
    return {0: _BATCH, 1: _ALL if name == MASK and after_others else _LENGTH}


def completed(
    inputs: Mapping[str, Any], sizes: Mapping[str, Sequence[Any]]
) -> dict[str, NDArray[Any]]:
    """All that an exported file takes, of what there is: a decoder may have read nothing before.

    Args:
        inputs: Arrays of a pass by name, among them ``input_ids``, (B, T).
        sizes: What the file takes, by name, with its sizes: numbers, and anything for others.

    Raises:
        InvalidInputError: It takes something else, of which nothing is known.
    """
    found = {}
    for name, size in sizes.items():
        if name in inputs:
            found[name] = inputs[name]
            continue
        texts, length = inputs["input_ids"].shape
        if name == PLACES:
            found[name] = np.tile(np.arange(length), (texts, 1))
        elif name.startswith(KEPT):
            found[name] = np.zeros((texts, size[1], 0, size[3]), np.float32)
        else:
            raise InvalidInputError(f"the file takes {name!r}, which is not known here")
    return found


def output_names(output: Any) -> list[str]:
    """Names of what a model computes: logits, or hidden states where it has no head.

    Decoders that go on from what they have read compute keys and values, too.
    """
    if not isinstance(output, Mapping):
        return [_PLAIN]
    known = [name for name in output if name.endswith("logits") or name.startswith(NEW_KEPT)]
    return known or [name for name in output if name == "last_hidden_state"] or [_PLAIN]


def _name_outputs(graph: Any, names: Sequence[str]) -> None:
    """Call outputs and their sizes as the model does, which is known once it has been traced."""
    for output, name in zip(graph.output, names, strict=True):
        for node in graph.node:
            for values in (node.input, node.output):
                values[:] = [name if value == output.name else value for value in values]
        output.name = name
        sizes = output.type.tensor_type.shape.dim
        known = _sizes(name, ()) if name != _PLAIN else {}
        # Labels and scores of a whole text have no length.
        if name == "logits" and len(sizes) < 3:
            del known[1]
        for axis, text in known.items():
            sizes[axis].dim_param = text


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
