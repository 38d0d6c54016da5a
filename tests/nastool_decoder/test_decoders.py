"""What a checkpoint becomes: values, costs, shapes as they ship, and what is refused."""

import json
import math
from importlib.util import find_spec

import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from nastool.cli.main import main  # noqa: E402
from nastool.errors import InvalidInputError  # noqa: E402
from nastool.plugins import load_space  # noqa: E402
from nastool_decoder.checkpoints import CHECKPOINTS  # noqa: E402
from nastool_decoder.family import Decoder  # noqa: E402
from nastool_supernets.corpus.masked_text import mask_files  # noqa: E402
from nastool_supernets.corpus.tokenizer import load_tokenizer as tokenizer_of  # noqa: E402
from nastool_supernets.family import net_of  # noqa: E402
from nastool_supernets.measuring.perplexities import perplexities  # noqa: E402
from nastool_supernets.saved import save_model  # noqa: E402
from nastool_supernets.slicing.choices import levels, read_choices, spread  # noqa: E402
from nastool_supernets.slicing.ordering import importances  # noqa: E402
from tests.nastool_decoder.conftest import KINDS, checkpoint, make_net  # noqa: E402

IDS = torch.randint(5, 50, (2, 9), generator=torch.Generator().manual_seed(0))
ALL = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}
GENOTYPES = ((1, 1, 2, 3), (0, 2, 2, 0), (0, 0, 2, 1), (1, 2, 1, 2), (0, 0, 0, 0))


@pytest.mark.parametrize("kind", KINDS)
def test_any_architecture_ships_in_plain_transformers(kind, tmp_path):
    model = checkpoint(kind)
    net = make_net(model, "activation", ffn="8,16,24")
    largest = tuple(net.space.largest.tolist())
    assert torch.equal(net.logits(ALL, largest), model(IDS).logits)
    for number, genotype in enumerate(GENOTYPES):
        folder = tmp_path / str(number)
        shape = net.extract(genotype)
        folder.mkdir()
        save_model(shape, folder)
        loaded = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
        expected = net.logits(ALL, genotype)
        assert torch.equal(loaded(IDS).logits, expected)
        assert torch.equal(Decoder().load_shape(folder)(IDS).logits, expected)
        counted = net.space.costs["params"].evaluate(np.array([genotype]))[0]
        assert counted == sum(p.numel() for p in loaded.parameters())
        pairs = {*zip(genotype[::2], genotype[1::2], strict=True)} - {(0, 0)}
        is_stock = len(pairs) < 2 and all(all(pair) for pair in pairs)
        assert type(loaded).__name__.startswith("Shaped") is not is_stock
        assert (folder / "shaped_decoder.py").exists() is not is_stock
        assert ("per_layer_config" in json.loads((folder / "config.json").read_text())) != is_stock


@pytest.mark.parametrize("scaling", [{}, {"rope_type": "linear", "factor": 2.0}])
def test_older_transformers_find_the_angles_of_rotary_embeddings(scaling, tmp_path):
    """Before 5 they stand in `rope_theta` and `rope_scaling`; without, defaults are taken."""
    rotary = {"rope_theta": 500.0, "rope_type": "default"} | scaling
    shape = make_net(checkpoint("llama", rope_parameters=rotary)).extract((1, 1, 1, 1))
    save_model(shape, tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    if "rope_parameters" not in content:
        pytest.skip("this release of transformers has the older names itself")
    assert content["rope_theta"] == 500
    assert content.get("rope_scaling", {}) == scaling
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=True)
    assert loaded.config.rope_parameters == rotary
    assert torch.equal(loaded(IDS).logits, shape(IDS).logits)


def test_a_net_is_read_with_its_angles_beside_any_transformers(monkeypatch):
    from nastool_supernets.slicing import config

    seen = {}
    monkeypatch.setattr(config.AutoConfig, "for_model", lambda **given: seen.update(given))
    rotary = {"rope_theta": 500.0, "rope_type": "linear", "factor": 2.0}
    config.stock_config({"model_type": "llama", "rope_parameters": rotary}, hidden_size=8)
    assert seen == {
        "model_type": "llama",
        "rope_parameters": rotary,
        "rope_theta": 500.0,
        "rope_scaling": {"rope_type": "linear", "factor": 2.0},
        "hidden_size": 8,
    }


