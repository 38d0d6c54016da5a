"""A checkpoint as a supernet, and its shapes, as the shared code trains, measures and cuts them.

What runs are the modules of transformers themselves, with a part of their weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from nastool.space import Architecture
from nastool_decoder.modeling import Decoder, Slices
from nastool_decoder.shapes import cut_out, shape_of
from nastool_supernets.corpus.targets import Targets
from nastool_supernets.genotypes import Genotype
from nastool_supernets.supernet import Prediction, SingleShape, Stages, Supernet, cross_entropies

Rope = tuple[Tensor, Tensor]
"""Cosines and sines of the positions, (1, T, head size)."""

_WHOLE = Slices()


def attend(layer: Any, x: Tensor, slices: Slices, rope: Rope, mask: Tensor | None = None) -> Tensor:
    """Add what attention makes of the hidden states, (B, T, D).

    Args:
        layer: Of transformers.
        x: What it reads.
        slices: What it keeps of its heads.
        rope: Of the positions.
        mask: (B, 1, T, T), True where something is seen; None for all that came before.
    """
    given = {
        "hidden_states": layer.input_layernorm(x),
        "position_embeddings": rope,
        "attention_mask": mask,
    }
    return x + _sliced(layer.self_attn, slices, given)[0]


def feed(layer: Any, x: Tensor, slices: Slices) -> Tensor:
    """Add what the feed-forward block makes of the hidden states, (B, T, D).

    Args:
        layer: Of transformers.
        x: What it reads.
        slices: What it keeps of its channels.
    """
    return x + cast("Tensor", _sliced(layer.mlp, slices, layer.post_attention_layernorm(x)))


def _sliced(module: Any, slices: Slices, given: Any) -> Any:
    """Run a module with a part of its weights; whole ones are not touched."""
    named = given if isinstance(given, dict) else {}
    unnamed = () if named else (given,)
    if slices is _WHOLE:
        return module(*unnamed, **named)
    cut = {name: slices.cut(name, weight) for name, weight in module.named_parameters()}
    return functional_call(module, cut, unnamed, named)


class _Running:
    """How a causal language model of transformers runs, part by part.

    Args:
        lm: The model.
    """

    def __init__(self, lm: PreTrainedModel) -> None:
        self.lm: Any = lm
        self._attend: Any = attend
        self._feed: Any = feed
        self._checkpointing = False

    def prepare(self, *, compiled: bool, checkpointing: bool, graphs: int) -> None:
        """See `Net.prepare`.

        Args:
            compiled: Whether the parts are compiled.
            checkpointing: Whether they compute activations twice.
            graphs: How many sizes there are.
        """
        self._checkpointing = checkpointing
        if compiled:
            limits = torch._dynamo.config  # noqa: SLF001 - where torch keeps its limit
            limits.recompile_limit = max(limits.recompile_limit, graphs)
            self._attend = torch.compile(attend, dynamic=False)
            self._feed = torch.compile(feed, dynamic=False)

    def embed(self, input_ids: Tensor) -> Tensor:
        embedded: Tensor = self.lm.model.embed_tokens(input_ids)
        return embedded

    def rope(self, x: Tensor) -> Rope:
        positions = torch.arange(x.shape[1], device=x.device)[None]
        rope: Rope = self.lm.model.rotary_emb(x, position_ids=positions)
        return rope

    def layer(
        self,
        index: int,
        x: Tensor,
        rope: Rope,
        heads: Slices | None,
        channels: Slices | None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Run a layer: None for what does not run."""
        layer, run = self.lm.model.layers[index], self._run
        if heads is not None:
            x = run(self._attend, layer, x, heads, rope, mask)
        return x if channels is None else run(self._feed, layer, x, channels)

    def _run(self, part: Any, *given: Any) -> Tensor:
        if self._checkpointing and self.lm.training:
            return cast("Tensor", checkpoint(part, *given, use_reentrant=False))
        return cast("Tensor", part(*given))

    def head(self, x: Tensor) -> Tensor:
        logits: Tensor = self.lm.lm_head(self.lm.model.norm(x))
        return logits


