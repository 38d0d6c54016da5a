import json

import pytest
from click.testing import CliRunner

from nastool.cli.main import main

WORDS = [
    "a", "bad", "boring", "film", "good", "great", "i", "it",
    "like", "movie", "not", "the", "this", "was", "watch", "we",
]  # fmt: skip

SIZES = {
    "vocab_size": 40,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 20,
    "widths": (8, 16, 24),
}


@pytest.fixture(scope="session")
def supernet(tmp_path_factory):
    """Folder of a tiny supernet of random weights, with a tokenizer of sixteen words."""
    torch = pytest.importorskip("torch")
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    from nastool_supernets.corpus.tokenizer import SPECIAL_TOKENS
    from nastool_supernets.saved import save_model
    from nastool_supershaper.modeling import SuperShaperForMaskedLM
    from nastool_supershaper.supernet_config import SuperShaperConfig

    folder = tmp_path_factory.mktemp("nets") / "tiny-net"
    folder.mkdir()
    torch.manual_seed(0)
    net = SuperShaperForMaskedLM(SuperShaperConfig(**SIZES))
    # As different as trained ones: fresh bottlenecks are identities, fresh biases are zero.
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    save_model(net, folder)
    vocabulary = {token: i for i, token in enumerate((*SPECIAL_TOKENS, *WORDS))}
    model = tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = tokenizers.normalizers.Lowercase()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    names = ("pad", "unk", "cls", "sep", "mask")
    special = {f"{name}_token": f"[{name.upper()}]" for name in names}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(
        str(folder)
    )
    return folder


@pytest.fixture
def nastool(tmp_path, monkeypatch):
    """Runs the command line in an empty folder, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NASTOOL_STORAGE", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return _run


def _run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments], prog_name="nastool")


@pytest.fixture(scope="session")
def examples(tmp_path_factory):
    """Labelled sentences."""
    file = tmp_path_factory.mktemp("examples") / "films.tsv"
    file.write_text(
        "sentence\tlabel\nthe film was good\tpositive\nwe like it\tpositive\n"
        'a "boring" movie\tnegative\nthis was not a great film i watch\tnegative\n'
    )
    return file


@pytest.fixture(scope="session")
def exported(supernet, examples, tmp_path_factory):
    """Folder of a classification in all forms that need no more than the extra, and the report."""
    for library in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(library)
    folder = tmp_path_factory.mktemp("exported") / "tiny"
    run = _run(
        "export", "--supernet", supernet, "--shape", "8-24", "--to", folder, "--onnx", "--int8",
        "--head", "classification", "--labels", "negative,positive", "--examples", examples,
        "--licence", "cc-by-4.0: own", "--format", "json",
    )  # fmt: skip
    assert run.exit_code == 0, run.stderr
    return folder, json.loads(run.stdout)
