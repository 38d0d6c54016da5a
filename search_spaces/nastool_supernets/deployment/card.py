"""The model card of an exported model."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData
from transformers import PreTrainedModel

from nastool import __version__
from nastool_supernets.deployment.report import ExportReport, Origin
from nastool_supernets.family import Family, family_of
from nastool_supernets.finetuning.scores import Evaluation
from nastool_supernets.positions import positions_of

_TASKS = {
    "masked-lm": ("fill-mask", "AutoModelForMaskedLM"),
    "causal-lm": ("text-generation", "AutoModelForCausalLM"),
    "classification": ("text-classification", "AutoModelForSequenceClassification"),
    "regression": ("text-classification", "AutoModelForSequenceClassification"),
    "question-answering": ("question-answering", "AutoModelForQuestionAnswering"),
    "encoder": ("feature-extraction", "AutoModel"),
}

_USES = {
    "masked-lm": """\
inputs = tokenizer(f"Paris is the {tokenizer.mask_token} of France.", return_tensors="pt")
logits = model(**inputs).logits
place = (inputs["input_ids"][0] == tokenizer.mask_token_id).nonzero()[0]
print(tokenizer.decode(logits[0, place].argmax(-1)))""",
    "causal-lm": """\
inputs = tokenizer("Once upon", return_tensors="pt")
print(tokenizer.decode(model(**inputs).logits[0, -1].argmax(-1)))""",
    "classification": """\
inputs = tokenizer("A sentence to classify.", return_tensors="pt")
print(model.config.id2label[model(**inputs).logits.argmax(-1).item()])""",
    "regression": """\
inputs = tokenizer("A sentence to score.", return_tensors="pt")
print(model(**inputs).logits.item())""",
    "question-answering": """\
inputs = tokenizer("What is asked?", "The text that answers.", return_tensors="pt")
output = model(**inputs)
start, end = output.start_logits.argmax().item(), output.end_logits.argmax().item()
print(tokenizer.decode(inputs["input_ids"][0, start : end + 1]))""",
    "encoder": """\
inputs = tokenizer(["A text.", "Another text."], padding=True, return_tensors="pt")
hidden = model(**inputs).last_hidden_state
mask = inputs["attention_mask"][:, :, None]
print((hidden * mask).sum(1) / mask.sum(1))  # an embedding a text: the mean over its tokens""",
}


def model_card(model: PreTrainedModel, origin: Origin, report: ExportReport) -> str:
    """Write the card, in Markdown with the hub's header.

    Args:
        model: What was exported.
        origin: Where it comes from.
        report: What was measured on the way.
    """
    family, config = family_of(model.config), model.config
    head, code = family.head_of(model), family.code_of(model)
    task, auto = _TASKS[head]
    title, sentence = family.about("-".join(map(str, report.shape)))
    parts = [
        _header(family, code, task, title, origin, report),
        f"# {title}\n",
        f"{sentence}, {origin.source}"
        + (f"; the study *{origin.study}* found the shape" if origin.study else "")
        + f". {_head(head)} {report.parameters:,} parameters, a vocabulary of "
        f"{config.vocab_size:,} tokens, at most {positions_of(config)} tokens a text.\n",
    ]
    if not origin.trained_head:
        parts.append(
            "**The head is new: it has random weights and has to be fine-tuned before use.**\n"
        )
    parts += [_use(family, code, auto, head), _metrics(origin), _forms(report)]
    parts.append(_licence(code, origin))
    parts.append(f"Made with nastool {__version__}. {family.credit}".rstrip() + "\n")
    return "\n".join(part for part in parts if part)


def _head(head: str) -> str:
    return "Without head: an encoder." if head == "encoder" else f"Head: {head}."


def _header(
    family: Family,
    code: Path | None,
    task: str,
    name: str,
    origin: Origin,
    report: ExportReport,
) -> str:
    tags = [family.name, *(["custom_code"] if code is not None else [])]
    measured = [
        Evaluation(metric, value, report.measured_on)
        for row in report.rows
        if row.form == "torch"
        for metric, value in row.quality.items()
    ]
    # JSON and YAML of the hub have no place for what is no number.
    known = [one for one in (*origin.evaluations, *measured) if math.isfinite(one.value)]
    tags += ["onnx"] if any(row.form == "onnx" for row in report.rows) else []
    tags += ["openvino"] if any(row.form == "openvino" for row in report.rows) else []
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag=task,
        license=origin.licence or None,
        tags=tags,
        model_name=name,
        eval_results=[
            EvalResult(
                task_type=task,
                dataset_type=_identifier(one.dataset),
                dataset_name=one.dataset,
                metric_type=one.metric,
                metric_value=one.value,
            )
            for one in known
        ]
        or None,
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _identifier(text: str) -> str:
    return re.sub(r"[^\w.]+", "-", text).strip("-").lower()


_OWN = """ Without it, `import {}` before runs nastool's own code
instead, where that is installed."""


def _use(family: Family, code: Path | None, auto: str, head: str) -> str:
    if code is None:
        trust, by = "", "transformers knows such models by itself.\n"
    else:
        trust = ", trust_remote_code=True"
        by = f"""\
`trust_remote_code` lets transformers run `{code.name}` of this folder, which is all the code
there is.{_OWN.format(family.module) if family.module else ""}
"""
    return f"""\
## Use

```python
from transformers import {auto}, AutoTokenizer

folder = "."  # this folder, or its name on the hub
tokenizer = AutoTokenizer.from_pretrained(folder{trust})
model = {auto}.from_pretrained(folder{trust})
{_USES[head]}
```

{by}"""


def _metrics(origin: Origin) -> str:
    if not origin.metrics:
        return ""
    rows = [(metric.name, metric.value, metric.provenance) for metric in origin.metrics]
    return "## What is known of the shape\n\n" + _table(("metric", "value", "how"), rows)


def _forms(report: ExportReport) -> str:
    text = "## Forms\n\n"
    text += _table(report.header, report.cells)
    if len(report.rows) > 1:
        spread = next(row.difference.spread for row in report.rows if row.difference is not None)
        text += (
            f"\nDifferences are those of outputs from PyTorch's, whose spread is {spread:.2g}, "
            f"{_inputs(report)}.\n"
        )
    if report.measured:
        text += f"\nMeasured: {report.measured}.\n"
    if report.merging is not None:
        text += (
            f"\nCutting the shape out changed outputs by at most {report.merging.largest:.2g}.\n"
        )
    return text


def _inputs(report: ExportReport) -> str:
    sizes = next(row.difference.sizes for row in report.rows if row.difference is not None)
    shown = ", ".join(f"{batch}x{length}" for batch, length in sizes)
    return f"on random tokens in batches of {shown}, with padding"


def _licence(code: Path | None, origin: Origin) -> str:
    weights = (
        f"The weights are under {origin.licence}."
        if origin.licence
        else "The licence of the weights was not said: it depends on what the supernet was trained "
        "from."
    )
    said = "" if code is None else f"The code in `{code.name}` is under Apache-2.0. "
    return f"## Licence\n\n{said}{weights}\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
