"""A BERT with a hidden size of its own in every layer: what a subnet is once it is deployed.

The file stands alone (torch and transformers only), so that an exported model can carry it along.
Between two layers lies one linear map h_i -> h_{i+1}, the exact product of the two bottlenecks of
the supernet (SuperShaper, appendix C).

Nothing is registered with transformers when the file is imported: every copy of it serves the
folder that it lies in, and goes along where a model is saved again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import wraps
from itertools import pairwise
from typing import Any, Self, TypeVar, cast

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import (
    BaseModelOutput,
    MaskedLMOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
)

_Forward = TypeVar("_Forward", bound=Callable[..., Any])

_AUTO_MAP = {
    "AutoConfig": "ShapedBertConfig",
    "AutoModel": "ShapedBertModel",
    "AutoModelForMaskedLM": "ShapedBertForMaskedLM",
    "AutoModelForSequenceClassification": "ShapedBertForSequenceClassification",
    "AutoModelForQuestionAnswering": "ShapedBertForQuestionAnswering",
}
"""What each class of transformers that loads a folder finds in this file."""


class ShapedBertConfig(PretrainedConfig):
    """Sizes of a deployed subnet.

    Args:
        shape: Hidden size of every layer, first layer first.
        hidden_size: Size of the embeddings and of the final hidden states.

    Raises:
        ValueError: If a width is not a positive multiple of the number of heads.
    """

    model_type = "shaped_bert"

    def __init__(
        self,
        shape: Sequence[int] = (768,) * 12,
        vocab_size: int = 28996,
        hidden_size: int = 768,
        num_attention_heads: int = 12,
        intermediate_size: int = 3072,
        max_position_embeddings: int = 512,
        type_vocab_size: int = 2,
        layer_norm_eps: float = 1e-12,
        pad_token_id: int | None = 0,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ) -> None:
        self.shape = [int(width) for width in shape]
        if not self.shape or any(w <= 0 or w % num_attention_heads for w in self.shape):
            raise ValueError(
                f"shape: expected positive multiples of {num_attention_heads} heads, got {shape}"
            )
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = len(self.shape)
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        self.max_position_embeddings = max_position_embeddings
        self.type_vocab_size = type_vocab_size
        self.layer_norm_eps = layer_norm_eps
        self.initializer_range = initializer_range
        kwargs.pop("num_hidden_layers", None)  # saved for other tools to read; the shape says it
        # Where it was loaded from says nothing: wherever it is saved, this file goes along.
        file = __name__.rpartition(".")[2]
        kwargs["auto_map"] = {auto: f"{file}.{name}" for auto, name in _AUTO_MAP.items()}
        # The base class takes any keyword.
        super().__init__(pad_token_id=pad_token_id, **kwargs)  # type: ignore[call-arg]


class Embeddings(nn.Module):
    """Words plus positions plus segments, normalised, as in BERT."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        size = config.hidden_size
        self.words = nn.Embedding(config.vocab_size, size, padding_idx=config.pad_token_id)
        self.positions = nn.Embedding(config.max_position_embeddings, size)
        self.segments = nn.Embedding(config.type_vocab_size, size)
        self.norm = nn.LayerNorm(size, eps=config.layer_norm_eps)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Embed tokens, (B, T) to (B, T, D).

        Raises:
            ValueError: If the sequence is longer than the positions.
        """
        length, longest = input_ids.shape[1], self.positions.num_embeddings
        if length > longest:
            raise ValueError(f"input_ids: expected at most {longest} positions, got {length}")
        # Rows instead of look-ups where the indices are known: no scatter in the backward pass.
        if token_type_ids is None:
            segments = self.segments.weight[0]
        else:
            segments = self.segments(token_type_ids)
        return self.norm(self.words(input_ids) + segments + self.positions.weight[:length])


class MaskedLMHead(nn.Module):
    """Transform, then a decoder whose weight is the word embeddings."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.transform = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden: Tensor, words: Tensor) -> Tensor:
        """Score the vocabulary, (..., D) and (V, D) to (..., V)."""
        return F.linear(self.features(hidden), words, self.bias)

    def features(self, hidden: Tensor) -> Tensor:
        """Transform hidden states to what the decoder reads, (..., D) to (..., D)."""
        features: Tensor = self.norm(F.gelu(self.transform(hidden)))
        return features


