"""A tiny SuperShaper net."""


def tiny_net(seed=0, **sizes):
    """One with random weights, spread so that shapes differ, and with other sizes where given."""
    import torch

    from nastool_supershaper.modeling import SuperShaperForMaskedLM
    from nastool_supershaper.supernet_config import SuperShaperConfig

    usual = {
        "vocab_size": 60,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 16,
        "widths": (4, 8, 16),
        "initializer_range": 0.3,
    }
    torch.manual_seed(seed)
    return SuperShaperForMaskedLM(SuperShaperConfig(**usual | sizes))
