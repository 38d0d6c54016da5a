"""``nastool validate``: fine-tune shapes of a stored study."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from nastool.cli import completion
from nastool.cli.cost import dry_run_option
from nastool.cli.executing import Executing, executor_options
from nastool.cli.options import count, number, plugin_option, storage_option, whole
from nastool.cli.pages import help_page
from nastool.cli.tracking import Tracking, tracker_option
from nastool.errors import InvalidInputError, NastoolError
from nastool_supernets.cli.crew import recipe, trainer
from nastool_supernets.cli.supernets import move, named_supernet, torch_needed
from nastool_supernets.cli.validation_display import (
    announce_cell,
    cell_line,
    say_plan,
    say_untrained,
    send_report,
)
from nastool_supernets.cli.validation_inputs import (
    distillation_of,
    further_training,
    named_teachers,
    reported_metrics,
    studied_space,
    tokenised,
    trained_models,
    wanted_shapes,
    wanted_tasks,
    with_starts,
)

_MODES = ("direct", "partial", "scratch")


@help_page(
    "nastool validate mine --supernet runs/supernet --task-file reviews.toml",
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
        "Models": (
            "--supernet --tokenizer --model --models --keep --device --dtype --dry-run --tracker"
        ),
        "Where it is done": "--executor --timeout-per-shape",
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
    help="Widths such as 240-180-..., smallest or largest, the number of a row of the study's "
    "front (1 is the first), knee, or the best within a bound such as 'params<=19M'; repeatable.",
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
@click.option(
    "--max-steps",
    type=count,
    help="Optimizer steps a fine-tuning at most. Default: all of its epochs.",
)
@click.option(
    "--train-examples", type=count, help="Training examples a task at most. Default: all."
)
@click.option("--dev-examples", type=count, help="Examples to score on at most. Default: all.")
@click.option(
    "--batch-size", type=count, help="Examples an optimizer step. Default: the task's, 32."
)
@click.option(
    "--learning-rate",
    type=number,
    help="Peak learning rate. Default: the task's, 5e-05, or 1e-05 of SQuAD.",
)
@click.option(
    "--max-length",
    type=count,
    help="Tokens of an example at most. Default: the task's, 128, or 512 of SQuAD.",
)
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
@click.option(
    "--pretrain-batch-size",
    type=count,
    default="32",
    show_default=True,
    help="Blocks of text a step of it.",
)
@click.option(
    "--pretrain-learning-rate",
    type=number,
    default=2e-4,
    show_default=True,
    help="Peak learning rate of it.",
)
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
    help="Share of a teacher's predictions in the loss. Default: 0. Without --teacher that is the "
    "fine-tuned largest subnet.",
)
@click.option(
    "--temperature", type=number, help="Softens both predictions of --distil. Default: 1."
)
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
@executor_options
@tracker_option
@dry_run_option
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "json", "csv"]),
    help="How results are shown. Default: table.",
)
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write there instead of to the terminal; .json and .csv set the format.",
)
@click.option(
    "--plot",
    metavar="FILE.html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write a page: scores over parameters, beside the published ones.",
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
    executing: Executing,
    tracking: Tracking,
    dry_run: bool,
    output_format: str | None,
    output: Path | None,
    plot: Path | None,
    storage: str,
    **overrides: Any,
) -> None:
    """Fine-tune shapes of a stored study on tasks: does the front keep its promise?

    STUDY is a name that 'nastool studies' lists. Every finished score is kept in the store: the
    same command goes on where it was stopped, and answers at once when it was not. With --executor
    its workers fine-tune whatever needs no model of another fine-tuning.
    """
    with torch_needed():
        from nastool_supernets.finetuning.cells import Options
        from nastool_supernets.finetuning.validation import cells_of
        from nastool_supernets.finetuning.validation import validate as fine_tune_all
        from nastool_supernets.finetuning.workbench import Workbench
        from nastool_supernets.saved import load_supernet
    from nastool.cli.output import Destination
    from nastool.recipes.study_recipe import stored_problem
    from nastool.store import open_store
    from nastool.study import load_result
    from nastool_supernets.corpus.corpus import load_corpus
    from nastool_supernets.corpus.masked_text import check_corpus, known_positions
    from nastool_supernets.corpus.tokenizer import load_tokenizer
    from nastool_supernets.finetuning import report as reports
    from nastool_supernets.finetuning.subnets import Mode
    from nastool_supernets.positions import positions_of
    from nastool_supernets.runtime.precision import resolve_dtype

    destination = Destination(output_format, None, output, plot)
    usual = ("trained",) if model_folders else ("direct",)
    modes = [
        Mode(text) for text in dict.fromkeys((*usual * bool(model_folders), *mode_texts) or usual)
    ]
    if model_folders and (pick is not None or shape_texts):
        raise InvalidInputError("--model brings its shape along, got --pick or --shape beside it")
    tasks, names = wanted_tasks(task_names, task_file, glue, squad)
    distillation = distillation_of(distillation_mix, temperature, teacher_texts)
    options = Options(
        n_train=train_examples,
        n_dev=dev_examples,
        overrides={name: value for name, value in overrides.items() if value is not None},
        grid=grid,
        starts=starts,
        distillation=distillation,
        teachers=named_teachers(teacher_texts, with_starts(names, tasks) if starts else names),
        dtype=dtype,
        keep=keep,
    )
    with open_store(storage, create=False) as store, executing.opened() as executor:
        summary = store.load(study).summary
        result = load_result(store, study, stored_problem(summary))
        supernet = supernet or named_supernet(summary)
        net = load_supernet(supernet)
        model, space = net.model, studied_space(result, supernet, net)
        reader = load_tokenizer(tokenizer or supernet)
        trained = trained_models(model_folders, space, reader)
        texts = shape_texts or ["-".join(map(str, shape)) for shape in trained]
        shapes = wanted_shapes(result, space, pick, texts)
        move(model, device)
        if model.device.index:
            raise InvalidInputError(
                "--device: expected the first GPU, which CUDA_VISIBLE_DEVICES can choose, "
                f"got {device}"
            )
        for one in trained.values():
            move(one, device)
        positions = positions_of(model.config)
        if text and corpus:
            raise InvalidInputError("expected --text or --corpus, got both")
        pretraining = further_training(
            modes,
            pretrain_steps,
            lambda: (
                tokenised(text, str(tokenizer or supernet), models / "corpus", positions)
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
                f"to start or learn from: {cell_line(cell, outcome)}", err=True
            ),
            trained=trained,
        )
        say_untrained(bench, names, known_positions(model.config))
        known = cells_of(bench, shapes, names, modes, seeds, taught=distillation is not None)
        say_plan(bench, known, pretraining is not None, always=dry_run)
        if dry_run:
            return
        elsewhere = None
        if executor is not None:
            made_from = recipe(supernet, tokenizer, tasks, options, model_folders, device)
            elsewhere = trainer(executor, made_from, bench)
        metrics = reported_metrics(result, space, shapes, store)
        facts = {"study": study, "supernet": supernet, "tasks": ", ".join(names), "seeds": seeds}
        with tracking.opened(f"{study}-validation", 0, facts):
            found = fine_tune_all(
                bench,
                shapes,
                names,
                modes,
                seeds,
                known=known,
                pretrains=pretraining is not None,
                taught=distillation is not None,
                on_cell=partial(announce_cell, tracking),
                elsewhere=elsewhere,
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
    send_report(destination, report, result)
    if bench.unkept:
        raise NastoolError(
            f"{len(bench.unkept)} of the models could not be kept, their scores are; the first: "
            f"{bench.unkept[0]}"
        )
