"""What training, measuring and deployment know of a net: the interface that a family implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import Tensor
from transformers import PreTrainedModel

from nastool import notebook
from nastool.constraint import format_quantity
from nastool.errors import InvalidInputError
from nastool.space import Architecture, SearchSpace
from nastool_supernets.corpus.targets import Targets
from nastool_supernets.corpus.tasks import TaskName
from nastool_supernets.genotypes import Genotype, row


class Prediction(NamedTuple):
    """Logits (n, V), cross-entropies (n,) and, if wanted, the layers' hidden states.

    The n predicted tokens are those of the batch's targets, in reading order.
    """

    logits: Tensor
    losses: Tensor
    states: Sequence[Tensor] = ()


class Stages(ABC):
    """A forward pass in steps, so that genotypes that begin alike share what they compute.

    What is made for one net must not outlive a change of its weights.
    """

    @abstractmethod
    def keys(self, genotype: Genotype) -> tuple[int, ...]:
        """What each step depends on beside the steps before it, one number a step, at least one.

        Two genotypes whose keys begin with the same k numbers have the same state after k steps.
        """

    @abstractmethod
    def embed(self, input_ids: Tensor) -> Tensor:
        """Return the state before the first step, from tokens (B, T)."""

    @abstractmethod
    def step(
        self, index: int, state: Tensor, genotype: Genotype, positions: Tensor | None
    ) -> Tensor:
        """Make one step.

        Args:
            index: Of the step, from 0.
            state: After the step before it.
            genotype: Whose pass this is.
            positions: (B, M), what is wanted of the last step; None for all.
        """

    @abstractmethod
    def losses(self, state: Tensor, genotype: Genotype, targets: Targets) -> Tensor:
        """Cross-entropies (n,) from the last step's state at the targets' positions."""


class Net(ABC):
    """A net as it is trained and measured: a supernet, or one shape alone.

    Args:
        model: What is trained and saved.
    """

    task: ClassVar[TaskName] = "masked-lm"
    """What it predicts: see `nastool_supernets.corpus.tasks.TaskName`."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model

    @abstractmethod
    def prepare(self, *, compiled: bool, checkpointing: bool) -> None:
        """Compile the layers, or let them compute activations twice."""

    def capture(self, blocks: int, length: int, dtype: str) -> None:
        """Let training passes over batches of one size run by CUDA graphs.

        Gradients are then summed where they are: they are set to zero, and never dropped.

        Args:
            blocks: Blocks of a batch.
            length: Tokens a block.
            dtype: ``float32`` or ``bfloat16``.

        Raises:
            InvalidInputError: If this net has none, or lies on another device.
        """
        del blocks, length, dtype
        raise InvalidInputError(
            f"cuda_graphs: expected a supernet that has them, got {type(self).__name__}"
        )

    @abstractmethod
    def embed(self, input_ids: Tensor) -> Tensor:
        """Embed tokens, (B, T) to (B, T, D): what all genotypes read."""

    @abstractmethod
    def predict(
        self, embedded: Tensor, targets: Targets, genotype: Genotype, *, states: bool = False
    ) -> Prediction:
        """Predict a batch's targets from its embedded tokens.

        Args:
            embedded: From `embed`, (B, T, D).
            targets: What the batch is to predict.
            genotype: Which subnet does; the empty one of one shape alone.
            states: Whether hidden states are wanted: of one shape those after every layer, (B, T,
                h_i) each; of a supernet what every layer but the last hands on, whose size is the
                same for all genotypes.
        """

    @abstractmethod
    def architecture(self, genotype: Genotype) -> Architecture:
        """What a genotype stands for, as people read it and logs keep it."""

    @abstractmethod
    def followed(self) -> dict[str, Genotype]:
        """Genotypes by name whose held-out perplexity every training follows."""

    def losses(self, input_ids: Tensor, labels: Tensor, genotype: Genotype) -> Tensor:
        """Cross-entropy at every position to predict, in reading order.

        Args:
            input_ids: Tokens, (B, T).
            labels: What is to be predicted, -100 where nothing is, (B, T).
            genotype: Which subnet does.

        Returns:
            Shape (n,).
        """
        return self.predict(self.embed(input_ids), Targets.of(labels), genotype).losses

    def stages(self) -> Stages | None:
        """The forward pass in steps, for its present weights; None where nothing can be shared."""
        return None

    def flops(self, genotype: Genotype, blocks: int, length: int, n_targets: int) -> float:
        """Operations that a forward pass must compute, two a multiplication.

        Args:
            genotype: Which subnet.
            blocks: Blocks of the batch.
            length: Tokens a block.
            n_targets: Tokens that the batch is to predict.
        """
        del genotype, n_targets
        weights = sum(p.numel() for p in self.model.parameters() if p.ndim > 1)
        return 2.0 * weights * blocks * length

    def group_of(self, parameter: str) -> str:
        """The group of a parameter by its name, which may have a learning rate of its own.

        Args:
            parameter: As `named_parameters` has it.

        Returns:
            ``head``, ``bottleneck`` or anything else.
        """
        return "body" if parameter.startswith(f"{self.model.base_model_prefix}.") else "head"

    def state_sizes(self) -> list[int]:
        """Size of the hidden states after every layer."""
        config = self.model.config
        return [config.hidden_size] * config.num_hidden_layers


