"""What do batches of like lengths save in fine-tuning, and do they cost any score?

    python benchmarks/finetuning.py SUPERNET TASKS.toml --train-examples 2000

SUPERNET is a folder, TASKS.toml a task file of `nastool validate`. Every task is fine-tuned from
inherited weights both ways in turn: batches drawn at random, as published, and of about the same
length (`--group-by-length`). Seconds are processor time, training and scoring together.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from rich.progress import track
from rich.table import Table

from nastool.cli.output import wide_console
from nastool_supernets.corpus.tokenizer import load_tokenizer
from nastool_supernets.family import with_head
from nastool_supernets.finetuning.data import load_task
from nastool_supernets.finetuning.encoding import encode
from nastool_supernets.finetuning.picks import named_shape
from nastool_supernets.finetuning.tasks import published_tasks, read_task_file
from nastool_supernets.finetuning.training import fine_tune
from nastool_supernets.genotypes import row
from nastool_supernets.saved import load_supernet


@click.command()
@click.argument("supernet", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("task_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--task", "names", multiple=True, help="Default: all of the file; repeatable.")
@click.option("--shape", default="largest")
@click.option("--train-examples", default=2000)
@click.option("--dev-examples", default=1000)
@click.option("--seeds", default=2)
@click.option("--threads", type=int, help="Default: torch's.")
def main(
    supernet: Path,
    task_file: Path,
    names: tuple[str, ...],
    shape: str,
    train_examples: int,
    dev_examples: int,
    seeds: int,
    threads: int | None,
) -> None:
    """Compare random batches with batches of like lengths: time and score."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    console = wide_console()
    tasks = read_task_file(task_file, published_tasks())
    net, tokenizer = load_supernet(supernet), load_tokenizer(supernet)
    start = net.extract(row(named_shape(shape, net.space, None)[0]))
    table = Table(
        "task", "metric", "s, random", "s, grouped", "ratio", "score, random", "score, grouped"
    )
    for name in track(names or list(tasks), "Fine-tuning", console=console):
        task = tasks[name]
        data = load_task(task, train_examples, dev_examples)
        encoded = encode(task, data, tokenizer, task.settings.max_length)
        seconds, scores = np.zeros((2, seeds)), np.zeros((2, seeds))
        for seed in range(seeds):
            for grouped in (0, 1):
                settings = replace(task.settings, group_by_length=bool(grouped))
                tuned = with_head(start, task.head, data.names, seed)
                clock = time.process_time()
                outcome = fine_tune(tuned, task, encoded, tokenizer, settings, seed, device="cpu")
                seconds[grouped, seed] = time.process_time() - clock
                scores[grouped, seed] = 100 * outcome.scores[task.metrics[0]]
        medians = np.median(seconds, axis=1)
        table.add_row(
            name,
            task.metrics[0],
            *(f"{value:.0f}" for value in medians),
            f"{medians[0] / medians[1]:.2f}",
            *(", ".join(f"{value:.1f}" for value in row) for row in scores),
        )
    console.print(table)


if __name__ == "__main__":
    main()
