"""``nastool export``: from a shape to a folder that runs anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nastool.cli import completion
from nastool.cli.options import (
    format_option,
    plugin_option,
    positive,
    storage_option,
    whole,
)
from nastool.cli.pages import help_page
from nastool.errors import InvalidInputError
from nastool.files.documents import json_document
from nastool_supernets.cli.qualities import MeasuredOn, measured_on_options, tokenizer_beside
from nastool_supernets.cli.supernets import named_supernet, torch_needed

if TYPE_CHECKING:
    from nastool.results import Result
    from nastool.space import SearchSpace
    from nastool_supernets.deployment.report import ExportReport, Metric
    from nastool_supernets.finetuning.scores import Evaluation

_HEADS = ("masked-lm", "causal-lm", "classification", "regression", "question-answering", "encoder")


@help_page(
    "nastool export mine --shape knee --supernet runs/supernet --to exported",
    "nastool export mine --shape 3 --supernet runs/supernet --to exported --onnx --int8",
    groups={
        "What is exported": "--shape --supernet --model --head --labels --tokenizer --licence",
        "Forms": "--dtype --onnx --int8 --openvino --pad --tolerance",
        "Checks": "--text --corpus --examples --limit --max-length --seed",
        "Hub": "--push --private",
    },
)
@click.command()
@click.argument("study", required=False, shell_complete=completion.studies)
@click.option(
    "--shape",
    shell_complete=completion.shapes,
    metavar="SHAPE",
    help="Widths such as 240-180-..., smallest or largest; of a study also the number of a row "
    "of its front (1 is the first), knee, or the best within a bound such as 'params<=19M'.",
)
@click.option(
    "--supernet",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="What to cut the shape out of. Default: the supernet that the study's space names.",
)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A deployed model, such as a fine-tuned one, instead of a shape.",
)
@click.option(
    "--to", "target", required=True, type=click.Path(path_type=Path), help="New or empty folder."
)
@click.option(
    "--head",
    type=click.Choice(_HEADS),
    metavar="HEAD",
    help=f"What the model ends in: {', '.join(_HEADS)}; an encoder ends in its hidden states, for "
    "embeddings. Default: that of pre-training.",
)
@click.option(
    "--labels", metavar="N|NAME,...", help="Classes of a classification: how many, or names."
)
@click.option(
    "--tokenizer", metavar="PATH_OR_HUB", help="Tokenizer. Default: that of the supernet or model."
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="Precision of the weights that are written; all forms are measured with them.",
)
@click.option("--onnx", is_flag=True, help="Write ONNX too, for batches and lengths of any size.")
@click.option("--int8", is_flag=True, help="Write ONNX with weights of 8 bits too, for CPUs.")
@click.option("--openvino", is_flag=True, help="Write a model of OpenVINO too.")
@click.option(
    "--pad",
    type=click.Choice(["none", "8", "64", "auto"]),
    default="none",
    show_default=True,
    help="Pad layers of ONNX and OpenVINO to sizes that fast kernels take; auto measures what is "
    "fastest on this processor.",
)
@click.option(
    "--tolerance",
    type=positive,
    help="Largest difference that merging, ONNX and OpenVINO may make, as a share of the spread of "
    "the outputs. Default: 0.0001; of decoders 0.001.",
)
@measured_on_options
@click.option("--licence", default="", metavar="ID", help="Licence of the weights, for the card.")
@click.option("--push", metavar="USER/NAME", help="Upload the folder to the hub as well.")
@click.option(
    "--private", is_flag=True, help="The repository must be private; a new one is made so."
)
@click.option("--seed", type=whole, default=0, show_default=True, help="Of new heads.")
@format_option
@storage_option
@plugin_option
def export(
    study: str | None,
    shape: str | None,
    supernet: Path | None,
    model: Path | None,
    target: Path,
    head: str | None,
    labels: str | None,
    tokenizer: str | None,
    dtype: str,
    onnx: bool,
    int8: bool,
    openvino: bool,
    pad: str,
    tolerance: float | None,
    measured_on: MeasuredOn,
    licence: str,
    push: str | None,
    private: bool,
    seed: int,
    output_format: str,
    storage: str,
) -> None:
    """Export a shape as a model that runs without nastool.

    The shape comes from the front of a STUDY that 'nastool studies' lists, or from --supernet
    alone; --model packs a deployed model again, after fine-tuning for example. The folder has
    weights, tokenizer, code and a model card, and loads with transformers anywhere.
    """
    with torch_needed():
        from nastool.files import hub
        from nastool_supernets.deployment import export as exporting
        from nastool_supernets.deployment.checks import tolerance_of
    from nastool.files.writing import check_free
    from nastool_supernets.deployment.runtimes import FILES, require

    check_free(target)
    flags = {"onnx": onnx, "int8": int8, "openvino": openvino}
    wanted = [form for form in FILES if flags[form]]
    for form in wanted:
        require(form)
    if pad != "none" and not wanted:
        raise InvalidInputError("--pad: expected --onnx, --int8 or --openvino beside it")
    if private and push is None:
        raise InvalidInputError("--private: expected --push beside it")
    if push is not None:
        hub.check_repository(push, private=private)
    if (study is not None or supernet is not None) == (model is not None):
        raise InvalidInputError("expected a STUDY, --supernet or --model, and only one origin")
    if model is not None:
        if shape is not None or head not in (None, "encoder") or labels is not None:
            raise InvalidInputError(
                "--model brings its shape, head and labels along; only --head encoder leaves its "
                "head out"
            )
        deployed, origin, merging = _opened(model, licence, head)
        beside = model
    else:
        deployed, origin, merging, beside = _cut_out(
            study, storage, shape, supernet, head, labels, licence, seed
        )
        allowed = tolerance_of(deployed) if tolerance is None else tolerance
        exporting.check_difference("the merged shape and the supernet", merging, allowed)
    loaded = tokenizer_beside(tokenizer, beside)
    quality = measured_on.quality(deployed, loaded)
    try:
        report = exporting.export(
            deployed,
            loaded,
            target,
            origin,
            wanted,
            merging=merging,
            quality=quality,
            tolerance=tolerance,
            pad=pad,
            dtype=dtype,
            progress=lambda what: click.echo(f"{what} ...", err=True),
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt("nothing was written") from None
    _print(report, target, output_format)
    if push is not None:
        click.echo(f"Uploaded to {hub.push(target, push, private=private)}", err=True)


def _opened(folder: Path, licence: str, head: str | None) -> tuple[Any, Any, None]:
    """A deployed model as it lies there, or without its head."""
    from nastool_supernets.deployment.report import Origin
    from nastool_supernets.family import with_head
    from nastool_supernets.finetuning.scores import read_scores
    from nastool_supernets.saved import load_shape

    model = load_shape(folder)
    source, scores = f"packed from the model {folder.resolve().name}", read_scores(folder)
    if head is not None:
        model, source, scores = with_head(model, head), f"{source} without its head", ()
    return model, Origin(source, licence=licence, evaluations=scores), None


def _cut_out(
    study: str | None,
    storage: str,
    shape_text: str | None,
    supernet: Path | None,
    head: str | None,
    labels: str | None,
    licence: str,
    seed: int,
) -> tuple[Any, Any, Any, Path]:
    """A shape of a supernet with a head, where it comes from, and what merging changed."""
    from nastool.recipes.study_recipe import stored_problem
    from nastool.store import open_store
    from nastool.study import load_result
    from nastool_supernets.deployment.checks import merging_difference
    from nastool_supernets.deployment.report import Origin
    from nastool_supernets.family import with_head
    from nastool_supernets.finetuning.picks import named_shape
    from nastool_supernets.genotypes import row
    from nastool_supernets.saved import load_supernet

    if shape_text is None:
        raise InvalidInputError(
            "expected --shape: widths, smallest or largest; of a study also a row of its "
            "front, knee or a bound"
        )
    result = None
    if study is not None:
        with open_store(storage, create=False) as store:
            summary = store.load(study).summary
            result = load_result(store, study, stored_problem(summary))
        supernet = supernet or named_supernet(summary)
    if supernet is None:
        raise InvalidInputError("expected --supernet")
    net = load_supernet(supernet)
    space, head = net.space, head or net.task
    if result is not None and result.problem.space.fingerprint != space.fingerprint:
        raise InvalidInputError(
            f"study {study!r} searched {result.problem.space.name}, "
            f"but {supernet} is a supernet of {space.name}"
        )
    genotype = named_shape(shape_text, space, result)
    chosen = row(genotype[0])
    subnet = net.extract(chosen).eval()
    origin = Origin(
        source=f"cut out of supernet {supernet.resolve().name} and merged for deployment",
        study=study or "",
        metrics=_metrics(space, genotype, result),
        trained_head=head in (net.task, "encoder"),
        licence=licence,
        evaluations=_perplexities(genotype, result) if head == net.task else (),
    )
    merging = merging_difference(net, chosen, subnet)
    return with_head(subnet, head, _labels(labels), seed), origin, merging, supernet


def _perplexities(genotype: Any, result: Result | None) -> tuple[Evaluation, ...]:
    """Perplexities of a shape that the study measured, which are those of its masked-lm head."""
    from nastool.objective import Kind
    from nastool_supernets.finetuning.scores import Evaluation

    if result is None:
        return ()
    try:
        values = {name: float(row[0]) for name, row in result.values(genotype).items()}
    except InvalidInputError:
        return ()  # the study did not come across it
    return tuple(
        Evaluation("perplexity", values[metric.name], metric.provenance.by)
        for metric in result.problem.reported
        if metric.name.startswith("measured_perplexity")
        and metric.provenance.kind is Kind.MEASURED
        and metric.name in values
    )


def _metrics(space: SearchSpace, genotype: Any, result: Result | None) -> tuple[Metric, ...]:
    """What is known of a shape: from the study, or what the space counts."""
    from nastool.constraint import format_quantity
    from nastool_supernets.deployment.report import Metric

    if result is None:
        return tuple(
            Metric(
                name,
                format_quantity(float(cost.evaluate(genotype)[0]), cost.unit),
                "computed (closed form)",
            )
            for name, cost in space.costs.items()
            if name in ("params", "macs")
        )
    try:
        values = {name: float(row[0]) for name, row in result.values(genotype).items()}
    except InvalidInputError:
        # A shape that the study did not come across: what is measured stays unknown.
        values = {
            metric.name: float(metric.evaluate(genotype)[0])
            for metric in result.problem.reported
            if metric.is_cheap
        }
    return tuple(
        Metric(m.name, format_quantity(values[m.name], m.unit), str(m.provenance))
        for m in result.problem.reported
        if m.name in values
    )


def _labels(text: str | None) -> list[str]:
    if text is None:
        return []
    if text.isdecimal():
        return [f"LABEL_{index}" for index in range(int(text))]
    return [label.strip() for label in text.split(",")]


def _print(report: ExportReport, target: Path, output_format: str) -> None:
    if output_format == "json":
        click.echo(json_document("export", {"folder": str(target), **report.as_dict()}))
        return
    from rich.table import Table
    from rich.text import Text

    from nastool.cli.output import wide_console

    table = Table(box=None, pad_edge=False)
    for number, name in enumerate(report.header):
        table.add_column(name, justify="left" if number < 2 else "right", no_wrap=number < 2)
    for cells in report.cells:
        table.add_row(*map(Text, cells))
    console = wide_console()
    console.soft_wrap = True
    console.print(table)
    console.print()
    if report.measured:
        console.print(Text(report.measured))
    if report.merging is not None:
        console.print(
            f"Merged against the supernet: largest difference {report.merging.largest:.2g}"
        )
    shape = "-".join(map(str, report.shape))
    console.print(Text(f"Exported {shape}, {report.parameters:,} parameters: {target}"))