def test_training_draws_no_dropout_and_what_ships_keeps_its_own(tmp_path):
    model = checkpoint("llama")
    model.config.attention_dropout = 0.5
    model.save_pretrained(tmp_path / "hf")
    net = make_net(transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf"))
    largest = tuple(net.space.largest.tolist())
    expected = net.logits(ALL, largest)
    net.model.train()
    # Random numbers are no part of a checkpoint: a run that goes on would draw others.
    assert torch.equal(net.logits(ALL, largest), expected)
    shape = net.extract(largest)
    assert shape.config.attention_dropout == 0.5
    assert all(layer.self_attn.attention_dropout == 0.5 for layer in shape.model.layers)


def test_generate_with_a_cache_is_the_sliced_net():
    net = make_net(checkpoint("llama"), "loss", ffn="8,16,24")
    for genotype in GENOTYPES:
        shape, text = net.extract(genotype), IDS
        made = shape.generate(
            IDS, attention_mask=torch.ones_like(IDS), pad_token_id=0, do_sample=False,
            max_new_tokens=6, min_new_tokens=6,
        )  # fmt: skip
        for _ in range(6):
            logits = net.logits({"input_ids": text}, genotype)[:, -1].clone()
            logits[:, 2] = -torch.inf  # no end before six tokens
            text = torch.cat([text, logits.argmax(-1, keepdim=True)], 1)
        assert torch.equal(made, text)


def test_whether_this_transformers_builds_layers_that_differ_by_itself(tmp_path):
    net = make_net(checkpoint("llama"), ffn="8,16,24")
    genotype = (2, 1, 2, 3)
    save_model(net.extract(genotype), tmp_path)
    config = transformers.AutoConfig.from_pretrained(tmp_path, trust_remote_code=False)
    if not getattr(config, "is_heterogeneous", False):
        pytest.skip("this release of transformers knows no per_layer_config")
    assert [own.intermediate_size for own in config.per_layer_config] == [8, 24]
    auto = transformers.AutoModelForCausalLM
    try:
        native = auto.from_pretrained(tmp_path, trust_remote_code=False)
    except RuntimeError as error:
        # Configurations only, up to 5.24: weights of other sizes are refused, never dropped.
        assert "mismatch" in str(error) or "size" in str(error)  # noqa: PT017
    else:
        assert torch.equal(native(IDS).logits, net.logits(ALL, genotype))


def test_hidden_states_of_the_largest_are_those_of_the_checkpoint():
    from nastool_supernets.corpus.targets import Targets

    net = make_net(checkpoint("llama"), kv="2", ffn="2")
    targets = Targets.of(torch.where(IDS > 20, IDS, -100))
    found = net.predict(net.embed(IDS), targets, tuple(net.space.largest), states=True)
    expected = checkpoint("llama")(input_ids=IDS, output_hidden_states=True).hidden_states[1:-1]
    for ours, theirs in zip(found.states, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("genotype", ["largest", "smallest", (0, 2, 2, 0)])
def test_the_next_token_is_timed_as_it_is_served(genotype):
    from nastool.devices import Workload, timing_of
    from nastool.plugins import load_device
    from nastool_decoder.deployable import Decoding
    from nastool_supernets.deployment.caches import kept_sizes

    space = make_net(checkpoint("llama"), kv="2", ffn="2").space
    chosen = getattr(space, genotype) if isinstance(genotype, str) else np.array(genotype)
    deployment = space.deploy(chosen, Workload(2, 7))
    after = deployment.following
    assert after.inputs["input_ids"].shape == (2, 1)
    model = deployment.module.model
    ids = torch.randint(5, 50, (2, 8), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert deployment.module(**deployment.inputs).shape == (2, space.vocabulary)
        read = model(input_ids=ids[:, :7], use_cache=True)
        decoding = Decoding(model, Workload(2, 7), kept_sizes(model))
        layers = read.past_key_values.layers if chosen[::2].any() else []
        for place, layer in enumerate(layers):
            decoding.register_buffer(f"kept_{2 * place}", layer.keys)
            decoding.register_buffer(f"kept_{2 * place + 1}", layer.values)
        assert len(dict(decoding.named_buffers(prefix=""))) >= 2 * np.count_nonzero(chosen[::2])
        expected = model(input_ids=ids, use_cache=False).logits[:, -1]
        for _ in range(2):  # what was kept stays as it was
            found = decoding(ids[:, 7:])
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    timing = timing_of(load_device("cpu"), deployment, 1, 2)
    assert len(timing.following) == len(timing.seconds) == 2


def test_flops_and_cache_are_those_that_are_counted():
    from torch.utils.flop_counter import FlopCounterMode

    net = make_net(checkpoint("llama", max_position_embeddings=256), ffn="8,16,24")
    ids = torch.randint(5, 50, (1, 128))
    for genotype in (*GENOTYPES, tuple(net.space.largest.tolist())):
        shape = net.extract(genotype)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            shape.set_attn_implementation("eager")
            for layer in shape.model.layers:
                if hasattr(layer.self_attn, "config"):
                    layer.self_attn.config._attn_implementation = "eager"
            found = shape(ids, use_cache=True)
        row = np.array([genotype])
        assert net.space.costs["flops"].evaluate(row)[0] == counter.get_total_flops()
        space = load_space(net.space.name.replace("]", ",context=128]"))
        cached = sum(
            layer.keys.numel() + layer.values.numel()
            for layer in (found.past_key_values.layers if found.past_key_values else ())
            if getattr(layer, "keys", None) is not None
        )
        assert space.costs["kv_cache"].evaluate(row)[0] == 2 * cached


def test_slices_keep_what_matters_most():
    model = checkpoint("llama")
    # A channel and a group that add nothing go first.
    model.model.layers[0].mlp.down_proj.weight.data[:, 3] = 0
    model.model.layers[1].self_attn.o_proj.weight.data[:, :16] = 0
    for by in ("activation", "loss"):
        net = make_net(model, by, ffn="23,24")
        config = net.model.config
        assert config.ffn_levels[0] == "0" * 3 + "1" + "0" * 20
        assert config.kv_levels[1] == "10"
        whole, less = (2, 2, 2, 2), (2, 1, 1, 2)
        torch.testing.assert_close(net.logits(ALL, less), net.logits(ALL, whole))


def test_first_order_importance_is_that_of_autograd():
    net = make_net(checkpoint("llama"))
    labels = IDS.roll(-1, 1)
    found = importances(net, IDS, labels, "loss")["ffn_levels"]
    layer, channel, step = 1, 5, 1e-3
    weight = net.model.layers[layer].mlp.down_proj.weight
    largest = tuple(net.space.largest.tolist())
    effects = []
    for text in (0, 1):
        losses = []
        for sign in (1, -1):
            kept = weight.data[:, channel].clone()
            weight.data[:, channel] *= 1 + sign * step
            part = slice(text, text + 1)
            found_losses = net.losses(IDS[part], labels[part], largest)
            losses.append(float(found_losses.detach().double().sum()))
            weight.data[:, channel] = kept
        effects.append(abs(losses[0] - losses[1]) / (2 * step))
    assert float(found[layer, channel]) == pytest.approx(sum(effects), rel=0.02)


def test_choices():
    assert spread(1536, 8) == tuple(range(192, 1537, 192))
    assert spread(3, 8) == (1, 2, 3)
    assert spread(24, 4) == (8, 16, 24) or len(spread(24, 4)) <= 4
    assert read_choices("--ffn-choices", "8,16", 24, skips=True) == (0, 8, 16, 24)
    assert read_choices("--ffn-choices", None, 24, skips=False)[0] > 0
    assert levels([2, 0, 1], [1, 3]) == "110"
    for text in ("0", "a", "8,25", "99", ""):
        if text:
            with pytest.raises(InvalidInputError, match="--ffn-choices"):
                read_choices("--ffn-choices", text, 24, skips=True)


def test_a_space_is_read_back_from_its_name():
    net = make_net(checkpoint("qwen3"))
    again = load_space(net.space.name)
    assert again == net.space
    assert again.fingerprint == net.space.fingerprint


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "gpt2"}, "which is of type gpt2"),
        ({"model_type": "mistral", "sliding_window": 8}, "sliding window of 8 tokens"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "which is quantised"),
        ({"model_type": "nonsense"}, "no checkpoint of transformers"),
    ],
)
def test_what_cannot_be_sliced_is_told_in_a_line(change, said, tmp_path):
    checkpoint("llama").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(InvalidInputError, match=said) as raised:
        CHECKPOINTS.supernet(str(tmp_path), {})
    assert "\n" not in str(raised.value)


