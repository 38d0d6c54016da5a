"""Subnets in the 8 bits that they ship in, measured one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from nastool.leftovers import temporary_folder
from nastool_supernets.deployment.checks import masked_perplexity
from nastool_supernets.deployment.forms import write_int8, write_onnx
from nastool_supernets.deployment.runtimes import onnx_run, require
from nastool_supernets.genotypes import Genotype


def eight_bit_perplexities(
    extract: Callable[[Genotype], PreTrainedModel],
    input_ids: NDArray[np.int64],
    labels: NDArray[np.int64],
    genotypes: Sequence[Genotype],
) -> NDArray[np.float64]:
    """Perplexity of subnets, merged and quantised as `nastool export --int8` does.

    Args:
        extract: Cuts a subnet out, a masked language model.
        input_ids: Masked tokens, shape (n, length).
        labels: Original tokens where masked, -100 elsewhere, shape (n, length).
        genotypes: The subnets.

    Returns:
        Shape (len(genotypes),).

    Raises:
        MissingDependencyError: ONNX Runtime is not installed.
    """
    require("int8")
    values = np.empty(len(genotypes))
    for row, genotype in enumerate(genotypes):
        subnet = extract(genotype).float().cpu().eval()
        with temporary_folder() as folder:
            file, small = folder / "model.onnx", folder / "model_int8.onnx"
            write_onnx(subnet, file)
            write_int8(file, small)
            values[row] = masked_perplexity(onnx_run(small), input_ids, labels)
    return values
