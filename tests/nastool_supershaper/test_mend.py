"""A BERT made of an MPNet is the MPNet with its bias, and learns to do without."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from transformers import BertConfig, BertForMaskedLM, MPNetConfig, MPNetModel

import nastool_supershaper
from nastool_supernets.corpus.corpus import prepare_corpus
from nastool_supernets.corpus.text import TextFile
from nastool_supernets.corpus.tokenizer import save_tokenizer, train_tokenizer

LAYERS, SIZE = 3, 24


@pytest.fixture(scope="module")
def scripts():
    """The two scripts, as modules."""
    folder = str(Path(nastool_supershaper.__file__).parent / "reference")
    sys.path.insert(0, folder)
    try:
        import convert_mpnet
        import mend

        yield convert_mpnet, mend
    finally:
        sys.path.remove(folder)


def mpnet(words):
    torch.manual_seed(0)
    model = MPNetModel(
        MPNetConfig(
            vocab_size=words,
            hidden_size=SIZE,
            num_hidden_layers=LAYERS,
            num_attention_heads=3,
            intermediate_size=32,
            max_position_embeddings=514,
            initializer_range=0.3,
        )
    ).eval()
    torch.nn.init.normal_(model.encoder.relative_attention_bias.weight)
    return model


def test_with_the_bias_it_is_the_mpnet(scripts):
    convert, mend = scripts
    theirs = mpnet(50)
    words = [f"w{i}" for i in range(50)]
    ours = BertForMaskedLM(
        BertConfig(
            vocab_size=50,
            hidden_size=SIZE,
            num_hidden_layers=LAYERS,
            num_attention_heads=3,
            intermediate_size=32,
            max_position_embeddings=512,
            layer_norm_eps=theirs.config.layer_norm_eps,
        )
    ).eval()
    weights = convert.converted(dict(theirs.state_dict()), words, words, LAYERS)
    ours.load_state_dict(ours.state_dict() | weights)
    table = theirs.encoder.relative_attention_bias.weight
    # Longer than the distance from which on MPNet tells no two apart; token 1 would be padding.
    ids = torch.randint(2, 50, (2, 300), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = theirs(ids, output_hidden_states=True).hidden_states[1:]
        found = mend.hidden_states(ours.bert, ids, mend.attention_bias(table, 300))
        without = mend.hidden_states(ours.bert, ids, None)
    for a, b, c in zip(wanted, found, without, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
        assert (a - c).abs().max() > 0.1


def test_it_comes_closer_without_the_bias(scripts, tmp_path):
    convert, mend = scripts
    lines = np.random.default_rng(0).choice([f"w{i}" for i in range(40)], (300, 30))
    (tmp_path / "text.txt").write_text("\n\n".join(map(" ".join, lines)))
    source = TextFile(tmp_path / "text.txt")
    tokenizer = train_tokenizer([source], 100)
    save_tokenizer(tokenizer, tmp_path / "tokenizer")
    prepare_corpus([source], tokenizer, tmp_path / "corpus", sequence_length=16, held_out=0.1)
    words = [convert.SPECIAL.get(token, token) for token in sorted(tokenizer.get_vocab())]
    mpnet(len(words)).save_pretrained(tmp_path / "mpnet")
    (tmp_path / "mpnet" / "vocab.txt").write_text("\n".join(words) + "\n")

    def run(command, *arguments):
        result = CliRunner().invoke(command, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output
        return result.output

    start = tmp_path / "start"
    run(convert.main, tmp_path / "mpnet", tmp_path / "tokenizer", start)
    told = {}
    for steps in (1, 60):
        target = tmp_path / f"mended-{steps}"
        options = ("--steps", steps, "--batch-size", 8, "--rate", 3e-3)
        assert "held out" in run(mend.main, start, tmp_path / "corpus", target, *options)
        told[steps] = json.loads((target / "mended.json").read_text())
    assert np.mean(told[60]["distances"]) < 0.8 * np.mean(told[1]["distances"])
    assert told[60]["tokens"] == 60 * 8 * 16
    BertForMaskedLM.from_pretrained(tmp_path / "mended-60")
    refused = CliRunner().invoke(mend.main, [str(tmp_path / "mpnet"), "corpus", "other"])
    assert "has no relative_bias.safetensors" in str(refused.exception)
