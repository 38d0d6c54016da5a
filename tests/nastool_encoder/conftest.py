"""A tiny BERT with random weights."""

import pytest

SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}


def checkpoint(**own):
    """A checkpoint of transformers, as it is made by its own classes."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = transformers.BertForMaskedLM(transformers.BertConfig(**{**SIZES, **own})).eval()
    for parameter in model.parameters():
        parameter.data.add_(torch.randn(parameter.shape) * 0.1)
    return model


def make_net(model, by="none", **choices):
    """The supernet of a checkpoint, as `from_checkpoint` makes it of a folder."""
    import tempfile

    import torch

    from nastool_encoder.checkpoints import from_checkpoint
    from nastool_encoder.nets import EncoderSupernet
    from nastool_supernets.slicing.ordering import order

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        made = EncoderSupernet(
            from_checkpoint(folder, {f"{part}_choices": text for part, text in choices.items()})
        )
    if by != "none":
        ids = torch.randint(5, 50, (4, 12), generator=torch.Generator().manual_seed(1))
        order(made, ids, torch.where(ids > 20, ids, -100), by)
    return made
