"""Layers padded to sizes that fast kernels take."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from nastool_supershaper import shaped_bert  # noqa: E402 - it imports torch
from nastool_supershaper.shaped_bert import ShapedBertConfig, ShapedBertForMaskedLM  # noqa: E402

HEADS = 12
SHAPE = (24, 60, 96, 36, 108)  # heads of 2, 5, 8, 3 and 9
KINDS = (
    "ShapedBertModel",
    "ShapedBertForMaskedLM",
    "ShapedBertForSequenceClassification",
    "ShapedBertForQuestionAnswering",
)


def model(kind="ShapedBertForMaskedLM", dtype=torch.float64, **sizes):
    """One whose weights, biases and norms are all like trained ones: none of them 0 or 1."""
    settings = {"shape": SHAPE, "hidden_size": 108, "vocab_size": 50, "intermediate_size": 50}
    torch.manual_seed(0)
    made = getattr(shaped_bert, kind)(ShapedBertConfig(**{**settings, **sizes})).to(dtype).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return made


def inputs():
    ids = torch.randint(50, (3, 17), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[-1, 9:] = 0
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": (ids > 25).long()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [(1, 1), (8, 1), (1, 8), (8, 8), (8, 64), (16, 7)])
@torch.inference_mode()
def test_a_padded_model_computes_the_same(kind, sizes):
    made = model(kind)
    wanted, found = (m(**inputs()).to_tuple() for m in (made, made.padded(*sizes)))
    for one, other in zip(wanted, found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_in_lower_precision_it_differs_from_the_exact_as_little_as_the_unpadded(dtype):
    exact = model()
    wanted = exact(**inputs()).logits
    net = exact.to(dtype)
    before, after = (
        float((one(**inputs()).logits.double() - wanted).abs().mean())
        for one in (net, net.padded())
    )
    assert 0 < after <= 1.5 * before


@torch.inference_mode()
def test_sizes_are_multiples_and_hidden_states_are_as_wide_as_before():
    net = model().padded(8, 64)
    for layer in net.bert.layers:
        products = [m for m in layer.modules() if isinstance(m, torch.nn.Linear)]
        assert all(m.out_features % 8 == 0 and m.weight.shape[0] % 8 == 0 for m in products)
        assert layer.query.out_features // HEADS % 8 == 0
        assert layer.query.in_features % 64 == layer.intermediate.out_features % 64 == 0
        assert [tuple(m.weight.shape) for m in products] == [
            (m.out_features, m.in_features) for m in products
        ]
    wanted = model()(**inputs(), output_hidden_states=True).hidden_states
    found = net(**inputs(), output_hidden_states=True).hidden_states
    for one, other in zip(wanted, found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-10, atol=1e-10)


def test_what_need_not_grow_is_shared_and_the_model_stays_as_it_was():
    made = model()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    net = made.padded()
    assert net.bert.embeddings.words.weight is made.bert.embeddings.words.weight
    assert net.head.bias is made.head.bias
    after = made.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not net.training


def test_a_padded_model_is_not_saved_and_not_padded_again(tmp_path):
    net = model().padded()
    with pytest.raises(ValueError, match="expected a model as trained, got a padded one"):
        net.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"for one padded to \(8, 8\)"):
        net.padded()
    with pytest.raises(ValueError, match="expected multiples >= 1"):
        model().padded(0)


def test_published_sizes_are_counted():
    net = ShapedBertForMaskedLM(ShapedBertConfig(shape=(120, 540, 768), vocab_size=10)).padded()
    sizes = [
        (tuple(layer.query.weight.shape), tuple(layer.intermediate.weight.shape))
        for layer in net.bert.layers
    ]
    # Heads of 10, 45 and 64; two more units pass on the mean where the width is padded.
    assert sizes == [
        ((12 * 16, 120), (3072, 120)),
        ((12 * 48, 544), (3080, 544)),
        ((768, 768), (3072, 768)),
    ]
    assert net.bert.layers[1].scale == 45**-0.5
    assert net.bert.layers[2].scale is None
