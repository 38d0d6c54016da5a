"""``nastool validate``: fine-tune shapes of a stored study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nastool.cli import completion
from nastool.cli.cost import announce, dry_run_option
from nastool.cli.options import count, number, plugin_option, storage_option, whole
from nastool.cli.pages import help_page
from nastool.errors import InvalidInputError, NastoolError
from nastool_supernets.cli.supernets import move, named_supernet, torch_needed

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from nastool.results import Result
    from nastool.space import Architecture, SearchSpace
    from nastool.store import Store
    from nastool_supernets.corpus.corpus import Corpus
    from nastool_supernets.finetuning.report import Report
    from nastool_supernets.finetuning.subnets import Mode, Pretraining
    from nastool_supernets.finetuning.tasks import Task
    from nastool_supernets.finetuning.training import Outcome
    from nastool_supernets.finetuning.workbench import Cell, Workbench
    from nastool_supernets.supernet import Supernet
    from nastool_supernets.training.rules import Distillation

_MODES = ("direct", "partial", "scratch")

_WORTH_TIMING = 2_000
"""Optimizer steps of which it is worth to say how long they take."""


@help_page(
    "nastool validate mine --supernet runs/supernet --task-file reviews.tsv",
    "nastool validate mine --supernet runs/supernet --tasks sst2 --pick knee --seeds 3",
    groups={
        "Shapes": "--pick --shape --mode",
        "Tasks": "--tasks --task-file --glue --squad",
        "Fine-tuning": (
            "--seeds --epochs --max-steps --train-examples --dev-examples --batch-size "
            "--learning-rate --max-length --group-by-length --grid --mnli-start --distil "
            "--temperature --teacher"
        ),
        "Training more first": (
            "--pretrain-steps --pretrain-batch-size --pretrain-learning-rate --text --corpus "
            "--target-perplexity"
        ),
        "Models": "--supernet --tokenizer --model --models --keep --device --dtype --dry-run",
    },
)
@click.command()
@click.argument("study", metavar="STUDY", shell_complete=completion.studies)
@click.option(
    "--supernet",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Supernet whose subnets are fine-tuned. Default: the one that the study's space names.",
)
@click.option(
    "--tokenizer", metavar="DIR", help="Its tokenizer. Default: in the supernet's folder."
)
@click.option(
    "--pick",
    metavar="N|knee",
    help="Shapes spread over the front, or its knee. Default: 5, or none beside --shape.",
)
@click.option(
    "--shape",
    "shape_texts",
    shell_complete=completion.shapes,
    metavar="SHAPE",
    multiple=True,
    help="Widths such as 240-180-..., the number of a row of the study's front (1 is the first), "
    "knee, smallest or largest; repeatable.",
)
@click.option(
    "--tasks",
    "task_names",
    metavar="NAME,...",
    help="GLUE tasks (mnli, qqp, qnli, cola, sst2, stsb, rte, mrpc), squad, or tasks of "
    "--task-file. Default: all of --task-file, else all published ones.",
)
@click.option(
    "--task-file",
    metavar="FILE.toml",
    type=click.Path(path_type=Path),
    help="Tasks of your own in local files: a table a task.",
)
@click.option(
    "--mode",
    "mode_texts",
    type=click.Choice(_MODES),
    multiple=True,
    help="Start from inherited weights (direct, the default), train them further first "
    "(partial), or start from random ones (scratch); repeatable.",
)
@click.option(
    "--model",
    "model_folders",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A shape that 'nastool pretrain --shape' trained alone, fine-tuned from its own weights "
    "(start trained); repeatable. Other shapes and starts then only where they are named.",
)
@click.option("--seeds", type=count, default="1", show_default=True, help="Seeds of every score.")
@click.option("--epochs", type=count, help="Epochs. Default: as published, 10.")
@click.option("--max-steps", type=count, help="Optimizer steps a fine-tuning at most.")
@click.option("--train-examples", type=count, help="Training examples a task at most.")
@click.option("--dev-examples", type=count, help="Examples to score on at most.")
@click.option("--batch-size", type=count, help="Examples an optimizer step.")
@click.option("--learning-rate", type=number, help="Peak learning rate.")
@click.option("--max-length", type=count, help="Tokens of an example at most.")
@click.option(
    "--group-by-length",
    is_flag=True,
    default=None,
    help="Put examples of about the same length into a batch: less padding, less time.",
)
@click.option("--grid", is_flag=True, help="Try all published hyperparameters, keep the best.")
@click.option(
    "--mnli-start/--no-mnli-start",
    "starts",
    default=True,
    show_default=True,
    help="Whether RTE, MRPC and STS-B start from the subnet fine-tuned on MNLI.",
)
@click.option(
    "--pretrain-steps",
    type=whole,
    help="Steps of masked language modelling before fine-tuning, for partial and scratch. "
    "Default: 1000 for partial, 0 for scratch alone.",
)
@click.option("--pretrain-batch-size", type=count, default="32", show_default=True)
@click.option("--pretrain-learning-rate", type=number, default=2e-4, show_default=True)
@click.option(
    "--text",
    multiple=True,
    metavar="FILE",
    help="Text for it: file, folder or pattern; repeatable. Default: what the supernet was "
    "trained on.",
)
@click.option(
    "--corpus", metavar="DIR", type=click.Path(path_type=Path), help="Prepared text for it."
)
@click.option(
    "--target-perplexity",
    type=number,
    metavar="P",
    help="Report the steps to it. Default: what scratch ends at.",
)
@click.option(
    "--distil",
    "distillation_mix",
    type=number,
    metavar="MIX",
    help="Share of a teacher's predictions in the loss. Default teacher: the fine-tuned largest "
    "subnet.",
)
@click.option("--temperature", type=number, help="Softens both predictions of --distil.")
@click.option(
    "--teacher",
    "teacher_texts",
    metavar="TASK=DIR",
    multiple=True,
    help="A fine-tuned model that teaches a task instead; repeatable.",
)
@click.option("--glue", metavar="PATH_OR_HUB", help="Where GLUE is. Default: nyu-mll/glue.")
@click.option("--squad", metavar="PATH_OR_HUB", help="Where SQuAD v1.1 is. Default: squad.")
@click.option(
    "--models",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("nastool-models"),
    show_default=True,
    help="Folder for models that other fine-tunings start from.",
)
@click.option("--keep", is_flag=True, help="Keep every fine-tuned model there.")
@click.option("--dtype", default="auto", show_default=True, help="auto, float32 or bfloat16.")
@click.option(
    "--device",
    shell_complete=completion.torch_devices,
    help="Torch device. Default: cuda if there is one, else cpu.",
)
@dry_run_option
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "json", "csv"]),
    help="Default: table.",
)
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write there instead of to the terminal; .json and .csv set the format.",
)
@storage_option
@plugin_option
def validate(
    study: str,
    supernet: Path | None,
    tokenizer: str | None,
    pick: str | None,
    shape_texts: tuple[str, ...],
    task_names: str | None,
    task_file: Path | None,
    mode_texts: tuple[str, ...],
    model_folders: tuple[Path, ...],
    seeds: int,
    train_examples: int | None,
    dev_examples: int | None,
    grid: bool,
    starts: bool,
    pretrain_steps: int | None,
    pretrain_batch_size: int,
    pretrain_learning_rate: float,
    text: tuple[str, ...],
    corpus: Path | None,
    target_perplexity: float | None,
    distillation_mix: float | None,
    temperature: float | None,
    teacher_texts: tuple[str, ...],
    glue: str | None,
    squad: str | None,
    models: Path,
    keep: bool,
    dtype: str,
    device: str | None,
    dry_run: bool,
    output_format: str | None,
    output: Path | None,
    storage: str,
    **overrides: Any,
) -> None:
    """Fine-tune shapes of a stored study on tasks: does the front keep its promise?

    STUDY is a name that 'nastool studies' lists. Every finished score is kept in the store: the
    same command goes on where it was stopped, and answers at once when it was not.
    """
    with torch_needed():
        from nastool_supernets.finetuning.validation import cells_of
        from nastool_supernets.finetuning.validation import validate as fine_tune_all
        from nastool_supernets.finetuning.workbench import Options, Workbench
        from nastool_supernets.saved import load_supernet
    from nastool.cli.output import Destination
    from nastool.recipes.study_recipe import stored_problem
    from nastool.store import open_store
    from nastool.study import load_result
    from nastool_supernets.corpus.corpus import load_corpus
    from nastool_supernets.corpus.masked_text import check_corpus, known_positions
    from nastool_supernets.corpus.text import load_tokenizer
    from nastool_supernets.finetuning import report as reports
    from nastool_supernets.finetuning.subnets import Mode
    from nastool_supernets.runtime.precision import resolve_dtype

    destination = Destination(output_format, None, output, None)
    usual = ("trained",) if model_folders else ("direct",)
    modes = [
        Mode(text) for text in dict.fromkeys((*usual * bool(model_folders), *mode_texts) or usual)
    ]
    if model_folders and (pick is not None or shape_texts):
        raise InvalidInputError("--model brings its shape along, got --pick or --shape beside it")
    tasks, names = _tasks(task_names, task_file, glue, squad)
    distillation = _distillation(distillation_mix, temperature, teacher_texts)
    options = Options(
        n_train=train_examples,
        n_dev=dev_examples,
        overrides={name: value for name, value in overrides.items() if value is not None},
        grid=grid,
        starts=starts,
        distillation=distillation,
        teachers=_teachers(teacher_texts, _with_starts(names, tasks) if starts else names),
        dtype=dtype,
        keep=keep,
    )
    with open_store(storage, create=False) as store:
        summary = store.load(study).summary
        result = load_result(store, study, stored_problem(summary))
        supernet = supernet or named_supernet(summary)
        net = load_supernet(supernet)
        model, space = net.model, _space(result, supernet, net)
        reader = load_tokenizer(tokenizer or supernet)
        trained = _trained(model_folders, space, reader)
        texts = shape_texts or ["-".join(map(str, shape)) for shape in trained]
        shapes = _shapes(result, space, pick, texts)
        move(model, device)
        if model.device.index:
            raise InvalidInputError(
                "--device: expected the first GPU, which CUDA_VISIBLE_DEVICES can choose, "
                f"got {device}"
            )
        for one in trained.values():
            move(one, device)
        positions = int(model.config.max_position_embeddings)
        if text and corpus:
            raise InvalidInputError("expected --text or --corpus, got both")
        pretraining = _pretraining(
            modes,
            pretrain_steps,
            lambda: (
                _tokenised(text, str(tokenizer or supernet), models / "corpus", positions)
                if text
                else load_corpus(corpus or supernet / "corpus")
            ),
            batch_size=pretrain_batch_size,
            learning_rate=pretrain_learning_rate,
            dtype=resolve_dtype(model.device.type, dtype),
        )
        if pretraining is not None:
            check_corpus(pretraining.corpus, reader, model.config, str(supernet))
        for option, given in (
            ("--text", text or None),
            ("--corpus", corpus),
            ("--target-perplexity", target_perplexity),
        ):
            if given is not None and pretraining is None:
                raise InvalidInputError(f"{option}: expected --pretrain-steps beside it")
        bench = Workbench(
            net,
            reader,
            tasks,
            store,
            models,
            pretraining,
            options,
            on_other=lambda cell, outcome: click.echo(
                f"to start or learn from: {_line(cell, outcome)}", err=True
            ),
            trained=trained,
        )
        _say_untrained(bench, names, known_positions(model.config))
        known = cells_of(bench, shapes, names, modes, seeds, taught=distillation is not None)
        _say_plan(bench, known, pretraining is not None, always=dry_run)
        if dry_run:
            return
        metrics = _metrics(result, space, shapes, store)
        found = fine_tune_all(
            bench,
            shapes,
            names,
            modes,
            seeds,
            known=known,
            pretrains=pretraining is not None,
            taught=distillation is not None,
            on_cell=_announce,
        )
        report = reports.Report(
            study,
            supernet.resolve().name,
            found,
            {shape: "-".join(map(str, shape)) for shape in shapes},
            metrics,
            reports.shown_quality([metric.name for metric in result.problem.reported]),
            target_perplexity,
        )
        store.annotate(study, "validation", reports.content(report))
    _send(destination, report, result)
    if bench.unkept:
        raise NastoolError(
            f"{len(bench.unkept)} of the models could not be kept, their scores are; the first: "
            f"{bench.unkept[0]}"
        )


def _say_untrained(bench: Workbench, names: Sequence[str], known: int) -> None:
    """Say which tasks have texts longer than all that the supernet was trained on."""
    lengths = {name: bench.task(name).settings.max_length for name in names}
    if longer := [f"{name} ({length})" for name, length in lengths.items() if length > known]:
        click.echo(
            f"Texts of {', '.join(longer)} may be longer than the {known} tokens that the supernet "
            "was trained on: fine-tuning meets later positions untrained (--max-length)",
            err=True,
        )


def _say_plan(
    bench: Workbench, known: Mapping[Cell, Outcome | None], pretrains: bool, *, always: bool
) -> None:
    """Say what will be trained and what is kept already, and how long it takes if that is much."""
    from nastool_supernets.finetuning.cost import seconds_of, steps_of
    from nastool_supernets.finetuning.subnets import FURTHER

    counts = [
        _counted(len({getattr(cell, name) for cell in known}), noun)
        for name, noun in (
            ("shape", "shape"),
            ("task", "task"),
            ("mode", "start"),
            ("seed", "seed"),
        )
    ]
    left = [cell for cell, outcome in known.items() if outcome is None]
    others = [other for cell in left for other in bench.needed(cell) if other not in left]
    others = list(dict.fromkeys(others))
    what = (
        f"Fine-tuning {counts[0]} on {counts[1]} from {counts[2]} with {counts[3]}: "
        f"{_counted(len(known), 'score')}, {len(known) - len(left):,} of them kept already"
    )
    if others:
        what += f", {len(others):,} more models to start or learn from"
    subnets = dict.fromkeys((cell.shape, cell.mode) for cell in known if cell.mode in FURTHER)
    further = [one for one in subnets if pretrains and not bench.is_pretrained(*one)]
    if further:
        what += f", besides the further training of {_counted(len(further), 'subnet')}"
    wanted = [*others, *left]
    worth = always or steps_of(bench, wanted) >= _WORTH_TIMING
    announce(what, seconds_of(bench, wanted) if worth and wanted else None)


def _counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _announce(cell: Any, outcome: Any, known: bool, number: int, total: int) -> None:
    if not known:
        click.echo(f"{number}/{total} {_line(cell, outcome)}", err=True)


def _line(cell: Any, outcome: Any) -> str:
    scores = [f"{name} {100 * value:.1f}" for name, value in outcome.scores.items()]
    chosen = [f"{name.replace('_', ' ')} {value:g}" for name, value in outcome.chosen.items()]
    shape = "-".join(map(str, cell.shape))
    return (
        f"{cell.task}, {cell.mode}, {shape}, seed {cell.seed}: {', '.join(scores)} "
        f"({', '.join(['epoch ' + format(outcome.epoch, '.3g'), *chosen])}, "
        f"{outcome.seconds:,.0f} s)"
    )


def _send(destination: Any, report: Report, result: Result) -> None:
    from nastool_supernets.finetuning import report as reports

    destination.send(
        {
            "table": lambda width: reports.as_table(report, width),
            "json": lambda: reports.as_json(report),
            "csv": lambda: reports.as_csv(report),
        },
        str,  # there is no page of figures
        result.problem,
    )


def _tasks(
    text: str | None, task_file: Path | None, glue: str | None, squad: str | None
) -> tuple[Mapping[str, Task], list[str]]:
    """All tasks there are, and the names of those wanted."""
    from nastool_supernets.finetuning.tasks import (
        GLUE_PATH,
        SQUAD_PATH,
        published_tasks,
        read_task_file,
    )

    tasks = published_tasks(glue or GLUE_PATH, squad or SQUAD_PATH)
    names = list(tasks)
    if task_file is not None:
        own = read_task_file(task_file, tasks)
        tasks, names = {**tasks, **own}, list(own)
    if text is not None:
        names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in tasks:
            raise InvalidInputError(
                f"--tasks: unknown task {name!r}; known: {', '.join(tasks)} "
                "(tasks of your own go into a --task-file)"
            )
    return tasks, names


def _space(result: Result, supernet: Path, net: Supernet) -> SearchSpace:
    space = result.problem.space
    if space.fingerprint != net.space.fingerprint:
        raise InvalidInputError(
            f"--supernet: {supernet} is a supernet of space {net.space.name}, study "
            f"{result.name!r} searched {space.name}"
        )
    return space


def _shapes(
    result: Result,
    space: SearchSpace,
    how: str | None,
    texts: Sequence[str],
) -> list[Architecture]:
    """The shapes, without repetition, by parameters."""
    import numpy as np

    from nastool_supernets.finetuning.picks import named_shape, pick

    parts = [named_shape(text, space, result) for text in texts]
    if how is not None or not texts:
        parts.append(pick(result, how or "5"))
    genotypes = np.unique(np.concatenate(parts), axis=0)
    order = np.argsort(space.costs["params"].evaluate(genotypes), kind="stable")
    return space.decode(genotypes[order])


def _metrics(
    result: Result, space: SearchSpace, shapes: Sequence[Architecture], store: Store
) -> dict[Architecture, dict[str, float]]:
    """What the study reports of each shape; what it has not measured is measured now."""
    from nastool_supernets.finetuning.picks import reported

    genotypes = space.encode(shapes)
    params = space.costs["params"].evaluate(genotypes)
    columns = {"params": params, **reported(result, genotypes, store)}
    return {
        shape: {name: float(values[row]) for name, values in columns.items()}
        for row, shape in enumerate(shapes)
    }


def _trained(
    folders: Sequence[Path], space: SearchSpace, tokenizer: PreTrainedTokenizerFast
) -> dict[Architecture, PreTrainedModel]:
    """Models of one shape by shape, checked to be of the study's space and tokenizer."""
    from nastool_supernets.corpus.identity import describe_tokenizer
    from nastool_supernets.corpus.text import load_tokenizer
    from nastool_supernets.family import family_of
    from nastool_supernets.saved import load_shape

    found: dict[Architecture, PreTrainedModel] = {}
    for folder in folders:
        model = load_shape(folder)
        family = family_of(model.config)
        if family.head_of(model) != "masked-lm":
            raise InvalidInputError(
                f"--model: expected what 'nastool pretrain --shape' wrote, {folder} has no "
                "masked language modelling head"
            )
        shape = family.shape_of(model)
        try:
            space.parse("-".join(map(str, shape)))
        except InvalidInputError as error:
            raise InvalidInputError(
                f"--model: {folder} is no shape of the study: {error}"
            ) from error
        own = describe_tokenizer(load_tokenizer(folder))
        if own["vocabulary"] != describe_tokenizer(tokenizer)["vocabulary"]:
            raise InvalidInputError(
                f"--model: {folder} has another vocabulary than the supernet's tokenizer"
            )
        if shape in found:
            raise InvalidInputError(
                f"--model: expected one model a shape, {folder} is a second one"
            )
        found[shape] = model
    return found