class ShapedBertLayer(nn.Module):
    """The map from the previous width, then a BERT layer of the given width."""

    def __init__(self, config: ShapedBertConfig, previous: int, width: int) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.scale: float | None = None  # of the attention; one over the root of the head's size
        self.bottleneck = nn.Linear(previous, width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.attention_output = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.intermediate = nn.Linear(width, config.intermediate_size)
        self.output = nn.Linear(config.intermediate_size, width)
        self.output_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """Transform (B, T, h_{i-1}) to (B, T, h_i); mask is added to scores (B, heads, T, T)."""
        x = self.bottleneck(hidden)
        query, key, value = (
            linear(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for linear in (self.query, self.key, self.value)
        )
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=self.scale)
        x = self.attention_norm(x + self.attention_output(seen.transpose(1, 2).flatten(2)))
        return self.output_norm(x + self.output(F.gelu(self.intermediate(x))))

    @torch.no_grad()
    def pad(self, heads: int, widths: int) -> None:
        """Enlarge the layer to sizes that fast kernels take; what it computes stays the same.

        Heads get entries of zero. The further entries of a hidden state are not zero but hold the
        mean of the others wherever a norm comes next: then the norm, over all of them, finds the
        same mean, a variance smaller by a known factor, and leaves zeros there. The mean comes out
        of the products themselves: of a linear map it is the map of the mean of its rows, and what
        the feed-forward block adds to is passed through it, since gelu(a) - gelu(-a) = a.

        Args:
            heads: The size of a head becomes a multiple of it.
            widths: So do the hidden size and that of the feed-forward block.
        """
        width, ffn = self.query.in_features, self.intermediate.out_features
        size = width // self.num_heads
        more, more_in_head = -width % widths, -size % heads
        more_inside = -(ffn + 2 * (more > 0)) % widths + 2 * (more > 0)
        if more_in_head:
            self.scale = size**-0.5
        in_heads = (self.num_heads, size, more_in_head)
        _resize(self.bottleneck, rows=more, means=True)
        for linear in (self.query, self.key, self.value):
            _resize_heads(linear, in_heads, 0)
            _resize(linear, columns=more)
        _resize_heads(self.attention_output, in_heads, 1)
        _resize(self.attention_output, rows=more, means=True)
        _resize(self.intermediate, rows=more_inside, columns=more)
        _resize(self.output, rows=more, columns=more_inside, means=True)
        if more:
            self.intermediate.weight[ffn, :width] = 1 / width
            self.intermediate.weight[ffn + 1, :width] = -1 / width
            self.output.weight[width:, ffn] = 1
            self.output.weight[width:, ffn + 1] = -1
            for norm in (self.attention_norm, self.output_norm):
                _resize_norm(norm, more)


def _replace(module: nn.Module, name: str, value: Tensor) -> None:
    """Give a module a parameter of another size."""
    setattr(module, name, nn.Parameter(value.contiguous(), getattr(module, name).requires_grad))


def _resize(linear: nn.Linear, rows: int = 0, columns: int = 0, *, means: bool = False) -> None:
    """Add outputs and inputs to a linear map: of zeros, or the outputs' mean."""
    linear.in_features += columns
    linear.out_features += rows
    for name, value in list(linear.named_parameters()):
        more = value.mean(0, keepdim=True) if means else torch.zeros_like(value[:1])
        larger = torch.cat([value, more.expand(rows, *value.shape[1:])])
        _replace(linear, name, F.pad(larger, (0, columns)) if name == "weight" else larger)


def _resize_heads(linear: nn.Linear, in_heads: tuple[int, int, int], axis: int) -> None:
    """Add zeros to each head, which are the outputs (axis 0) or the inputs (axis 1)."""
    n, size, more = in_heads
    linear.out_features += n * more * (axis == 0)
    linear.in_features += n * more * (axis == 1)
    for name, value in list(linear.named_parameters()):
        if axis < value.ndim:
            parts = value.unflatten(axis, (n, size))
            after = (0, 0) * (parts.ndim - 2 - axis)
            _replace(linear, name, F.pad(parts, (*after, 0, more)).flatten(axis, axis + 1))


def _resize_norm(norm: nn.LayerNorm, more: int) -> None:
    """Let a norm take further entries that hold the mean of the others."""
    size = norm.normalized_shape[0]
    share = size / (size + more)  # of the variance that is left
    norm.normalized_shape = (size + more,)
    norm.eps *= share
    _replace(norm, "weight", F.pad(norm.weight * share**0.5, (0, more)))
    _replace(norm, "bias", F.pad(norm.bias, (0, more)))


def _takes_what_others_pass(forward: _Forward) -> _Forward:
    """Let a model take the keywords that PEFT and others pass to any model of transformers.

    Args:
        forward: Returns a `ModelOutput`; with `return_dict=False` it becomes a tuple.
    """

    @wraps(forward)
    def wrapped(
        self: PreTrainedModel,
        *args: Any,
        inputs_embeds: Tensor | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        **inputs: Any,
    ) -> Any:
        if inputs_embeds is not None or output_attentions:
            name = "output_attentions" if inputs_embeds is None else "inputs_embeds"
            raise ValueError(f"{name}: expected none, {type(self).__name__} does not support it")
        output = forward(self, *args, **inputs)
        as_dict = self.config.return_dict if return_dict is None else return_dict
        return output if as_dict else output.to_tuple()

    return cast("_Forward", wrapped)


class ShapedBertPreTrainedModel(PreTrainedModel):
    """What the deployed models share: configuration and initialisation."""

    config_class = ShapedBertConfig
    base_model_prefix = "bert"
    _supports_sdpa = True
    _input_embed_layer = "words"  # in the backbone's `embeddings`

    padding: tuple[int, int] | None = None
    """What heads and widths are padded to multiples of, in a model for running only."""

    def padded(self, heads: int = 8, widths: int = 8) -> Self:
        """The same model in layers of sizes that fast kernels take, to run and not to save.

        GPUs multiply matrices in 16 bits, and fuse attention, where sizes are multiples of 8. Its
        outputs differ by rounding only. What need not be enlarged shares its weights with this
        model.

        Args:
            heads: The size of each head becomes a multiple of it.
            widths: So do widths of layers and of their feed-forward blocks.

        Raises:
            ValueError: If a number is not positive, or this model is padded already.
        """
        if min(heads, widths) < 1 or self.padding is not None:
            raise ValueError(
                f"padded: expected multiples >= 1 for a model that is not padded, "
                f"got {heads} and {widths} for one padded to {self.padding}"
            )
        # Known to the copier, they are not copied.
        model = deepcopy(self, {id(weights): weights for weights in self.parameters()})
        model.padding = (heads, widths)
        backbone = cast("ShapedBertModel", model.base_model)
        before = 0
        for layer in backbone.layers:
            _resize(layer.bottleneck, columns=before)
            before = -layer.query.in_features % widths
            layer.pad(heads, widths)
        _resize(backbone.final_bottleneck, columns=before)
        return model

    def save_pretrained(self, *args: Any, **options: Any) -> None:
        """Save as transformers does; a padded model is refused."""
        if self.padding is not None:
            raise ValueError("save_pretrained: expected a model as trained, got a padded one")
        super().save_pretrained(*args, **options)


class ShapedBertModel(ShapedBertPreTrainedModel):
    """The backbone of a deployed subnet, without pooler."""

    def __init__(self, config: ShapedBertConfig) -> None:
        super().__init__(config)
        self.embeddings = Embeddings(config)
        widths = [config.hidden_size, *config.shape]
        layers = nn.ModuleList(ShapedBertLayer(config, *pair) for pair in pairwise(widths))
        self.layers = cast("Sequence[ShapedBertLayer]", layers)
        self.final_bottleneck = nn.Linear(widths[-1], config.hidden_size)
        self.post_init()

    @_takes_what_others_pass
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> BaseModelOutput:
        """Compute hidden states, (B, T) to (B, T, D).

        With `output_hidden_states`, those of the embeddings (B, T, D) and of every layer
        (B, T, h_i) come along.
        """
        hidden = self.embeddings(input_ids, token_type_ids)
        mask = None
        if attention_mask is not None:
            # Made once: of a mask of truth values, every layer would make it anew.
            unseen = attention_mask[:, None, None, :] == 0
            mask = torch.zeros_like(unseen, dtype=hidden.dtype).masked_fill(unseen, -torch.inf)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        states: list[Tensor] = []
        for layer in self.layers:
            if output_hidden_states:
                states.append(hidden)
            hidden = layer(hidden, mask)
        if output_hidden_states:
            # Of a padded layer without what was added.
            widths = [self.config.hidden_size, *self.config.shape]
            states = [x[..., :width] for x, width in zip([*states, hidden], widths, strict=True)]
        return BaseModelOutput(
            last_hidden_state=self.final_bottleneck(hidden),
            hidden_states=tuple(states) if output_hidden_states else None,
        )


class ShapedBertForMaskedLM(ShapedBertPreTrainedModel):
    """A deployed subnet with its masked language modelling head."""

    def __init__(self, config: ShapedBertConfig) -> None:
        super().__init__(config)
        self.bert = ShapedBertModel(config)
        self.head = MaskedLMHead(config)
        self.post_init()

    def resize_token_embeddings(self, *args: Any, **options: Any) -> nn.Embedding:
        """Change the size of the vocabulary as transformers does; new words start without bias."""
        words = super().resize_token_embeddings(*args, **options)
        bias = self.head.bias
        resized = F.pad(bias.detach(), (0, words.num_embeddings - len(bias)))
        self.head.bias = nn.Parameter(resized, requires_grad=bias.requires_grad)
        return words

    @_takes_what_others_pass
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> MaskedLMOutput:
        """Score the vocabulary, (B, T) to (B, T, V); the loss leaves out labels of -100."""
        encoded = self.bert(
            input_ids, attention_mask, token_type_ids, output_hidden_states, return_dict=True
        )
        hidden = encoded.last_hidden_state
        logits = self.head(hidden, self.bert.embeddings.words.weight)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten())
        return MaskedLMOutput(loss=loss, logits=logits, hidden_states=encoded.hidden_states)


