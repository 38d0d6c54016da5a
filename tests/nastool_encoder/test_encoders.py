"""What an encoder becomes: values, costs, shapes as they ship, and what is refused."""

import json
from importlib.util import find_spec

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from nastool.cli.main import main  # noqa: E402
from nastool.errors import InvalidInputError  # noqa: E402
from nastool.plugins import load_space  # noqa: E402
from nastool_encoder.checkpoints import CHECKPOINTS  # noqa: E402
from nastool_encoder.family import Encoder  # noqa: E402
from nastool_encoder.nets import EncoderSupernet  # noqa: E402
from nastool_supernets.corpus.tokenizer import load_tokenizer  # noqa: E402
from nastool_supernets.family import net_of  # noqa: E402
from nastool_supernets.positions import positions_of  # noqa: E402
from nastool_supernets.saved import (  # noqa: E402
    load_supernet,
    parameters_of,
    save_model,
    save_shape,
)
from tests.nastool_encoder.conftest import OWN, checkpoint, make_net  # noqa: E402
from tests.sliced import byte_pairs  # noqa: E402

IDS = torch.randint(5, 50, (2, 9), generator=torch.Generator().manual_seed(0))
ALL = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}


def padded(config, *, left=False):
    """Inputs of which the second text is shorter, in two segments where there are such."""
    ids, attended = IDS.clone(), torch.ones_like(IDS)
    place = slice(3) if left else slice(6, None)
    ids[1, place], attended[1, place] = config.pad_token_id, 0
    inputs = {"input_ids": ids, "attention_mask": attended}
    if getattr(config, "type_vocab_size", 1) > 1:
        inputs["token_type_ids"] = (torch.arange(9) > 4).long().expand(2, 9)
    return inputs


def inputs_for(config):
    return ALL, padded(config), padded(config, left=True)


STOCK = ((4, 2, 4, 2), (0, 0, 4, 2), (4, 3, 4, 3), (0, 0, 0, 0))
OTHERS = ((2, 2, 4, 2), (0, 2, 4, 0), (0, 0, 2, 2), (4, 1, 4, 2), (4, 0, 4, 0))
"""Genotypes: 0 to 4 heads, and no channels, 8, 16 or 24."""


SOME = [*((kind, g) for kind in ("bert", "roberta", "distilbert") for g in (*STOCK, *OTHERS))]
SOME += [(kind, g) for kind in ("xlm-roberta", "camembert") for g in (STOCK[0], OTHERS[1])]


@pytest.fixture(scope="module")
def nets():
    return {kind: make_net(checkpoint(kind), "activation", ffn="8,16,24") for kind in OWN}


@pytest.fixture(params=["bert", "roberta", "distilbert"])
def net(nets, request):
    return nets[request.param]


def kind_of(net):
    return net.model.lm.config.model_type


def layers_of(model):
    encoder = model.base_model
    return encoder.transformer.layer if hasattr(encoder, "transformer") else encoder.encoder.layer


def ends_of(layer):
    """What attention ends with, and the feed-forward block."""
    if hasattr(layer, "ffn"):
        return layer.attention.out_lin, layer.ffn.lin2
    return layer.attention.output.dense, layer.output.dense


@pytest.mark.parametrize("kind", OWN)
def test_the_largest_is_the_checkpoint_bit_for_bit(nets, kind):
    net, model = nets[kind], checkpoint(kind)
    largest = tuple(net.space.largest.tolist())
    assert largest == (4, 3, 4, 3)
    for inputs in inputs_for(model.config):
        real = inputs["attention_mask"].bool()
        assert torch.equal(net.logits(inputs, largest)[real], model(**inputs).logits[real])