class Supernet(Net):
    """One set of weights for every genotype of a space.

    Args:
        model: The weights.
        space: Whose genotypes are its subnets.
    """

    def __init__(self, model: PreTrainedModel, space: SearchSpace) -> None:
        super().__init__(model)
        self.space = space

    def __repr__(self) -> str:
        facts = self._facts()
        sizes = f" of {facts['parameters']} parameters" if "parameters" in facts else ""
        return f"<Supernet of {self.space.name}: {facts['shapes']} shapes{sizes}, {self.task}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: its space, its sizes and the ends of its shapes."""
        ends = {
            "smallest": self.space.format(self.space.smallest),
            "largest": self.space.format(self.space.largest),
        }
        return notebook.shown(f"Supernet of {self.space.name}", {**self._facts(), **ends})

    def _facts(self) -> dict[str, str]:
        """What it is, by label."""
        facts = {"shapes": str(self.space.count)}
        if (cost := self.space.costs.get("params")) is not None:
            ends = (format_quantity(end[0], cost.unit) for end in (cost.minimum, cost.maximum))
            facts["parameters"] = " to ".join(ends)
        weights = sum(parameter.numel() for parameter in self.model.parameters())
        return facts | {"weights": format_quantity(weights), "task": self.task}

    @abstractmethod
    def extract(self, genotype: Genotype) -> PreTrainedModel:
        """Cut a subnet out, as it ships; it shares no weights with the supernet."""

    @abstractmethod
    def logits(self, inputs: Mapping[str, Tensor], genotype: Genotype) -> Tensor:
        """What a subnet computes of any inputs, to be compared with what was cut out, (B, T, V).

        Args:
            inputs: ``input_ids`` and ``attention_mask``, (B, T); ``token_type_ids`` where it tells
                segments apart.
            genotype: The subnet.
        """

    def architecture(self, genotype: Genotype) -> Architecture:
        return self.space.decode([genotype])[0]

    def genotype(self, architecture: Architecture) -> Genotype:
        """What `architecture` reads.

        Raises:
            InvalidInputError: It is none of the space.
        """
        return row(self.space.encode([architecture])[0])

    def followed(self) -> dict[str, Genotype]:
        return {"largest": row(self.space.largest), "smallest": row(self.space.smallest)}


class SingleShape(Net):
    """One shape alone, as it ships: the empty genotype stands for it.

    Args:
        model: What a supernet's `extract` returned, with the head that it is trained by.
        shape: Its choices, gene by gene.
    """

    def __init__(self, model: PreTrainedModel, shape: Architecture) -> None:
        super().__init__(model)
        self.shape = shape

    def architecture(self, genotype: Genotype) -> Architecture:
        del genotype
        return self.shape

    def followed(self) -> dict[str, Genotype]:
        return {"subnet": ()}


def check_captures(device: torch.device) -> None:
    """Check that CUDA graphs can be captured on a device.

    Raises:
        InvalidInputError: If not.
    """
    if device.type != "cuda":
        raise InvalidInputError(f"cuda_graphs: expected a CUDA device, got {device.type}")


def cross_entropies(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of every prediction, (n, V) and (n,) to (n,), in single precision."""
    scores = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(scores, targets, reduction="none")
