"""Tiny encoders of every architecture, with random weights."""

import pytest

from tests.sliced import apart, net_of_checkpoint

SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}
OWN = {
    "bert": {"intermediate_size": 24},
    "roberta": {"intermediate_size": 24, "max_position_embeddings": 66},
    "xlm-roberta": {"intermediate_size": 24, "max_position_embeddings": 66},
    "camembert": {"intermediate_size": 24, "max_position_embeddings": 66},
    "distilbert": {"hidden_dim": 24},
}
"""By model type; 64 tokens of text each."""


def checkpoint(kind="bert", **own):
    """A checkpoint of transformers, as it is made by its own classes."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **{**SIZES, **OWN[kind], **own})
    return apart(transformers.AutoModelForMaskedLM.from_config(config).eval())


def make_net(model, by="none", **choices):
    """The supernet of a checkpoint, as its family makes it of a folder."""
    import torch

    from nastool_encoder.checkpoints import CHECKPOINTS
    from nastool_encoder.nets import EncoderSupernet

    return net_of_checkpoint(
        model,
        CHECKPOINTS,
        EncoderSupernet,
        by,
        lambda ids: torch.where(ids > 20, ids, -100),
        choices,
    )
