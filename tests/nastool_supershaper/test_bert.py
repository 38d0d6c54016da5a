"""A start is a BERT's function, or is refused in one line that names what is wrong."""

import json
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    RobertaConfig,
    RobertaForMaskedLM,
)

from nastool.errors import InvalidInputError
from nastool_supershaper.modeling import SuperShaperForMaskedLM

SIZES = {
    "vocab_size": 37,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 16,
    "max_position_embeddings": 32,
    "initializer_range": 0.3,
}
IDS = torch.arange(5, 17)[None]
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


def make(folder, model_class=BertForMaskedLM, **sizes):
    torch.manual_seed(0)
    model = model_class(BertConfig(**(SIZES | sizes))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    model.save_pretrained(folder)
    return model


def read(folder):
    return SuperShaperForMaskedLM.from_bert(str(folder)).eval()


def change_weights(folder, change):
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def change_settings(folder, **settings):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


def assert_same_function(net, bert):
    with torch.no_grad():
        for segments in (None, torch.zeros_like(IDS)):
            actual = net(input_ids=IDS, token_type_ids=segments).logits
            expected = bert(IDS, token_type_ids=segments).logits
            torch.testing.assert_close(actual, expected, rtol=0, atol=2e-5)


def to_binary(folder, weights):
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def with_old_names(weights):
    """As Google's first checkpoints were converted."""
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    return {
        next((n.replace(now, then) for now, then in old.items() if n.endswith(now)), n): w
        for n, w in weights.items()
    }


def with_extras(weights):
    """What is no part of masked language modelling: pooler, next sentence, a task's head."""
    return weights | {
        "bert.pooler.dense.weight": torch.ones(24, 24),
        "cls.seq_relationship.weight": torch.ones(2, 24),
        "bert.embeddings.position_ids": torch.arange(32)[None],
        "classifier.weight": torch.ones(3, 24),
        "cls.predictions.decoder.weight": weights["bert.embeddings.word_embeddings.weight"].clone(),
        "cls.predictions.decoder.bias": weights["cls.predictions.bias"].clone(),
    }


@pytest.mark.parametrize("change", [dict, with_old_names, with_extras])
@pytest.mark.parametrize("is_binary", [False, True])
def test_every_form_of_the_same_weights(tmp_path, change, is_binary):
    bert = make(tmp_path)
    change_weights(tmp_path, change)
    if is_binary:
        to_binary(tmp_path, load_file(tmp_path / "model.safetensors"))
    assert_same_function(read(tmp_path), bert)


@pytest.mark.parametrize("is_binary", [False, True])
def test_weights_in_several_files(tmp_path, is_binary):
    bert = make(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    save, end = (torch.save, "bin") if is_binary else (save_file, "safetensors")
    names, places = sorted(weights), {}
    for i in range(2):
        shard = f"model-{i}.{end}"
        save({name: weights[name] for name in names[i::2]}, tmp_path / shard)
        places |= dict.fromkeys(names[i::2], shard)
    index = "pytorch_model.bin.index.json" if is_binary else "model.safetensors.index.json"
    (tmp_path / index).write_text(json.dumps({"weight_map": places}))
    assert_same_function(read(tmp_path), bert)
    (tmp_path / f"model-1.{end}").unlink()
    with pytest.raises(InvalidInputError, match=rf"model-1\.{end}: No such file"):
        read(tmp_path)


@pytest.mark.parametrize("segments", [1, 2, 3])
@pytest.mark.parametrize("epsilon", [1e-12, 0.1])
def test_other_sizes_are_taken_over(tmp_path, segments, epsilon):
    bert = make(tmp_path, type_vocab_size=segments, layer_norm_eps=epsilon, pad_token_id=None)
    net = read(tmp_path)
    assert net.config.type_vocab_size == segments
    assert_same_function(net, bert)
    assert_same_function(SuperShaperForMaskedLM.from_bert(bert).eval(), bert)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_read(tmp_path, dtype):
    bert = make(tmp_path)
    change_weights(tmp_path, lambda weights: {n: w.to(dtype) for n, w in weights.items()})
    net = read(tmp_path)
    assert net.dtype == torch.float32
    expected = bert.bert.encoder.layer[1].output.dense.weight.to(dtype).float()
    assert torch.equal(net.supershaper.layers[1].output.weight, expected)


@pytest.mark.parametrize("model_class", [BertModel, BertForSequenceClassification])
def test_a_missing_head_starts_anew_and_is_said(tmp_path, model_class, caplog):
    bert = make(tmp_path, model_class)
    net = read(tmp_path)
    body = bert if model_class is BertModel else bert.bert
    with torch.no_grad():
        actual = net.supershaper(IDS).last_hidden_state
        torch.testing.assert_close(actual, body(IDS).last_hidden_state, rtol=0, atol=2e-5)
    assert torch.count_nonzero(net.head.bias) == 0
    assert ["no masked language modelling head" in r.getMessage() for r in caplog.records] == [True]


def without(*parts):
    return lambda w: {n: v for n, v in w.items() if not any(part in n for part in parts)}


def renamed(change):
    return lambda w: {change(n): v for n, v in w.items()}


def plus(name, *shape, like=None):
    return lambda w: w | {name: torch.ones(shape) if like is None else w[like].clone()}


def spoilt(name, value):
    def change(weights):
        weights[name].view(-1)[3] = value
        return weights

    return change


WORDS = "bert.embeddings.word_embeddings.weight"
LAST = "bert.encoder.layer.1.output.dense.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (renamed("module.{}".format), "lack embeddings.word.* have module.bert"),
        (renamed("bert.{}".format), "lack .* have bert.embeddings"),
        (renamed(lambda n: n.replace("bert.", "model.bert.")), "lack .* have model.bert"),
        (renamed(lambda n: n.replace("bert.", "roberta.")), "lack .* have roberta"),
        (without("layer.1."), "have 1 layers, expected 2"),
        (plus("bert.encoder.layer.2.output.dense.weight", 24, 16), "have 3 layers, expected 2"),
        (
            renamed(lambda n: n.replace("layer.1.", "layer.7.")),
            r"lack encoder\.layer\.1\..*layer\.7",
        ),
        (without("layer.1.output.dense.bias"), r"lack encoder\.layer\.1\.output\.dense\.bias$"),
        (without("LayerNorm"), "and [0-9]+ more$"),
        (without("position_embeddings"), r"lack embeddings\.position_embeddings\.weight"),
        (without("token_type"), r"lack embeddings\.token_type_embeddings\.weight"),
        (without("cls.predictions.transform"), r"lack cls\.predictions\.transform\.dense\.weight"),
        (without("cls.predictions.bias"), r"lack cls\.predictions\.bias"),
        (
            plus("bert.encoder.layer.0.attention.self.distance_embedding.weight", 63, 6),
            "have encoder.layer.0.attention.self.distance_embedding.weight, which no such",
        ),
        (plus("bert.encoder.layer.0.crossattention.self.query.weight", 24, 24), "crossattention"),
        (plus("module." + LAST, like=LAST), r"have module\.bert\.encoder"),
        (plus("embeddings.word_embeddings.weight", like=WORDS), "word_embeddings.weight twice"),
        (plus("cls.predictions.decoder.weight", 37, 24), "expected a decoder tied to the word"),
        (plus("cls.predictions.decoder.bias", 37), r"decoder\.bias is not cls"),
        (spoilt(LAST, float("nan")), "layer.1.output.dense.weight must be finite"),
        (spoilt(WORDS, float("inf")), "word_embeddings.weight must be finite"),
        (spoilt("cls.predictions.bias", float("-inf")), "predictions.bias must be finite"),
        (lambda w: w | {LAST: w[LAST].to(torch.int8)}, "must hold floating-point numbers"),
        (lambda w: w | {LAST: w[LAST].T.contiguous()}, r"says \(24, 16\) for encoder.*\(16, 24\)"),
        (lambda w: {}, "lack"),
    ],
)
def test_weights_of_something_else_are_refused(tmp_path, change, message):
    make(tmp_path)
    change_weights(tmp_path, change)
    assert_refused(lambda: read(tmp_path), message)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vocab_size": 99}, r"says \(99, 24\) for embeddings.word_embeddings.weight"),
        ({"max_position_embeddings": 16}, r"says \(16, 24\) for embeddings.position_embeddings"),
        ({"type_vocab_size": 1}, r"says \(1, 24\) for embeddings.token_type_embeddings"),
        ({"intermediate_size": 8}, r"says \(8, 24\) for encoder.layer.0.intermediate"),
        ({"hidden_size": 48}, r"says \(37, 48\) for embeddings"),
        ({"num_hidden_layers": 3}, "have 2 layers, expected 3"),
        ({"num_hidden_layers": 10**12}, "have 2 layers, expected 1000000000000"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be a positive whole number, got 0"),
        ({"num_attention_heads": 0}, "num_attention_heads must be a positive whole number"),
        ({"num_attention_heads": 5}, "multiples of 5 heads"),
        ({"hidden_size": "24"}, "config.json: .*hidden_size"),
        ({"hidden_size": None}, "hidden_size"),
        ({"num_hidden_layers": 2.5}, "num_hidden_layers"),
        ({"layer_norm_eps": 0}, "layer_norm_eps"),
        ({"pad_token_id": 37}, "pad_token_id must be one of the vocabulary, got 37"),
        ({"hidden_act": "gelu_new"}, "hidden_act gelu .*got 'gelu_new'"),
        ({"hidden_act": "relu"}, "hidden_act"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type absolute, got"),
        ({"position_embedding_type": "alibi"}, "position_embedding_type absolute, got 'alibi'"),
        ({"is_decoder": True}, "is_decoder false, got True"),
        ({"add_cross_attention": True}, "add_cross_attention false"),
        ({"quantization_config": {"bits": 8}}, "quantization_config none"),
        ({"tie_word_embeddings": False}, r"lack cls\.predictions\.decoder\.weight"),
        ({"model_type": "roberta"}, r"config\.json: expected a BERT .*got 'roberta'"),
        ({"model_type": None}, r"config\.json: expected a BERT .*got None"),
        ({"model_type": ["bert"]}, r"config\.json: expected a BERT"),
    ],
)
def test_settings_of_something_else_are_refused(tmp_path, settings, message):
    make(tmp_path)
    change_settings(tmp_path, **settings)
    assert_refused(lambda: read(tmp_path), message)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", POINTER.encode(), "is a pointer of git-lfs"),
        ("model.safetensors", b"", r"cannot read weights from .*model\.safetensors"),
        ("model.safetensors", b"\xff" * 100, r"cannot read weights from .*model\.safetensors"),
        ("model.safetensors", None, r"expected weights .*found none"),
        ("config.json", POINTER.encode(), r"config\.json: no JSON"),
        ("config.json", b"[1]", r"config\.json: expected an object, got list"),
        ("config.json", b"\xff\xff", r"config\.json.*UTF-8"),
        ("config.json", None, r"config\.json: No such file"),
        ("model.safetensors.index.json", b"{}", "expected weight_map"),
        ("model.safetensors.index.json", b'{"weight_map": {"a": "../b"}}', "expected weight_map"),
        ("pytorch_model.bin", b"not a pickle", r"cannot read weights from .*pytorch_model\.bin"),
        ("pytorch_model.bin", POINTER.encode(), "is a pointer of git-lfs"),
    ],
)
def test_damaged_folders_are_refused(tmp_path, name, content, message):
    make(tmp_path)
    if content is None or not (tmp_path / name).exists():
        (tmp_path / "model.safetensors").unlink(missing_ok=True)
        (tmp_path / name).unlink(missing_ok=True)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert_refused(lambda: read(tmp_path), message)


