"""The supernet: BERT whose every layer can run at any of a few hidden sizes.

A layer is a BERT layer between two bottlenecks: D -> h, the layer at width h, h -> D. A subnet
takes the leading rows and columns of every matrix and the leading entries of every vector
(SuperShaper, section 2.1). Weights are sliced, as views; no subnet holds weights of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, MaskedLMOutput

from nastool_supernets.corpus.targets import Targets
from nastool_supershaper.bert import load_bert
from nastool_supershaper.graphs import LayerGraphs
from nastool_supershaper.layers import Bottleneck, SuperShaperLayer
from nastool_supershaper.scoring import score
from nastool_supershaper.shaped_bert import (
    Embeddings,
    MaskedLMHead,
    ShapedBertConfig,
    ShapedBertForMaskedLM,
)
from nastool_supershaper.supernet_config import SuperShaperConfig


class SuperShaperPreTrainedModel(PreTrainedModel):
    """What backbone and masked language model share: configuration and initialisation."""

    config_class = SuperShaperConfig
    base_model_prefix = "supershaper"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _input_embed_layer = "words"  # in the backbone's `embeddings`

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Bottleneck):
            nn.init.eye_(module.weight)


class SuperShaperModel(SuperShaperPreTrainedModel):
    """The backbone: embeddings and layers, without pooler."""

    def __init__(self, config: SuperShaperConfig) -> None:
        super().__init__(config)
        self.embeddings = Embeddings(config)
        layers = nn.ModuleList(SuperShaperLayer(config) for _ in range(config.num_hidden_layers))
        self.layers = cast("Sequence[SuperShaperLayer]", layers)
        self.gradient_checkpointing = False
        self._run = SuperShaperLayer.__call__
        self._backend, self._graphs = cast("str | None", None), cast("LayerGraphs | None", None)
        self.post_init()

    def compile_layers(self, backend: str = "inductor") -> None:
        """Compile what the layers of a whole forward pass run: a graph a width, shared by all.

        The last layer of a masked pass has graphs of its own. Batches of other sizes have, too.

        Args:
            backend: As torch.compile names it.
        """
        limits = torch._dynamo.config  # noqa: SLF001 - where torch keeps its limit
        limits.recompile_limit = max(limits.recompile_limit, 4 * len(self.config.widths))
        # Not dynamic: a graph with the width as a variable would be one slow graph for all.
        self._backend = backend
        self._run = torch.compile(SuperShaperLayer.forward, backend=backend, dynamic=False)

    def capture(self, blocks: int, length: int, dtype: str) -> None:
        """Let training passes without padding run by CUDA graphs, of compiled layers if any.

        The same up to rounding. Batches of other sizes run as ever.

        Args:
            blocks: Blocks of a batch.
            length: Tokens of a block.
            dtype: In which matrix products run, ``float32`` or ``bfloat16``.
        """
        if self._graphs is None or self._graphs.key != (blocks, length, dtype):
            self._graphs = None
            sizes = (self.config, blocks, length, dtype)
            self._graphs = LayerGraphs(self.layers, *sizes, self._backend)
        self._graphs.attach()

    def embed(self, input_ids: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Embed tokens, (B, T) to (B, T, D): what the first layer reads."""
        return self.embeddings(input_ids, token_type_ids)

    def run_layer(
        self, index: int, hidden: Tensor, width: int, attention_mask: Tensor | None = None
    ) -> Tensor:
        """Run one layer between its bottlenecks, (B, T, D) to (B, T, D).

        `embed` followed by `run_layer` for every layer equals `forward` up to rounding; shapes that
        share a prefix can share its hidden states.

        Args:
            index: Position of the layer, from 0.
            hidden: Hidden states, (B, T, D).
            width: Hidden size of the layer.
            attention_mask: (B, T), nonzero at real tokens; None without padding.
        """
        layer = self.layers[index]
        x = layer(layer.enter(hidden, width), width, _key_mask(attention_mask))
        return layer.leave(x, width)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        shape: Sequence[int] | None = None,
        positions: Tensor | None = None,
    ) -> BaseModelOutput:
        """Compute hidden states of one subnet, (B, T) to (B, T, D).

        Args:
            input_ids: Tokens, (B, T).
            attention_mask: (B, T), nonzero at real tokens; None without padding.
            token_type_ids: Segments, (B, T); None for all zero.
            shape: Hidden size of every layer; None for the largest.
            positions: (B, M), the positions of every row that are wanted: the last layer runs at
                these only, exactly, and the hidden states are (B, M, D). None for all.

        Raises:
            InvalidInputError: If the shape is not one of the space.
        """
        embedded = self.embed(input_ids, token_type_ids)
        hidden = self.transform(embedded, shape, attention_mask, positions)
        return BaseModelOutput(last_hidden_state=hidden)

    def transform(
        self,
        embedded: Tensor,
        shape: Sequence[int] | None = None,
        attention_mask: Tensor | None = None,
        positions: Tensor | None = None,
        states: list[Tensor] | None = None,
    ) -> Tensor:
        """Run all layers of one subnet on embedded tokens, (B, T, D) to (B, T, D).

        Args:
            embedded: From `embed`, (B, T, D).
            shape: See `forward`.
            attention_mask: See `forward`.
            positions: See `forward`.
            states: Gets what every layer but the last hands on, (B, T, D) each, unless None.

        Raises:
            InvalidInputError: If the shape is not one of the space.
        """
        shape = self.config.check_shape(shape)
        mask = _key_mask(attention_mask)
        last = len(self.layers) - 1
        x, first = self.layers[0].enter(embedded, shape[0]), 0
        if self._graphs is not None and mask is None and self._graphs.fit(embedded):
            x, first = self._graphs.run(x, shape, states), last
        for index in range(first, last + 1):
            layer, width = self.layers[index], shape[index]
            if index > 0 and states is None:
                x = self._pass_on(index - 1, x, shape[index - 1], width)
            elif index > 0 and states is not None:
                states.append(self.layers[index - 1].leave(x, shape[index - 1]))
                x = layer.enter(states[-1], width)
            wanted = positions if index == last else None
            if self.gradient_checkpointing and self.training:
                x = checkpoint(self._run, layer, x, width, mask, wanted, use_reentrant=False)
            else:
                x = self._run(layer, x, width, mask, wanted)
        return self.layers[-1].leave(x, shape[-1])

    @torch.no_grad()
    def merge_bottlenecks(self) -> list[tuple[Tensor, Tensor]]:
        """Return the maps between neighbouring layers: weight (D, D) and bias (D,) of each.

        The inner dimension of the product is D at every shape, so that the map h_i -> h_{i+1} is
        its leading h_{i+1} rows and h_i columns (SuperShaper, appendix C).
        """
        return [
            (
                entering.input_bottleneck.weight @ leaving.output_bottleneck.weight,
                entering.input_bottleneck.weight @ leaving.output_bottleneck.bias
                + entering.input_bottleneck.bias,
            )
            for leaving, entering in pairwise(self.layers)
        ]

    def _pass_on(self, index: int, x: Tensor, width: int, following: int) -> Tensor:
        """From a layer's width straight to the next one's, (B, T, h_i) to (B, T, h_{i+1})."""
        # Multiplying the two bottlenecks first costs no token anything, and never leaves D-sized
        # activations behind: per token h_i * h_{i+1} instead of D * (h_i + h_{i+1}).
        leaving, entering = (
            self.layers[index].output_bottleneck,
            self.layers[index + 1].input_bottleneck,
        )
        rows = entering.weight[:following]
        weight = rows @ leaving.weight[:, :width]
        bias = rows @ leaving.bias + entering.bias[:following]
        return F.linear(x, weight, bias)


