"""A BERT with a hidden size of its own in every layer: what a subnet is once it is deployed.

The file stands alone (torch and transformers only), so that an exported model can carry it along.
Between two layers lies one linear map h_i -> h_{i+1}, the exact product of the two bottlenecks of
the supernet (SuperShaper, appendix C).

Nothing is registered with transformers when the file is imported: every copy of it serves the
folder that it lies in, and goes along where a model is saved again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from itertools import pairwise
from typing import Any, TypeVar, cast

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
        mask = None if attention_mask is None else attention_mask[:, None, None, :].bool()
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        states: list[Tensor] = []
        for layer in self.layers:
            if output_hidden_states:
                states.append(hidden)
            hidden = layer(hidden, mask)
        return BaseModelOutput(
            last_hidden_state=self.final_bottleneck(hidden),
            hidden_states=(*states, hidden) if output_hidden_states else None,
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
