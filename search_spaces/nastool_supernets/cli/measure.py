"""``nastool measure``: perplexity of many shapes of a supernet, into a table."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nastool.cli import completion
from nastool.cli.cost import announce, dry_run_option, settled_seconds
from nastool.cli.executing import Executing, executor_options
from nastool.cli.options import (
    count,
    opened_storage,
    parse_time,
    plugin_option,
    storage_option,
    whole,
)
from nastool.cli.pages import help_page
from nastool.errors import InvalidInputError
from nastool_supernets.cli.supernets import move, torch_needed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nastool.executors import Executor
    from nastool.recipes.fidelity import Fidelity
    from nastool.store import Store
    from nastool_supernets.corpus.masked_text import MaskedText
    from nastool_supernets.genotypes import Genotype
    from nastool_supernets.measuring.objective import MeasuredPerplexity
    from nastool_supernets.supernet import Net

_SHAPES, _BLOCKS = 4, 16
"""Shapes and blocks by which the time is told beforehand."""

_WORTH = 0.02
"""Share of the work that telling may take."""


@help_page(
    "nastool measure runs/supernet --text held_out.txt --shapes 300 --output perplexities.csv",
    groups={
        "Shapes": "--shapes --shapes-from --seed",
        "Text": "--text --text-field --corpus --blocks --fidelity --mask-seed",
        "Machine": "--device --dtype --batch-size --max-time --dry-run",
    },
)
@click.command()
@click.argument("supernet", type=click.Path(path_type=Path))
@click.option(
    "--text",
    multiple=True,
    metavar="FILE",
    help="Held-out text: file, folder or pattern; repeatable. Default: what training held out.",
)
@click.option("--text-field", default="text", show_default=True, help="Name of the text column.")
@click.option("--corpus", type=click.Path(path_type=Path), help="Prepared corpus to take it from.")
@click.option("--shapes", type=whole, default=3000, show_default=True, help="Random shapes.")
@click.option("--seed", type=whole, default=0, show_default=True, help="Seed of the shapes.")
@click.option("--mask-seed", type=whole, default=0, show_default=True, help="Seed of the masks.")
@click.option(
    "--shapes-from",
    multiple=True,
    type=click.Path(path_type=Path),
    help="CSV file with a column a gene (layer_1, layer_2, ...): further shapes; repeatable.",
)
@click.option("--blocks", type=count, help="Blocks of text to measure on. Default: all.")
@click.option(
    "--fidelity",
    metavar="blocks=N,...",
    help="Measure all shapes on few blocks, and on more only those that may be on the front of "
    "perplexity and parameters, e.g. blocks=16,64,256; the table has those measured on the last.",
)
@click.option("--batch-size", type=count, help="Blocks at a time. Default: 64, on a GPU 512.")
@click.option("--dtype", default="auto", show_default=True, help="auto, float32 or bfloat16.")
@click.option(
    "--device",
    shell_complete=completion.torch_devices,
    help="Torch device. Default: cuda if there is one, else cpu.",
)
@click.option(
    "--max-time",
    metavar="TIME",
    help="Stop in time, e.g. after 90s, 7m or 2h, with the shapes measured so far.",
)
@click.option(
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="Table: .csv, .csv.gz or .parquet; continued if it is there.",
)
@executor_options
@dry_run_option
@storage_option
@plugin_option
def measure(
    supernet: Path,
    text: tuple[str, ...],
    text_field: str,
    corpus: Path | None,
    shapes: int,
    seed: int,
    mask_seed: int,
    shapes_from: tuple[Path, ...],
    blocks: int | None,
    fidelity: str | None,
    batch_size: int | None,
    dtype: str,
    device: str | None,
    max_time: str | None,
    output: Path,
    executing: Executing,
    storage: str,
    dry_run: bool,
) -> None:
    """Measure the perplexity of many shapes on held-out text, masked once.

    SUPERNET is what `nastool pretrain` wrote. The smallest and the largest shape are always
    measured too. The table is written as it grows; the same command continues it. Every value is
    also kept in --storage, where searches on measured_perplexity and 'nastool verify' find it, and
    what they have measured is not measured again. On several devices: torchrun --nproc-per-node 8
    -m nastool measure ...; each process takes its share.
    """
    with torch_needed():
        import numpy as np

        from nastool_supernets.cli.processes import say, shared_work
        from nastool_supernets.corpus.masked_text import masked_text
        from nastool_supernets.measuring.objective import MeasuredPerplexity, Opening
        from nastool_supernets.runtime.parallel import own_device
        from nastool_supernets.saved import load_supernet
    from nastool.cli.progress import ProgressBar
    from nastool.recipes.fidelity import parse_fidelity
    from nastool_supernets.genotypes import distinct, rows
    from nastool_supernets.measuring import tables

    if text and corpus is not None:
        raise InvalidInputError("expected --text or --corpus, got both")
    steps = None if fidelity is None else parse_fidelity(fidelity)
    rungs = None if steps is None else steps.numbers
    if steps is not None and rungs is not None:
        if steps.key != "blocks":
            raise InvalidInputError(f"--fidelity: expected blocks=N,N,..., got {fidelity!r}")
        for option, given in (("--blocks", blocks), ("--max-time", max_time)):
            if given is not None:
                raise InvalidInputError(f"--fidelity: expected no {option} beside it, got {given}")
        blocks = rungs[-1]
    limit = None if max_time is None else parse_time("--max-time", max_time)
    device = own_device(device)
    opening = Opening(
        str(supernet.absolute()),
        tuple(os.path.abspath(name) for name in text),
        text_field,
        None if corpus is None else str(corpus.absolute()),
        blocks,
        mask_seed,
        dtype,
        batch_size,
        device,
    )
    net = load_supernet(supernet)
    move(net.model, device)
    space, ends = net.space, net.followed()
    wanted = [*ends.values()]
    for path in shapes_from:
        wanted += tables.read_shapes(path, space)
    wanted += distinct(space, shapes, np.random.default_rng(seed), ends.values())
    wanted = rows(space.canonicalize(np.array(wanted)))

    def taken(blocks: int | None) -> MaskedText:
        return masked_text(
            supernet,
            net.model.config,
            text,
            text_field=text_field,
            corpus=corpus,
            blocks=blocks,
            mask_seed=mask_seed,
            task=net.task,
        )

    input_ids, labels, names = taken(blocks)
    if rungs is not None and len(input_ids) < rungs[-1]:
        raise InvalidInputError(
            f"--fidelity: expected at most the {len(input_ids):,} blocks there are, got {rungs[-1]}"
        )
    seconds = _seconds_of(net, input_ids, labels, wanted, batch_size, dtype, always=dry_run)
    if seconds is not None:
        what = f"Measuring {len(set(wanted)):,} shapes on {len(input_ids):,} blocks"
        announce(f"{what}, less what is known", seconds)
    if dry_run:
        return
    card: dict[str, Any] = {
        "supernet": supernet.resolve().name,
        "space": space.name,
        "text": names,
        "mask_seed": mask_seed,
        "shapes_seed": seed,
    }
    with (
        executing.opened() as executor,
        shared_work(device) as workers,
        opened_storage(storage if workers.is_first else "none") as store,
        ProgressBar("measuring") if workers.is_first else nullcontext() as bar,
    ):

        def measured(genotypes: Sequence[Genotype]) -> None:
            tables.measure(
                net,
                input_ids,
                labels,
                genotypes,
                output,
                card=card,
                batch_size=batch_size,
                dtype=dtype,
                progress=lambda p: bar(p.done, p.total) if bar is not None else None,
                workers=workers,
                max_time=limit,
                store=store,
                executor=executor,
                opening=opening,
            )

        if steps is None or rungs is None:
            measured(wanted)
        else:
            if workers.count > 1:
                raise InvalidInputError("--fidelity: expected one process, --executor has more")
            few = [
                MeasuredPerplexity(
                    net,
                    *taken(n)[:2],
                    "the supernet",
                    batch_size=batch_size,
                    dtype=dtype,
                    opening=replace(opening, blocks=n),
                )
                for n in rungs[:-1]
            ]
            wanted = _halved(wanted, len(ends), steps, few, measured, output, store, executor)
    if not workers.is_first:
        return
    table = tables.read_table(output, space)
    missing = len(set(wanted) - set(table))
    if missing:
        say(
            f"Stopped after {max_time}: {len(set(wanted)) - missing:,} of {len(set(wanted)):,} "
            "shapes are measured; the same command goes on"
        )
    if not {*ends.values()} <= set(table):
        return
    largest, smallest = (table[ends[name]] for name in ("largest", "smallest"))
    n_targets = int((labels != -100).sum())
    kind = "masked" if net.task == "masked-lm" else "predicted"
    click.echo(
        f"{len(table):,} shapes, {n_targets:,} {kind} tokens of {', '.join(names)}: "
        f"perplexity {largest:,.2f} (largest) to {smallest:,.2f} (smallest): {output}"
    )


def _halved(
    wanted: Sequence[Genotype],
    always: int,
    steps: Fidelity,
    few: Sequence[MeasuredPerplexity],
    measured: Callable[[Sequence[Genotype]], None],
    output: Path,
    store: Store | None,
    executor: Executor | None,
) -> list[Genotype]:
    """Measure by successive halving, and say what it saved; the shapes that are in the table.

    Args:
        wanted: All shapes.
        always: How many of the first ones are measured on all blocks.
        steps: Blocks, ascending.
        few: What measures on all of these but the last.
        measured: Measures shapes on the last, into the table.
        output: The table.
        store: Has the ledger.
        executor: Where the first ones are measured.
    """
    import numpy as np

    from nastool.executors import Serial, evaluated
    from nastool.store.ledger import keep_values, known_values
    from nastool_supernets.measuring import tables
    from nastool_supernets.measuring.fidelity import halve

    space = few[0].space
    chosen = list(dict.fromkeys(wanted))
    genotypes = np.array(chosen)

    def on(rung: int, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        if rung == len(few):
            measured([chosen[row] for row in rows.tolist()])
            table = tables.read_table(output, space)
            return np.array([table[chosen[row]] for row in rows.tolist()])
        objective = few[rung]
        values = known_values(store, space, objective, genotypes[rows])
        missing = np.flatnonzero(np.isnan(values))
        for chunk in evaluated(executor or Serial(), objective, genotypes[rows[missing]]):
            places = missing[chunk.rows]
            values[places] = chunk.values
            keep_values(store, space, objective, genotypes[rows[places]], values[places])
        return values

    costs = space.costs["params"].evaluate(genotypes)
    found = halve(costs, len(steps.numbers), on, range(always))
    click.echo(steps.said((~np.isnan(found)).sum(axis=1).tolist()), err=True)
    return [chosen[row] for row in np.flatnonzero(~np.isnan(found[-1])).tolist()]


def _seconds_of(
    net: Net,
    input_ids: Any,
    labels: Any,
    wanted: Sequence[Genotype],
    batch_size: int | None,
    dtype: str,
    *,
    always: bool,
) -> float | None:
    """How long measuring takes, by a few shapes on a few blocks; None where that is not worth it.

    Shapes that begin alike share their work, so that many take less than many times as long.
    """
    from nastool_supernets.measuring.perplexities import perplexities

    few = wanted[:: max(len(wanted) // _SHAPES, 1)][:_SHAPES]
    ids = input_ids[:_BLOCKS]
    share = len(few) * len(ids) / (len(wanted) * len(input_ids))
    if not always and share > _WORTH:
        return None
    some = partial(
        perplexities, net, ids, labels[:_BLOCKS], few, batch_size=batch_size, dtype=dtype
    )
    return settled_seconds(some, some) / share
