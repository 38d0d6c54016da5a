import json

import numpy as np
import pytest

from nastool_supernets.corpus.corpus import prepare_corpus
from nastool_supernets.corpus.text import text_files
from nastool_supernets.corpus.tokenizer import train_tokenizer
from nastool_supernets.saved import save_model
from tests.supershaped import tiny_net

GOOD, BAD = ("splendid", "lovely", "bright"), ("dreadful", "awful", "dull")
THINGS = ("film", "book", "song", "tale", "play")


def sentence(rng, label):
    return f"a {rng.choice(GOOD if label else BAD)} {rng.choice(THINGS)}"


@pytest.fixture(scope="session")
def supernet(tmp_path_factory):
    """A tiny supernet with random weights, its tokenizer and its corpus, in a folder."""
    root = tmp_path_factory.mktemp("supernet")
    rng = np.random.default_rng(0)
    text = root / "text.txt"
    lines = [" . ".join(sentence(rng, i % 2) for _ in range(40)) + "\n\n" for i in range(30)]
    text.write_text("".join(lines))
    sources = text_files([text])
    tokenizer = train_tokenizer(sources, 120)
    folder = root / "net"
    folder.mkdir()
    sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": 64}
    save_model(tiny_net(**sizes, initializer_range=0.2), folder)
    tokenizer.save_pretrained(folder)
    prepare_corpus(sources, tokenizer, folder / "corpus", sequence_length=32, held_out=0.2)
    return folder


@pytest.fixture(scope="session")
def tokenizer(supernet):
    from nastool_supernets.corpus.tokenizer import load_tokenizer

    return load_tokenizer(supernet)


@pytest.fixture(scope="session")
def task_file(tmp_path_factory):
    """A task of each kind in local files."""
    folder = tmp_path_factory.mktemp("tasks")
    rng = np.random.default_rng(1)
    for part, n in (("train", 64), ("dev", 32)):
        labels = rng.integers(0, 2, n)
        rows = [f"{sentence(rng, label)}\t{['bad', 'good'][label]}" for label in labels]
        (folder / f"mood_{part}.tsv").write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
        pairs = []
        for label in labels.tolist():
            one, two = sentence(rng, label), sentence(rng, rng.integers(0, 2))
            pairs.append({"one": one, "two": two, "same": label, "grade": label + 0.5})
        (folder / f"pairs_{part}.jsonl").write_text("\n".join(map(json.dumps, pairs)))
        paragraphs = []
        for number in range(n // 8):
            context = " . ".join(sentence(rng, 1) for _ in range(9))
            word = rng.choice(GOOD)
            context += f" . a {word} end"
            answer = {"text": word, "answer_start": context.rindex(word)}
            questions = [{"id": str(number), "question": "what is the end", "answers": [answer]}]
            paragraphs.append({"context": context, "qas": questions})
        squad = {"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]}
        (folder / f"answers_{part}.json").write_text(json.dumps(squad))
    path = folder / "tasks.toml"
    path.write_text(
        """
[mood]
kind = "sentence"
train = "mood_train.tsv"
dev = "mood_dev.tsv"
metrics = ["accuracy", "f1"]

[same]
kind = "pair"
train = "pairs_train.jsonl"
dev = "pairs_dev.jsonl"
texts = ["one", "two"]
label = "same"

[grade]
kind = "regression"
train = "pairs_train.jsonl"
dev = "pairs_dev.jsonl"
texts = ["one", "two"]
label = "grade"
start_from = "same"

[answers]
kind = "question-answering"
train = "answers_train.json"
dev = "answers_dev.json"
max_length = 32
"""
    )
    return path