class DecoderSupernet(Supernet):
    """A checkpoint: a genotype says which heads and channels every layer keeps.

    Args:
        model: Its weights.
    """

    task = "causal-lm"
    model: Decoder

    def __init__(self, model: Decoder) -> None:
        super().__init__(model, model.space)
        self.running = _Running(model.lm)

    def prepare(self, *, compiled: bool, checkpointing: bool) -> None:
        # Each layer's own indices are data; the sizes are what graphs are made for.
        graphs = 4 * (len(self.model.space.kvs) + len(self.model.space.ffns)) + 8
        self.running.prepare(compiled=compiled, checkpointing=checkpointing, graphs=graphs)

    def slices(self, layer: int, genotype: Genotype) -> tuple[Slices | None, Slices | None]:
        """What a layer keeps of its heads and of its channels; None for what does not run."""
        return self.heads(layer, genotype), self.channels(layer, genotype)

    def heads(self, layer: int, genotype: Genotype) -> Slices | None:
        """What a layer keeps of its heads; None where attention does not run."""
        number = self.model.space.kvs[genotype[2 * layer]]
        if number == self.model.space.groups:
            return _WHOLE
        return self.model.groups(layer, number) if number else None

    def channels(self, layer: int, genotype: Genotype) -> Slices | None:
        """What a layer keeps of its channels; None where no feed-forward block runs."""
        number = self.model.space.ffns[genotype[2 * layer + 1]]
        if number == self.model.space.ffn:
            return _WHOLE
        return self.model.channels(layer, number) if number else None

    def embed(self, input_ids: Tensor) -> Tensor:
        return self.running.embed(input_ids)

    def _through(
        self,
        x: Tensor,
        genotype: Genotype,
        mask: Tensor | None = None,
        states: list[Tensor] | None = None,
    ) -> Tensor:
        rope = self.running.rope(x)
        for index in range(self.model.space.layers):
            if index > 0 and states is not None:
                states.append(x)
            x = self.running.layer(index, x, rope, *self.slices(index, genotype), mask)
        return x

    def predict(
        self, embedded: Tensor, targets: Targets, genotype: Genotype, *, states: bool = False
    ) -> Prediction:
        kept: list[Tensor] | None = [] if states else None
        logits = self.running.head(targets.take(self._through(embedded, genotype, states=kept)))
        return Prediction(logits, cross_entropies(logits, targets.tokens), kept or ())

    def logits(self, inputs: Mapping[str, Tensor], genotype: Genotype) -> Tensor:
        x = self.embed(inputs["input_ids"])
        mask = _mask(inputs.get("attention_mask"))
        return self.running.head(self._through(x, genotype, mask))

    def stages(self) -> Stages:
        return _Parts(self)

    def extract(self, genotype: Genotype) -> PreTrainedModel:
        slices = [self.slices(i, genotype) for i in range(self.model.space.layers)]
        return cut_out(self.model, self.architecture(genotype), slices)

    def flops(self, genotype: Genotype, blocks: int, length: int, n_targets: int) -> float:
        space = self.model.space
        head = n_targets * space.vocabulary * space.hidden
        return 2.0 * (blocks * space.macs(genotype, length, 0) + head)

    def group_of(self, parameter: str) -> str:
        return "head" if "lm_head" in parameter else "body"


class _Parts(Stages):
    """Two steps a layer, as many as there are genes: attention, then the feed-forward block."""

    def __init__(self, net: DecoderSupernet) -> None:
        self._net = net
        self._ropes: dict[tuple[int, torch.dtype], Rope] = {}

    def keys(self, genotype: Genotype) -> tuple[int, ...]:
        return genotype

    def embed(self, input_ids: Tensor) -> Tensor:
        return self._net.embed(input_ids)

    def step(
        self, index: int, state: Tensor, genotype: Genotype, positions: Tensor | None
    ) -> Tensor:
        layer, is_feed = divmod(index, 2)
        modules: Any = self._net.model.layers[layer]
        if positions is not None:
            state = state.gather(1, positions[..., None].expand(-1, -1, state.shape[-1]))
        if is_feed:
            channels = self._net.channels(layer, genotype)
            return state if channels is None else feed(modules, state, channels)
        heads = self._net.heads(layer, genotype)
        return state if heads is None else attend(modules, state, heads, self._rope(state))

    def losses(self, state: Tensor, genotype: Genotype, targets: Targets) -> Tensor:
        del genotype  # all share the head
        return cross_entropies(self._net.running.head(targets.select(state)), targets.tokens)

    def _rope(self, state: Tensor) -> Rope:
        key = (state.shape[1], state.dtype)
        if key not in self._ropes:
            self._ropes[key] = self._net.running.rope(state)
        return self._ropes[key]


class DecoderShape(SingleShape):
    """One shape alone: a model of transformers, or one whose layers differ.

    Args:
        model: What a supernet's `extract` returned, or a checkpoint.
    """

    task = "causal-lm"

    def __init__(self, model: PreTrainedModel) -> None:
        shape: Architecture = shape_of(model)
        super().__init__(model, shape)
        self.running = _Running(model)

    def prepare(self, *, compiled: bool, checkpointing: bool) -> None:
        graphs = 4 * len({*self.shape}) + 8
        self.running.prepare(compiled=compiled, checkpointing=checkpointing, graphs=graphs)

    def embed(self, input_ids: Tensor) -> Tensor:
        return self.running.embed(input_ids)

    def predict(
        self, embedded: Tensor, targets: Targets, genotype: Genotype, *, states: bool = False
    ) -> Prediction:
        del genotype  # it is this one
        x, rope = embedded, self.running.rope(embedded)
        kept: list[Tensor] = []
        for index in range(len(self.running.lm.model.layers)):
            x = self.running.layer(index, x, rope, _WHOLE, _WHOLE)
            if states:
                kept.append(x)
        logits = self.running.head(targets.take(x))
        return Prediction(logits, cross_entropies(logits, targets.tokens), kept)


def _mask(attended: Tensor | None) -> Tensor | None:
    """Where something is seen, (B, 1, T, T); None where there is no padding."""
    if attended is None or bool(attended.all()):
        return None
    length = attended.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=attended.device).tril()
    # Padding sees itself, or it would see nothing at all.
    own = torch.eye(length, dtype=torch.bool, device=attended.device)
    return causal & (attended.bool()[:, None, None, :] | own)
