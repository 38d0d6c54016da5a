"""How long a text may be is what transformers itself reads."""

from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from nastool.errors import InvalidInputError  # noqa: E402
from nastool_supernets.positions import _AFTER_PADDING, positions_of  # noqa: E402

SIZES = {
    "vocab_size": 20,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "max_position_embeddings": 12,
}


ALL = [*sorted(_AFTER_PADDING), "bert", "distilbert", "electra"]


@pytest.mark.parametrize(("kind", "padding"), [*((kind, 1) for kind in ALL), ("roberta", 3)])
def test_one_token_more_is_one_too_many(kind, padding):
    config = transformers.AutoConfig.for_model(kind, **SIZES, pad_token_id=padding)
    if kind == "xmod":
        config.default_language = "en_XX"
    model = transformers.AutoModel.from_config(config).eval()
    longest = positions_of(config)
    assert model(torch.full((1, longest), 7))[0].shape == (1, longest, 8)
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, longest + 1), 7))


def test_positions_after_padding_need_a_token_for_it():
    config = transformers.AutoConfig.for_model("roberta", **SIZES, pad_token_id=None)
    with pytest.raises(InvalidInputError, match="roberta must say its pad_token_id"):
        positions_of(config)


def test_a_model_that_says_no_length_reads_any():
    assert positions_of(SimpleNamespace(model_type="t5")) > 1e9
