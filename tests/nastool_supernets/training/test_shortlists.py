"""What a teacher predicts is kept on disk, and asked for once."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from nastool.errors import InvalidInputError  # noqa: E402
from nastool_supernets.training import shortlists  # noqa: E402
from nastool_supernets.training.shortlists import (  # noqa: E402
    KeptLessons,
    shortlist,
    shortlist_divergence,
)
from nastool_supernets.training.teaching import divergence  # noqa: E402

KNOWN = {"teacher": "abc", "dtype": "float32"}
BLOCKS = np.arange(24, dtype=np.uint16).reshape(6, 4)


def logits(rows, vocabulary=30, seed=0):
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * 3


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_a_list_of_all_tokens_teaches_as_all_logits_do(temperature):
    student, teacher = logits(9, seed=1).requires_grad_(), logits(9)
    told = shortlist(teacher, temperature, 30)
    whole = divergence(student, teacher, temperature)
    assert torch.allclose(shortlist_divergence(student, told, temperature), whole, rtol=1e-5)
    few = shortlist(teacher, temperature, 5)
    assert torch.equal(few.tokens[0], teacher[0].topk(5).indices)
    # All others are one token: what is told of them is no more than what was known.
    part = divergence(student, few, temperature)
    assert 0 < part < whole
    assert shortlist_divergence(teacher, few, temperature).item() == pytest.approx(0, abs=1e-5)
    (gradient,) = torch.autograd.grad(part, student)
    assert torch.allclose(gradient.sum(-1), torch.zeros(9), atol=1e-6)


def test_a_teacher_is_asked_once_for_all_that_learn(tmp_path, monkeypatch):
    monkeypatch.setattr(shortlists, "KEPT", 7)
    asked = []

    def ask(ids, labels):
        asked.append(ids[:, 0].tolist())
        wanted = ids[labels != -100]
        return torch.stack([logits(1, seed=int(i))[0] for i in wanted])

    ids = torch.from_numpy(BLOCKS.astype(np.int64))
    labels = torch.cat([ids[:, 1:], torch.full((6, 1), -100)], 1)
    first = KeptLessons(tmp_path / "kept", BLOCKS, KNOWN, 30, 2.0)
    assert (first.kept, first.done, first.size) == (7, 0, 6 * 4 * 7 * 4 + 6)
    one = first.lesson(ids[[1, 4]], labels[[1, 4]], ask)
    assert asked == [[4, 16]]
    expected = shortlist(torch.stack([logits(1, seed=i)[0] for i in (4, 5, 6, 16, 17, 18)]), 2.0, 7)
    assert torch.equal(one.tokens, expected.tokens)
    assert torch.allclose(one.logs, expected.logs, rtol=1e-3)
    again = KeptLessons(tmp_path / "kept", BLOCKS, KNOWN, 30, 2.0)
    other = again.lesson(ids[[4, 0, 1]], labels[[4, 0, 1]], ask)
    assert asked == [[4, 16], [0]]
    assert torch.equal(other.tokens[:3], one.tokens[3:])
    assert torch.equal(other.logs[6:], one.logs[:3])
    assert "3 of 6 blocks" in str(again)


def test_a_teacher_of_a_vocabulary_padded_further_teaches_what_both_have(tmp_path):
    ids = torch.from_numpy(BLOCKS.astype(np.int64))
    labels = torch.cat([ids[:, 1:], torch.full((6, 1), -100)], 1)
    teacher = logits(18, vocabulary=34)
    teacher[:, 30:] += 20  # what nobody trained may say anything
    kept = KeptLessons(tmp_path, BLOCKS, KNOWN, 30, 2.0)
    told = kept.lesson(ids, labels, lambda *_: teacher)
    student = logits(18, seed=1)
    whole = divergence(student, teacher, 2.0)
    assert divergence(student, told, 2.0).item() == pytest.approx(whole.item(), rel=1e-3)


def test_lessons_of_older_versions_are_read(tmp_path):
    KeptLessons(tmp_path, BLOCKS, KNOWN | {"dtype": "auto"}, 30, 2.0)
    assert KeptLessons(tmp_path, BLOCKS, KNOWN, 30, 2.0).done == 0
    with pytest.raises(InvalidInputError, match="another teacher"):
        KeptLessons(tmp_path, BLOCKS, KNOWN | {"teacher": "xyz"}, 30, 2.0)


def test_lessons_of_something_else_are_refused(tmp_path):
    KeptLessons(tmp_path, BLOCKS, KNOWN, 30, 2.0)
    for changed, said in (
        ((BLOCKS + 1, KNOWN, 30, 2.0), "text"),
        ((BLOCKS, KNOWN | {"teacher": "xyz"}, 30, 2.0), "teacher"),
        ((BLOCKS, KNOWN, 30, 1.0), "temperature"),
    ):
        with pytest.raises(InvalidInputError, match=f"another {said}"):
            KeptLessons(tmp_path, *changed)
    (tmp_path / "logs.bin").write_bytes(b"")
    with pytest.raises(InvalidInputError, match=r"logs\.bin must hold"):
        KeptLessons(tmp_path, BLOCKS, KNOWN, 30, 2.0)
