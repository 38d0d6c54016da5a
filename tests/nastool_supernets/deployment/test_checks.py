"""Forms of a model against each other, and what quality is."""

import json
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from nastool.constraint import format_quantity  # noqa: E402
from nastool.errors import InvalidInputError, NastoolError  # noqa: E402
from nastool_supernets.corpus.tokenizer import load_tokenizer  # noqa: E402
from nastool_supernets.deployment import checks  # noqa: E402
from nastool_supernets.deployment import export as exporting  # noqa: E402
from nastool_supernets.deployment.forms import torch_run, write_openvino  # noqa: E402
from nastool_supernets.deployment.report import Origin  # noqa: E402
from nastool_supernets.deployment.runtimes import FILES, onnx_run, openvino_run  # noqa: E402
from nastool_supernets.family import with_head  # noqa: E402
from nastool_supernets.saved import load_shape, load_supernet  # noqa: E402


@pytest.fixture(scope="module")
def subnet(supernet):
    return load_supernet(supernet).model.extract((8, 24))


def fixed(logits):
    """A form that always says the same."""
    return lambda inputs: {"logits": np.asarray(logits, dtype=np.float32)}


def test_the_largest_difference_counts_wherever_it_is():
    batches = [{"input_ids": np.zeros((1, 3))}, {"input_ids": np.zeros((2, 5))}]
    found = checks.compare(fixed([[1, 2, 3]]), fixed([[1, 2.5, 2]]), batches)
    assert (found.largest, found.mean) == (1.0, 0.5)
    assert found.sizes == ((1, 3), (2, 5))
    assert math.isnan(checks.compare(fixed([[1.0]]), fixed([[math.nan]]), batches).largest)


def test_batches_have_padding_segments_and_the_longest_text(subnet):
    batches = checks.random_batches(subnet)
    assert {batch["input_ids"].shape for batch in batches} >= {(1, 1), (1, 7), (1, 20)}
    assert any((batch["attention_mask"] == 0).any() for batch in batches)
    assert any((batch["token_type_ids"] == 1).any() for batch in batches)
    assert all(batch["attention_mask"].any(axis=1).all() for batch in batches)


def test_onnx_takes_batches_and_lengths_that_it_has_not_seen(exported):
    folder, report = exported
    differences = {row["form"]: row["difference"] for row in report["rows"]}
    assert differences["onnx"]["largest"] < 1e-4
    assert differences["int8"]["largest"] > 0
    model = load_shape(folder)
    rng = np.random.default_rng(1)
    ids = rng.integers(40, size=(5, 13))
    mask = np.ones_like(ids)
    mask[[1, 3], [9, 4]] = 0
    mask[4, 1:] = 0
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": ids % 2}
    expected = torch_run(model)(inputs)["logits"]
    found = onnx_run(folder / FILES["onnx"])(inputs)["logits"]
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-4)
    eight = onnx_run(folder / FILES["int8"])(inputs)["logits"]
    assert 0 < np.abs(eight - expected).max() < 0.5


def test_files_hold_neither_paths_nor_a_second_copy_of_the_weights(exported):
    folder, report = exported
    content = (folder / FILES["onnx"]).read_bytes()
    assert b"site-packages" not in content
    assert b"shaped_bert" not in content
    import onnx

    elements = sum(
        int(np.prod(weight.dims)) for weight in onnx.load_from_string(content).graph.initializer
    )
    assert abs(elements - report["parameters"]) < 100
    weights = onnx.load(str(folder / FILES["int8"])).graph.initializer
    large = {w.data_type for w in weights if np.prod(w.dims) >= 24 * 32}
    assert large <= {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}


def test_openvino_says_what_onnx_says(exported, tmp_path):
    pytest.importorskip("openvino")
    source, path = exported[0] / FILES["onnx"], tmp_path / FILES["openvino"]
    write_openvino(source, path)
    batches = checks.random_batches(load_shape(exported[0]))
    assert checks.compare(onnx_run(source), openvino_run(path), batches).largest < 1e-5


