"""``nastool bench``: speed and size of exported models."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nastool.cli.options import count, plugin_option, whole
from nastool.cli.pages import help_page
from nastool.constraint import format_quantity
from nastool.errors import InvalidInputError
from nastool.files.documents import json_document
from nastool.files.tables import csv_text
from nastool.runtime.leftovers import temporary_folder
from nastool_objectives.latency.precision import DTYPES, FLOAT32
from nastool_supernets.cli.qualities import MeasuredOn, measured_on_options, tokenizer_beside
from nastool_supernets.cli.supernets import torch_needed

if TYPE_CHECKING:
    from nastool.devices import Workload
    from nastool_supernets.deployment.bench import Candidate, Row
    from nastool_supernets.deployment.checks import Quality

_OF_A_FORM = ("runtime", "compiled", "dtype")
"""Facts of a device that differ from form to form."""


@help_page(
    "nastool bench exported",
    "nastool bench exported other --threads 1 --batch-size 8 --sequence-length 64",
    "nastool bench exported --examples dev.tsv --plot forms.html",
    groups={
        "What runs": "--batch-size --sequence-length --threads --baseline --compile --dtype --pad",
        "Quality": "--text --corpus --examples --limit --max-length --tokenizer",
        "Timing": "--rounds --repeats --warmup --memory --seed",
    },
)
@click.command()
@click.argument(
    "folders", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option("--threads", type=count, default="1", show_default=True, help="Threads of a pass.")
@click.option("--batch-size", type=count, default="1", show_default=True, help="Inputs of a pass.")
@click.option(
    "--sequence-length", type=count, default="128", show_default=True, help="Tokens of an input."
)
@click.option(
    "--baseline",
    "baselines",
    type=click.Choice(["bert-base", "distilbert", "none"]),
    multiple=True,
    help="What to set beside them, with random weights; repeatable. Default: both.",
)
@click.option("--compile", "compiled", is_flag=True, help="Measure torch.compile, too.")
@click.option(
    "--dtype",
    "dtypes",
    type=click.Choice(DTYPES),
    multiple=True,
    default=(FLOAT32,),
    show_default=True,
    help="Precision that PyTorch and OpenVINO compute in; repeatable. ONNX files are as they are.",
)
@click.option(
    "--pad",
    type=click.Choice(["none", "8", "64", "auto"]),
    default="none",
    show_default=True,
    help="Pad layers in PyTorch to sizes that fast kernels take; auto for the fastest. Files are "
    "as they were exported.",
)
@click.option("--rounds", type=count, default="5", show_default=True, help="Turns of each form.")
@click.option("--repeats", type=count, default="5", show_default=True, help="Passes of a turn.")
@click.option("--warmup", type=whole, default=2, show_default=True, help="Passes before timing.")
@click.option("--memory/--no-memory", default=True, show_default=True, help="Measure memory.")
@click.option("--seed", type=whole, default=0, show_default=True, help="Of the order.")
@measured_on_options
@click.option("--tokenizer", metavar="PATH_OR_HUB", help="Tokenizer. Default: that of each model.")
@click.option(
    "--plot",
    metavar="FILE.html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write a page of figures: latency over quality of each form, memory and disk.",
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "json", "csv"]),
    help="How results are shown. Default: table.",
)
@plugin_option
def bench(
    folders: tuple[Path, ...],
    threads: int,
    batch_size: int,
    sequence_length: int,
    baselines: tuple[str, ...],
    compiled: bool,
    dtypes: tuple[str, ...],
    pad: str,
    rounds: int,
    repeats: int,
    warmup: int,
    memory: bool,
    seed: int,
    measured_on: MeasuredOn,
    tokenizer: str | None,
    plot: Path | None,
    output_format: str | None,
) -> None:
    """Measure the latency, throughput, size and memory of exported models.

    Each DIR is a folder that 'nastool export' wrote, or a BERT, RoBERTa or DistilBERT of
    transformers. Every form in it is measured on this processor, with its head, beside BERT-base
    and DistilBERT in the same forms with the same head. The forms take turns in random order, so
    that a machine that drifts slows all of them alike. With --text or --examples each form of the
    models is scored, too.
    """
    with torch_needed():
        from nastool_supernets.deployment.bench import Plan, measure
        from nastool_supernets.deployment.models import BASELINES
    from transformers.utils import logging

    from nastool.cli.output import check_page, write_file
    from nastool.cli.progress import ProgressBar
    from nastool.devices import Workload
    from nastool_supernets.deployment.pictures import bench_page

    check_page(plot)
    if tokenizer is not None and not measured_on:
        raise InvalidInputError("--tokenizer: expected --text, --corpus or --examples beside it")
    if "none" in baselines and len(baselines) > 1:
        raise InvalidInputError("--baseline: expected 'none' or names of baselines, got both")
    # Baselines are written and read in a moment.
    logging.disable_progress_bar()
    chosen = [name for name in baselines or BASELINES if name != "none"]
    plan = Plan(rounds, repeats, warmup, memory, seed)
    workload = Workload(batch_size, sequence_length)
    with temporary_folder() as temporary:
        ways = {"threads": threads, "compiled": compiled, "dtypes": tuple(dict.fromkeys(dtypes))}
        found = _found(folders, chosen, temporary, workload, ways, pad, usual=not baselines)
        qualities = _qualities(folders, measured_on, tokenizer)
        try:
            with ProgressBar("measuring") as bar:
                rows = measure(found, plan, threads, bar, qualities)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("nothing of this measurement is kept") from None
    facts = {
        **found[0].device.facts,
        "threads": threads,
        **workload.as_dict(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }
    facts = {key: value for key, value in facts.items() if key not in _OF_A_FORM}
    if qualities:
        facts["scored on"] = next(iter(qualities.values())).on
    _write(rows, facts, output_format or "table")
    if plot is not None:
        write_file(plot, bench_page(rows, facts))
        click.echo(f"Wrote {plot}", err=True)


def _found(
    folders: tuple[Path, ...],
    baselines: list[str],
    temporary: Path,
    workload: Workload,
    ways: Mapping[str, Any],
    pad: str,
    *,
    usual: bool,
) -> list[Candidate]:
    """All forms of the models and of the baselines with their heads, in all ways to run them.

    Baselines that nobody named are left out where they have no such head.
    """
    from nastool_supernets.deployment.bench import candidates, has_head, write_baseline
    from nastool_supernets.deployment.models import task_of

    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    found: list[Candidate] = []
    heads: dict[str, tuple[Path, set[str]]] = {}
    for folder, name in zip(folders, names, strict=True):
        own = candidates(folder, name, workload, **ways, pad=pad, skip=_to_stderr)
        found += own
        _, forms = heads.setdefault(task_of(folder), (folder, set()))
        forms |= {one.form for one in own}
    for task, (like, forms) in heads.items():
        for baseline in baselines:
            if usual and not has_head(baseline, task):
                continue
            name = baseline if len(heads) == 1 else f"{baseline} {task}"
            click.echo(f"making {name} in {len(forms)} forms ...", err=True)
            folder = temporary / f"{baseline}-{task}"
            folder.mkdir()
            write_baseline(baseline, like, sorted(forms), folder)
            found += candidates(folder, name, workload, **ways)
    return found


def _qualities(
    folders: tuple[Path, ...], measured_on: MeasuredOn, tokenizer: str | None
) -> dict[Path, Quality]:
    """What the forms of each model are measured by; nothing where that is not wanted."""
    from nastool_supernets.deployment.models import load_model

    found = {}
    for folder in folders if measured_on else ():
        reader = tokenizer_beside(tokenizer, folder)
        if (quality := measured_on.quality(load_model(folder), reader)) is not None:
            found[folder] = quality
    return found


def _seconds(value: float | None) -> str:
    return "" if value is None else format_quantity(value, "s")


def _to_stderr(line: str) -> None:
    click.echo(line, err=True)


def _write(rows: list[Row], facts: dict[str, object], output_format: str) -> None:
    if output_format == "json":
        content = {"facts": facts, "models": [row.as_dict() for row in rows]}
        click.echo(json_document("bench", content))
        return
    if output_format == "csv":
        flat = [content | content.pop("quality") for content in (row.as_dict() for row in rows)]
        names = list(dict.fromkeys(name for content in flat for name in content))
        lines = ([content.get(name) for name in names] for content in flat)
        click.echo(csv_text(names, lines), nl=False)
        return
    from rich.table import Table
    from rich.text import Text

    from nastool.cli.output import wide_console

    table = Table(box=None, pad_edge=False)
    scores = list(dict.fromkeys(name for row in rows for name in row.quality))
    usual = ("model", "form", "params", "disk", "memory", "median", "p90", "spread", "texts/s")
    later = ("next token",) if any(row.next_token is not None for row in rows) else ()
    headers = (*usual, *later, *(name.replace("_", " ") for name in scores))
    for number, header in enumerate(headers):
        table.add_column(header, justify="left" if number < 2 else "right", no_wrap=number > 0)
    for row in rows:
        cells = (
            row.model,
            row.shown_form,
            format_quantity(row.parameters),
            format_quantity(row.disk, "B"),
            "" if row.memory is None else format_quantity(row.memory, "B"),
            _seconds(row.median),
            _seconds(row.p90),
            f"{row.spread:.0%}",
            format_quantity(row.throughput),
            *(
                "" if row.next_token is None else format_quantity(row.next_token, "s")
                for _ in later
            ),
            *(f"{row.quality[name]:.4g}" if name in row.quality else "" for name in scores),
        )
        table.add_row(*map(Text, cells))
    console = wide_console()
    console.print(table)
    shown = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in facts.items())
    console.print(Text(f"\n{shown}"))
    console.print(
        "disk: the weights' file; memory: what running adds to a process; "
        "spread: how far the rounds lie apart"
    )
