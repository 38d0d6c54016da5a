"""``nastool pretrain``: from text and a BERT to a supernet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nastool.cli.options import count, whole
from nastool.errors import InvalidInputError
from nastool_supershaper.cli.supernets import (
    SIZES,
    followed_shapes,
    move,
    new_supernet,
    sort_hidden,
    torch_needed,
)
from nastool_supershaper.cli.texts import named_sources, open_corpus
from nastool_supershaper.cli.training_options import configuration, distillation, training_rule

if TYPE_CHECKING:
    from nastool_supershaper.pretraining import StepReport

_RULES = ("sandwich", "random", "largest")
_SAMPLINGS = ("uniform", "size-aware")
_INTERRUPTED = 130


@click.command()
@click.option("--bert", metavar="PATH_OR_HUB", help="BERT checkpoint to start from.")
@click.option(
    "--config",
    "size",
    metavar="NAME_OR_JSON",
    help=f"Start from random weights: {', '.join(SIZES)}, or a JSON file of sizes.",
)
@click.option("--supernet", metavar="DIR", help="Start from a supernet trained before.")
@click.option("--widths", metavar="W,W,...", help="Hidden sizes a layer can take.")
@click.option("--layers", type=count, help="Grow a pretrained model to so many layers.")
@click.option("--reorder", is_flag=True, help="First sort the hidden dimensions by importance.")
@click.option(
    "--text",
    multiple=True,
    metavar="FILE",
    help="Text: .txt, .jsonl, .jsonl.gz or .json file, folder or glob pattern; repeatable.",
)
@click.option(
    "--dataset", multiple=True, metavar="NAME[:CONFIG]", help="Hub or local data set; repeatable."
)
@click.option("--text-field", default="text", show_default=True, help="Name of the text column.")
@click.option("--streaming", is_flag=True, help="Read data sets while they download.")
@click.option("--max-tokens", type=count, help="Stop reading at so many tokens.")
@click.option(
    "--corpus",
    metavar="DIR",
    help="Folder for the tokenised text, reused if complete. Default: OUTPUT/corpus.",
)
@click.option(
    "--tokenizer",
    metavar="PATH_OR_HUB",
    help="Tokenizer, or train:SIZE for a new one. Default: that of --bert, else train:16000.",
)
@click.option("--sequence-length", type=count, default=128, show_default=True)
@click.option("--held-out", type=float, default=0.01, show_default=True, help="Share held out.")
@click.option("--preset", default="laptop", show_default=True, help="supershaper, laptop or smoke.")
@click.option("--steps", type=count, help="Optimizer steps.")
@click.option("--batch-size", type=count, help="Blocks an optimizer step.")
@click.option("--micro-batch-size", type=count, help="Blocks a forward pass.")
@click.option("--learning-rate", type=float, help="Peak learning rate.")
@click.option("--warmup-steps", type=whole, help="Steps of linear warm-up.")
@click.option("--masking-rate", type=float, help="Share of the tokens to predict.")
@click.option("--head-steps", type=whole, help="First steps, of the largest net alone.")
@click.option("--rule", type=click.Choice(_RULES), help="Which subnets train in a step.")
@click.option("--random-shapes", type=whole, help="Random subnets a step.")
@click.option(
    "--sampling",
    type=click.Choice(_SAMPLINGS),
    help="Random widths uniform, or sizes spread evenly.",
)
@click.option(
    "--distil",
    "distillation_mix",
    type=float,
    metavar="MIX",
    help="Share of the largest subnet's predictions in the loss of the others.",
)
@click.option("--temperature", type=float, help="Softens both predictions of --distil.")
@click.option("--dtype", help="auto, float32 or bfloat16.")
@click.option("--compile/--no-compile", "compiled", default=None, help="Use torch.compile.")
@click.option(
    "--gradient-checkpointing",
    is_flag=True,
    default=None,
    help="Save memory: compute activations twice.",
)
@click.option("--peak-flops", type=float, help="FLOPs/s of all devices. Default: measured.")
@click.option(
    "--tracker",
    "trackers",
    multiple=True,
    type=click.Choice(("tensorboard", "wandb", "none")),
    help="Where curves go; repeatable. Default: what is installed.",
)
@click.option("--seed", type=whole, help="Seed of order, masks and shapes.")
@click.option("--evaluate-every", type=whole, help="Steps between evaluations.")
@click.option("--checkpoint-every", type=count, help="Steps between checkpoints.")
@click.option("--evaluation-blocks", type=count, default=128, show_default=True)
@click.option("--device", help="Torch device. Default: cuda if there is one, else cpu.")
@click.option(
    "--output", required=True, type=click.Path(path_type=Path), help="Folder of the supernet."
)
@click.option("--resume", is_flag=True, help="Continue the run in the output folder.")
def pretrain(
    bert: str | None,
    size: str | None,
    supernet: str | None,
    widths: str | None,
    layers: int | None,
    reorder: bool,
    text: tuple[str, ...],
    dataset: tuple[str, ...],
    text_field: str,
    streaming: bool,
    max_tokens: int | None,
    corpus: str | None,
    tokenizer: str | None,
    sequence_length: int,
    held_out: float,
    preset: str,
    rule: str | None,
    random_shapes: int | None,
    sampling: str | None,
    distillation_mix: float | None,
    temperature: float | None,
    compiled: bool | None,
    trackers: tuple[str, ...],
    evaluation_blocks: int,
    device: str | None,
    output: Path,
    resume: bool,
    **overrides: Any,
) -> None:
    """Train a supernet: one set of weights for every shape.

    Start from a BERT checkpoint (--bert) or from random weights (--config). Ctrl-C stops after the
    step and saves; --resume continues as if the run had never stopped. On several devices: torchrun
    --nproc-per-node 8 -m nastool pretrain ...; each process then takes its share of every batch.
    """
    with torch_needed():
        import torch

        from nastool_supershaper.checkpoints import load_supernet, resumable_checkpoint
        from nastool_supershaper.data import fixed_masks
        from nastool_supershaper.parallel import joined_workers, own_device
        from nastool_supershaper.pretraining import Evaluation
        from nastool_supershaper.pretraining import pretrain as train
    overrides["distillation"] = distillation(distillation_mix, temperature)
    overrides["rule"] = training_rule(preset, rule, random_shapes, sampling)
    overrides["compile"] = compiled
    config = configuration(preset, overrides)
    saved = resumable_checkpoint(output, resume)
    starts = [s for s in (bert, size, supernet) if s is not None]
    if len(starts) != 1 and saved is None:
        raise InvalidInputError(
            f"expected exactly one of --bert, --config and --supernet, got {len(starts)}"
        )
    device = own_device(device)
    workers = click.get_current_context().with_resource(joined_workers(device))
    sources = named_sources(text, dataset, text_field, streaming)
    corpus_folder = Path(corpus) if corpus else output / "corpus"
    start = bert or supernet
    if resume:
        tokenizer = _known_tokenizer(tokenizer, start, output, corpus_folder, saved is not None)
    tokenised = open_corpus(
        sources,
        tokenizer,
        corpus_folder,
        sequence_length,
        held_out,
        max_tokens,
        start=start,
        workers=workers,
        # What a run was trained on does not give way to what it cannot go on with.
        replace=saved is None,
    )
    torch.manual_seed(config.seed)
    if saved is not None:
        model = load_supernet(saved.path)
    else:
        model = new_supernet(bert, size, supernet, widths, layers, tokenised)
        if reorder:
            sort_hidden(model, tokenised)
    move(model, device)
    evaluation = None
    if len(tokenised.held_out):
        masked = fixed_masks(tokenised, "held_out", evaluation_blocks, 0)
        evaluation = Evaluation(*masked, shapes=followed_shapes(model))
    with _step_display(config.steps, config.log_every) as on_step:
        result = train(
            model,
            tokenised.train,
            tokenised.masking(config.masking_rate),
            config,
            output,
            evaluation=evaluation,
            resume=resume,
            on_step=on_step if workers.is_first else None,
            workers=workers,
            trackers=[name for name in trackers if name != "none"] if trackers else None,
            tokenizer=tokenised.tokenizer_path,
        )
    workers.wait()  # launchers end the others when one has ended with a code that is not 0
    if not result.finished:
        if workers.is_first:
            click.echo(
                f"Stopped after step {result.step}; nothing is lost: add --resume to continue",
                err=True,
            )
        raise click.exceptions.Exit(_INTERRUPTED)
    if not workers.is_first:
        return
    click.echo(f"Trained {result.step} steps on {result.tokens:,} tokens: {output}")
    for name, value in result.perplexities.items():
        click.echo(f"  held-out perplexity, {name}: {value:,.2f}")


def _known_tokenizer(
    named: str | None, start: str | None, output: Path, corpus: Path, is_saved: bool
) -> str | None:
    """Return the tokenizer of a run that goes on: its options need not name it again.

    Args:
        named: What the options name, if anything.
        start: Model that training starts from, if any.
        output: The run's folder.
        corpus: The corpus's folder.
        is_saved: Whether the run has a checkpoint; without one it may yet start from another model.
    """
    is_given = named is not None and not (is_saved and named.startswith("train:"))
    if is_given or (start is not None and not is_saved):
        return named
    for folder in (output, corpus / "tokenizer") if is_saved else (output,):
        if (folder / "tokenizer.json").is_file():
            return str(folder)
    return named


@contextmanager
def _step_display(steps: int, log_every: int) -> Iterator[Callable[[StepReport], None]]:
    """Show a progress bar on a terminal, and lines in a pipe."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True, highlight=False)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), "{task.description}")
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=steps)

        def show(report: StepReport) -> None:
            losses = "  ".join(f"{role} {loss:.3f}" for role, loss in report.losses.items())
            line = f"{losses}  {report.tokens_per_second:,.0f} tokens/s"
            if report.utilisation is not None:
                line += f"  {report.utilisation:.0%} of peak"
            bar.update(task, completed=report.step, description=line)
            if not console.is_terminal and report.step % log_every == 0:
                console.print(f"step {report.step}/{steps}  {line}", soft_wrap=True)
            if report.perplexities is not None:
                values = "  ".join(f"{k} {v:,.1f}" for k, v in report.perplexities.items())
                console.print(f"step {report.step}: held-out perplexity  {values}", soft_wrap=True)

        yield show