def test_weights_that_are_cut_short_are_refused(tmp_path):
    make(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:9000])
    assert_refused(lambda: read(tmp_path), "cannot read weights")


@pytest.mark.parametrize("content", [[1], {"state_dict": {"a": torch.ones(1)}}, {"a": 1}, object])
def test_pickles_of_something_else_are_refused(tmp_path, content):
    make(tmp_path)
    to_binary(tmp_path, content)
    assert_refused(lambda: read(tmp_path), r"pytorch_model\.bin")


def test_models_are_checked_as_files_are(tmp_path):
    untied = make(tmp_path, tie_word_embeddings=False)
    from_bert = SuperShaperForMaskedLM.from_bert
    assert_refused(lambda: from_bert(untied), "expected a decoder tied to the word embeddings")
    assert_refused(lambda: read(tmp_path), "expected a decoder tied to the word embeddings")
    with torch.no_grad():
        untied.cls.predictions.decoder.weight.copy_(untied.bert.embeddings.word_embeddings.weight)
    assert_same_function(from_bert(untied).eval(), untied)
    nan = make(tmp_path)
    torch.nn.init.constant_(nan.bert.encoder.layer[0].attention.self.key.bias, float("nan"))
    assert_refused(lambda: from_bert(nan), "BertForMaskedLM: encoder.layer.0.*must be finite")
    other = RobertaForMaskedLM(RobertaConfig(**SIZES, pad_token_id=1))
    assert_refused(lambda: from_bert(other), "got 'roberta'")


def test_what_is_no_folder_is_refused(tmp_path):
    make(tmp_path)
    assert_refused(lambda: read(tmp_path / "config.json"), "it is a file")
    for name in ("none", "n" * 300, "nu\0ll"):
        assert_refused(partial(read, tmp_path / name), "expected a folder or a hub id")


def assert_refused(action, message):
    with pytest.raises(InvalidInputError, match=message) as caught:
        action()
    assert len(str(caught.value).splitlines()) == 1
