"""What a training run trains: a supernet, or one shape alone as it is deployed.

The loop, its checkpoints and its gradients know no more of a net than this.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from nastool.errors import InvalidInputError
from nastool_supernets.corpus.masked_positions import MaskedPositions
from nastool_supernets.measuring.perplexities import perplexities
from nastool_supernets.runtime.precision import autocast
from nastool_supernets.training.rules import Shape
from nastool_supershaper.modeling import SuperShaperForMaskedLM, cross_entropies
from nastool_supershaper.shaped_bert import ShapedBertForMaskedLM

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from nastool_supernets.training.report import Evaluation


class Prediction(NamedTuple):
    """Logits (n_masked, V), cross-entropies (n_masked,) and, if wanted, every layer's states."""

    logits: Tensor
    losses: Tensor
    states: Sequence[Tensor] = ()


class Net(ABC):
    """A model as the training loop uses it.

    Args:
        model: What is trained and saved.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths that the rule may choose from, ascending; none for one shape alone."""
        return ()

    @abstractmethod
    def prepare(self, *, compiled: bool, checkpointing: bool) -> None:
        """Compile the layers, or let them compute activations twice."""

    @abstractmethod
    def embed(self, input_ids: Tensor) -> Tensor:
        """Embed tokens, (B, T) to (B, T, D)."""

    @abstractmethod
    def predict(
        self, embedded: Tensor, masked: MaskedPositions, shape: Shape, *, states: bool = False
    ) -> Prediction:
        """Predict masked tokens from embedded ones.

        Args:
            embedded: From `embed`, (B, T, D).
            masked: Where the batch is masked.
            shape: Width of every layer.
            states: Whether the hidden states after every layer are wanted, (B, T, h_i) each.
        """

    @abstractmethod
    def evaluate(self, evaluation: Evaluation, dtype: str) -> dict[str, float]:
        """Return held-out perplexities by name of shape."""


class SupernetNet(Net):
    """A supernet: the rule says which of its shapes train."""

    model: SuperShaperForMaskedLM

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(self.model.config.widths)

    def prepare(self, *, compiled: bool, checkpointing: bool) -> None:
        if compiled:
            self.model.supershaper.compile_layers()
        self.model.supershaper.gradient_checkpointing = checkpointing

    def embed(self, input_ids: Tensor) -> Tensor:
        return self.model.supershaper.embed(input_ids)

    def predict(
        self, embedded: Tensor, masked: MaskedPositions, shape: Shape, *, states: bool = False
    ) -> Prediction:
        if states:
            raise InvalidInputError("hidden states are compared of one shape alone, got a supernet")
        return Prediction(*self.model.predict_masked(embedded, masked, shape))

    def evaluate(self, evaluation: Evaluation, dtype: str) -> dict[str, float]:
        config = self.model.config
        shapes = {"largest": config.largest, "smallest": config.smallest, **evaluation.shapes}
        ids, labels = evaluation.input_ids, evaluation.labels
        values = perplexities(self.model, ids, labels, list(shapes.values()), dtype=dtype)
        return dict(zip(shapes, values.tolist(), strict=True))


class ShapeNet(Net):
    """One shape alone, its bottlenecks merged: what a supernet's `extract` returns."""

    model: ShapedBertForMaskedLM
    _checkpointing = False

    def __init__(self, model: ShapedBertForMaskedLM) -> None:
        super().__init__(model)
        self._run: Any = type(model.bert.layers[0]).forward

    def prepare(self, *, compiled: bool, checkpointing: bool) -> None:
        self._checkpointing = checkpointing
        if compiled:
            limits = torch._dynamo.config  # noqa: SLF001 - where torch keeps its limit
            # A graph for each pair of neighbouring widths.
            needed = 4 * len(self.model.bert.layers)
            limits.recompile_limit = max(limits.recompile_limit, needed)
            self._run = torch.compile(self._run, dynamic=False)

    def embed(self, input_ids: Tensor) -> Tensor:
        embedded: Tensor = self.model.bert.embeddings(input_ids)
        return embedded

    def predict(
        self, embedded: Tensor, masked: MaskedPositions, shape: Shape, *, states: bool = False
    ) -> Prediction:
        del shape  # it is this one
        bert, hidden = self.model.bert, embedded
        kept: list[Tensor] = []
        for layer in bert.layers:
            if self._checkpointing and self.model.training:
                hidden = checkpoint(self._run, layer, hidden, None, use_reentrant=False)
            else:
                hidden = self._run(layer, hidden, None)
            if states:
                kept.append(hidden)
        logits = self.model.head(
            bert.final_bottleneck(masked.take(hidden)), bert.embeddings.words.weight
        )
        return Prediction(logits, cross_entropies(logits, masked.targets), kept)

    def evaluate(self, evaluation: Evaluation, dtype: str) -> dict[str, float]:
        was_training, device = self.model.training, self.model.device
        self.model.eval()
        total = torch.zeros((), dtype=torch.float64, device=device)
        size = 512 if device.type == "cuda" else 64
        try:
            with torch.inference_mode(), autocast(device.type, dtype):
                for start in range(0, len(evaluation.input_ids), size):
                    part = slice(start, start + size)
                    ids, labels = (
                        torch.as_tensor(array[part], device=device)
                        for array in (evaluation.input_ids, evaluation.labels)
                    )
                    masked = MaskedPositions.of(labels)
                    total += self.predict(self.embed(ids), masked, ()).losses.double().sum()
        finally:
            self.model.train(was_training)
        n_masked = int((evaluation.labels != -100).sum())
        with np.errstate(over="ignore"):
            return {"subnet": float(np.exp(total.item() / n_masked))}


def net_of(model: PreTrainedModel) -> Net:
    """Return a model as the training loop uses it.

    Args:
        model: A supernet, or a deployed shape with its masked language modelling head.

    Raises:
        InvalidInputError: If it is neither.
    """
    if isinstance(model, SuperShaperForMaskedLM):
        return SupernetNet(model)
    if isinstance(model, ShapedBertForMaskedLM):
        return ShapeNet(model)
    raise InvalidInputError(
        f"expected a supernet or a masked language model of one shape, got {type(model).__name__}"
    )
