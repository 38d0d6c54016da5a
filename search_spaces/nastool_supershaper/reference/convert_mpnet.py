"""Turn MPNet-base into a BERT: a start of full size for a supernet, where no BERT is at hand.

    python convert_mpnet.py MPNET TOKENIZER TARGET

MPNET is the folder of all-mpnet-base-v2, or of another MPNet of transformers; TOKENIZER one with
BERT's uncased tokenizer; TARGET a new folder. MPNet is a BERT but for one relative bias on
attention, which all layers share and which is left out, positions that start at 2, no segments, and
a vocabulary of the same word pieces in another order. Without the bias, hidden states come out
close in the first layers only, and say little of masked tokens: it is kept beside the net, and
mend.py teaches the net to do without. There is no masked language modelling head; what is made here
lets the decoder see the features until one is trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM

from nastool.errors import InvalidInputError
from nastool.files.reading import read_json_object, read_text
from nastool.files.writing import check_free, whole_folder
from nastool_supernets.corpus.tokenizer import load_tokenizer, save_tokenizer

BIAS = "relative_bias.safetensors"
"""File beside the net that holds what is left out, (buckets, heads)."""

SPECIAL = {"[CLS]": "<s>", "[SEP]": "</s>", "[PAD]": "<pad>", "[MASK]": "<mask>"}
"""Tokens of BERT that MPNet writes otherwise."""

FIRST_POSITION = 2
"""Row of MPNet's positions that the first token gets."""

NAMES = {
    "attention.attn.q": "attention.self.query",
    "attention.attn.k": "attention.self.key",
    "attention.attn.v": "attention.self.value",
    "attention.attn.o": "attention.output.dense",
    "attention.LayerNorm": "attention.output.LayerNorm",
    "intermediate.dense": "intermediate.dense",
    "output.dense": "output.dense",
    "output.LayerNorm": "output.LayerNorm",
}
"""Parts of a layer: MPNet's names and BERT's."""


@click.command()
@click.argument("mpnet", type=click.Path(path_type=Path))
@click.argument("tokenizer", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
def main(mpnet: Path, tokenizer: Path, target: Path) -> None:
    """Turn the MPNet in a folder into a BERT with another tokenizer."""
    check_free(target)
    sizes = read_json_object(mpnet / "config.json")
    reader = load_tokenizer(tokenizer)
    words = [token for token, _ in sorted(reader.get_vocab().items(), key=lambda item: item[1])]
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=sizes["hidden_size"],
        num_hidden_layers=sizes["num_hidden_layers"],
        num_attention_heads=sizes["num_attention_heads"],
        intermediate_size=sizes["intermediate_size"],
        max_position_embeddings=sizes["max_position_embeddings"] - FIRST_POSITION,
        layer_norm_eps=sizes["layer_norm_eps"],
        pad_token_id=reader.pad_token_id,
    )
    found = load_file(mpnet / "model.safetensors")
    found = {name.removeprefix("mpnet."): weight.float() for name, weight in found.items()}
    weights = converted(
        found,
        read_text(mpnet / "vocab.txt").splitlines(),
        words,
        config.num_hidden_layers,
    )
    model = BertForMaskedLM(config)
    model.load_state_dict(model.state_dict() | weights)
    model.tie_weights()
    with whole_folder(target) as folder:
        model.save_pretrained(folder)
        save_tokenizer(reader, folder)
        bias = found["encoder.relative_attention_bias.weight"]
        save_file({"relative_attention_bias": bias}, folder / BIAS)
    click.echo(f"{sum(p.numel() for p in model.parameters()):,} parameters: {target}")


def converted(
    found: Mapping[str, Tensor], old: list[str], new: list[str], layers: int
) -> dict[str, Tensor]:
    """Return the weights by the names of BERT, and a head that hides nothing.

    Args:
        found: MPNet's, without its prefix.
        old: MPNet's vocabulary, in order.
        new: BERT's.
        layers: Number of layers.

    Raises:
        InvalidInputError: If a token of BERT's is none of MPNet's.
    """
    places = {token: row for row, token in enumerate(old)}
    if missing := [token for token in new if SPECIAL.get(token, token) not in places]:
        raise InvalidInputError(
            f"expected a tokenizer of MPNet's word pieces, {len(missing)} are none of them: "
            f"{', '.join(missing[:3])}"
        )
    rows = torch.tensor([places[SPECIAL.get(token, token)] for token in new])
    words = found["embeddings.word_embeddings.weight"][rows]
    positions = found["embeddings.position_embeddings.weight"][FIRST_POSITION:]
    size = words.shape[1]
    embeddings = "bert.embeddings"
    made = {
        f"{embeddings}.word_embeddings.weight": words,
        f"{embeddings}.position_embeddings.weight": positions,
        f"{embeddings}.token_type_embeddings.weight": torch.zeros(2, size),
        "cls.predictions.decoder.weight": words,
        "cls.predictions.transform.dense.weight": torch.eye(size),
        "cls.predictions.transform.dense.bias": torch.zeros(size),
    }
    for kind in ("weight", "bias"):
        made[f"{embeddings}.LayerNorm.{kind}"] = found[f"embeddings.LayerNorm.{kind}"]
        for layer in range(layers):
            for mpnet, bert in NAMES.items():
                weight = found[f"encoder.layer.{layer}.{mpnet}.{kind}"]
                made[f"bert.encoder.layer.{layer}.{bert}.{kind}"] = weight
    return made


if __name__ == "__main__":
    main()