def test_from_a_checkpoint_to_a_recovered_shape(tmp_path, monkeypatch):
    from tokenizers import Tokenizer, models, pre_tokenizers

    monkeypatch.chdir(tmp_path)
    words = [f"{a}{b}" for a in "bdfgk" for b in ("a", "en", "il", "o")]
    rng = np.random.default_rng(0)
    paragraphs = [" ".join(rng.choice(words, 40)) for _ in range(60)]
    (tmp_path / "text.txt").write_text("\n\n".join(paragraphs))
    vocabulary = {word: i for i, word in enumerate(["[UNK]", "<s>", "</s>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    checkpoint("llama").save_pretrained(tmp_path / "hf")
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="[UNK]"
    ).save_pretrained(tmp_path / "hf")

    def nastool(text, code=0):
        result = CliRunner().invoke(main, text.split())
        assert result.exit_code == code, (result.output, result.exception)
        return result.stdout + result.stderr

    read = "--text text.txt --sequence-length 16 --held-out 0.2"
    nastool(f"pretrain decoder --from hf {read} --steps 0 --ffn-choices 3 --output net")
    blocks = np.load(tmp_path / "net" / "corpus" / "train.npy")
    # Texts follow each other, with their end between, and no marks around blocks.
    assert set(np.unique(blocks)) - {2} <= set(range(3, 23))
    assert (blocks == 2).any()
    measured = nastool("measure net --shapes 3 --dtype float32 --output table.csv --storage none")
    assert "predicted tokens" in measured
    first, shape = "1-8-2-24", "1-8-1-8"
    train = f"pretrain --supernet net {read} --preset smoke --steps 2"
    train += " --peak-flops 1e9 --tracker none --batch-size 4"
    taught = f"{train} --teacher net --distil 0.5"
    nastool(f"{taught} --shape {first} --output recovered")
    kept = f"{taught} --teacher-cache lessons"
    said = nastool(f"{kept} --shape {shape} --steps 3 --output kept")
    assert "23 most likely tokens" not in said
    assert "50 most likely tokens of" in said
    assert ", 0 of " in said
    # Another shape, and one that goes on, ask for nothing that is there.
    said = nastool(f"{kept} --shape {first} --output other")
    assert f", 12 of {len(blocks)} blocks are" in said
    refused = nastool(f"{taught} --steps 3 --output kept --resume", 2)
    assert "shortlist" in refused
    nastool(f"{kept} --steps 3 --output kept --resume")
    nastool("pretrain --teacher-cache lessons --output kept --resume")
    assert "holds lessons of another temperature" in nastool(
        f"{kept} --temperature 3 --shape {first} --output third", 2
    )
    assert "--distil-hidden: hidden states" in nastool(
        f"{kept} --distil-hidden --shape {first} --output third", 2
    )
    loaded = Decoder().load_shape(tmp_path / "recovered")
    assert type(loaded).__name__ == "ShapedLlamaForCausalLM"
    exported = f"export --supernet net --shape {shape} --to small"
    nastool(exported)
    assert type(Decoder().load_shape(tmp_path / "small")).__name__ == "LlamaForCausalLM"
    assert "trust_remote_code" not in (tmp_path / "small" / "README.md").read_text()
    # Layers that differ, in half the precision, as they run elsewhere.
    exported = f"export --supernet net --shape {first} --to half --text text.txt --limit 4"
    exported += " --dtype bfloat16 --format json"
    onnx = all(map(find_spec, ("onnxruntime", "onnxscript")))
    result = CliRunner().invoke(main, [*exported.split(), *(["--onnx"] if onnx else [])])
    assert result.exit_code == 0, (result.output, result.exception)
    report = json.loads(result.stdout)
    assert "predicted tokens of text.txt" in report["measured_on"]
    half = transformers.AutoModelForCausalLM.from_pretrained("half", trust_remote_code=True)
    assert half.dtype == torch.bfloat16
    found = net_of(Decoder().load_shape(tmp_path / "half"))
    ids, labels, _ = mask_files(
        ["text.txt"], tokenizer_of("half"), found.model.config, "half", blocks=4, task="causal-lm"
    )
    by_form = {row["form"]: row for row in report["rows"]}
    expected = perplexities(found, ids, labels, [()])[0]
    assert by_form["torch"]["quality"]["perplexity"] == pytest.approx(expected, rel=1e-5)
    if onnx:
        assert by_form["onnx"]["difference"]["largest"] < 1e-4
    # What follows a text is timed, too; no BERT stands beside a decoder.
    benched = "bench half --sequence-length 8 --rounds 2 --repeats 1 --no-memory --format json"
    result = CliRunner().invoke(main, benched.split())
    assert result.exit_code == 0, (result.output, result.exception)
    rows = json.loads(result.stdout)["models"]
    assert [row["form"] for row in rows] == ["torch", *["onnx"] * onnx]
    assert all(0 < row["next_token_s"] < math.inf for row in rows)
    table = nastool(benched.replace(" --format json", ""))
    assert "next token" in table
    assert "there is no bert-base ForCausalLM" in nastool(f"{benched} --baseline bert-base", 2)
    nastool(f"{train} --rule sandwich --random-shapes 1 --output trained")


def test_a_net_on_the_hub_is_a_space(hub, tmp_path):
    from nastool.integrations.publishing import publish

    net = make_net(checkpoint("llama"), ffn="8,16,24")
    save_model(net.model, tmp_path)
    publish(tmp_path, "me/decoder")
    assert load_space("decoder[hf://me/decoder]").fingerprint == net.space.fingerprint
    served = load_space("decoder[hf://me/decoder,context=64]")
    assert served.context == 64
