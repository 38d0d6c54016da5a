"""Fine-tuning itself: batches, the best epoch, learning from a teacher."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import TrainingArguments

from nastool_supernets.family import with_head
from nastool_supernets.finetuning import training
from nastool_supernets.finetuning.data import load_task
from nastool_supernets.finetuning.encoding import Encoded, encode
from nastool_supernets.finetuning.tasks import Files, Kind, Settings, Task, read_task_file
from nastool_supernets.finetuning.training import distillation_loss
from nastool_supernets.saved import load_supernet
from nastool_supernets.training.rules import Distillation
from nastool_supershaper.shaped_bert import ShapedBertConfig, ShapedBertForSequenceClassification


def test_distance_to_a_teacher():
    logits = torch.tensor([[1.0, 2.0], [0.0, -1.0]])
    other = torch.tensor([[2.0, 1.0], [0.0, -1.0]])
    assert distillation_loss({"logits": logits}, {"logits": logits}, 2.0) == pytest.approx(0)
    p, q = torch.softmax(other, -1), torch.softmax(logits, -1)
    expected = (p * (p / q).log()).sum() / 2
    assert distillation_loss({"logits": logits}, {"logits": other}, 1.0) == pytest.approx(
        float(expected)
    )
    column = {"logits": torch.tensor([[1.0], [3.0]])}
    assert distillation_loss(column, {"logits": torch.zeros(2, 1)}, 7.0) == pytest.approx(5.0)


def test_a_teacher_is_part_of_the_loss(tmp_path):
    config = ShapedBertConfig(
        (8,), vocab_size=20, hidden_size=8, num_attention_heads=2, intermediate_size=8, num_labels=3
    )
    student, teacher = (ShapedBertForSequenceClassification(config) for _ in range(2))
    arguments = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    trainer = training._DistillingTrainer(model=student, args=arguments)
    trainer.learn_from(teacher, Distillation(0.25, 2.0))
    texts = {"input_ids": torch.tensor([[1, 2], [3, 4]])}
    batch = {**texts, "labels": torch.tensor([0, 2])}
    with torch.no_grad():
        loss = trainer.compute_loss(student.train(), batch)
        own, distance = student(**batch), distillation_loss(student(**texts), teacher(**texts), 2.0)
        assert loss == pytest.approx(float(0.75 * own.loss + 0.25 * distance))
        assert trainer.compute_loss(student.eval(), batch) == pytest.approx(float(own.loss))


def test_grouping_by_length_leaves_the_dev_set_in_order(supernet, tokenizer, task_file):
    task = read_task_file(task_file, {})["answers"]
    task = replace(task, settings=replace(task.settings, max_length=64))
    encoded = encode(task, load_task(task), tokenizer, 64)
    scores = []
    for grouped in (False, True):
        model = with_head(load_supernet(supernet).model.extract((16, 16)), task.head, ())
        settings = Settings(
            epochs=1, batch_size=1000, learning_rate=1e-9, max_length=64, group_by_length=grouped
        )
        outcome = training.fine_tune(
            model, task, encoded, tokenizer, settings, 0, device="cpu", dtype="float32"
        )
        scores.append(outcome.scores)
    assert scores[0] == scores[1]


@pytest.mark.parametrize(("grouped", "least", "most"), [(False, 1500, 3000), (True, 0, 500)])
def test_grouping_by_length_spares_padding(supernet, tokenizer, grouped, least, most):
    lengths = np.random.default_rng(0).permutation(np.repeat(np.arange(2, 42), 5)).tolist()
    rows = [
        {"input_ids": [5] * n, "token_type_ids": [0] * n, "labels": i % 2}
        for i, n in enumerate(lengths)
    ]
    model = with_head(load_supernet(supernet).model.extract((4, 4)), "classification", ("a", "b"))
    seen = []
    model.register_forward_pre_hook(
        lambda _, args, inputs: seen.append(inputs["attention_mask"]), with_kwargs=True
    )
    task = Task("x", Kind.SENTENCE, Files((), ()))
    settings = Settings(epochs=1, batch_size=4, group_by_length=grouped)
    encoded = Encoded(rows, rows[:4], lambda _: {"accuracy": 1.0})
    training.fine_tune(model, task, encoded, tokenizer, settings, 0, device="cpu")
    batches = seen[:50]  # the rest is the dev set
    assert sorted(n for mask in batches for n in mask.sum(1).tolist()) == sorted(lengths)
    assert least < sum(int((mask == 0).sum()) for mask in batches) < most


def test_the_best_epoch_counts_and_its_weights_stay():
    best = training._BestEpoch("accuracy")
    model = torch.nn.Linear(1, 1)
    for epoch, accuracy in enumerate((0.5, 0.9, 0.7), 1):
        torch.nn.init.constant_(model.weight, float(epoch))
        state = type("State", (), {"epoch": epoch})
        metrics = {"eval_accuracy": accuracy, "eval_loss": 1.0}
        best.on_evaluate(None, state, None, metrics=metrics, model=model)
    assert (best.epoch, best.scores) == (2, {"accuracy": 0.9})
    assert float(best.weights["weight"]) == 2.0
