"""What supernets start from: sizes of random weights, a BERT, another supernet, changed or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from nastool.errors import InvalidInputError
from nastool.files.reading import read_json_object
from nastool_supernets.corpus.corpus import Corpus, fixed_masks
from nastool_supershaper.initialization import grow, hidden_importance, reorder_hidden
from nastool_supershaper.modeling import SuperShaperForMaskedLM
from nastool_supershaper.named import SIZES
from nastool_supershaper.supernet_config import SuperShaperConfig


def grown(model: SuperShaperForMaskedLM, layers: int | None) -> SuperShaperForMaskedLM:
    """Return a supernet of so many layers, or the same one for None."""
    return model if layers is None else grow(model, layers)


def sized_config(size: str, widths: str | None, vocabulary: int) -> SuperShaperConfig:
    """Return the configuration of a supernet of random weights.

    Args:
        size: Name of sizes, or a JSON file of them.
        widths: Hidden sizes a layer can take, with commas between; None for those of the sizes.
        vocabulary: Tokens, where the sizes do not say.

    Raises:
        InvalidInputError: If there are no such sizes, or they break a rule.
    """
    sizes = {"vocab_size": vocabulary, **read_sizes(size)}
    if widths is not None:
        sizes["widths"] = parse_widths(widths)
    return SuperShaperConfig(**sizes)


def parse_widths(text: str) -> list[int]:
    """Read the widths that an option names.

    Raises:
        InvalidInputError: If they are no whole numbers with commas between.
    """
    try:
        return [int(width) for width in text.split(",")]
    except ValueError as error:
        raise InvalidInputError(
            f"--widths: expected whole numbers with commas between, got {text!r}"
        ) from error


def check_net(model: SuperShaperForMaskedLM, widths: str | None, layers: int | None) -> None:
    """Check that the net of a run that goes on is the one that options name.

    Args:
        model: The net.
        widths: Hidden sizes a layer can take, with commas between; None where nothing is named.
        layers: Number of layers, likewise.

    Raises:
        InvalidInputError: If it is another one.
    """
    config = model.config
    if widths is not None and parse_widths(widths) != list(config.widths):
        raise InvalidInputError(
            f"--widths: the run has {','.join(map(str, config.widths))}, got {widths}: resume with "
            "the same, or give another folder"
        )
    if layers is not None and layers != config.num_hidden_layers:
        raise InvalidInputError(
            f"--layers: the run has {config.num_hidden_layers}, got {layers}: resume with the "
            "same, or give another folder"
        )


def read_sizes(name: str) -> dict[str, Any]:
    """Return sizes of a supernet, as `SuperShaperConfig` takes them.

    Args:
        name: One of the names, or a JSON file.

    Raises:
        InvalidInputError: If it is neither, or names a size that there is not.
    """
    if name in SIZES:
        return dict(SIZES[name])
    try:
        sizes = read_json_object(Path(name))
    except InvalidInputError as error:
        raise InvalidInputError(
            f"--size: expected {', '.join(SIZES)} or a JSON file of sizes, got {name!r}: {error}"
        ) from error
    # The configuration takes any name, as transformers has it: a misspelt one would go unnoticed.
    unknown = sizes.keys() - SuperShaperConfig().to_dict().keys()
    if unknown:
        raise InvalidInputError(f"--size: {name} has unknown sizes {', '.join(sorted(unknown))}")
    return sizes


def sort_hidden(model: SuperShaperForMaskedLM, corpus: Corpus) -> None:
    """Sort a supernet's hidden dimensions by importance on training text, in place.

    Args:
        model: The supernet; at full width it computes what it did.
        corpus: The training text.
    """
    ids, labels = fixed_masks(corpus, "train", 64, 1)
    importance = hidden_importance(model, torch.from_numpy(ids), torch.from_numpy(labels))
    reorder_hidden(model, importance)
