"""What the options of ``nastool validate`` name: tasks, shapes, models, further training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nastool.errors import InvalidInputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from nastool.results import Result
    from nastool.space import Architecture, SearchSpace
    from nastool.store import Store
    from nastool_supernets.corpus.corpus import Corpus
    from nastool_supernets.finetuning.subnets import Mode, Pretraining
    from nastool_supernets.finetuning.tasks import Task
    from nastool_supernets.supernet import Supernet
    from nastool_supernets.training.rules import Distillation


def wanted_tasks(
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


def studied_space(result: Result, supernet: Path, net: Supernet) -> SearchSpace:
    """The space of a study, checked to be that of the supernet."""
    space = result.problem.space
    if space.fingerprint != net.space.fingerprint:
        raise InvalidInputError(
            f"--supernet: {supernet} is a supernet of space {net.space.name}, study "
            f"{result.name!r} searched {space.name}"
        )
    return space


def wanted_shapes(
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


def reported_metrics(
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


def trained_models(
    folders: Sequence[Path], space: SearchSpace, tokenizer: PreTrainedTokenizerFast
) -> dict[Architecture, PreTrainedModel]:
    """Models of one shape by shape, checked to be of the study's space and tokenizer."""
    from nastool_supernets.corpus.identity import describe_tokenizer
    from nastool_supernets.corpus.tokenizer import load_tokenizer
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


def further_training(
    modes: Sequence[Mode],
    steps: int | None,
    corpus: Callable[[], Corpus],
    **hyperparameters: Any,
) -> Pretraining | None:
    """How subnets are trained first; None where they are not."""
    from nastool_supernets.finetuning.subnets import Pretraining
    from nastool_supernets.training.presets import laptop

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
        laptop(),
        steps=steps,
        warmup_steps=min(laptop().warmup_steps, steps // 10),
        **hyperparameters,
    )
    return Pretraining(config, opened)


def tokenised(text: tuple[str, ...], tokenizer: str, folder: Path, positions: int) -> Corpus:
    """Text in blocks as pre-training takes them, a hundredth of it held out."""
    from nastool_supernets.cli.texts import named_sources, open_corpus

    sources = named_sources(text, (), "text", streaming=False)
    return open_corpus(sources, tokenizer, folder, min(128, positions), 0.01, None)


def distillation_of(
    mix: float | None, temperature: float | None, teachers: Sequence[str]
) -> Distillation | None:
    """How much is learnt from a teacher; None for nothing."""
    from nastool_supernets.training.rules import Distillation

    if mix is None:
        for option, given in (("--temperature", temperature), ("--teacher", teachers or None)):
            if given is not None:
                raise InvalidInputError(f"{option}: expected --distil beside it")
        return None
    return Distillation(mix) if temperature is None else Distillation(mix, temperature)


def with_starts(names: Sequence[str], tasks: Mapping[str, Task]) -> list[str]:
    """Tasks with those that they start from."""
    found = list(names)
    for name in found:
        start = tasks[name].start_from
        if start is not None and start in tasks and start not in found:
            found.append(start)
    return found


def named_teachers(texts: Sequence[str], names: Sequence[str]) -> dict[str, Path]:
    """Folders of models that teach, by task."""
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
