"""What an encoder becomes: values, costs, shapes as they ship, and what is refused."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from nastool.cli.main import main  # noqa: E402
from nastool.errors import InvalidInputError  # noqa: E402
from nastool.plugins import load_space  # noqa: E402
from nastool_encoder.checkpoints import CHECKPOINTS  # noqa: E402
from nastool_encoder.family import Encoder  # noqa: E402
from nastool_supernets.family import net_of  # noqa: E402
from nastool_supernets.saved import save_model  # noqa: E402
from tests.nastool_encoder.conftest import checkpoint, make_net  # noqa: E402

IDS = torch.randint(5, 50, (2, 9), generator=torch.Generator().manual_seed(0))
ALL = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}
PADDED = {**ALL, "attention_mask": ALL["attention_mask"].clone()}
PADDED["attention_mask"][1, 6:] = 0
PADDED["token_type_ids"] = (torch.arange(9) > 4).long().expand(2, 9)
STOCK = ((4, 2, 4, 2), (0, 0, 4, 2), (4, 3, 4, 3), (0, 0, 0, 0))
OTHERS = ((2, 2, 4, 2), (0, 2, 4, 0), (0, 0, 2, 2), (4, 1, 4, 2), (4, 0, 4, 0))
"""Genotypes: 0 to 4 heads, and no channels, 8, 16 or 24."""


@pytest.fixture(scope="module")
def net():
    return make_net(checkpoint(), "activation", ffn="8,16,24")


def test_the_largest_is_the_checkpoint_bit_for_bit(net):
    model, largest = checkpoint(), tuple(net.space.largest.tolist())
    assert largest == (4, 3, 4, 3)
    for inputs in (ALL, PADDED):
        real = inputs["attention_mask"].bool()
        assert torch.equal(net.logits(inputs, largest)[real], model(**inputs).logits[real])


@pytest.mark.parametrize("genotype", [*STOCK, *OTHERS])
def test_shapes_ship_in_plain_transformers(net, genotype, tmp_path):
    shape = net.extract(genotype)
    save_model(shape, tmp_path)
    loaded = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path, trust_remote_code=True)
    for inputs in (ALL, PADDED):
        real = inputs["attention_mask"].bool()
        expected = net.logits(inputs, genotype)[real]
        assert torch.equal(loaded(**inputs).logits[real], expected)
        assert torch.equal(Encoder().load_shape(tmp_path)(**inputs).logits[real], expected)
    counted = net.space.costs["params"].evaluate(np.array([genotype]))[0]
    assert counted == sum(p.numel() for p in loaded.parameters())
    is_stock = genotype in STOCK
    assert (type(loaded) is transformers.BertForMaskedLM) is is_stock
    assert (tmp_path / "sliced_bert.py").exists() is not is_stock
    assert Encoder().shape_of(loaded) == net.architecture(genotype)
    # What others fine-tune has the dropout that the checkpoint had.
    assert loaded.config.hidden_dropout_prob == pytest.approx(0.1)


def test_a_layer_without_both_is_the_checkpoint_minus_a_layer(net):
    model = checkpoint()
    del model.bert.encoder.layer[0]
    assert torch.equal(net.logits(ALL, (0, 0, 4, 3)), model(**ALL).logits)


def test_a_part_that_does_not_run_leaves_its_norm(net):
    model = checkpoint()
    first = model.bert.encoder.layer[0]
    # Nothing is added where weights and bias of what ends a part are 0.
    for end in (first.attention.output.dense, model.bert.encoder.layer[1].output.dense):
        end.weight.data.zero_()
        end.bias.data.zero_()
    torch.testing.assert_close(net.logits(ALL, (0, 3, 4, 0)), model(**ALL).logits)


def test_heads_and_channels_that_add_nothing_go_first():
    model = checkpoint()
    layers = model.bert.encoder.layer
    layers[0].output.dense.weight.data[:, 3] = 0
    layers[1].attention.output.dense.weight.data[:, 8:16] = 0
    for by in ("activation", "loss"):
        net = make_net(model, by, ffn="23,24", head="3,4")
        assert net.model.config.ffn_levels[0] == "0" * 3 + "1" + "0" * 20
        assert net.model.config.head_levels[1] == "0100"
        whole, less = (2, 2, 2, 2), (2, 1, 1, 2)
        torch.testing.assert_close(net.logits(ALL, less), net.logits(ALL, whole))


def test_hidden_states_of_the_largest_are_those_of_the_checkpoint(net):
    from nastool_supernets.corpus.targets import Targets

    targets = Targets.of(torch.where(IDS > 20, IDS, -100))
    expected = checkpoint()(input_ids=IDS, output_hidden_states=True).hidden_states
    found = net.predict(net.embed(IDS), targets, (4, 3, 4, 3), states=True)
    torch.testing.assert_close(found.states[0], expected[1])
    alone = net_of(net.extract((4, 3, 4, 3)))
    found = alone.predict(alone.embed(IDS), targets, (), states=True)
    for ours, theirs in zip(found.states, expected[1:], strict=True):
        torch.testing.assert_close(ours, theirs)


def test_flops_are_those_that_are_counted(net):
    from torch.utils.flop_counter import FlopCounterMode

    net = make_net(checkpoint(max_position_embeddings=128), ffn="8,16,24")
    ids = torch.randint(5, 50, (1, 128))
    for genotype in (*STOCK, *OTHERS):
        shape = net.extract(genotype)
        shape.set_attn_implementation("eager")
        for layer in shape.bert.encoder.layer:
            if hasattr(layer.attention.self, "config"):
                layer.attention.self.config._attn_implementation = "eager"
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            shape(ids)
        row = np.array([genotype])
        assert net.space.costs["flops"].evaluate(row)[0] == counter.get_total_flops()


@pytest.mark.parametrize("genotype", [(4, 3, 4, 3), (0, 2, 4, 0), (0, 0, 0, 0)])
def test_a_shape_is_timed_without_its_head(net, genotype):
    from nastool.devices import Workload, timing_of
    from nastool.plugins import load_device

    deployment = net.space.deploy(np.array(genotype), Workload(2, 7))
    found = deployment.module(**deployment.inputs).last_hidden_state
    assert found.shape == (2, 7, 32)
    assert torch.isfinite(found).all()
    timing = timing_of(load_device("cpu"), deployment, 1, 2)
    assert len(timing.seconds) == 2
    assert timing.following is None


def test_a_space_is_read_back_from_its_name(net, tmp_path):
    assert load_space(net.space.name).fingerprint == net.space.fingerprint
    save_model(net.model, tmp_path)
    assert load_space(f"encoder[{tmp_path}]") == net.space
    checkpoint().save_pretrained(tmp_path / "hf")
    assert CHECKPOINTS.space(str(tmp_path / "hf"), {"ffn_choices": "8,16,24"}) == net.space


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "distilbert"}, "expected a model of type bert, got .* of type distilbert"),
        ({"is_decoder": True}, "expected an encoder"),
        ({"position_embedding_type": "relative_key"}, "positions must be embedded"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "which is quantised"),
    ],
)
def test_what_cannot_be_sliced_is_told_in_a_line(change, said, tmp_path):
    checkpoint().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    for read in (CHECKPOINTS.supernet, CHECKPOINTS.space):
        with pytest.raises(InvalidInputError, match=said) as raised:
            read(str(tmp_path), {})
        assert "\n" not in str(raised.value)


def test_an_encoder_without_a_head_is_refused(tmp_path):
    checkpoint().bert.save_pretrained(tmp_path)
    with pytest.raises(InvalidInputError, match=r"weights of a masked language model in .*cls\."):
        CHECKPOINTS.supernet(str(tmp_path), {})


@pytest.mark.parametrize("genotype", [STOCK[0], OTHERS[1]])
@pytest.mark.parametrize(
    ("head", "labels", "width"),
    [
        ("classification", ("no", "maybe", "yes"), 3),
        ("regression", (), 1),
        ("question-answering", (), 2),
        ("encoder", (), 32),
    ],
)
def test_shapes_take_the_heads_of_tasks(net, genotype, head, labels, width, tmp_path):
    family = Encoder()
    start = net.extract(genotype)
    made, again, other = (family.with_head(start, head, labels, seed) for seed in (0, 0, 1))
    assert family.head_of(made) == head
    assert family.shape_of(made) == net.architecture(genotype)
    save_model(made, tmp_path)
    name = type(made).__name__.removeprefix("Sliced").removeprefix("Bert")
    auto = getattr(transformers, f"Auto{name}" if name == "Model" else f"AutoModel{name}")
    plain = auto.from_pretrained(tmp_path, trust_remote_code=True)
    outputs = [model(**PADDED)[0] for model in (made, again, plain, family.load_shape(tmp_path))]
    for output in outputs[1:]:
        torch.testing.assert_close(output, outputs[0])
    assert outputs[0].shape[-1] == (width if head != "question-answering" else 9)
    hidden = start.bert(**PADDED).last_hidden_state
    assert torch.equal(made.base_model(**PADDED).last_hidden_state, hidden)
    if head != "encoder":
        assert not torch.equal(other(**PADDED)[0], outputs[0])
        with pytest.raises(InvalidInputError, match="predicts words"):
            net_of(made)
    with pytest.raises(InvalidInputError, match="masked-lm head"):
        family.with_head(made, "masked-lm", (), 0)


def test_a_checkpoint_with_more_than_its_head_is_read(tmp_path):
    config = checkpoint().config
    torch.manual_seed(1)
    both = transformers.BertForPreTraining(config).eval()
    both.save_pretrained(tmp_path)
    expected = both(**PADDED).prediction_logits
    assert torch.equal(Encoder().load_shape(tmp_path)(**PADDED).logits, expected)
    largest = CHECKPOINTS.supernet(str(tmp_path), {})
    assert torch.equal(largest.lm(**PADDED).logits, expected)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """Text, a checkpoint with its tokenizer, and the command line."""
    from nastool_supernets.corpus.text import text_files
    from nastool_supernets.corpus.tokenizer import train_tokenizer

    folder = tmp_path_factory.mktemp("encoder")
    words = [f"{a}{b}" for a in "bdfgk" for b in ("a", "en", "il", "o")]
    rng = np.random.default_rng(0)
    text = folder / "text.txt"
    text.write_text("\n\n".join(" ".join(rng.choice(words, 40)) for _ in range(60)))
    tokenizer = train_tokenizer(text_files([text]), 50)
    checkpoint(vocab_size=len(tokenizer)).save_pretrained(folder / "hf")
    tokenizer.save_pretrained(folder / "hf")
    return folder


def nastool(text, code=0):
    result = CliRunner().invoke(main, text.split())
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout + result.stderr


READ = "--text text.txt --sequence-length 16 --held-out 0.2"


def test_from_a_checkpoint_to_a_recovered_shape(begun, tmp_path, monkeypatch):
    monkeypatch.chdir(begun)
    out = tmp_path
    nastool(f"pretrain --from hf {READ} --steps 0 --ffn-choices 3 --output {out}/net")
    measured = nastool(
        f"measure {out}/net --shapes 3 --dtype float32 --output {out}/table.csv --storage none"
    )
    assert "masked tokens" in measured
    train = f"pretrain --supernet {out}/net {READ} --preset smoke --steps 2 --dtype float32"
    train += " --peak-flops 1e9 --tracker none --batch-size 4"
    nastool(f"{train} --rule sandwich --random-shapes 1 --output {out}/trained")
    nastool(f"{train} --teacher {out}/net --shape 2-8-0-24 --output {out}/recovered")
    loaded = Encoder().load_shape(out / "recovered")
    assert type(loaded).__name__ == "SlicedBertForMaskedLM"
    nastool(f"export --supernet {out}/net --shape 4-8-4-8 --to {out}/small")
    card = (out / "small" / "README.md").read_text()
    assert "trust_remote_code" not in card
    stock = transformers.AutoModelForMaskedLM.from_pretrained(out / "small")
    assert type(stock) is transformers.BertForMaskedLM
    (out / "other").mkdir()
    refused = nastool(f"pretrain --from {out}/other {READ} --steps 0 --output {out}/no", 2)
    assert "--from: expected a checkpoint of transformers, but" in refused
    (out / "other" / "config.json").write_text('{"model_type": "gpt2"}')
    refused = nastool(f"pretrain --from {out}/other {READ} --steps 0 --output {out}/no", 2)
    assert "--from: expected a model of type bert, llama, " in refused
    assert "which is of type gpt2" in refused
    refused = nastool(f"pretrain decoder --from hf {READ} --steps 0 --output {out}/no", 2)
    assert "which is of type bert" in refused
    refused = nastool(f"pretrain --from hf {READ} --kv-choices 2 --output {out}/no", 2)
    assert "--kv-choices: expected a decoder net, got encoder" in refused


def test_shrink_takes_the_family_of_the_checkpoint(begun, tmp_path, monkeypatch):
    monkeypatch.chdir(begun)
    run = tmp_path / "run"
    run.mkdir()
    plan = {"levels": 1, "blocks": 2, "first": 6, "rounds": 1, "shapes": 6, "check": 2, "seed": 0}
    (run / "plan.json").write_text(json.dumps(plan))
    words = f"shrink hf --text text.txt --sequence-length 16 --device cpu --to {run}"
    said = nastool(f"{words} --max params=9k --minutes 30")
    assert "Try it: python -c" in said
    model = transformers.AutoModelForMaskedLM.from_pretrained(run / "model", trust_remote_code=True)
    assert sum(p.numel() for p in model.parameters()) <= 9_000
