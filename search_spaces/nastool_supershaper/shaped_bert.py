"""A BERT with a hidden size of its own in every layer: what a subnet is once it is deployed.

The file stands alone (torch and transformers only), so that an exported model can carry it along.
Between two layers lies one linear map h_i -> h_{i+1}, the exact product of the two bottlenecks of
the supernet (SuperShaper, appendix C).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import (
    BaseModelOutput,
    MaskedLMOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
)


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
        return F.linear(self.norm(F.gelu(self.transform(hidden))), words, self.bias)


class ShapedBertLayer(nn.Module):
    """The map from the previous width, then a BERT layer of the given width."""

    def __init__(self, config: ShapedBertConfig, previous: int, width: int) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
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
        """Transform (B, T, h_{i-1}) to (B, T, h_i); mask is True where a key may be seen."""
        x = self.bottleneck(hidden)
        query, key, value = (
            linear(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for linear in (self.query, self.key, self.value)
        )
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = self.attention_norm(x + self.attention_output(seen.transpose(1, 2).flatten(2)))
        return self.output_norm(x + self.output(F.gelu(self.intermediate(x))))


class ShapedBertPreTrainedModel(PreTrainedModel):
    """What the deployed models share: configuration and initialisation."""

    config_class = ShapedBertConfig
    base_model_prefix = "bert"
    _supports_sdpa = True
    _input_embed_layer = "words"  # in the backbone's `embeddings`


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

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> BaseModelOutput:
        """Compute hidden states, (B, T) to (B, T, D)."""
        hidden = self.embeddings(input_ids, token_type_ids)
        mask = None if attention_mask is None else attention_mask[:, None, None, :].bool()
        for layer in self.layers:
            hidden = layer(hidden, mask)
        return BaseModelOutput(last_hidden_state=self.final_bottleneck(hidden))


class ShapedBertForMaskedLM(ShapedBertPreTrainedModel):
    """A deployed subnet with its masked language modelling head."""

    def __init__(self, config: ShapedBertConfig) -> None:
        super().__init__(config)
        self.bert = ShapedBertModel(config)
        self.head = MaskedLMHead(config)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> MaskedLMOutput:
        """Score the vocabulary, (B, T) to (B, T, V); the loss leaves out labels of -100."""
        hidden = self.bert(input_ids, attention_mask, token_type_ids).last_hidden_state
        logits = self.head(hidden, self.bert.embeddings.words.weight)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten())
        return MaskedLMOutput(loss=loss, logits=logits)


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

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Score every label, (B, T) to (B, num_labels)."""
        hidden = self.bert(input_ids, attention_mask, token_type_ids).last_hidden_state
        logits = self.classifier(torch.tanh(self.pooler(hidden[:, 0])))
        loss = None if labels is None else self._loss(logits.float(), labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)

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

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
    ) -> QuestionAnsweringModelOutput:
        """Score every token as start and as end of the answer, (B, T) to twice (B, T)."""
        hidden = self.bert(input_ids, attention_mask, token_type_ids).last_hidden_state
        start, end = self.qa_outputs(hidden).unbind(-1)
        loss = None
        if start_positions is not None and end_positions is not None:
            losses = [
                F.cross_entropy(logits.float(), positions.flatten())
                for logits, positions in ((start, start_positions), (end, end_positions))
            ]
            loss = (losses[0] + losses[1]) / 2
        return QuestionAnsweringModelOutput(loss=loss, start_logits=start, end_logits=end)


# Importing this file is what makes the AutoModel classes of transformers know these models.
AutoConfig.register(ShapedBertConfig.model_type, ShapedBertConfig, exist_ok=True)
for _auto, _model in (
    (AutoModel, ShapedBertModel),
    (AutoModelForMaskedLM, ShapedBertForMaskedLM),
    (AutoModelForSequenceClassification, ShapedBertForSequenceClassification),
    (AutoModelForQuestionAnswering, ShapedBertForQuestionAnswering),
):
    _auto.register(ShapedBertConfig, _model, exist_ok=True)