@pytest.mark.parametrize("wrong", [1e-3, math.nan])
def test_an_onnx_file_that_says_something_else_is_refused(
    subnet, supernet, tmp_path, monkeypatch, wrong
):
    right = torch_run(subnet)
    monkeypatch.setattr(exporting.forms, "write", lambda form, model, folder: folder)
    monkeypatch.setattr(exporting, "require", lambda form: None)
    monkeypatch.setattr(
        exporting, "RUNS", {"onnx": lambda _: lambda x: {"logits": right(x)["logits"] + wrong}}
    )
    with pytest.raises(NastoolError, match=r"onnx and PyTorch must agree within 0\.0001"):
        exporting.export(
            subnet, load_tokenizer(supernet), tmp_path / "model", Origin("x"), ["onnx"]
        )
    assert list(tmp_path.iterdir()) == []


def test_perplexity_is_that_of_torch(subnet):
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(40, (11, 9), generator=generator)
    labels = torch.where(torch.rand(11, 9, generator=generator) < 0.3, ids.roll(1), -100)
    with torch.inference_mode():
        expected = subnet(ids, torch.ones_like(ids), labels=labels).loss.exp().item()
    found = checks.perplexity_of(torch_run(subnet), ids.numpy(), labels.numpy())
    assert found == pytest.approx(expected, rel=1e-5)


class TestExamples:
    @pytest.fixture
    def write(self, tmp_path):
        def run(text):
            file = tmp_path / "data.tsv"
            file.write_text(text)
            return file

        return run

    def scored(self, model, supernet, file, run, limit=None):
        quality = checks.score_on_examples(model, load_tokenizer(supernet), file, limit)
        return quality.measure(run)

    def test_pairs_reach_the_model_in_two_segments(self, subnet, supernet, write):
        model = with_head(subnet, "classification", ["no", "yes"])
        file = write("a\tb\tlabel\tscore\ngood film\tbad film\tyes\t7\nwe\tit\tno\t8\n")
        seen = []

        def run(inputs):
            seen.append(inputs)
            return {"logits": np.array([[0.0, 1.0], [0.0, 1.0]])}

        assert self.scored(model, supernet, file, run) == {"accuracy": 0.5}
        [inputs] = seen
        assert inputs["token_type_ids"].tolist() == [[0, 0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1, 1]]
        assert inputs["attention_mask"].sum() == 12
        one = self.scored(model, supernet, file, lambda _: {"logits": np.eye(2)[1:]}, 1)
        assert one == {"accuracy": 1.0}

    def test_names_that_are_numbers_are_names(self, subnet, supernet, write):
        """Stars from 1 to 3: the text with one star is of the first class."""
        model = with_head(subnet, "classification", ["1", "2", "3"])
        run = fixed([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0]])
        stars = write("sentence\tlabel\ngood\t1\nbad\t2\n")
        assert self.scored(model, supernet, stars, run) == {"accuracy": 1.0}
        named = with_head(subnet, "classification", ["one", "two", "three"])
        assert self.scored(named, supernet, stars, run) == {"accuracy": 0.0}

    def test_columns_that_number_the_examples_are_no_text(self, subnet, supernet, write):
        model = with_head(subnet, "classification", ["no", "yes"])
        seen = []

        def run(inputs):
            seen.append(inputs)
            return {"logits": np.array([[0.0, 1.0]])}

        self.scored(model, supernet, write("idx\tsentence\tlabel\n7\tgood film\tyes\n"), run)
        assert seen[0]["input_ids"].shape == (1, 4)

    def test_regression_is_scored_by_ranks(self, subnet, supernet, write):
        model = with_head(subnet, "regression")
        file = write("sentence\tlabel\ngood\t5\nbad\t1.5\nfilm\t3\n")
        run = fixed([[50.0], [-1.0], [0.0]])
        assert self.scored(model, supernet, file, run) == {"spearman": pytest.approx(1.0)}

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("label\n1\n", "expected one or two columns of text, then 'label'"),
            ("sentence\tclass\na\t1\n", "expected one or two columns of text, then 'label'"),
            ("", r"data\.tsv: expected a header and at least one row, the file is empty"),
            ("sentence\tlabel\n", "must hold examples, got none"),
            ("sentence\tlabel\ngood\n", r"data\.tsv, line 2: expected 2 cells, got 1"),
            ("sentence\tlabel\ngood\tmaybe\n", r"one of the classes \(no, yes\), got 'maybe'"),
            (
                "sentence\tlabel\ngood\tyes\nbad\t0\n",
                r"line 3: 'label' must be one of the classes \(no, yes\), got '0'",
            ),
        ],
    )
    def test_other_files_are_refused(self, subnet, supernet, write, text, message):
        model = with_head(subnet, "classification", ["no", "yes"])
        with pytest.raises(InvalidInputError, match=message):
            checks.score_on_examples(model, load_tokenizer(supernet), write(text), None)


