"""The SuperShaper space: one hidden size per layer, with exact costs of the deployed model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.devices import Deployment, Workload
from nastool.errors import InvalidInputError, MissingDependencyError
from nastool.files.hub import fetched
from nastool.files.reading import is_file, is_folder, read_json_object
from nastool.numbers import is_whole
from nastool.runtime.leftovers import shipped_folder
from nastool.space import ChainCost, Gene, Genotypes, Misfit, SearchSpace
from nastool_supernets.sizes import read_sizes, shown
from nastool_supershaper.families import PUBLISHED_WIDTHS, families, published_shapes

SEQUENCE_LENGTH = 128
"""Tokens of the forward pass that `macs` and `flops` count, as in pre-training."""

_MOST: Mapping[str, int] = {
    "layers": 1_000,
    "ffn": 1_000_000,
    "heads": 65_536,
    "vocabulary": 10_000_000,
    "positions": 10_000_000,
    "segments": 65_536,
}
_MOST_WIDTHS = 256
_LARGEST_WIDTH = 65_536
"""Beyond every model there is: a slip of the keyboard, or a damaged file, is refused at once."""

_BYTES_PER_WEIGHT = 4

_FAST = 8
"""What sizes must be multiples of for the fast kernels of GPUs: 16 bytes of numbers of 16 bits."""

_GPUS = "NVIDIA GPUs in 16 bits, not padded"


@dataclass(frozen=True)
class SuperShaperSpace(SearchSpace):
    """Every assignment of a width to each layer of a BERT with bottlenecks.

    Args:
        layers: Number of layers, one gene each.
        widths: Hidden sizes a layer can take, ascending multiples of `heads`; the last one is the
            hidden size of embeddings and head.
        ffn: Inner size of every feed-forward block.
        heads: Attention heads of every layer, whatever its width.
        vocabulary: Number of tokens.
        positions: Number of position embeddings.
        segments: Number of segment embeddings.
        name: Identifier; by default the text that `create` reads the space back from.

    Raises:
        InvalidInputError: A size is not positive or larger than that of any model, or the widths
            are not ascending multiples of the number of heads.
    """

    layers: int = 12
    widths: tuple[int, ...] = PUBLISHED_WIDTHS
    ffn: int = 3072
    heads: int = 12
    vocabulary: int = 28996
    positions: int = 512
    segments: int = 2
    name: str = ""

    def __post_init__(self) -> None:
        for field, most in _MOST.items():
            value = getattr(self, field)
            if not is_whole(value, 1):
                raise InvalidInputError(f"{field} must be a positive integer, got {shown(value)}")
            if value > most:
                raise InvalidInputError(f"{field} must be at most {most:,}, got {shown(value)}")
        widths: tuple[object, ...] = tuple(self.widths)
        if len(widths) > _MOST_WIDTHS:
            raise InvalidInputError(
                f"widths must be at most {_MOST_WIDTHS} sizes, got {len(widths):,}"
            )
        numbers = [w for w in widths if is_whole(w)]
        if (
            not widths
            or len(numbers) < len(widths)
            or numbers != sorted(set(numbers))
            or any(w < 1 or w % self.heads for w in numbers)
        ):
            raise InvalidInputError(
                f"widths must be ascending positive multiples of {self.heads} heads, "
                f"got {'/'.join(map(shown, widths)) or 'none'}"
            )
        if numbers[-1] > _LARGEST_WIDTH:
            raise InvalidInputError(
                f"widths must be at most {_LARGEST_WIDTH:,}, got {shown(numbers[-1])}"
            )
        object.__setattr__(self, "widths", widths)
        if not self.name:
            object.__setattr__(self, "name", self._derived_name())

    @property
    def hidden(self) -> int:
        """Size of the embeddings and of the final hidden states: the last width."""
        return self.widths[-1]

    @property
    def objectives(self) -> tuple[str, ...]:
        """Quality against size, as in the paper."""
        return ("perplexity", "params")

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        """``layer_1`` to ``layer_L``, each with the widths as ordered choices."""
        return tuple(
            Gene(f"layer_{i}", self.widths, ordered=True) for i in range(1, self.layers + 1)
        )

    @cached_property
    def costs(self) -> Mapping[str, ChainCost]:
        """Exact costs of the merged subnet, by metric name.

        - ``params``: weights of embeddings, layers, merged bottlenecks and the transform of the
          masked-LM head; its decoder is tied, its decoder bias is not counted, and there is no
          pooler. This is the count of the paper's tables.
        - ``macs``: multiplications of all matrix products, attention included, of the encoder
          (embeddings to final hidden states, without head) on one sequence of 128 tokens.
        - ``flops``: two per multiplication.
        - ``memory``: bytes of all weights of the deployed masked LM in fp32, decoder bias included.
        """
        weights_first, weights_step, weights_last = self._weight_terms()
        macs_first, macs_step, macs_last = self._mac_terms()
        memory = _BYTES_PER_WEIGHT
        return {
            "params": self._chain("params", weights_first, weights_step, weights_last),
            "macs": self._chain("macs", macs_first, macs_step, macs_last),
            "flops": self._chain("flops", 2 * macs_first, 2 * macs_step, 2 * macs_last),
            "memory": self._chain(
                "memory",
                memory * (weights_first + self.vocabulary),
                memory * weights_step,
                memory * weights_last,
                unit="B",
            ),
        }

    @cached_property
    def heuristics(self) -> Mapping[str, Genotypes]:
        """The cigar family and the templates; the published shapes where the space holds them."""
        return families(self)

    @cached_property
    def misfits(self) -> tuple[Misfit, ...]:
        """Widths that GPUs run slowly unless they are padded."""
        sizes = {width: width // self.heads for width in self.widths}
        heads = {width: size for width, size in sizes.items() if size % _FAST}
        rough = tuple(width for width in self.widths if width % _FAST)
        found = []
        if heads:
            listed = ", ".join(map(str, heads.values()))
            reason = f"no fused attention: heads of {listed} are no multiples of {_FAST}"
            found.append(Misfit(_GPUS, tuple(heads), reason))
        if rough:
            reason = f"no fast matrix products: no multiple of {_FAST}"
            found.append(Misfit(_GPUS, rough, reason))
        return tuple(found)

    def published(self, metric: str) -> Mapping[str, tuple[Genotypes, NDArray[np.float64]]]:
        """The perplexities of the paper's table 6, where the space holds its shapes."""
        if metric != "perplexity" or "published" not in self.heuristics:
            return {}
        values = [s.perplexity for s in published_shapes().values() if s.source == "table 6"]
        source = "the published perplexities (table 6)"
        return {source: (self.heuristics["published"], np.array(values))}

    def reference(self, metric: str) -> Path | None:
        """Folder of the predictor that ships for a metric."""
        return shipped_reference(shipped_folder(__package__, "reference"), self.name, metric)

    def deploy(self, genotype: NDArray[np.int64], workload: Workload) -> Deployment:
        """Build the merged subnet, without masked-LM head, with random weights."""
        try:
            from nastool_supershaper.deployable import deploy
        except ImportError as error:
            raise MissingDependencyError(
                f"running a shape needs {error.name or 'torch'}: pip install 'nastool[train]'"
            ) from error
        shape = [self.widths[index] for index in self.validate(genotype[None])[0]]
        return deploy(self, shape, workload)

    def _chain(
        self,
        name: str,
        first: NDArray[np.int64],
        step: NDArray[np.int64],
        last: NDArray[np.int64],
        unit: str = "",
    ) -> ChainCost:
        """The last layer's extra terms go to whichever gene is the last one."""
        if self.layers == 1:
            return ChainCost(name, first + last, (), unit)
        steps = (*[step] * (self.layers - 2), step + last[None, :])
        return ChainCost(name, first, steps, unit)

    def _weight_terms(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        h, size = np.array(self.widths, dtype=np.int64), self.hidden
        # Attention and its output projection, feed-forward, two LayerNorms.
        layer = 4 * (h * h + h) + 2 * h * self.ffn + self.ffn + h + 4 * h
        embeddings = (self.vocabulary + self.positions + self.segments) * size + 2 * size
        head = size * size + size + 2 * size
        first = embeddings + head + size * h + h + layer
        return first, h[:, None] * h + h + layer, h * size + size

    def _mac_terms(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        h, size, tokens = np.array(self.widths, dtype=np.int64), self.hidden, SEQUENCE_LENGTH
        # Scores and weighted values: tokens * tokens * h each.
        layer = tokens * (4 * h * h + 2 * h * self.ffn) + 2 * tokens * tokens * h
        return (
            tokens * size * h + layer,
            tokens * h[:, None] * h + layer,
            tokens * h * size,
        )

    def _derived_name(self) -> str:
        for name, preset in PRESETS.items():
            if all(getattr(self, key) == value for key, value in preset.items()):
                return name
        published = PRESETS["supershaper"]
        different = [key for key in published if getattr(self, key) != published[key]]
        texts = [
            f"{key}={'/'.join(map(str, self.widths)) if key == 'widths' else getattr(self, key)}"
            for key in different
        ]
        return f"supershaper[{','.join(texts)}]"


_MINILM = {
    "widths": (60, 120, 180, 240, 276, 300, 384),
    "ffn": 1536,
    "heads": 12,
    "vocabulary": 30522,
    "positions": 512,
    "segments": 2,
}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "supershaper": {
        "layers": 12,
        "widths": PUBLISHED_WIDTHS,
        "ffn": 3072,
        "heads": 12,
        "vocabulary": 28996,
        "positions": 512,
        "segments": 2,
    },
    "minilm-6": {"layers": 6, **_MINILM},
    "aligned": {
        "layers": 12,
        # Heads of 8 to 64 in steps of 8.
        "widths": tuple(range(96, 769, 96)),
        "ffn": 3072,
        "heads": 12,
        "vocabulary": 28996,
        "positions": 512,
        "segments": 2,
    },
}
"""The paper's space, that of the small supernet that starts from a 6-layer MiniLM, and one of the
size of the paper's whose widths fit fast kernels as they are."""


def create(argument: str | None = None) -> SuperShaperSpace:
    """A BERT with a width of its own in every layer: the paper's space, a preset, or a supernet's.

    Args:
        argument: None for the paper's space; the name of a preset; the folder of a supernet; or
            sizes such as ``layers=6,widths=60/120/180``, the rest as published.

    Raises:
        InvalidInputError: None of these.
    """
    if argument is None:
        argument = "supershaper"
    if argument in PRESETS:
        return SuperShaperSpace(**PRESETS[argument])
    folder = fetched(argument)
    if is_folder(folder):
        return _from_folder(folder)
    if "=" in argument:
        return _from_text(argument)
    raise InvalidInputError(
        f"supershaper: expected a preset ({', '.join(PRESETS)}), the folder of a supernet or "
        f"sizes such as 'layers=6,widths=120/240', got {argument!r:.200}"
    )


def from_config(config: Mapping[str, Any]) -> SuperShaperSpace:
    """Make the space of a supernet from its configuration.

    Args:
        config: What ``config.json`` of a supernet holds.

    Raises:
        InvalidInputError: Another kind of model, or a size is missing or breaks a rule.
    """
    if config.get("model_type") != "supershaper":
        raise InvalidInputError(
            f"expected the configuration of a supernet (model_type 'supershaper'), "
            f"got model_type {config.get('model_type')!r}"
        )
    names = {
        "layers": "num_hidden_layers",
        "widths": "widths",
        "ffn": "intermediate_size",
        "heads": "num_attention_heads",
        "vocabulary": "vocab_size",
        "positions": "max_position_embeddings",
        "segments": "type_vocab_size",
    }
    missing = [key for key in names.values() if key not in config]
    if missing:
        raise InvalidInputError(f"the configuration of a supernet lacks {', '.join(missing)}")
    sizes = {field: config[key] for field, key in names.items()}
    if not isinstance(sizes["widths"], list):
        raise InvalidInputError(f"widths must be a list, got {sizes['widths']!r}")
    return SuperShaperSpace(**{**sizes, "widths": tuple(sizes["widths"])})


def shipped_reference(root: Path, name: str, metric: str) -> Path | None:
    """Find the predictor of a metric for a space.

    Args:
        root: Holds ``<space>/<metric>`` folders.
        name: The space.
        metric: The metric.
    """
    # Derived names hold sizes, and metrics may hold arguments: neither is a folder of ours.
    if not all(re.fullmatch(r"[A-Za-z][\w-]*", part) for part in (name, metric)):
        return None
    own = root / name / metric
    return own if own.is_dir() else None


def _from_folder(folder: Path) -> SuperShaperSpace:
    path = folder / "config.json"
    if not is_file(path):
        raise InvalidInputError(f"expected the folder of a supernet, but {path} does not exist")
    config = read_json_object(path)
    try:
        return from_config(config)
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: {error}") from error


def _from_text(text: str) -> SuperShaperSpace:
    known = [field.name for field in fields(SuperShaperSpace) if field.name != "name"]
    sizes = read_sizes("supershaper", text, known, ("widths",))
    return SuperShaperSpace(**sizes)
