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
    check_net,
    followed_shapes,
    move,
    new_supernet,
    sort_hidden,
    torch_needed,
)
from nastool_supershaper.cli.texts import named_sources, open_corpus
from nastool_supershaper.cli.training_options import configuration, distillation, training_rule

if TYPE_CHECKING:
    from nastool_supershaper.checkpoints import Checkpoint
    from nastool_supershaper.data import Corpus
    from nastool_supershaper.modeling import SuperShaperForMaskedLM
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
@click.option("--text-field", help="Name of the text column. Default: text.")
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
@click.option("--sequence-length", type=count, help="Tokens a block. Default: 128.")
@click.option("--held-out", type=float, help="Share of the text held out. Default: 0.01.")
@click.option("--preset", help="supershaper, laptop or smoke. Default: laptop.")
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
    text_field: str | None,
    streaming: bool,
    max_tokens: int | None,
    corpus: str | None,
    tokenizer: str | None,
    sequence_length: int | None,
    held_out: float | None,
    preset: str | None,
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

        from nastool_supershaper.checkpoints import resumable_checkpoint
        from nastool_supershaper.cli.processes import say, shared_work
        from nastool_supershaper.data import fixed_masks
        from nastool_supershaper.parallel import own_device
        from nastool_supershaper.pretraining import WAIT, Evaluation
        from nastool_supershaper.pretraining import pretrain as train
    overrides["distillation"] = distillation(distillation_mix, temperature)
    overrides["rule"] = training_rule(preset, rule, random_shapes, sampling)
    overrides["compile"] = compiled
    saved = resumable_checkpoint(output, resume)
    configuration(preset, overrides, saved.state["config"] if saved else None)
    starts = [s for s in (bert, size, supernet) if s is not None]
    if len(starts) > 1 or (not starts and saved is None):
        raise InvalidInputError(
            f"expected exactly one of --bert, --config and --supernet, got {len(starts)}"
        )
    device = own_device(device)
    sources = named_sources(text, dataset, text_field or "text", streaming)
    corpus_folder = Path(corpus) if corpus else output / "corpus"
    start = bert or supernet
    with shared_work(device) as workers, workers.owning(output, "run", WAIT, say):
        # Nobody else writes there now.
        saved = resumable_checkpoint(output, resume)
        config = configuration(preset, overrides, saved.state["config"] if saved else None)
        if workers.is_first and config.head_steps >= config.steps:
            say(
                f"All {config.steps} steps are those of the head stage: only the largest net is "
                "trained (--head-steps)"
            )
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
            text_field=text_field,
        )
        torch.manual_seed(config.seed)
        model, origin = _net(
            saved, bool(starts), (bert, size, supernet, widths, layers), reorder, tokenised
        )
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
                tokenizer=tokenised.tokenizer(),
                origin=origin,
            )
        workers.wait()  # launchers end the others when one has ended with a code that is not 0
    if not result.finished:
        if workers.is_first:
            say(f"Stopped after step {result.step}; nothing is lost: add --resume to continue")
        raise click.exceptions.Exit(_INTERRUPTED)
    if not workers.is_first:
        return
    click.echo(f"Trained {result.step} steps on {result.tokens:,} tokens: {output}")
    for name, value in result.perplexities.items():
        click.echo(f"  held-out perplexity, {name}: {value:,.2f}")


def _net(
    saved: Checkpoint | None,
    is_named: bool,
    names: tuple[str | None, str | None, str | None, str | None, int | None],
    reorder: bool,
    corpus: Corpus,
) -> tuple[SuperShaperForMaskedLM, dict[str, Any]]:
    """Make the net that training starts from, or that of the run that goes on.

    Args:
        saved: The checkpoint of a run that goes on.
        is_named: Whether the options name a start; it must then be the run's.
        names: Those of --bert, --config, --supernet, --widths and --layers.
        reorder: Whether the hidden dimensions are sorted first.
        corpus: The training text.

    Returns:
        The net, and what its start is known by.
    """
    from nastool_supershaper.checkpoints import load_supernet
    from nastool_supershaper.measuring import model_fingerprint

    if saved is not None and not is_named:
        model = load_supernet(saved.path)
        check_net(model, *names[3:])
        return model, {"reorder": True} if reorder else {}
    try:
        model = new_supernet(*names, corpus)
    except InvalidInputError as error:
        if saved is None:
            raise
        raise InvalidInputError(
            f"{error}; a run that goes on needs no --bert, --config or --supernet"
        ) from error
    origin = {"weights at the start": model_fingerprint(model), "reorder": reorder}
    if reorder and saved is None:
        sort_hidden(model, corpus)
    return model, origin


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
