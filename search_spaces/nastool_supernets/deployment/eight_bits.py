"""Perplexity of subnets in the 8 bits that they ship in, as an objective."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nastool.objective import Provenance
from nastool.runtime.leftovers import temporary_folder
from nastool.space import SearchSpace
from nastool_supernets.genotypes import Genotype
from nastool_supernets.measuring.objective import MeasuredPerplexity, of_folder

if TYPE_CHECKING:
    from nastool_supernets.supernet import Supernet

_METRIC = "int8_perplexity"


class EightBitPerplexity(MeasuredPerplexity):
    """Perplexity of subnets, merged and quantised one by one as `nastool export --int8` does it.

    Arguments and errors are those of `MeasuredPerplexity`.
    """

    @property
    def provenance(self) -> Provenance:
        measured = super().provenance
        return Provenance(measured.kind, f"{measured.by}, in 8 bits")

    @property
    def precision(self) -> str:
        return "int8"

    def measured(
        self,
        net: Supernet,
        input_ids: NDArray[np.int64],
        labels: NDArray[np.int64],
        genotypes: Sequence[Genotype],
    ) -> NDArray[np.float64]:
        from nastool_supernets.deployment.checks import perplexity_of
        from nastool_supernets.deployment.forms import write_int8, write_onnx
        from nastool_supernets.deployment.runtimes import onnx_run, require

        require("int8")
        values = np.empty(len(genotypes))
        for row, genotype in enumerate(genotypes):
            subnet = net.extract(genotype).float().cpu().eval()
            with temporary_folder() as folder:
                file, small = folder / "model.onnx", folder / "model_int8.onnx"
                write_onnx(subnet, file)
                write_int8(file, small)
                values[row] = perplexity_of(onnx_run(small), input_ids, labels)
        return values


def create(
    space: SearchSpace,
    argument: str | None = None,
    *,
    supernet: str | None = None,
    text: Sequence[str] = (),
    blocks: int | None = None,
    mask_seed: int = 0,
) -> EightBitPerplexity:
    """Perplexity of subnets as they ship in 8 bits, measured: ``int8_perplexity[SUPERNET]``.

    Args:
        space: The supernet's space, or one of the same sizes.
        argument: Folder of the supernet.
        supernet: The same; goes before the argument.
        text: Held-out text files; what training held out by default.
        blocks: Blocks of text to measure on; all by default.
        mask_seed: Seed of the masks.

    Raises:
        InvalidInputError: No supernet there, one of another space, or no text.
        MissingDependencyError: What training or 8 bits need is not installed.
    """
    return of_folder(
        EightBitPerplexity, _METRIC, space, supernet or argument, text, blocks, mask_seed
    )