class ShapedBertForSequenceClassification(ShapedBertPreTrainedModel):
    """A deployed subnet that classifies or scores texts and pairs of texts, pooled as in BERT.

    The configuration's `num_labels` and `problem_type` say which; without a problem type one label
    is a regression and more are classes that exclude each other.
    """

    def __init__(self, config: ShapedBertConfig) -> None:
        super().__init__(config)
        self.bert = ShapedBertModel(config)
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size)
        self.classifier = nn.Linear(config.hidden_size, cast("int", config.num_labels))
        self.post_init()

    @_takes_what_others_pass
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> SequenceClassifierOutput:
        """Score every label, (B, T) to (B, num_labels)."""
        encoded = self.bert(
            input_ids, attention_mask, token_type_ids, output_hidden_states, return_dict=True
        )
        hidden = encoded.last_hidden_state
        logits = self.classifier(torch.tanh(self.pooler(hidden[:, 0])))
        loss = None if labels is None else self._loss(logits.float(), labels)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=encoded.hidden_states
        )

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        kind = self.config.problem_type
        if kind == "regression" or (kind is None and self.config.num_labels == 1):
            return F.mse_loss(logits, labels.view_as(logits).to(logits.dtype))
        if kind == "multi_label_classification":
            return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
        return F.cross_entropy(logits, labels.flatten())


