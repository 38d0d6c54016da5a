"""``nastool pretrain``: from text and a BERT to a supernet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from nastool.cli import completion
from nastool.cli.cost import announce, dry_run_option
from nastool.cli.options import count, parse_time, plugin_option, storage_option, whole
from nastool.cli.pages import help_page
from nastool.cli.tracking import TRACKER
from nastool.errors import InvalidInputError
from nastool_supernets.cli.starts import (
    Start,
    TrainingCommand,
    check_reading,
    family_options,
    known_tokenizer,
    shape_of_study,
)
from nastool_supernets.cli.supernets import (
    check_device,
    followed,
    move,
    torch_needed,
)
from nastool_supernets.cli.texts import named_sources, open_corpus
from nastool_supernets.cli.training_display import plan_line, show_made, step_display
from nastool_supernets.cli.training_options import (
    configuration,
    distillation,
    kept_lessons,
    presets_told,
    teaching,
    training_rule,
)

if TYPE_CHECKING:
    from nastool_supernets.saved import Checkpoint
    from nastool_supernets.supernet import SingleShape
    from nastool_supernets.training.config import PretrainingConfig
    from nastool_supernets.training.pace import Pace

_RULES = ("sandwich", "random", "largest")
_SAMPLINGS = ("uniform", "size-aware", "runs")
_INTERRUPTED = 130

_WORTH_TIMING = 200
"""Steps from which on it is measured beforehand how long they take."""

_PROBE = 20.0
"""Seconds of which some twentieths are spent on measuring the pace, or the time of a few steps."""


@help_page(
    "nastool pretrain --bert bert-base-uncased --text corpus.txt --output runs/supernet",
    "nastool pretrain --size tiny --text corpus.txt --preset smoke --output runs/first",
    "nastool pretrain --supernet runs/supernet --shape knee --study mine --output alone",
    "nastool pretrain decoder --from SmolLM2 --text corpus.txt --steps 0 --output net",
    groups={
        "Where it starts": (
            "--bert --from --size --supernet --family --widths --layers --ffn-choices --kv-choices "
            "--head-choices --no-skip --order --shape --study --storage --reorder"
        ),
        "Text": (
            "--text --dataset --text-field --streaming --max-tokens --corpus --tokenizer "
            "--sequence-length --held-out"
        ),
        "How long": (
            "--preset --steps --max-time --dry-run --evaluate-every --checkpoint-every "
            "--evaluation-blocks --resume"
        ),
        "Training": (
            "--rule --random-shapes --sampling --batch-size --micro-batch-size --learning-rate "
            "--warmup-steps --bottleneck-rate --head-rate --clip-norm --masking-rate --head-steps "
            "--head-learning-rate --seed"
        ),
        "Distillation": "--teacher --teacher-cache --distil --temperature --distil-hidden",
        "Machine": "--device --dtype --compile --cuda-graphs --gradient-checkpointing --peak-flops "
        "--tracker",
    },
)
@click.command(cls=TrainingCommand)
@click.argument("family_word", metavar="[FAMILY]", required=False)
@click.option(
    "--size",
    "--config",
    "size",
    metavar="NAME_OR_JSON",
    help="Start from random weights: sizes that its family names, such as tiny, small or base, or "
    "a JSON file of them.",
)
@click.option("--supernet", metavar="DIR", help="Start from a supernet trained before.")
@click.option(
    "--family",
    "family_name",
    metavar="NAME",
    help="What to train, where several families have what --size names.",
)
@click.option(
    "--shape",
    "shape_text",
    shell_complete=completion.shapes,
    metavar="SHAPE",
    help="Train this one shape alone, merged as it is deployed: widths such as 240-180-..., "
    "smallest or largest; with --study also a row of its front, knee, or the best within a bound "
    "such as 'params<=19M'.",
)
@click.option(
    "--study",
    shell_complete=completion.studies,
    metavar="NAME",
    help="Study whose front --shape names a row or the knee of.",
)
@storage_option
@click.option(
    "--teacher",
    metavar="DIR",
    help="What --shape learns from as well: a supernet, whose largest subnet is taken, or any "
    "masked language model with the same tokenizer.",
)
@click.option(
    "--teacher-cache",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the 64 most likely tokens that the teacher predicts at each place of a causal text, "
    "for all shapes that learn from it.",
)
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
@click.option("--max-tokens", type=count, help="Stop reading at so many tokens. Default: none.")
@click.option(
    "--corpus",
    metavar="DIR",
    help="Folder for the tokenised text, reused if complete. Default: OUTPUT/corpus.",
)
@click.option(
    "--tokenizer",
    metavar="PATH_OR_HUB",
    help="Tokenizer, or train:SIZE for a new one. Default: the named model's, else train:16000.",
)
@click.option("--sequence-length", type=count, help="Tokens a block. Default: 128.")
@click.option("--held-out", type=float, help="Share of the text held out. Default: 0.01.")
@click.option(
    "--preset",
    metavar="NAME",
    help=f"{presets_told()}. Default: laptop.",
)
@click.option(
    "--steps",
    type=whole,
    help="Optimizer steps; 0 makes the supernet without any training. Default: of the preset.",
)
@click.option(
    "--max-time",
    metavar="TIME",
    help="In place of --steps: as many as end in time (90s, 7m, 2h), by the measured pace.",
)
@click.option("--batch-size", type=count, help="Blocks an optimizer step. Default: of the preset.")
@click.option(
    "--micro-batch-size", type=count, help="Blocks a forward pass. Default: the whole batch."
)
@click.option("--learning-rate", type=float, help="Peak learning rate. Default: of the preset.")
@click.option("--warmup-steps", type=whole, help="Steps of linear warm-up. Default: of the preset.")
@click.option(
    "--bottleneck-rate",
    type=float,
    help="Factor on --learning-rate for the matrices between widths. Default: 1.",
)
@click.option(
    "--head-rate",
    type=float,
    help="Factor on --learning-rate for the head that predicts words. Default: 1.",
)
@click.option("--clip-norm", type=float, help="Largest norm of the gradients. Default: none.")
@click.option("--masking-rate", type=float, help="Share of the tokens to predict. Default: 0.15.")
@click.option(
    "--head-steps",
    type=whole,
    help="First steps, of the largest net alone, for a new head. Default: of the preset; 0 after "
    "--supernet.",
)
@click.option(
    "--head-learning-rate",
    type=float,
    help="Peak learning rate of these steps, with a schedule of their own; --head-rate then holds "
    "for these only. Default: none of their own.",
)
@click.option(
    "--rule",
    type=click.Choice(_RULES),
    help="Which subnets train in a step: the largest, the smallest and random ones (sandwich), "
    "random ones, or the largest alone. Default: sandwich.",
)
@click.option("--random-shapes", type=whole, help="Random subnets a step. Default: 1.")
@click.option(
    "--sampling",
    type=click.Choice(_SAMPLINGS),
    help="Draw widths evenly, sizes (size-aware), or runs of like layers. Default: uniform.",
)
@click.option(
    "--distil",
    "distillation_mix",
    type=float,
    metavar="MIX",
    help="Share of the largest subnet's, or the teacher's, predictions in the loss. Default: none; "
    "half beside --teacher.",
)
@click.option("--temperature", type=float, help="Softens both predictions of --distil. Default: 1.")
@click.option(
    "--distil-hidden",
    type=float,
    is_flag=False,
    flag_value=1.0,
    metavar="[WEIGHT]",
    help="Weight in the loss of how far hidden states are from the teacher's. Default: 0, 1 alone.",
)
@click.option("--dtype", help="auto, float32 or bfloat16. Default: auto.")
@click.option("--compile/--no-compile", "compiled", default=None, help="Use torch.compile.")
@click.option("--cuda-graphs/--no-cuda-graphs", default=None, help="Launch whole layers at once.")
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
    type=TRACKER,
    metavar="NAME",
    help=f"Where curves go: {', '.join(TRACKER.choices)}; repeatable. Default: TensorBoard where "
    "installed, others where the environment names a key or an address of theirs, too.",
)
@click.option("--seed", type=whole, help="Seed of order, masks and shapes. Default: 0.")
@click.option(
    "--evaluate-every", type=whole, help="Steps between evaluations. Default: of the preset."
)
@click.option(
    "--checkpoint-every", type=count, help="Steps between checkpoints. Default: of the preset."
)
@click.option(
    "--evaluation-blocks", type=count, help="Held-out blocks that evaluations are on. Default: 128."
)
@click.option(
    "--device",
    shell_complete=completion.torch_devices,
    help="Torch device. Default: cuda if there is one, else cpu.",
)
@click.option(
    "--output", required=True, type=click.Path(path_type=Path), help="Folder of the supernet."
)
@click.option("--resume", is_flag=True, help="Continue the run in the output folder.")
@dry_run_option
@plugin_option
def pretrain(
    family_word: str | None,
    size: str | None,
    supernet: str | None,
    family_name: str | None,
    shape_text: str | None,
    study: str | None,
    storage: str,
    teacher: str | None,
    teacher_cache: Path | None,
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
    max_time: str | None,
    rule: str | None,
    random_shapes: int | None,
    sampling: str | None,
    distillation_mix: float | None,
    temperature: float | None,
    distil_hidden: float | None,
    compiled: bool | None,
    trackers: tuple[str, ...],
    evaluation_blocks: int | None,
    device: str | None,
    output: Path,
    resume: bool,
    dry_run: bool,
    **overrides: Any,
) -> Pace | None:
    """Train a supernet: one set of weights for every shape; or one shape alone (--shape).

    Start from a BERT (--bert), a checkpoint to slice (--from) or random weights (--size); FAMILY
    says which architecture where that is not clear. Ctrl-C stops after the step and saves; --resume
    goes on as if it had never stopped. On several devices: torchrun --nproc-per-node 8 -m nastool
    pretrain ...; each process then takes its share of every batch.
    """
    with torch_needed():
        import torch

        from nastool_supernets.cli.processes import say, shared_work
        from nastool_supernets.corpus.corpus import fixed_masks
        from nastool_supernets.runtime.parallel import own_device
        from nastool_supernets.saved import save_shape
        from nastool_supernets.training.checkpoints import resumable_checkpoint
        from nastool_supernets.training.pace import measured_pace, steps_within
        from nastool_supernets.training.pretraining import WAIT
        from nastool_supernets.training.pretraining import pretrain as train
        from nastool_supernets.training.report import Evaluation
        from nastool_supernets.training.teaching import load_teacher
    from nastool_supernets.supernet import Supernet
    from nastool_supernets.training.rules import OneShape

    if family_word is not None and family_name not in (None, family_word):
        raise InvalidInputError(f"--family: expected {family_word}, got {family_name}")
    if study is not None:
        shape_text = shape_of_study(study, storage, shape_text)
    options = {str(o.name): overrides.pop(str(o.name)) for o in family_options()}
    start = Start(size, supernet, options, shape_text, family_word or family_name)
    limit = None if max_time is None else parse_time("--max-time", max_time)
    if limit is not None and overrides["steps"] is not None:
        raise InvalidInputError("expected --steps or --max-time, got both")
    saved = resumable_checkpoint(output, resume)
    overrides["compile"] = compiled
    overrides["rule"] = training_rule(preset, rule, random_shapes, sampling)
    if start.is_one_shape(saved):
        if overrides["rule"] is not None:
            raise InvalidInputError("--rule: one shape alone (--shape) has no other subnets")
        teacher = teacher or start.saved_teacher(saved)
        if teacher_cache is not None and teacher is None:
            raise InvalidInputError("--teacher-cache: expected --teacher beside it")
        overrides["distillation"], overrides["distil_hidden"] = teaching(
            distillation_mix, temperature, distil_hidden, teacher, is_saved=saved is not None
        )
        overrides["rule"] = OneShape(start.saved_shape(saved) or ())
        if saved is None and overrides["head_steps"] is None:
            # There is no other net to train first.
            overrides["head_steps"] = None if overrides["head_learning_rate"] else 0
    elif teacher is not None or teacher_cache is not None:
        option = "--teacher" if teacher is not None else "--teacher-cache"
        raise InvalidInputError(f"{option}: expected --shape beside it")
    else:
        overrides["distillation"] = distillation(distillation_mix, temperature)
        overrides["distil_hidden"] = distil_hidden
        own_stage = (overrides["head_steps"], overrides["head_learning_rate"])
        if start.is_trained and saved is None and own_stage == (None, None):
            # Its head has been trained.
            overrides["head_steps"] = 0

    def configured(saved: Checkpoint | None, steps: int | None = None) -> PretrainingConfig:
        given = overrides if steps is None else overrides | {"steps": steps}
        return configuration(preset, given, saved.state["config"] if saved else None)

    seed = configured(saved).seed
    start.check(saved)
    device = own_device(device)
    corpus_folder = Path(corpus) if corpus else output / "corpus"
    with shared_work(device) as workers, workers.owning(output, "run", WAIT, say):
        # Nobody else writes there now.
        saved = resumable_checkpoint(output, resume)
        sources = named_sources(text, dataset, text_field or "text", streaming)
        if resume:
            tokenizer = known_tokenizer(
                tokenizer, start.model, output, corpus_folder, saved is not None
            )
        # What cannot be trained is told before hours of tokenising.
        check_device(device, cuda_graphs=bool(overrides["cuda_graphs"]))
        torch.manual_seed(seed)
        opened, shape = start.open(saved)
        if shape is not None:
            overrides["rule"] = OneShape(shape)
        config = configured(saved)
        lesson = None if teacher is None else load_teacher(Path(teacher))
        if sources:
            check_reading(opened, lesson, tokenizer or start.model, sequence_length)
        tokenised = open_corpus(
            sources,
            tokenizer,
            corpus_folder,
            sequence_length,
            held_out,
            max_tokens,
            start=start.model,
            workers=workers,
            # What a run was trained on does not give way to what it cannot go on with.
            replace=saved is None,
            text_field=text_field,
        )
        torch.manual_seed(seed)
        net, origin = start.prepared(opened, saved, shape, tokenised)
        model, task = net.model, tokenised.task(net.task)
        move(model, device)
        taught = None
        if lesson is not None:
            taught = lesson.teacher(
                cast("SingleShape", net),
                tokenised.tokenizer(),
                tokenised.train.shape[1],
                config.distil_hidden > 0,
            )
            origin |= lesson.origin(is_new=saved is None)
            origin["shortlist"] = 0
            if teacher_cache is not None:
                taught.kept = kept_lessons(teacher_cache, config, tokenised.train, net, origin)
                origin["shortlist"] = taught.kept.kept
                if workers.is_first:
                    say(f"{teacher_cache}: {taught.kept}")
        evaluation = None
        if len(tokenised.held_out):
            # A curve is of one text: a run that goes on keeps to its blocks.
            begun = saved.state.get("origin", {}) if saved else {}
            blocks = evaluation_blocks or begun.get("evaluation_blocks", 128)
            origin["evaluation_blocks"] = blocks
            masked = fixed_masks(tokenised, "held_out", blocks, 0, net.task)
            others = followed(net) if isinstance(net, Supernet) else {}
            evaluation = Evaluation(*masked, others)
        is_made = saved is None and config.steps == 0
        if limit is not None and saved is None:
            steps = steps_within(
                limit,
                net,
                tokenised.train,
                task,
                lambda steps: configured(None, steps),
                output,
                teacher=taught,
                evaluation=evaluation,
                workers=workers,
            )
            config = configured(None, steps)
            origin |= {"max_time": limit}
            if workers.is_first:
                say(f"{steps:,} steps fit into {max_time}, by the pace of the first ones")
        elif limit is not None and workers.is_first:
            say(f"--max-time: the run that goes on keeps its {config.steps:,} steps")
        pace = None
        if saved is None and (dry_run or (limit is None and config.steps >= _WORTH_TIMING)):
            pace = measured_pace(
                _PROBE,
                net,
                tokenised.train,
                task,
                config,
                output,
                teacher=taught,
                evaluation=evaluation,
                workers=workers,
            )
            if workers.is_first:
                announce(plan_line(config, tokenised.train.shape[1]), pace.seconds(config))
        elif saved is None and workers.is_first and not is_made:
            announce(plan_line(config, tokenised.train.shape[1]), limit)
        if dry_run:
            return pace
        if workers.is_first and shape is None and config.head_steps >= config.steps > 0:
            say(
                f"All {config.steps} steps are those of the head stage: only the largest net is "
                "trained (--head-steps)"
            )
        with step_display(config.steps, config.log_every) as on_step:
            result = train(
                net,
                tokenised.train,
                task,
                config,
                output,
                teacher=taught,
                evaluation=evaluation,
                resume=resume,
                on_step=on_step if workers.is_first else None,
                workers=workers,
                trackers=[name for name in trackers if name != "none"] if trackers else None,
                tokenizer=tokenised.tokenizer(),
                origin=origin,
            )
        if shape is not None and workers.is_first and (result.step or is_made):
            save_shape(model, tokenised.tokenizer(), output)
        workers.wait()  # launchers end the others when one has ended with a code that is not 0
    if not result.finished:
        if workers.is_first:
            say(f"Stopped after step {result.step}; nothing is lost: add --resume to continue")
        raise click.exceptions.Exit(_INTERRUPTED)
    if workers.is_first:
        show_made(result, output, is_trained=not is_made)
    return None