@pytest.mark.parametrize(("kind", "genotype"), SOME)
def test_shapes_ship_in_plain_transformers(nets, kind, genotype, tmp_path):
    net = nets[kind]
    shape = net.extract(genotype)
    save_model(shape, tmp_path)
    loaded = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path, trust_remote_code=True)
    for inputs in inputs_for(loaded.config):
        real = inputs["attention_mask"].bool()
        expected = net.logits(inputs, genotype)[real]
        assert torch.equal(loaded(**inputs).logits[real], expected)
        assert torch.equal(Encoder().load_shape(tmp_path)(**inputs).logits[real], expected)
    counted = net.space.costs["params"].evaluate(np.array([genotype]))[0]
    assert counted == sum(p.numel() for p in loaded.parameters())
    is_stock = genotype in STOCK
    assert (type(loaded) is type(checkpoint(kind))) is is_stock
    assert (tmp_path / "sliced_bert.py").exists() is not is_stock
    assert Encoder().shape_of(loaded) == net.architecture(genotype)
    # What others fine-tune has the dropout that the checkpoint had.
    assert {m.p for m in loaded.modules() if isinstance(m, torch.nn.Dropout)} == {0.1}


@pytest.mark.parametrize("kind", OWN)
def test_parameters_of_a_head_of_its_own_are_counted(kind):
    net = make_net(checkpoint(kind, tie_word_embeddings=False), ffn="8,24")
    for genotype in ((4, 2, 4, 2), (2, 0, 4, 1)):
        counted = net.space.costs["params"].evaluate(np.array([genotype]))[0]
        assert counted == sum(p.numel() for p in net.extract(genotype).parameters())


@pytest.mark.parametrize("kind", OWN)
def test_weights_have_the_names_that_transformers_gives_them(nets, kind, tmp_path):
    names = []
    for folder, save in (("ours", save_model), ("theirs", type(checkpoint(kind)).save_pretrained)):
        (tmp_path / folder).mkdir()
        save(nets[kind].extract((4, 3, 4, 3)), tmp_path / folder)
        names.append({*load_file(tmp_path / folder / "model.safetensors")})
    assert names[0] == names[1]
    word = f"lm.{checkpoint(kind).base_model_prefix}.embeddings.word_embeddings.weight"
    assert nets[kind].group_of(word) == "body"
    assert word in parameters_of(nets[kind].model)


@pytest.mark.parametrize("kind", OWN)
def test_a_text_is_as_long_as_there_are_positions(nets, kind):
    net, model = nets[kind], checkpoint(kind)
    assert net.space.positions == positions_of(model.config) == 64
    assert positions_of(net.model.config) == 64
    ids = torch.full((1, 65), 7)
    assert (
        model(ids[:, :64]).logits.shape
        == net.logits({"input_ids": ids[:, :64]}, (4, 3, 4, 3)).shape
    )
    with pytest.raises((IndexError, RuntimeError)):
        model(ids)


def test_a_layer_without_both_is_the_checkpoint_minus_a_layer(net):
    model = checkpoint(kind_of(net))
    del layers_of(model)[0]
    assert torch.equal(net.logits(ALL, (0, 0, 4, 3)), model(**ALL).logits)


def test_a_part_that_does_not_run_leaves_its_norm(net):
    model = checkpoint(kind_of(net))
    layers = layers_of(model)
    # Nothing is added where weights and bias of what ends a part are 0.
    for end in (ends_of(layers[0])[0], ends_of(layers[1])[1]):
        end.weight.data.zero_()
        end.bias.data.zero_()
    torch.testing.assert_close(net.logits(ALL, (0, 3, 4, 0)), model(**ALL).logits)


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_heads_and_channels_that_add_nothing_go_first(kind):
    model = checkpoint(kind)
    layers = layers_of(model)
    ends_of(layers[0])[1].weight.data[:, 3] = 0
    ends_of(layers[1])[0].weight.data[:, 8:16] = 0
    for by in ("activation", "loss"):
        net = make_net(model, by, ffn="23,24", head="3,4")
        assert net.model.config.ffn_levels[0] == "0" * 3 + "1" + "0" * 20
        assert net.model.config.head_levels[1] == "0100"
        whole, less = (2, 2, 2, 2), (2, 1, 1, 2)
        torch.testing.assert_close(net.logits(ALL, less), net.logits(ALL, whole))


