import numpy as np
import pytest
from click.testing import CliRunner

from nastool.cli.main import main
from nastool.errors import InvalidInputError
from nastool.plugins import load_objective, load_space
from nastool.testing import ObjectiveConformance, Widths

torch = pytest.importorskip("torch")

from nastool_supernets.corpus.text import text_files  # noqa: E402
from nastool_supernets.corpus.tokenizer import train_tokenizer  # noqa: E402
from nastool_supernets.measuring import perplexities, tables  # noqa: E402
from nastool_supernets.saved import save_model  # noqa: E402 - torch must be there
from tests.supershaped import tiny_net  # noqa: E402


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "words.txt"
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(40)]
    lines = [" ".join(rng.choice(words, 60)) + ".\n\n" for _ in range(20)]
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="module")
def supernet(text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("supernet")
    tokenizer = train_tokenizer(text_files([text]), 200)
    save_model(tiny_net(vocab_size=len(tokenizer), max_position_embeddings=128), folder)
    tokenizer.save_pretrained(folder)
    return folder


def measured(supernet, text, **settings):
    space = load_space(f"supershaper[{supernet}]")
    settings = {"text": (str(text),), "dtype": "float32", **settings}
    return load_objective(f"measured_perplexity[{supernet}]", space, settings)


class TestMeasuredPerplexity(ObjectiveConformance):
    batch = 5

    @pytest.fixture(autouse=True)
    def _trained(self, supernet, text):
        self.supernet, self.text = supernet, text

    def space(self):
        return load_space(f"supershaper[{self.supernet}]")

    def make(self):
        return measured(self.supernet, self.text)


def test_values_are_those_of_measuring(supernet, text):
    from nastool_supernets.measuring.perplexities import perplexities

    objective = measured(supernet, text)
    genotypes = np.array([[0, 2], [1, 1]])
    expected = perplexities(
        objective._net, objective._input_ids, objective._labels, [(0, 2), (1, 1)]
    )
    np.testing.assert_allclose(objective.evaluate(genotypes), expected, rtol=1e-6)


def test_other_masks_are_another_measurement(supernet, text):
    one, other = (measured(supernet, text, mask_seed=seed) for seed in (0, 1))
    assert one.fingerprint != other.fingerprint


def test_a_supernet_of_another_space_is_refused(supernet):
    with pytest.raises(InvalidInputError, match="is a supernet of space"):
        load_objective(f"measured_perplexity[{supernet}]", load_space("supershaper"))
    with pytest.raises(InvalidInputError, match="is a supernet of space"):
        load_objective(f"measured_perplexity[{supernet}]", Widths())


def test_no_supernet_is_said(tmp_path):
    space = load_space("supershaper")
    with pytest.raises(InvalidInputError, match="needs the folder of a supernet"):
        load_objective("measured_perplexity", space)
    with pytest.raises(InvalidInputError, match="found neither"):
        load_objective(f"measured_perplexity[{tmp_path}]", space)


def test_eight_bits_can_be_searched_by(supernet, text):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    space = load_space(f"supershaper[{supernet}]")
    small = load_objective(f"int8_perplexity[{supernet}]", space, {"text": (str(text),)})
    assert small.name == f"int8_perplexity[{supernet}]"
    assert small.provenance.by.endswith("in 8 bits")
    exact = measured(supernet, text)
    assert small.fingerprint != exact.fingerprint
    genotypes = np.array([[0, 1], [2, 2]])
    found, wanted = small.evaluate(genotypes), exact.evaluate(genotypes)
    assert (found != wanted).all()  # eight bits do change it
    np.testing.assert_allclose(found, wanted, rtol=0.05)


def test_eight_bits_are_another_metric(supernet, text):
    with pytest.raises(InvalidInputError, match=r"int8_perplexity\[SUPERNET\]"):
        measured(supernet, text, dtype="int8")


def test_commands_and_studies_measure_no_shape_twice(supernet, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NASTOOL_STORAGE", raising=False)
    counted = []

    def counting(net, ids, labels, genotypes, **settings):
        counted.extend(genotypes)
        return real(net, ids, labels, genotypes, **settings)

    real = perplexities.perplexities
    monkeypatch.setattr(perplexities, "perplexities", counting)
    monkeypatch.setattr(tables, "perplexities", counting)
    metric = f"measured_perplexity[{supernet},text={text},dtype=float32]"
    measure = ("measure", str(supernet), "--text", str(text), "--dtype", "float32")
    search = ("search", "--space", f"supershaper:{supernet}", "--objective", metric)
    commands = (
        (*measure, "--shapes", "3", "--output", "a.csv"),
        (*search, "--strategy", "random", "--budget", "6"),
        (*measure, "--shapes", "7", "--output", "b.csv"),
        (*search, "--strategy", "evolution", "--objective", "params", "--budget", "9"),
    )
    before = 0
    for command in (*commands, *commands):
        run = CliRunner().invoke(main, command, prog_name="nastool")
        assert run.exit_code == 0, run.output
        assert before <= len(counted) == len(set(counted)), command
        before = len(counted)
    assert before == 9  # all there are