def _pretraining(
    modes: Sequence[Mode],
    steps: int | None,
    corpus: Callable[[], Corpus],
    **hyperparameters: Any,
) -> Pretraining | None:
    """How subnets are trained first; None where they are not."""
    from nastool_supernets.finetuning.subnets import Pretraining
    from nastool_supernets.training.config import PRESETS

    if steps is None:
        steps = 1000 if "partial" in modes else 0
    if steps == 0:
        if "partial" in modes:
            raise InvalidInputError("--pretrain-steps: expected at least 1 for partial, got 0")
        return None
    if not {"partial", "scratch"} & {*modes}:
        raise InvalidInputError("--pretrain-steps: expected --mode partial or scratch beside it")
    opened = corpus()
    if not len(opened.held_out):
        raise InvalidInputError(
            f"{opened.folder}: expected held-out text to follow the perplexity on, got too little"
        )
    config = replace(
        PRESETS["laptop"],
        steps=steps,
        warmup_steps=min(PRESETS["laptop"].warmup_steps, steps // 10),
        **hyperparameters,
    )
    return Pretraining(config, opened)


def _tokenised(text: tuple[str, ...], tokenizer: str, folder: Path, positions: int) -> Corpus:
    """Text in blocks as pre-training takes them, a hundredth of it held out."""
    from nastool_supernets.cli.texts import named_sources, open_corpus

    sources = named_sources(text, (), "text", streaming=False)
    return open_corpus(sources, tokenizer, folder, min(128, positions), 0.01, None)


def _distillation(
    mix: float | None, temperature: float | None, teachers: Sequence[str]
) -> Distillation | None:
    from nastool_supernets.training.rules import Distillation

    if mix is None:
        for option, given in (("--temperature", temperature), ("--teacher", teachers or None)):
            if given is not None:
                raise InvalidInputError(f"{option}: expected --distil beside it")
        return None
    return Distillation(mix) if temperature is None else Distillation(mix, temperature)


def _with_starts(names: Sequence[str], tasks: Mapping[str, Task]) -> list[str]:
    """Tasks with those that they start from."""
    found = list(names)
    for name in found:
        start = tasks[name].start_from
        if start is not None and start in tasks and start not in found:
            found.append(start)
    return found


def _teachers(texts: Sequence[str], names: Sequence[str]) -> dict[str, Path]:
    teachers = {}
    for text in texts:
        task, equals, folder = text.partition("=")
        if not equals or task not in names:
            raise InvalidInputError(
                f"--teacher: expected TASK=DIR with TASK one of {', '.join(names)}, got {text!r}"
            )
        if not Path(folder).is_dir():
            raise InvalidInputError(f"--teacher: no such folder: {folder}")
        teachers[task] = Path(folder)
    return teachers