def test_hidden_states_of_the_largest_are_those_of_the_checkpoint(net):
    from nastool_supernets.corpus.targets import Targets

    targets = Targets.of(torch.where(IDS > 20, IDS, -100))
    expected = checkpoint(kind_of(net))(input_ids=IDS, output_hidden_states=True).hidden_states
    found = net.predict(net.embed(IDS), targets, (4, 3, 4, 3), states=True)
    torch.testing.assert_close(found.states[0], expected[1])
    alone = net_of(net.extract((4, 3, 4, 3)))
    found = alone.predict(alone.embed(IDS), targets, (), states=True)
    for ours, theirs in zip(found.states, expected[1:], strict=True):
        torch.testing.assert_close(ours, theirs)


def test_flops_are_those_that_are_counted(net):
    from torch.utils.flop_counter import FlopCounterMode

    net = make_net(checkpoint(kind_of(net), max_position_embeddings=130), ffn="8,16,24")
    ids = torch.randint(5, 50, (1, 128))
    for genotype in (*STOCK, *OTHERS):
        shape = net.extract(genotype)
        shape.set_attn_implementation("eager")
        for module in shape.modules():
            if hasattr(module, "query") or hasattr(module, "q_lin"):
                module.config._attn_implementation = "eager"
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
    checkpoint(kind_of(net)).save_pretrained(tmp_path / "hf")
    assert CHECKPOINTS.space(str(tmp_path / "hf"), {"ffn_choices": "8,16,24"}) == net.space


def test_a_supernet_of_an_older_version_is_read(nets, tmp_path):
    save_model(nets["bert"].model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["sizes"]["distil"], config["sizes"]["offset"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    read = load_supernet(tmp_path)
    assert read.space == nets["bert"].space
    assert torch.equal(read.logits(ALL, (2, 2, 0, 1)), nets["bert"].logits(ALL, (2, 2, 0, 1)))


@pytest.mark.parametrize("text", ["0" * 24, "0" * 16 + "1" * 7 + "?", "0" * 23])
def test_a_damaged_order_is_told_where_it_is_read(nets, text, tmp_path):
    save_model(nets["bert"].model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["ffn_levels"][1] = text
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidInputError, match="ffn_levels must hold"):
        load_supernet(tmp_path)


def test_a_space_has_the_token_that_its_positions_begin_after(nets):
    name = nets["bert"].space.name.removesuffix("]")
    assert load_space(f"{name},offset=50]").offset == 50
    with pytest.raises(InvalidInputError, match="offset must be at most the vocabulary, 50"):
        load_space(f"{name},offset=51]")


def test_a_run_that_skips_layers_goes_on_as_one_that_does(nets):
    family, options = Encoder(), {"head_choices": None, "ffn_choices": None, "no_skip": True}
    with pytest.raises(InvalidInputError, match="--no-skip: the run has 0,1,2,3,4 of heads"):
        family.check(nets["bert"].model, options)
    family.check(nets["bert"].model, options | {"no_skip": False})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "mpnet"}, "expected a model of type bert, roberta, .* of type mpnet"),
        ({"is_decoder": True}, "expected an encoder"),
        ({"position_embedding_type": "relative_key"}, "positions must be embedded"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "which is quantised"),
        ({"model_type": "roberta", "pad_token_id": None}, "from: .*: .* say its pad_token_id"),
        ({"sliced_layers": [{"heads": 2, "ffn": 8}]}, "a shape that was cut out of one"),
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
    inputs = padded(start.config)
    made, again, other = (family.with_head(start, head, labels, seed) for seed in (0, 0, 1))
    assert family.head_of(made) == head
    assert family.shape_of(made) == net.architecture(genotype)
    save_model(made, tmp_path)
    name = type(made).__name__.partition("For")[2]
    name = f"For{name}" if name else "Model"
    auto = getattr(transformers, f"Auto{name}" if name == "Model" else f"AutoModel{name}")
    plain = auto.from_pretrained(tmp_path, trust_remote_code=True)
    outputs = [model(**inputs)[0] for model in (made, again, plain, family.load_shape(tmp_path))]
    for output in outputs[1:]:
        torch.testing.assert_close(output, outputs[0])
    assert outputs[0].shape[-1] == (width if head != "question-answering" else 9)
    hidden = start.base_model(**inputs).last_hidden_state
    assert torch.equal(made.base_model(**inputs).last_hidden_state, hidden)
    if head != "encoder":
        assert not torch.equal(other(**inputs)[0], outputs[0])
        with pytest.raises(InvalidInputError, match="predicts words"):
            net_of(made)
    with pytest.raises(InvalidInputError, match="masked-lm head"):
        family.with_head(made, "masked-lm", (), 0)