class ShapedBertForQuestionAnswering(ShapedBertPreTrainedModel):
    """A deployed subnet that finds the first and the last token of an answer."""

    def __init__(self, config: ShapedBertConfig) -> None:
        super().__init__(config)
        self.bert = ShapedBertModel(config)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()

    @_takes_what_others_pass
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> QuestionAnsweringModelOutput:
        """Score every token as start and as end of the answer, (B, T) to twice (B, T)."""
        encoded = self.bert(
            input_ids, attention_mask, token_type_ids, output_hidden_states, return_dict=True
        )
        hidden = encoded.last_hidden_state
        start, end = self.qa_outputs(hidden).unbind(-1)
        loss = None
        if start_positions is not None and end_positions is not None:
            # An answer that was cut off counts for nothing, as in BERT.
            beyond = start.shape[1]
            losses = [
                F.cross_entropy(
                    logits.float(), positions.flatten().clamp(0, beyond), ignore_index=beyond
                )
                for logits, positions in ((start, start_positions), (end, end_positions))
            ]
            loss = (losses[0] + losses[1]) / 2
        return QuestionAnsweringModelOutput(
            loss=loss, start_logits=start, end_logits=end, hidden_states=encoded.hidden_states
        )


# What makes `save_pretrained` copy this file.
ShapedBertConfig.register_for_auto_class("AutoConfig")
ShapedBertModel.register_for_auto_class("AutoModel")
ShapedBertForMaskedLM.register_for_auto_class("AutoModelForMaskedLM")
ShapedBertForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")
ShapedBertForQuestionAnswering.register_for_auto_class("AutoModelForQuestionAnswering")