class TestQuestions:
    """Answers are found by a run that knows the token, wherever the pieces of a context put it."""

    @pytest.fixture
    def asked(self, tmp_path):
        context = "we like it . " * 6 + "the movie was great . " + "this film was not bad . " * 3
        rows = [
            {
                "question": "was it good",
                "context": context,
                "answers": [{"text": word, "answer_start": context.index(word)}],
            }
            for word in ("great", "movie was")
        ]
        file = tmp_path / "asked.json"
        file.write_text(json.dumps(rows))
        return file

    def measured(self, subnet, supernet, file, limit=None, max_length=None):
        tokenizer = load_tokenizer(supernet)
        great = tokenizer.convert_tokens_to_ids("great")
        lengths = []

        def run(inputs):
            lengths.append(inputs["input_ids"].shape[1])
            found = (inputs["input_ids"] == great) & (inputs["token_type_ids"] == 1)
            return {"start_logits": 9.0 * found, "end_logits": 9.0 * found}

        model = with_head(subnet, "question-answering")
        quality = checks.score_on_examples(model, tokenizer, file, limit, max_length)
        return quality.measure(run), lengths

    def test_exact_match_and_f1(self, subnet, supernet, asked):
        scores, lengths = self.measured(subnet, supernet, asked)
        assert scores == {"exact_match": 0.5, "f1": 0.5}
        assert max(lengths) == 20
        assert self.measured(subnet, supernet, asked, 1)[0] == {"exact_match": 1.0, "f1": 1.0}

    def test_pieces_have_so_many_tokens_at_most(self, subnet, supernet, asked):
        with pytest.raises(InvalidInputError, match="needs at least 20 tokens an example, got 12"):
            self.measured(subnet, supernet, asked, max_length=12)

    def test_other_files_are_refused(self, subnet, supernet, tmp_path):
        (tmp_path / "x.tsv").write_text("sentence\tlabel\ngood\t1\n")
        with pytest.raises(InvalidInputError, match=r"x\.tsv, line 2: expected a column"):
            self.measured(subnet, supernet, tmp_path / "x.tsv")


def test_a_supernet_says_what_it_is(supernet):
    net = load_supernet(supernet)
    weights = sum(parameter.numel() for parameter in net.model.parameters())
    sizes = [net.space.costs["params"].evaluate(end[None])[0] for end in (
        net.space.smallest, net.space.largest
    )]  # fmt: skip
    said = " to ".join(map(format_quantity, sizes))
    assert repr(net) == (
        f"<Supernet of {net.space.name}: 9 shapes of {said} parameters, masked-lm>"
    )
    shown = net._repr_html_()
    for text in (said, format_quantity(weights), "8-8", "24-24"):
        assert f">{text}</td>" in shown