def test_a_checkpoint_with_more_than_its_head_is_read(tmp_path):
    config = checkpoint().config
    torch.manual_seed(1)
    both = transformers.BertForPreTraining(config).eval()
    both.save_pretrained(tmp_path)
    inputs = padded(config)
    expected = both(**inputs).prediction_logits
    assert torch.equal(Encoder().load_shape(tmp_path)(**inputs).logits, expected)
    largest = CHECKPOINTS.supernet(str(tmp_path), {})
    assert torch.equal(largest.lm(**inputs).logits, expected)


def test_a_pooler_beside_the_head_is_passed_over(tmp_path):
    model = checkpoint("roberta")
    model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    beside = {"pooler.dense.weight": (32, 32), "pooler.dense.bias": (32,)}
    beside = {f"roberta.{name}": torch.ones(size) for name, size in beside.items()}
    # As roberta-base has them.
    beside["roberta.embeddings.position_ids"] = torch.arange(66)[None]
    save_file(load_file(file) | beside, file, metadata={"format": "pt"})
    expected = model(**ALL).logits
    assert torch.equal(Encoder().load_shape(tmp_path)(**ALL).logits, expected)
    assert torch.equal(CHECKPOINTS.supernet(str(tmp_path), {}).lm(**ALL).logits, expected)


@pytest.fixture(scope="module", params=["bert", "roberta", "distilbert"])
def begun(tmp_path_factory, request):
    """Text, a checkpoint with its tokenizer, and the command line."""
    from nastool_supernets.corpus.text import text_files
    from nastool_supernets.corpus.tokenizer import train_tokenizer

    kind, folder = request.param, tmp_path_factory.mktemp("encoder")
    words = [f"{a}{b}" for a in "bdfgk" for b in ("a", "en", "il", "o")]
    rng = np.random.default_rng(0)
    text = folder / "text.txt"
    text.write_text("\n\n".join(" ".join(rng.choice(words, 40)) for _ in range(60)))
    if kind == "roberta":
        tokenizer = byte_pairs([text.read_text()], 290)
    else:
        tokenizer = train_tokenizer(text_files([text]), 50)
    checkpoint(kind, vocab_size=len(tokenizer)).save_pretrained(folder / "hf")
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
    nothing = f"{train} --teacher {out}/net --shape 0-0-0-0 --distil-hidden 1 --output {out}/none"
    assert "distil_hidden: expected hidden states of a layer" in nastool(nothing, 2)
    nastool(f"export --supernet {out}/net --shape 0-0-0-0 --to {out}/nobody")
    taught = f"{train} --teacher {out}/nobody --shape 4-24-4-24 --distil-hidden 1 --output {out}/no"
    assert "distil_hidden: expected hidden states of a layer" in nastool(taught, 2)
    loaded = Encoder().load_shape(out / "recovered")
    name = transformers.AutoModelForMaskedLM.from_pretrained("hf").__class__.__name__
    assert type(loaded).__name__ == f"Sliced{name}"
    onnx = all(map(find_spec, ("onnxruntime", "onnxscript")))
    for shape, folder in (("4-8-4-8", "small"), ("2-8-0-24", "mixed")):
        words = f"export --supernet {out}/net --shape {shape} --to {out}/{folder}"
        # Where it is written, it is compared with PyTorch's on texts up to the longest.
        nastool(f"{words} --onnx --int8" if onnx else words)
    card = (out / "small" / "README.md").read_text()
    assert "trust_remote_code" not in card
    assert "at most 64 tokens" in card
    stock = transformers.AutoModelForMaskedLM.from_pretrained(out / "small")
    assert type(stock).__name__ == name
    tokenizer = transformers.AutoTokenizer.from_pretrained(out / "mixed")
    assert tokenizer.model_max_length == 64
    assert tokenizer("ba ken")["input_ids"] == load_tokenizer("hf")("ba ken")["input_ids"]
    mixed = transformers.pipeline("fill-mask", str(out / "mixed"), trust_remote_code=True)
    assert len(mixed(f"ba {tokenizer.mask_token} ken", top_k=3)) == 3
    (out / "other").mkdir()
    refused = nastool(f"pretrain --from {out}/other {READ} --steps 0 --output {out}/no", 2)
    assert "--from: expected a checkpoint of transformers, but" in refused
    (out / "other" / "config.json").write_text('{"model_type": "gpt2"}')
    refused = nastool(f"pretrain --from {out}/other {READ} --steps 0 --output {out}/no", 2)
    assert "--from: expected a model of type bert, roberta, " in refused
    assert "which is of type gpt2" in refused
    refused = nastool(f"pretrain decoder --from hf {READ} --steps 0 --output {out}/no", 2)
    assert "which is of type" in refused
    refused = nastool(f"pretrain --from hf {READ} --kv-choices 2 --output {out}/no", 2)
    assert "--kv-choices: expected a decoder net, got encoder" in refused


