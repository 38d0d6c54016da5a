"""The deployed models as nastool runs them, known to the AutoModel classes of transformers.

Importing this file lets `AutoModel...from_pretrained` load exported folders by nastool's own code,
without asking for trust. Where a caller trusts a folder's code, that runs: two exports by two
releases of nastool are two models.
"""

from __future__ import annotations

from typing import Any

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

from nastool_supershaper.carried.shaped_bert import (
    Embeddings,
    MaskedLMHead,
    ShapedBertConfig,
    ShapedBertForMaskedLM,
    ShapedBertForQuestionAnswering,
    ShapedBertForSequenceClassification,
    ShapedBertModel,
)

__all__ = [
    "MODELS",
    "Embeddings",
    "MaskedLMHead",
    "ShapedBertConfig",
    "ShapedBertForMaskedLM",
    "ShapedBertForQuestionAnswering",
    "ShapedBertForSequenceClassification",
    "ShapedBertModel",
]

_AUTO: dict[Any, type[PreTrainedModel]] = {
    AutoModel: ShapedBertModel,
    AutoModelForMaskedLM: ShapedBertForMaskedLM,
    AutoModelForSequenceClassification: ShapedBertForSequenceClassification,
    AutoModelForQuestionAnswering: ShapedBertForQuestionAnswering,
}

MODELS = {model.__name__: model for model in _AUTO.values()}
"""The deployed models by name."""


class _KnownConfig(ShapedBertConfig):
    """What transformers finds under our model type: it makes the real configurations.

    Since 5.0 transformers prefers a registered class to the code of a folder even where that is
    trusted, unless the class is of transformers. What is asked for should win, as before, so this
    one says it is.
    """

    __module__ = "transformers.models.shaped_bert"

    def __new__(cls, *args: Any, **settings: Any) -> Any:
        return ShapedBertConfig(*args, **settings)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **settings: Any) -> Any:
        return ShapedBertConfig.from_dict(config_dict, **settings)

    @classmethod
    def from_pretrained(cls, *args: Any, **settings: Any) -> Any:
        return ShapedBertConfig.from_pretrained(*args, **settings)


AutoConfig.register(ShapedBertConfig.model_type, _KnownConfig, exist_ok=True)
for _auto, _model in _AUTO.items():
    _auto.register(ShapedBertConfig, _model, exist_ok=True)
