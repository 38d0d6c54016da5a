"""The supernet that a command trains, measures or takes shapes from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nastool.errors import InvalidInputError, MissingDependencyError
from nastool.files.reading import read_json_object

if TYPE_CHECKING:
    import torch

    from nastool.store import StudySummary
    from nastool_supernets.corpus.corpus import Corpus
    from nastool_supernets.training.rules import Shape
    from nastool_supershaper.modeling import SuperShaperForMaskedLM
    from nastool_supershaper.supernet_config import SuperShaperConfig

# Sizes by name for supernets that start from random weights.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 96,
        "widths": (16, 32, 48),
    },
    "small": {
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
        "widths": (60, 120, 180, 240, 276, 300, 384),
    },
    "base": {},
}


@contextmanager
def torch_needed() -> Iterator[None]:
    """Turn a failed import of the training libraries into the line that says what to install."""
    try:
        # Our own modules import them late: without this, the first use would fail half-way.
        for library in ("torch", "transformers", "safetensors"):
            import_module(library)
        yield
    except ImportError as error:
        raise MissingDependencyError(
            f"this command needs {error.name or 'torch'}: pip install 'nastool[train]'"
        ) from error


def move(model: torch.nn.Module, device: str | None) -> None:
    """Move a model to a device.

    Args:
        model: The model.
        device: As torch names it; None for cuda if there is one, else cpu.

    Raises:
        InvalidInputError: If there is no such device.
    """
    import torch

    with _using(device):
        model.to(torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))


def check_device(device: str) -> None:
    """Check that a device is there.

    Args:
        device: As torch names it.

    Raises:
        InvalidInputError: If there is no such device.
    """
    import torch

    with _using(device):
        torch.empty(0, device=device)


@contextmanager
def _using(device: str | None) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidInputError(f"--device: cannot use {device!r}: {reason}") from error


def named_supernet(summary: StudySummary) -> Path:
    """Folder of the supernet by which a study named its space.

    Args:
        summary: Of the study.

    Raises:
        InvalidInputError: It named its space otherwise.
    """
    from nastool.plugins import parse_spec

    named = summary.description["space"]
    folder = parse_spec(named).argument
    if folder is None or not Path(folder).is_dir():
        raise InvalidInputError(
            f"study {summary.name!r} searched {named}, which names no supernet: give one with "
            "--supernet DIR"
        )
    return Path(folder)


def new_supernet(
    bert: str | None,
    size: str | None,
    supernet: str | None,
    widths: str | None,
    layers: int | None,
    corpus: Corpus | None,
) -> SuperShaperForMaskedLM:
    """Make the supernet that training starts from; exactly one of the first three is given.

    Args:
        bert: Path or hub name of a BERT.
        size: Name of sizes, or a JSON file of them, for random weights.
        supernet: Folder of a supernet trained before.
        widths: Hidden sizes a layer can take, with commas between; None for the usual ones.
        layers: Grow the net to so many layers; None to leave it.
        corpus: The training text, whose vocabulary a net of random weights takes; any other start
            needs none.

    Raises:
        InvalidInputError: If there is no such net.
    """
    from nastool_supernets.training.checkpoints import load_supernet
    from nastool_supershaper.initialization import grow
    from nastool_supershaper.modeling import SuperShaperForMaskedLM

    if widths is not None and supernet is not None:
        raise InvalidInputError("--widths: expected --bert or --config beside it, got --supernet")
    if layers is not None and size is not None:
        raise InvalidInputError("--layers: expected --bert or --supernet beside it, got --config")
    parsed = None if widths is None else parse_widths(widths)
    if bert is not None:
        model = SuperShaperForMaskedLM.from_bert(bert, widths=parsed)
    elif supernet is not None:
        model = load_supernet(supernet)
        # Older nets do not say what they were trained on.
        known = model.config.trained_positions or model.config.max_position_embeddings
        model.config.trained_positions = known
    else:
        if corpus is None:
            raise InvalidInputError("--config: expected text, whose vocabulary the net takes")
        return SuperShaperForMaskedLM(sized_config(str(size), widths, corpus.card["vocab_size"]))
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
    from nastool_supershaper.supernet_config import SuperShaperConfig

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
        name: One of SIZES, or a JSON file.

    Raises:
        InvalidInputError: If it is neither, or names a size that there is not.
    """
    from nastool_supershaper.supernet_config import SuperShaperConfig

    if name in SIZES:
        return SIZES[name]
    try:
        sizes = read_json_object(Path(name))
    except InvalidInputError as error:
        raise InvalidInputError(
            f"--config: expected {', '.join(SIZES)} or a JSON file of sizes, got {name!r}: {error}"
        ) from error
    # The configuration takes any name, as transformers has it: a misspelt one would go unnoticed.
    unknown = sizes.keys() - SuperShaperConfig().to_dict().keys()
    if unknown:
        raise InvalidInputError(f"--config: {name} has unknown sizes {', '.join(sorted(unknown))}")
    return sizes


def sort_hidden(model: SuperShaperForMaskedLM, corpus: Corpus) -> None:
    """Sort a supernet's hidden dimensions by importance on training text, in place.

    Args:
        model: The supernet; at full width it computes what it did.
        corpus: The training text.
    """
    import torch

    from nastool_supernets.corpus.corpus import fixed_masks
    from nastool_supershaper.initialization import hidden_importance, reorder_hidden

    ids, labels = fixed_masks(corpus, "train", 64, 1)
    importance = hidden_importance(model, torch.from_numpy(ids), torch.from_numpy(labels))
    reorder_hidden(model, importance)


def followed_shapes(model: SuperShaperForMaskedLM) -> dict[str, Shape]:
    """Choose a few random shapes to follow through training, the same in every run.

    Args:
        model: The supernet.
    """
    from nastool_supernets.measuring.perplexities import sample_shapes

    config = model.config
    ends = [config.largest, config.smallest]
    n = min(3, len(config.widths) ** config.num_hidden_layers - len(set(ends)))
    shapes = sample_shapes(config.widths, config.num_hidden_layers, n, 0, ends)
    return {f"random_{i + 1}": shape for i, shape in enumerate(shapes)}