class SuperShaperForMaskedLM(SuperShaperPreTrainedModel):
    """The supernet with its masked language modelling head; the decoder is the word embeddings."""

    def __init__(self, config: SuperShaperConfig) -> None:
        super().__init__(config)
        self.supershaper = SuperShaperModel(config)
        self.head = MaskedLMHead(config)
        self._scores = score
        self.post_init()

    def compile_layers(self, backend: str = "inductor") -> None:
        """Compile what training passes run: the layers, and the scores of the vocabulary.

        Args:
            backend: As torch.compile names it.
        """
        self.supershaper.compile_layers(backend)
        self._scores = torch.compile(score, backend=backend, dynamic=False)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        shape: Sequence[int] | None = None,
    ) -> MaskedLMOutput:
        """Run one subnet; with labels, the head runs at masked positions only.

        Args:
            input_ids: Tokens, (B, T).
            attention_mask: (B, T), nonzero at real tokens; None without padding.
            token_type_ids: Segments, (B, T); None for all zero.
            labels: Original tokens at masked positions, -100 elsewhere, (B, T).
            shape: Hidden size of every layer; None for the largest.

        Returns:
            With labels the mean cross-entropy and logits (n_masked, V), else logits (B, T, V).
        """
        if labels is None:
            output = self.supershaper(input_ids, attention_mask, token_type_ids, shape=shape)
            return MaskedLMOutput(logits=self._logits(output.last_hidden_state))
        logits, losses = self._predict_masked(
            input_ids, attention_mask, token_type_ids, labels, shape
        )
        # A batch may hold no masked token: its loss is then zero, not NaN.
        return MaskedLMOutput(loss=losses.sum() / max(len(losses), 1), logits=logits)

    def predict_masked(
        self,
        embedded: Tensor,
        targets: Targets,
        shape: Sequence[int] | None = None,
        attention_mask: Tensor | None = None,
        states: list[Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Logits (n_masked, V) and cross-entropies (n_masked,) from embedded tokens.

        Several subnets on one batch can share its embeddings and what is known of its masks.

        Args:
            embedded: From the backbone's `embed`, (B, T, D).
            targets: What the batch is to predict.
            shape: Hidden size of every layer; None for the largest.
            attention_mask: (B, T), nonzero at real tokens; None without padding.
            states: See the backbone's `transform`.
        """
        hidden = self.supershaper.transform(
            embedded, shape, attention_mask, targets.positions, states
        )
        return self._score(targets.select(hidden), targets.tokens)

    def head_losses(self, hidden: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy at every masked position from final hidden states (..., D), (n_masked,)."""
        masked = labels != -100
        return self._score(hidden[masked], labels[masked])[1]

    def _logits(self, hidden: Tensor) -> Tensor:
        return self.head(hidden, self.supershaper.embeddings.words.weight)

    def _score(self, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (n, V) and cross-entropies (n,) of final hidden states (n, D)."""
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        # Batches of other sizes, which evaluations have, would be compiled each.
        run = self._scores if torch.is_grad_enabled() else score
        return run(self.head, self.supershaper.embeddings.words.weight, hidden, targets, dtype)

    def _predict_masked(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        token_type_ids: Tensor | None,
        labels: Tensor,
        shape: Sequence[int] | None,
    ) -> tuple[Tensor, Tensor]:
        embedded = self.supershaper.embed(input_ids, token_type_ids)
        return self.predict_masked(embedded, Targets.of(labels), shape, attention_mask)

    @classmethod
    def from_bert(
        cls, bert: str | PreTrainedModel, widths: Sequence[int] | None = None
    ) -> SuperShaperForMaskedLM:
        """Build a supernet that computes at full width exactly what a BERT computes.

        Args:
            bert: A local folder, a hub id, or a BERT model of transformers. Its masked language
                modelling head is taken over if it has one.
            widths: Hidden sizes a layer can take; None scales the published ones.

        Raises:
            InvalidInputError: If this is no BERT, or one with parts the supernet does not have.
        """
        old, pretrained = load_bert(bert)
        if widths is None:
            widths = _scaled_widths(old.hidden_size, old.num_attention_heads)
        model = cls(
            SuperShaperConfig(
                widths=widths,
                num_hidden_layers=old.num_hidden_layers,
                trained_positions=old.max_position_embeddings,
                **_common(old),
            )
        )
        # What the checkpoint lacks keeps its fresh start: the bottlenecks, sometimes the head.
        model.load_state_dict(model.state_dict() | pretrained)
        return model

    @torch.no_grad()
    def extract(self, shape: Sequence[int]) -> ShapedBertForMaskedLM:
        """Cut out a subnet and merge neighbouring bottlenecks, for deployment.

        Args:
            shape: Hidden size of every layer.

        Source: SuperShaper, appendix C. Products are taken in double precision.

        Raises:
            InvalidInputError: If the shape is not one of the space.
        """
        config = self.config
        shape = config.check_shape(shape)
        sizes = _common(config) | {"trained_positions": config.trained_positions}
        subnet = ShapedBertForMaskedLM(ShapedBertConfig(shape=shape, **sizes))
        # transformers wraps `to` in a way mypy cannot see through.
        subnet.to(device=self.device, dtype=self.dtype)  # type: ignore[call-arg]
        subnet.bert.embeddings.load_state_dict(self.supershaper.embeddings.state_dict())
        subnet.head.load_state_dict(self.head.state_dict())
        # The map so far, from the previous layer's width to D; before the first layer the identity.
        width = config.hidden_size
        weight = torch.eye(width, dtype=torch.float64, device=self.device)
        bias = torch.zeros(width, dtype=torch.float64, device=self.device)
        for old, new, width in zip(self.supershaper.layers, subnet.bert.layers, shape, strict=True):
            entering = old.input_bottleneck.weight[:width].double()
            new.bottleneck.weight.copy_(entering @ weight)
            new.bottleneck.bias.copy_(entering @ bias + old.input_bottleneck.bias[:width].double())
            for name, target in new.named_parameters():
                if not name.startswith("bottleneck."):
                    full = old.get_parameter(name)
                    target.copy_(full[tuple(slice(size) for size in target.shape)])
            weight = old.output_bottleneck.weight[:, :width].double()
            bias = old.output_bottleneck.bias.double()
        subnet.bert.final_bottleneck.weight.copy_(weight)
        subnet.bert.final_bottleneck.bias.copy_(bias)
        return subnet.train(self.training)


def _key_mask(attention_mask: Tensor | None) -> Tensor | None:
    """(B, T) to (B, 1, 1, T), or None where nothing is padded, for the kernels without a mask."""
    if attention_mask is None or bool(attention_mask.all()):
        return None
    return attention_mask[:, None, None, :].bool()


def _common(config: PretrainedConfig) -> dict[str, Any]:
    """Return the sizes that BERT, supernet and subnet name alike."""
    names = (
        "vocab_size",
        "hidden_size",
        "num_attention_heads",
        "intermediate_size",
        "max_position_embeddings",
        "type_vocab_size",
        "layer_norm_eps",
        "pad_token_id",
        "initializer_range",
    )
    return {name: getattr(config, name) for name in names}


def _scaled_widths(hidden_size: int, heads: int) -> list[int]:
    """Scale the published widths to another hidden size, in multiples of the number of heads."""
    published = (120, 240, 360, 480, 540, 600)
    scaled = {max(1, int(w * hidden_size / 768 / heads + 0.5)) * heads for w in published}
    return sorted({width for width in scaled if width < hidden_size} | {hidden_size})
