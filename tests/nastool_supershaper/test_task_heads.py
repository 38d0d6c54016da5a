"""Task heads of deployed subnets, against transformers' BERT."""

import pytest
import torch
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
)

from nastool_supershaper.modeling import SuperShaperForMaskedLM
from nastool_supershaper.shaped_bert import (
    ShapedBertConfig,
    ShapedBertForMaskedLM,
    ShapedBertForQuestionAnswering,
    ShapedBertForSequenceClassification,
)


def config(**changes):
    return BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=12,
        **changes,
    )


def with_weights_of(bert, kind):
    """The same model as a subnet of full width."""
    subnet = SuperShaperForMaskedLM.from_bert(bert, widths=[8, 16]).extract((16, 16))
    model = kind(ShapedBertConfig(**{**subnet.config.to_dict(), **bert.config.to_diff_dict()}))
    model.bert.load_state_dict(subnet.bert.state_dict())
    return model.eval()


@pytest.fixture
def batch():
    mask = torch.ones(3, 10, dtype=torch.long)
    mask[1, 6:] = 0
    return {
        "input_ids": torch.randint(50, (3, 10), generator=torch.Generator().manual_seed(1)),
        "attention_mask": mask,
        "token_type_ids": (torch.arange(10) > 4).long().expand(3, -1),
    }


@pytest.mark.parametrize(
    ("labels", "settings"),
    [
        ([0, 2, 1], {"num_labels": 3}),
        ([0.5, 3.0, 1.0], {"num_labels": 1}),
        ([[0.5, 3.0], [1.0, 0.0], [0.0, 2.0]], {"num_labels": 2, "problem_type": "regression"}),
        (
            [[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]],
            {"num_labels": 2, "problem_type": "multi_label_classification"},
        ),
    ],
)
def test_sequence_classification_is_that_of_bert(batch, labels, settings):
    bert = BertForSequenceClassification(config(**settings)).eval()
    model = with_weights_of(bert, ShapedBertForSequenceClassification)
    model.pooler.load_state_dict(bert.bert.pooler.dense.state_dict())
    model.classifier.load_state_dict(bert.classifier.state_dict())
    batch["labels"] = torch.tensor(labels)
    with torch.no_grad():
        expected, got = bert(**batch), model(**batch)
    torch.testing.assert_close(got.logits, expected.logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(got.loss, expected.loss, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("starts", "ends"),
    # Of the second kind are answers that were cut off: they count for nothing.
    [([1, 0, 4], [3, 0, 4]), ([1, 9, 40], [3, 10, 41])],
)
def test_question_answering_is_that_of_bert(batch, starts, ends):
    bert = BertForQuestionAnswering(config()).eval()
    model = with_weights_of(bert, ShapedBertForQuestionAnswering)
    model.qa_outputs.load_state_dict(bert.qa_outputs.state_dict())
    batch["start_positions"] = torch.tensor(starts)
    batch["end_positions"] = torch.tensor(ends)
    with torch.no_grad():
        expected, got = bert(**batch), model(**batch)
    torch.testing.assert_close(got.start_logits, expected.start_logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(got.end_logits, expected.end_logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(got.loss, expected.loss, atol=1e-5, rtol=1e-4)


def test_what_other_libraries_pass_is_taken_as_by_bert(batch):
    """PEFT and sentence-transformers pass it to any model."""
    bert = BertForSequenceClassification(config(num_labels=3)).eval()
    model = with_weights_of(bert, ShapedBertForSequenceClassification)
    model.pooler.load_state_dict(bert.bert.pooler.dense.state_dict())
    model.classifier.load_state_dict(bert.classifier.state_dict())
    batch["labels"] = torch.tensor([0, 2, 1])
    asked = {"return_dict": False, "output_hidden_states": True}
    with torch.no_grad():
        expected, got = bert(**batch, **asked), model(**batch, **asked)
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)
        left_alone = {"inputs_embeds": None, "output_attentions": False, "return_dict": None}
        assert torch.equal(model(**batch, **left_alone).logits, got[1])
        model.config.return_dict = False
        model.config.output_hidden_states = True
        torch.testing.assert_close(model(**batch), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "asked", [{"output_attentions": True}, {"inputs_embeds": torch.zeros(3, 10, 16)}]
)
def test_what_is_not_computed_is_refused(batch, asked):
    bert = BertForQuestionAnswering(config()).eval()
    model = with_weights_of(bert, ShapedBertForQuestionAnswering)
    with pytest.raises(ValueError, match=f"{next(iter(asked))}: expected none"):
        model(**batch, **asked)


@pytest.mark.parametrize("size", [57, 43])
def test_the_vocabulary_changes_its_size_as_that_of_bert(tmp_path, batch, size):
    bert = BertForMaskedLM(config()).eval()
    torch.nn.init.normal_(bert.cls.predictions.bias)
    model = SuperShaperForMaskedLM.from_bert(bert, widths=[8, 16]).extract((16, 16)).eval()
    for one in (bert, model):
        one.resize_token_embeddings(size, mean_resizing=False)
    kept = min(size, 50)
    batch["input_ids"] = batch["input_ids"].clamp(max=kept - 1)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    assert type(loaded) is ShapedBertForMaskedLM
    with torch.no_grad():
        expected = bert(**batch).logits
        for one in (model, loaded):
            got = one(**batch).logits
            assert got.shape == expected.shape == (3, 10, size)
            torch.testing.assert_close(got[..., :kept], expected[..., :kept], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("auto", "kind"),
    [
        (AutoModelForSequenceClassification, ShapedBertForSequenceClassification),
        (AutoModelForQuestionAnswering, ShapedBertForQuestionAnswering),
    ],
)
def test_auto_classes_load_what_was_saved(tmp_path, batch, auto, kind):
    sizes = {name: getattr(config(), name) for name in ("vocab_size", "hidden_size")}
    model = kind(ShapedBertConfig((8, 16), num_attention_heads=2, intermediate_size=24, **sizes))
    model.eval().save_pretrained(tmp_path)
    loaded = auto.from_pretrained(tmp_path)
    assert type(loaded) is kind
    with torch.no_grad():
        for expected, got in zip(
            model(**batch).to_tuple(), loaded(**batch).to_tuple(), strict=True
        ):
            assert torch.equal(expected, got)
