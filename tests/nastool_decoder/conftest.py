"""Tiny decoders of every architecture that is sliced, with random weights."""

import pytest

from tests.sliced import apart, net_of_checkpoint

SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}

KINDS = {
    "llama": ("Llama", {"tie_word_embeddings": True}),
    "llama-biased": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "mistral": ("Mistral", {"sliding_window": None}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3", {"hidden_size": 24}),
    "smollm3": ("SmolLM3", {"no_rope_layers": [1, 0]}),
}


def checkpoint(kind, **sizes):
    """A checkpoint of transformers, as it is made by its own classes."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    name, own = KINDS[kind]
    config = getattr(transformers, f"{name}Config")(**{**SIZES, **own, **sizes})
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    return apart(model)


def make_net(model, by="none", **choices):
    """The supernet of a checkpoint, as its family makes it of a folder."""
    from nastool_decoder.checkpoints import CHECKPOINTS
    from nastool_decoder.nets import DecoderSupernet

    return net_of_checkpoint(model, CHECKPOINTS, DecoderSupernet, by, lambda ids: ids, choices)
