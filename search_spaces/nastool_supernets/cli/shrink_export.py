"""The model that ``nastool shrink`` chose, written as it ships."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from nastool.constraint import format_quantity
from nastool.files.reading import read_json_object
from nastool_supernets.cli.supernets import move

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from nastool_supernets.cli.serving import Serving
    from nastool_supernets.shrinking.campaign import Campaign, Front
    from nastool_supernets.supernet import Supernet


def export_chosen(
    net: Supernet,
    front: Front,
    campaign: Campaign,
    source: Path,
    to: Path,
    serving: Serving,
    tokenizer: Path,
    taught: Path | None,
) -> None:
    """Write the chosen model as it ships, with a card.

    Args:
        net: That it is cut out of.
        front: What was found.
        campaign: That found it.
        source: The checkpoint, or a supernet.
        to: Folder of the model.
        serving: What it was measured to take.
        tokenizer: Folder that has it.
        taught: Folder of the shape that has learnt; None where it has not.
    """
    from nastool_supernets.corpus.tokenizer import load_tokenizer
    from nastool_supernets.deployment.checks import TOLERANCE, merging_difference
    from nastool_supernets.deployment.export import check_difference, export
    from nastool_supernets.deployment.report import Metric, Origin
    from nastool_supernets.finetuning.scores import Evaluation
    from nastool_supernets.genotypes import row
    from nastool_supernets.saved import load_shape

    genotype = front.genotypes[front.chosen]
    move(net.model, "cpu")
    merging = None
    evaluations: tuple[Evaluation, ...] = ()
    if taught is not None:
        model: PreTrainedModel = load_shape(taught)
    else:
        model = net.extract(row(genotype))
        model.eval()
        merging = merging_difference(net, row(genotype), model)
        check_difference("the shape and the supernet", merging, TOLERANCE)
        value = math.exp(front.checked[front.chosen])
        evaluations = (Evaluation("perplexity", value, "text held out of the search"),)
    metrics = tuple(
        Metric(
            name,
            format_quantity(float(cost.evaluate(genotype[None])[0]), cost.unit),
            "computed (closed form)",
        )
        for name, cost in net.space.costs.items()
    ) + tuple(
        Metric(f"latency.{part}", format_quantity(seconds, "s"), f"measured on {serving.where}")
        for part, seconds in serving.measure(net.space, row(genotype)).items()
    )
    bounds = ", ".join(map(str, campaign.bounds))
    origin = Origin(
        source=f"cut out of {source.resolve().name} within {bounds}"
        + (", then taught by it" if taught is not None else ""),
        metrics=metrics,
        evaluations=evaluations,
    )
    dtype = _precision(source)
    export(model, load_tokenizer(tokenizer), to, origin, merging=merging, dtype=dtype)


def _precision(source: Path) -> str:
    """Precision of a checkpoint's weights, as it says; float32 where it is another one."""
    said = read_json_object(source / "config.json")
    name = str(said.get("dtype") or said.get("torch_dtype")).rpartition(".")[2]
    return name if name in ("bfloat16", "float16") else "float32"
