"""``nastool pretrain``: from text and a BERT to a supernet."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nastool.errors import InvalidInputError, MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

    from nastool_supershaper.data import Corpus, Source
    from nastool_supershaper.modeling import SuperShaperForMaskedLM
    from nastool_supershaper.pretraining import StepReport
    from nastool_supershaper.pretraining_config import PretrainingConfig
    from nastool_supershaper.training_rules import Distillation, Shape, TrainingRule

# Sizes by name for supernets that start from random weights.
_SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 96,
        "widths": (16, 32, 48),
    },
    "small": {
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
        "widths": (60, 120, 180, 240, 276, 300, 384),
    },
    "base": {},
}
_RULES = ("sandwich", "random", "largest")
_SAMPLINGS = ("uniform", "size-aware")
_INTERRUPTED = 130


@click.command()
@click.option("--bert", metavar="PATH_OR_HUB", help="BERT checkpoint to start from.")
@click.option(
    "--config",
    "size",
    metavar="NAME_OR_JSON",
    help=f"Start from random weights: {', '.join(_SIZES)}, or a JSON file of sizes.",
)
@click.option("--supernet", metavar="DIR", help="Start from a supernet trained before.")
@click.option("--widths", metavar="W,W,...", help="Hidden sizes a layer can take.")
@click.option("--layers", type=int, help="Grow a pretrained model to so many layers.")
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
@click.option("--max-tokens", type=int, help="Stop reading at so many tokens.")
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
@click.option("--sequence-length", type=int, default=128, show_default=True)
@click.option("--held-out", type=float, default=0.01, show_default=True, help="Share held out.")
@click.option("--preset", default="laptop", show_default=True, help="supershaper, laptop or smoke.")
@click.option("--steps", type=int, help="Optimizer steps.")
@click.option("--batch-size", type=int, help="Blocks an optimizer step.")
@click.option("--micro-batch-size", type=int, help="Blocks a forward pass.")
@click.option("--learning-rate", type=float, help="Peak learning rate.")
@click.option("--warmup-steps", type=int, help="Steps of linear warm-up.")
@click.option("--head-steps", type=int, help="First steps, of the largest net alone.")
@click.option("--rule", type=click.Choice(_RULES), help="Which subnets train in a step.")
@click.option("--random-shapes", type=int, help="Random subnets a step.")
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
@click.option("--seed", type=int, help="Seed of order, masks and shapes.")
@click.option("--evaluate-every", type=int, help="Steps between evaluations.")
@click.option("--checkpoint-every", type=int, help="Steps between checkpoints.")
@click.option("--evaluation-blocks", type=int, default=128, show_default=True)
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

        from nastool_supershaper.checkpoints import latest_checkpoint, load_supernet
        from nastool_supershaper.parallel import joined_workers, own_device
        from nastool_supershaper.pretraining import Evaluation
        from nastool_supershaper.pretraining import pretrain as train
    overrides["distillation"] = _distillation(distillation_mix, temperature)
    overrides["rule"] = _rule(preset, rule, random_shapes, sampling)
    overrides["compile"] = compiled
    config = _configuration(preset, overrides)
    saved = latest_checkpoint(output / "checkpoints")
    if saved is not None and not resume:
        raise InvalidInputError(
            f"--output: {output} already holds a run at step {saved.state['step']}; "
            "add --resume, or give another folder"
        )
    starts = [s for s in (bert, size, supernet) if s is not None]
    if len(starts) != 1 and saved is None:
        raise InvalidInputError(
            f"expected exactly one of --bert, --config and --supernet, got {len(starts)}"
        )
    device = own_device(device)
    workers = click.get_current_context().with_resource(joined_workers(device))
    sources = _sources(text, dataset, text_field, streaming)
    # The first process tokenises; the others find it done.
    if not workers.is_first:
        workers.wait()
    tokenised = open_corpus(
        sources,
        tokenizer or bert or (None if supernet is None else supernet),
        Path(corpus) if corpus else output / "corpus",
        sequence_length,
        held_out,
        max_tokens,
    )
    if workers.is_first:
        workers.wait()
    torch.manual_seed(config.seed)
    evaluation = None
    masking = tokenised.masking(config.masking_rate)
    if len(tokenised.held_out):
        evaluation_ids, labels = fixed_masks(tokenised, "held_out", evaluation_blocks, 0)
        evaluation = (evaluation_ids, labels)
    if saved is not None:
        model = load_supernet(saved.path)
    else:
        model = _new_model(bert, size, supernet, widths, layers, tokenised)
        if reorder:
            _reorder(model, tokenised)
    move(model, device)
    followed = None
    if evaluation is not None:
        followed = Evaluation(*evaluation, shapes=_followed_shapes(model))

    with _step_display(config.steps, config.log_every) as on_step:
        result = train(
            model,
            tokenised.train,
            masking,
            config,
            output,
            evaluation=followed,
            resume=resume,
            on_step=on_step if workers.is_first else None,
            workers=workers,
            trackers=[name for name in trackers if name != "none"] if trackers else None,
        )
    from nastool_supershaper.data import load_tokenizer

    if workers.is_first:
        load_tokenizer(tokenised.tokenizer_path).save_pretrained(str(output))
    if not result.finished:
        click.echo(
            f"Stopped after step {result.step}; nothing is lost: add --resume to continue", err=True
        )
        raise click.exceptions.Exit(_INTERRUPTED)
    if not workers.is_first:
        return
    click.echo(f"Trained {result.step} steps on {result.tokens:,} tokens: {output}")
    for name, value in result.perplexities.items():
        click.echo(f"  held-out perplexity, {name}: {value:,.2f}")


@contextmanager
def torch_needed() -> Iterator[None]:
    """Turn a failed import of the training libraries into the line that says what to install."""
    try:
        # Our own modules import them late: without this, the first use would fail half-way.
        for library in ("torch", "transformers", "safetensors"):
            import_module(library)
        yield
    except ImportError as error:
        raise MissingDependencyError(
            f"this command needs {error.name or 'torch'}: pip install 'nastool[train]'"
        ) from error


def move(model: torch.nn.Module, device: str | None) -> None:
    """Move a model to a device.

    Args:
        model: The model.
        device: As torch names it; None for cuda if there is one, else cpu.

    Raises:
        InvalidInputError: If there is no such device.
    """
    import torch

    try:
        model.to(torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidInputError(f"--device: cannot use {device!r}: {reason}") from error


def open_corpus(
    sources: list[Source],
    tokenizer: str | None,
    folder: Path,
    sequence_length: int,
    held_out: float,
    max_tokens: int | None,
) -> Corpus:
    """Tokenise the sources, or open the corpus that is there when no source is named.

    Args:
        sources: May be empty if the folder holds a corpus.
        tokenizer: Path, hub name, ``train:SIZE`` or None.
        folder: The corpus's folder.
        sequence_length: Tokens a block.
        held_out: Fraction of the characters to hold out.
        max_tokens: Limit, or None.
    """
    from nastool_supershaper.data import load_corpus, load_tokenizer, prepare_corpus
    from nastool_supershaper.text import train_tokenizer

    if not sources:
        if not (folder / "corpus.json").is_file():
            raise InvalidInputError("expected text: --text, --dataset or a prepared --corpus")
        return load_corpus(folder)
    tokenizer = tokenizer or "train:16000"
    if tokenizer.startswith("train:"):
        vocabulary = tokenizer.removeprefix("train:")
        if not vocabulary.isdigit() or int(vocabulary) < 100:
            raise InvalidInputError(f"--tokenizer: expected train:SIZE >= 100, got {tokenizer!r}")
        loaded = train_tokenizer(sources, int(vocabulary))
    else:
        loaded = load_tokenizer(tokenizer)
    with click.progressbar(length=len(sources), label="Tokenising") as bar:
        seen: set[str] = set()

        def progress(name: str, tokens: int) -> None:
            del tokens
            if name not in seen:
                seen.add(name)
                bar.update(1)

        return prepare_corpus(
            sources,
            loaded,
            folder,
            sequence_length=sequence_length,
            held_out=held_out,
            max_tokens=max_tokens,
            progress=progress,
        )


def fixed_masks(corpus: Corpus, part: str, n_blocks: int | None, seed: int) -> tuple[Any, Any]:
    """Mask evenly spaced blocks of a corpus once.

    Args:
        corpus: The corpus.
        part: ``train`` or ``held_out``.
        n_blocks: Number of blocks; None takes all.
        seed: Seed of the masks.

    Returns:
        Input ids and labels, (n, length).
    """
    import numpy as np

    from nastool_supershaper.masking import mask_fixed

    blocks = corpus.train if part == "train" else corpus.held_out
    if n_blocks is not None and n_blocks < 1:
        raise InvalidInputError(f"the number of blocks must be at least 1, got {n_blocks}")
    if n_blocks is not None and n_blocks < len(blocks):
        blocks = blocks[np.linspace(0, len(blocks) - 1, n_blocks).astype(np.int64)]
    return mask_fixed(blocks, corpus.masking(), seed)


def _sources(
    text: tuple[str, ...], dataset: tuple[str, ...], text_field: str, streaming: bool
) -> list[Source]:
    from nastool_supershaper.text import HubDataset, text_files

    return [
        *text_files(text, text_field),
        *(HubDataset.parse(d, text_field=text_field, streaming=streaming) for d in dataset),
    ]


def _preset(name: str) -> PretrainingConfig:
    from nastool_supershaper.pretraining_config import PRESETS

    if name not in PRESETS:
        raise InvalidInputError(f"--preset: expected one of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]


def _configuration(preset: str, overrides: dict[str, Any]) -> PretrainingConfig:
    given = {name: value for name, value in overrides.items() if value is not None}
    # A short run named by --steps alone must not be all warm-up.
    config = _preset(preset)
    if "steps" in given and "warmup_steps" not in given:
        given["warmup_steps"] = min(config.warmup_steps, given["steps"] // 10)
    return replace(config, **given)


def _rule(
    preset: str, name: str | None, random_shapes: int | None, sampling: str | None
) -> TrainingRule | None:
    """Return the rule that the options name, or None where they name nothing."""
    from nastool_supershaper.training_rules import (
        LargestOnly,
        RandomOnly,
        Sandwich,
        SizeAware,
        Uniform,
    )

    if name is None and random_shapes is None and sampling is None:
        return None
    rules = {"sandwich": Sandwich, "random": RandomOnly, "largest": LargestOnly}
    kind = type(_preset(preset).rule) if name is None else rules[name]
    settings: dict[str, Any] = {}
    if random_shapes is not None:
        settings["n_random"] = random_shapes
    if sampling is not None:
        settings["sampling"] = SizeAware() if sampling == "size-aware" else Uniform()
    if kind is LargestOnly and settings:
        option = "--random-shapes" if random_shapes is not None else "--sampling"
        raise InvalidInputError(f"{option}: expected a rule with random subnets")
    return kind(**settings)


def _distillation(mix: float | None, temperature: float | None) -> Distillation | None:
    from nastool_supershaper.training_rules import Distillation

    if mix is None:
        if temperature is not None:
            raise InvalidInputError("--temperature: expected --distil beside it")
        return None
    return Distillation(mix) if temperature is None else Distillation(mix, temperature)


def _new_model(
    bert: str | None,
    size: str | None,
    supernet: str | None,
    widths: str | None,
    layers: int | None,
    corpus: Corpus,
) -> SuperShaperForMaskedLM:
    from nastool_supershaper.checkpoints import load_supernet
    from nastool_supershaper.initialization import grow
    from nastool_supershaper.modeling import SuperShaperConfig, SuperShaperForMaskedLM

    parsed = None
    if widths is not None:
        try:
            parsed = [int(w) for w in widths.split(",")]
        except ValueError as error:
            raise InvalidInputError(
                f"--widths: expected whole numbers with commas between, got {widths!r}"
            ) from error
    if bert is not None:
        model = SuperShaperForMaskedLM.from_bert(bert, widths=parsed)
    elif supernet is not None:
        model = load_supernet(supernet)
    else:
        sizes = {"vocab_size": corpus.card["vocab_size"], **_sizes(str(size))}
        if parsed is not None:
            sizes["widths"] = parsed
        return SuperShaperForMaskedLM(SuperShaperConfig(**sizes))
    return model if layers is None else grow(model, layers)


def _sizes(name: str) -> dict[str, Any]:
    if name in _SIZES:
        return _SIZES[name]
    try:
        sizes = json.loads(Path(name).read_text())
    except (OSError, ValueError) as error:
        raise InvalidInputError(
            f"--config: expected {', '.join(_SIZES)} or a JSON file of sizes, got {name!r}"
        ) from error
    if not isinstance(sizes, dict):
        raise InvalidInputError(f"--config: expected a JSON object in {name}")
    return sizes


def _reorder(model: SuperShaperForMaskedLM, corpus: Corpus) -> None:
    import torch

    from nastool_supershaper.initialization import hidden_importance, reorder_hidden

    ids, labels = fixed_masks(corpus, "train", 64, 1)
    importance = hidden_importance(model, torch.from_numpy(ids), torch.from_numpy(labels))
    reorder_hidden(model, importance)


def _followed_shapes(model: SuperShaperForMaskedLM) -> dict[str, Shape]:
    from nastool_supershaper.measuring import sample_shapes

    config = model.config
    ends = [config.largest, config.smallest]
    n = min(3, len(config.widths) ** config.num_hidden_layers - len(set(ends)))
    shapes = sample_shapes(config.widths, config.num_hidden_layers, n, 0, ends)
    return {f"random_{i + 1}": shape for i, shape in enumerate(shapes)}


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
