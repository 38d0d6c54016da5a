"""From answers to tokens and back."""

import numpy as np
import pytest

from nastool_supernets.finetuning.data import Answer, Example
from nastool_supernets.finetuning.question_answering import answers, split
from nastool_supernets.finetuning.tasks import published_tasks, read_task_file

CONTEXT = " . ".join(["a lovely film", "a dull book"] * 8) + " . a bright end"


def example(text, question="what is the end"):
    return Example((question, CONTEXT), (Answer(text, CONTEXT.rindex(text)),))


def oracle(pieces):
    """Logits of a model that knows: high at start and end where the answer is in the piece."""
    longest = max(len(piece.inputs["input_ids"]) for piece in pieces)
    starts, ends = np.zeros((2, len(pieces), longest), np.float32)
    for row, piece in enumerate(pieces):
        start, end = piece.inputs["start_positions"], piece.inputs["end_positions"]
        height = 9.0 if start > 0 else 1.0
        starts[row, start] = ends[row, end] = height
    return starts, ends


def test_every_answer_comes_back_from_its_tokens(tokenizer):
    examples = [example(text) for text in ("bright", "a bright end", "film . a dull book", "end")]
    pieces = split(examples, tokenizer, 32)
    assert len(pieces) > len(examples)  # the context needs several pieces
    assert all(len(piece.inputs["input_ids"]) <= 32 for piece in pieces)
    found = answers(examples, pieces, *oracle(pieces))
    assert found == [e.label[0].text for e in examples]


def test_pieces_overlap_and_cover_the_context(tokenizer):
    pieces = split([example("bright")], tokenizer, 32)
    covered = np.zeros(len(CONTEXT), np.int64)
    for piece in pieces:
        for first, last in piece.offsets[piece.offsets[:, 0] >= 0]:
            covered[first:last] += 1
    letters = np.array([not character.isspace() for character in CONTEXT])
    assert covered[letters].min() == 1
    assert covered.max() == 2


def test_order_of_pieces_does_not_matter(tokenizer):
    examples = [example("bright"), example("end")]
    pieces = split(examples, tokenizer, 32)
    shuffled = pieces[::-1]
    assert answers(examples, shuffled, *oracle(shuffled)) == ["bright", "end"]


def test_spans_outside_the_context_or_too_long_are_never_answers(tokenizer):
    examples = [example("bright")]
    pieces = split(examples, tokenizer, 64)
    shape = (len(pieces), 64)
    starts, ends = np.zeros(shape), np.zeros(shape)
    starts[:, 0] = ends[:, 1] = 100.0  # [CLS] and the question
    starts[:, 8] = ends[:, 60] = 50.0  # more than 30 tokens
    starts[:, 20] = ends[:, 19] = 20.0  # the end before the start
    (found,) = answers(examples, pieces, starts, ends)
    assert found
    assert found in CONTEXT
    assert len(tokenizer(found, add_special_tokens=False)["input_ids"]) <= 30


def test_long_questions_are_cut(tokenizer):
    pieces = split([example("bright", "what is the end " * 50)], tokenizer, 32)
    assert all((piece.offsets[:, 0] >= 0).sum() >= 8 for piece in pieces)


@pytest.mark.parametrize("max_length", [24, 64])
def test_real_files_come_back(task_file, tokenizer, max_length):
    from nastool_supernets.finetuning.data import load_task

    data = load_task(read_task_file(task_file, published_tasks())["answers"])
    pieces = split(data.dev, tokenizer, max_length)
    found = answers(data.dev, pieces, *oracle(pieces))
    assert found == [e.label[0].text for e in data.dev]
