"""A family from a file goes all the way: trained, measured, fitted, searched and cut out."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from tests.nastool_supernets.conftest import TOY

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("xgboost")

from nastool.cli.main import main  # noqa: E402


def nastool(*words):
    result = CliRunner().invoke(main, [*map(str, words), "--plugin", str(TOY)])
    assert result.exit_code == 0, (result.output, result.stderr, result.exception)
    return result.stdout


def test_from_text_to_a_shape(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    words = [f"{a}{b}{c}" for a in "bdfgk" for b in ("a", "en", "il") for c in ("", "ms", "t")]
    (tmp_path / "text.txt").write_text(
        "\n\n".join(" ".join(rng.choice(words, 40)) for _ in range(60))
    )
    train = "pretrain --family toy --size toy-tiny --text text.txt --tokenizer train:100"
    train += " --sequence-length 16 --held-out 0.2 --preset smoke --steps 4 --dtype float32"
    train += " --peak-flops 1e9 --tracker none --output net"
    # Its own option goes into a file, and comes back from one; the plugin, too.
    dumped = nastool(*train.split(), "--depths", "1,2,3", "--dump-config")
    assert 'depths = "1,2,3"' in dumped
    (tmp_path / "train.toml").write_text(dumped)
    ran = CliRunner().invoke(main, ["run", "train.toml"])
    assert ran.exit_code == 0, ran.stderr
    assert "held-out perplexity, smallest" in ran.stdout
    assert json.loads((tmp_path / "net" / "config.json").read_text())["model_type"] == "toy"

    measure = "measure net --shapes 7 --dtype float32 --output table.csv"
    assert "9 shapes, " in nastool(*measure.split())
    assert (tmp_path / "table.csv").read_text().startswith("depth,ffn,perplexity\n1,8,")

    nastool("fit", "table.csv", "--space", "toy[net]", "--output", "predictor")
    kept = ("--storage", "sqlite:///kept.db")
    search = "search --space toy[net] --objective perplexity[predictor] --objective params"
    nastool(*search.split(), "--budget", "9", *kept, "--study", "front")
    exported = nastool(
        *["export", "front", "--shape", "1", "--supernet", "net", "--to", "shape"], *kept
    )
    assert "Exported" in exported
    shape = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "shape").eval()
    from nastool_supernets.saved import load_supernet

    net = load_supernet(tmp_path / "net")
    genotype = net.genotype((shape.config.n_layer, shape.config.n_inner))
    counted = net.space.costs["params"].evaluate(np.array([genotype]))
    assert counted == sum(p.numel() for p in shape.parameters())
    ids = torch.arange(5, 21)[None]
    torch.testing.assert_close(
        shape(ids).logits, net.logits({"input_ids": ids}, genotype), rtol=1e-4, atol=1e-5
    )
    assert len(TOY.read_text().splitlines()) < 150
    # The run goes on, and is refused with another family's options.
    nastool(*train.split(), "--resume")
    bad = CliRunner().invoke(
        main, [*train.split(), "--resume", "--widths", "4,8", "--plugin", str(TOY)]
    )
    assert bad.exit_code == 2
    assert "--widths: expected a supershaper net, got toy" in bad.stderr
