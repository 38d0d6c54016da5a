"""Decoders as files: what they keep goes in and out, and 8 bits are blocks of weights."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from nastool.devices import Workload, timing_of  # noqa: E402
from nastool.errors import NastoolError  # noqa: E402
from nastool.plugins import load_device  # noqa: E402
from nastool_objectives.latency import export, onnx_devices  # noqa: E402
from nastool_objectives.latency.export import export_onnx  # noqa: E402
from nastool_supernets.deployment import forms  # noqa: E402
from nastool_supernets.deployment.bench import candidates  # noqa: E402
from nastool_supernets.deployment.caches import in_two_parts  # noqa: E402
from nastool_supernets.deployment.checks import compare, random_batches  # noqa: E402
from nastool_supernets.deployment.runtimes import FILES, onnx_run, openvino_run  # noqa: E402
from nastool_supernets.deployment.sizes import bytes_of  # noqa: E402
from nastool_supernets.saved import save_model  # noqa: E402
from tests.nastool_decoder.conftest import KINDS, checkpoint, make_net  # noqa: E402

IDS = np.random.default_rng(0).integers(5, 50, (2, 9))
MASK = np.array([[0, 0, 0, 1, 1, 1, 1, 1, 1], [1] * 9])


def written(model, folder):
    file, small = folder / "model.onnx", folder / "int8.onnx"
    forms.write_onnx(model, file)
    forms.write_int8(file, small)
    return file, small


def generated(run, tokens):
    """Greedy tokens after texts that begin with padding, each of a pass over one token."""
    mask, kept, made = MASK, {}, []
    given, places = IDS, np.maximum(MASK.cumsum(1) - 1, 0)
    for _ in range(tokens):
        found = run({"input_ids": given, "attention_mask": mask, "position_ids": places, **kept})
        logits = found["logits"][:, -1]
        logits[:, 2] = -np.inf  # no end
        given = logits.argmax(-1)[:, None]
        made.append(given)
        mask, places = np.pad(mask, ((0, 0), (0, 1)), constant_values=1), places[:, -1:] + 1
        kept = {
            name.replace("present", "past_key_values"): value
            for name, value in found.items()
            if name != "logits"
        }
    return np.concatenate(made, 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("genotype", [(1, 1, 2, 3), (0, 2, 2, 0)])
def test_a_file_generates_what_transformers_does(kind, genotype, tmp_path):
    model = make_net(checkpoint(kind), ffn="8,16,24").extract(genotype)
    file, small = written(model, tmp_path)
    expected = model.generate(
        torch.from_numpy(IDS), attention_mask=torch.from_numpy(MASK), pad_token_id=0,
        do_sample=False, max_new_tokens=6, min_new_tokens=6,
    ).numpy()[:, 9:]  # fmt: skip
    np.testing.assert_array_equal(generated(onnx_run(file), 6), expected)
    assert generated(onnx_run(small), 3).shape == (2, 3)
    names = [given.name for given in onnx.load(str(file)).graph.input]
    layers = sum(kv > 0 for kv in genotype[::2])
    parts = [f"past_key_values.{i}.{part}" for i in range(layers) for part in ("key", "value")]
    # A layer of SmolLM3 without rotary embeddings asks for no places.
    rotary = not (kind == "smollm3" and not genotype[0])
    assert names == ["input_ids", "attention_mask", *["position_ids"] * rotary, *parts]


def test_a_decoder_that_keeps_nothing_reads_whole_texts(tmp_path):
    model = make_net(checkpoint("llama"), ffn="8,16,24").extract((0, 2, 0, 1))
    file, _ = written(model, tmp_path)
    assert "logits" in onnx_run(file)({"input_ids": IDS, "attention_mask": MASK})
    reference = forms.torch_run(model)
    assert compare(reference, onnx_run(file), random_batches(model)).largest < 1e-4
    assert forms.as_deployment(model, Workload(1, 4)).following is None


def test_openvino_reads_on(tmp_path):
    pytest.importorskip("openvino")
    model = make_net(checkpoint("qwen3"), ffn="8,16,24").extract((1, 1, 2, 3))
    file, _ = written(model, tmp_path)
    forms.write_openvino(file, tmp_path / "model.xml")
    batches = [b for b in random_batches(model) if b["input_ids"].shape[1] > 1]
    run = openvino_run(tmp_path / "model.xml")
    for form in (run, in_two_parts(run)):
        assert compare(forms.torch_run(model), form, batches).largest < 1e-4


@pytest.mark.parametrize("kind", ["llama", "qwen3"])  # with a head of its own, and without
def test_8_bits_are_the_weights_but_for_rounding_in_their_block(kind, tmp_path):
    model = checkpoint(kind)
    file, small = written(model, tmp_path)
    graph = onnx.load(str(small)).graph
    held = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    products = [node for node in graph.node if node.op_type == "MatMulNBits"]
    assert not [n for n in graph.node if n.op_type == "MatMul" and n.input[1] in held]
    linears = {
        name: module.weight.detach().numpy()
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    assert len(products) == len(linears)

    def weights(values, scales, width):
        steps = held[scales].reshape(len(held[values]), -1, 1)
        each = (held[values].astype(np.float32) - 128) * steps
        return [
            x.reshape(len(x), -1)[:, :width] for x in (each, np.broadcast_to(steps, each.shape))
        ]

    def close(weight, found, step):
        # Half a step, and a whole one where what is largest on one side is cut off at 127.
        off = np.abs(weight - found) / np.abs(step)
        return off.max() <= 1 and (off <= 0.501).mean() > 0.99

    unmatched = dict(linears)
    for node in products:
        width = next(a.i for a in node.attribute if a.name == "K")
        found, step = weights(*node.input[1:3], width)
        fits = [
            name
            for name, weight in unmatched.items()
            if weight.shape == found.shape and close(weight, found, step)
        ]
        assert fits
        del unmatched[fits[0]]
    # Words are looked up in 8 bits, too, in those of the head where it is theirs.
    table = model.get_input_embeddings().weight.detach().numpy()
    shared = model.config.tie_word_embeddings
    large = [name for name, value in held.items() if value.dtype == np.uint8]
    assert len(large) == len(linears) + (not shared)
    assert max(v.size for v in held.values() if v.dtype == np.float32) < table.size
    look_up = next(n for n in graph.node if n.op_type == "Gather" and n.input[0] in large)
    scales = look_up.input[0].replace("_Q8", "_scales")
    found, step = weights(look_up.input[0], scales, table.shape[1])
    assert close(table, found, step)
    inputs = {"input_ids": IDS, "attention_mask": np.ones_like(IDS)}
    expected, eight = (onnx_run(path)(inputs)["logits"] for path in (file, small))
    assert 0 < np.abs(eight - expected).std() < 0.05 * expected.std()
    # A text has scales of its own, whatever is beside it.
    alone = onnx_run(small)({name: value[:1] for name, value in inputs.items()})["logits"]
    np.testing.assert_allclose(alone, eight[:1], atol=1e-5)


def test_weights_that_a_file_cannot_hold_lie_beside_it(tmp_path, monkeypatch):
    model = checkpoint("llama")
    whole = tmp_path / "whole"
    forms.write("onnx", model, whole)
    forms.write("int8", model, whole)
    monkeypatch.setattr(export, "_MOST_IN_A_FILE", 1_000)
    split = tmp_path / "split"
    forms.write("onnx", model, split)
    forms.write("int8", model, split)
    names = {"model.onnx", "model.onnx.data", "model_int8.onnx", "model_int8.onnx.data"}
    assert {path.name for path in (split / "onnx").iterdir()} == names
    assert len({path.stat().st_mode for path in (split / "onnx").iterdir()}) == 1
    inputs = {"input_ids": IDS, "attention_mask": MASK}
    for form in ("onnx", "int8"):
        found, expected = (
            onnx_run(folder / FILES[form])(inputs)["logits"] for folder in (split, whole)
        )
        np.testing.assert_array_equal(found, expected)
        assert bytes_of(split, form) == pytest.approx(bytes_of(whole, form), rel=0.2)


@pytest.mark.parametrize("device", ["onnxruntime", "openvino"])
def test_runtimes_of_files_time_the_next_token(device, monkeypatch):
    pytest.importorskip(device)
    written, export_it = [], onnx_devices.export_onnx
    monkeypatch.setattr(
        onnx_devices,
        "export_onnx",
        lambda deployment, path: (written.append(path), export_it(deployment, path)),
    )
    device = load_device(device)
    space = make_net(checkpoint("llama"), kv="2", ffn="2").space
    for shape in (space.largest, space.smallest, space.largest):
        # Once for both passes; where nothing is kept there are two files, as there are two nets.
        timing = timing_of(device, space.deploy(shape, Workload(2, 7)), 1, 2)
        assert len(timing.following) == len(timing.seconds) == 2
    assert len(written) == 4
    assert [path.exists() for path in written] == [False, False, False, True]
    del device
    assert not written[-1].exists()


def test_openvino_is_not_given_what_would_end_the_process(tmp_path):
    """Its release 2026.4 divides by zero on processors with AMX."""
    pytest.importorskip("openvino")
    model = make_net(checkpoint("llama"), ffn="8,16,24").extract((1, 1, 2, 3))
    save_model(model, tmp_path)
    for form in ("onnx", "openvino"):
        forms.write(form, model, tmp_path)
    left_out = []
    found = candidates(
        tmp_path, "m", Workload(1, 4), dtypes=("float32", "bfloat16"), skip=left_out.append
    )
    assert [(one.form, one.dtype) for one in found if one.form == "openvino"] == [
        ("openvino", "float32")
    ]
    said = "OpenVINO needs two threads at least for decoders in bfloat16"
    assert left_out == [f"m, openvino is left out: {said}"]
    with pytest.raises(NastoolError, match=said):
        openvino_run(tmp_path / FILES["openvino"], dtype="bfloat16")
    run = openvino_run(tmp_path / FILES["openvino"], 2, "bfloat16")
    assert run({"input_ids": IDS, "attention_mask": MASK})["logits"].shape == (2, 9, 50)
    device = load_device("openvino", {"dtype": "bfloat16"})
    with pytest.raises(NastoolError, match=said):
        device.measure(forms.as_deployment(model, Workload(1, 4)), 0, 1)


def test_what_is_timed_of_a_file_is_what_pytorch_computes(tmp_path):
    space = make_net(checkpoint("llama"), kv="2", ffn="2").space
    deployment = space.deploy(space.largest, Workload(2, 7))
    for part, tokens in ((deployment, 7), (deployment.following, 1)):
        file = tmp_path / f"{tokens}.onnx"
        export_onnx(part.exported, file)
        given = {name: tensor.numpy() for name, tensor in part.exported.inputs.items()}
        ids = part.inputs["input_ids"]
        found = onnx_run(file)(given | {"input_ids": ids.numpy()})["logits"]
        assert found.shape == (2, tokens, space.vocabulary)
        with torch.inference_mode():
            expected = part.module(**part.inputs).numpy()
        np.testing.assert_allclose(found[:, -1], expected, atol=1e-4)