def test_shrink_takes_the_family_of_the_checkpoint(begun, tmp_path, monkeypatch):
    monkeypatch.chdir(begun)
    run = tmp_path / "run"
    run.mkdir()
    plan = {"levels": 1, "blocks": 2, "first": 6, "rounds": 1, "shapes": 6, "check": 2, "seed": 0}
    (run / "plan.json").write_text(json.dumps(plan))
    params = CHECKPOINTS.space("hf", {}).costs["params"]
    bound = round((params.minimum[0] + params.maximum[0]) / 2)
    words = f"shrink hf --text text.txt --sequence-length 16 --device cpu --to {run}"
    said = nastool(f"{words} --max params={bound} --minutes 30")
    assert "Try it: python -c" in said
    assert load_tokenizer("hf").mask_token in said
    model = transformers.AutoModelForMaskedLM.from_pretrained(run / "model", trust_remote_code=True)
    assert sum(p.numel() for p in model.parameters()) <= bound
    words = words.replace(str(run), f"{tmp_path}/served")
    assert "needs a decoder" in nastool(f"{words} --context 8 --max latency.decode=1s", 2)
    assert not (tmp_path / "served" / "latency.json").exists()


def test_a_shape_learns_a_task(begun, tmp_path):
    from nastool_supernets.finetuning.data import load_task
    from nastool_supernets.finetuning.encoding import encode
    from nastool_supernets.finetuning.tasks import Settings, read_task_file
    from nastool_supernets.finetuning.training import fine_tune

    for part in ("train", "dev"):
        rows = [
            f"ba {word} ken\t{label}" for label, word in enumerate(("fil", "gob")) for _ in "four"
        ]
        (tmp_path / f"{part}.tsv").write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    task = '[a]\nkind = "sentence"\ntrain = "train.tsv"\ndev = "dev.tsv"\nmetrics = ["accuracy"]'
    (tmp_path / "tasks.toml").write_text(task)
    task, tokenizer = read_task_file(tmp_path / "tasks.toml", {})["a"], load_tokenizer(begun / "hf")
    supernet = EncoderSupernet(CHECKPOINTS.supernet(str(begun / "hf"), {"ffn_choices": "8,24"}))
    model = Encoder().with_head(supernet.extract((2, 1, 4, 0)), "classification", ("0", "1"), 0)
    encoded = encode(task, load_task(task), tokenizer, 16, segments=1)
    settings = Settings(epochs=12, batch_size=4, learning_rate=5e-3, max_length=16)
    outcome = fine_tune(model, task, encoded, tokenizer, settings, 0, device="cpu", dtype="float32")
    assert outcome.scores["accuracy"] == 1.0
    (tmp_path / "tuned").mkdir()
    save_shape(model, tokenizer, tmp_path / "tuned")
    folder = str(tmp_path / "tuned")
    pipe = transformers.pipeline("text-classification", folder, trust_remote_code=True)
    assert [found["label"] for found in pipe(["ba fil ken", "ba gob ken"])] == ["0", "1"]
