"""``nastool shrink``: from a checkpoint to the best smaller model within bounds, in one command."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nastool.cli import completion
from nastool.cli.cost import announce, dry_run_option
from nastool.cli.options import count, plugin_option, whole
from nastool.cli.pages import help_page
from nastool.constraint import Constraint, parse_constraint
from nastool.errors import InfeasibleError, InvalidInputError
from nastool.files.reading import is_file, read_json_object
from nastool.files.writing import owned, write_whole
from nastool_supernets.cli.recovery import (
    FOLDER,
    LESSONS,
    RANKING,
    Recovery,
    announce_recovery,
    rank_recovered,
    train,
)
from nastool_supernets.cli.serving import FILE, LATENCIES, Serving
from nastool_supernets.cli.shrink_export import export_chosen
from nastool_supernets.cli.shrink_report import show, show_latency, try_line, write_front
from nastool_supernets.cli.supernets import check_device, move, torch_needed

if TYPE_CHECKING:
    from nastool.space import SearchSpace
    from nastool_supernets.shrinking.campaign import Campaign, Front, Plan
    from nastool_supernets.supernet import Supernet

_SETTINGS, _PLAN, _FRONT, _TABLE = "shrink.json", "plan.json", "front.csv", "measured.csv"
_NET, _CORPUS, _MODEL, _RECOVERED = "net", "corpus", "model", "recovered"
"""What a folder holds."""

_IMPORTED = {_NET: "model.safetensors", _CORPUS: "corpus.json"}
"""Without them, nothing of the checkpoint and of the text is kept."""

_SCRATCH = ".probe"
"""There for a time."""

_OWN = frozenset(
    (
        _SETTINGS,
        _PLAN,
        _FRONT,
        _TABLE,
        FILE,
        RANKING,
        FOLDER,
        LESSONS,
        _NET,
        _CORPUS,
        _MODEL,
        _RECOVERED,
    )
)

_OF_PLAN = frozenset(("max", "minutes", "seed", "device", "batch_size", "context", "threads"))
"""Settings that may change until something is measured: a refusal or a look costs no import. All
may until something is imported."""

_HELD_OUT = 0.1


@help_page(
    "nastool shrink SmolLM2-135M --text notes.txt --max params=100M --to runs/smaller",
    groups={
        "Text": "--text --text-field --sequence-length --max-tokens",
        "How long": "--minutes --recover-steps --rank-steps --dry-run",
        "Latency": "--batch-size --context --threads",
        "Machine": "--device --seed",
    },
)
@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--text",
    multiple=True,
    required=True,
    metavar="FILE",
    help="Text to judge by: file, folder or pattern; repeatable. A tenth is kept for the check.",
)
@click.option(
    "--max",
    "most",
    multiple=True,
    required=True,
    metavar="METRIC=VALUE",
    help="Upper bound on an exact cost, e.g. params=100M or kv_cache=50MB, or on a latency of "
    "--device such as latency.decode=8ms or latency.prefill=50ms; repeatable. The front is that of "
    "the first.",
)
@click.option("--to", required=True, type=click.Path(path_type=Path), help="Folder of the run.")
@click.option(
    "--minutes",
    type=float,
    default=60.0,
    show_default=True,
    help="Time for import and measuring; recovery, and reading and writing weights, take theirs.",
)
@click.option(
    "--recover-steps",
    type=whole,
    default=0,
    show_default=True,
    help="Steps that the chosen model then learns from the whole one.",
)
@click.option(
    "--rank-steps",
    type=whole,
    default=0,
    show_default=True,
    help="Steps that eight shapes within the bounds learn, to see whether they keep their order.",
)
@click.option("--text-field", default="text", show_default=True, help="Name of the text column.")
@click.option(
    "--sequence-length", type=count, default=256, show_default=True, help="Tokens a block."
)
@click.option(
    "--max-tokens", type=count, default=1_000_000, show_default=True, help="Tokens read at most."
)
@click.option(
    "--batch-size", type=count, default=1, show_default=True, help="Texts that latency is of."
)
@click.option(
    "--context",
    type=count,
    default=128,
    show_default=True,
    help="Tokens that prefill reads, and that are kept when decode reads one more.",
)
@click.option(
    "--threads", type=count, default=1, show_default=True, help="Threads that latency is of."
)
@click.option("--seed", type=whole, default=0, show_default=True, help="Seed of all draws.")
@click.option(
    "--device",
    shell_complete=completion.torch_devices,
    help="Torch device. Default: cuda if there is one, else cpu.",
)
@dry_run_option
@plugin_option
def shrink(
    source: Path,
    text: tuple[str, ...],
    most: tuple[str, ...],
    to: Path,
    minutes: float,
    recover_steps: int,
    rank_steps: int,
    text_field: str,
    sequence_length: int,
    max_tokens: int,
    batch_size: int,
    context: int,
    threads: int,
    seed: int,
    device: str | None,
    dry_run: bool,
) -> None:
    """Find the best smaller model within bounds: order, score, fit, search, measure, cut out.

    SOURCE is a checkpoint that a family of supernets starts from, or a supernet. Every block is
    scored alone; assembled shapes then teach where scores do not add up, and every front shown is
    measured. The same command goes on with a run that was stopped.
    """
    with torch_needed():
        from nastool_supernets.saved import load_supernet
    if device is not None:
        check_device(device)
    bounds = [_bound(text_of) for text_of in most]
    if not 0 < minutes < math.inf:
        raise InvalidInputError(f"--minutes: expected a time above 0, got {minutes:g}")
    settings = {
        "source": str(source.resolve()),
        "text": list(text),
        "text_field": text_field,
        "max": [str(bound) for bound in bounds],
        "minutes": minutes,
        "sequence_length": sequence_length,
        "max_tokens": max_tokens,
        "seed": seed,
    }
    if any(bound.metric in LATENCIES for bound in bounds):
        settings |= {"batch_size": batch_size, "context": context, "threads": threads}
        settings["device"] = device or _default_device()
    family_start = _start_of(source)
    with owned(to, "run"):
        _check_settings(to / _SETTINGS, settings)
        _check_recovery(to, recover_steps)
        began = time.perf_counter()
        space = _space_before(source, family_start)
        serving = Serving.of(space, bounds, to, settings)
        if space is not None:
            # What cannot be kept is told before a checkpoint is read.
            serving.check(space, bounds)
        folder = _imported(source, family_start, to, settings, device)
        net = load_supernet(folder)
        move(net.model, device)
        texts = _texts(folder, net, to, settings)
        spent = time.perf_counter() - began
        campaign, pace = _campaign(net, bounds, to, settings, texts, serving, spent)
        _announce(net, campaign.plan, pace, sequence_length)
        lessons = to / LESSONS if net.task == "causal-lm" else None
        recovery = Recovery(folder, to / _CORPUS, lessons, seed, device)
        if dry_run or not is_file(to / _TABLE):
            announce_recovery(campaign, recovery, to / _SCRATCH, recover_steps, rank_steps)
        if dry_run:
            return
        minutes_of = {"import": time.perf_counter() - began}
        front = _run(campaign, minutes_of, serving)
        shape = net.space.format(front.genotypes[front.chosen])
        write_front(to / _FRONT, net, front, campaign.costs)
        model = to / _MODEL
        if not is_file(model / "config.json"):
            began = time.perf_counter()
            if recover_steps:
                recovery.run(shape, to / _RECOVERED, recover_steps)
                minutes_of["recovery"] = time.perf_counter() - began
            taught = to / _RECOVERED if recover_steps else None
            named = source if is_file(source / "tokenizer.json") else folder
            export_chosen(net, front, campaign, source, model, serving, named, taught)
            move(net.model, device)
        show(net, front, campaign, minutes_of)
        show_latency(net, front, serving)
        if rank_steps:
            rank_recovered(campaign, recovery, to, rank_steps)
        click.echo(try_line(net, model))


def _bound(text: str) -> Constraint:
    name, equals, value = text.partition("=")
    if not equals or not name or not value or name[-1] in "<>":
        raise InvalidInputError(f"--max: expected METRIC=VALUE such as params=100M, got {text!r}")
    try:
        return parse_constraint(f"{name}<={value}")
    except InvalidInputError as error:
        raise InvalidInputError(f"--max: {error}") from error


def _start_of(source: Path) -> str | None:
    """The option by which a checkpoint's family starts from it; None for a supernet.

    Raises:
        InvalidInputError: It is neither.
    """
    from nastool.files.reading import is_folder
    from nastool_supernets.family import families, find_family, is_known

    if not is_folder(source) or not is_file(source / "config.json"):
        raise InvalidInputError(
            f"{source}: expected the folder of a checkpoint or of a supernet, got no config.json "
            "there"
        )
    kind = read_json_object(source / "config.json").get("model_type")
    if is_known(kind):
        family = find_family(str(kind))
        if kind == family.name:
            return None
        if family.starts and getattr(family, "starts_trained", False):
            return f"--{family.starts[0]}"
    known = sorted(
        {
            kind
            for family in families()
            for kind in (family.name, *getattr(family, "shape_types", ()))
            if kind == family.name or getattr(family, "starts_trained", False)
        }
    )
    raise InvalidInputError(
        f"{source}: expected a model of type {', '.join(known)}, got one of type {kind}"
    )


def _default_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _space_before(source: Path, start: str | None) -> SearchSpace | None:
    """The space that is searched, before any weights are read; None where only they say it."""
    from nastool_supernets.family import find_family

    content = read_json_object(source / "config.json")
    family = find_family(str(content.get("model_type")))
    if start is None:
        return family.space(content)
    options = {str(option.name): None for option in family.options()}
    return family.space_before(options | {start.removeprefix("--"): str(source)})


def _check_settings(file: Path, settings: dict[str, Any]) -> None:
    """Keep the settings of a run; those of one that goes on must be the same."""
    if not is_file(file):
        others = {path.name for path in file.parent.iterdir() if not path.name.startswith(".")}
        if foreign := sorted(others - _OWN):
            raise InvalidInputError(
                f"--to: expected a new folder or one of a run, got {file.parent} with {foreign[0]}"
            )
        write_whole(file, json.dumps(settings, indent=2) + "\n")
        return
    known = read_json_object(file)
    is_begun = is_file(file.parent / _TABLE)
    is_imported = any(is_file(file.parent / folder / of) for folder, of in _IMPORTED.items())
    for name, value in settings.items():
        may_change = not is_begun and (name in _OF_PLAN or not is_imported)
        if known.get(name) != value and not may_change:
            option = "SOURCE" if name == "source" else f"--{name.replace('_', '-')}"
            raise InvalidInputError(
                f"{option}: the run in {file.parent} has {_shown(known.get(name))}, got "
                f"{_shown(value)}: give the same, or another folder"
            )
    if known != settings:
        # Nothing was measured by the old plan; what was imported stays.
        (file.parent / _PLAN).unlink(missing_ok=True)
        write_whole(file, json.dumps(settings, indent=2) + "\n")


def _check_recovery(to: Path, steps: int) -> None:
    """Check that the model that is there has learnt as long as it is asked to, if it is."""
    if not steps or not is_file(to / _MODEL / "config.json"):
        return
    card = to / _RECOVERED / "run.json"
    done = read_json_object(card)["config"]["steps"] if is_file(card) else 0
    if done != steps:
        raise InvalidInputError(
            f"--recover-steps: {to / _MODEL} has learnt for {done:,} steps, got {steps:,}: remove "
            f"it{f' and {card.parent}' if done else ''}, or give another folder"
        )


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _imported(
    source: Path, start: str | None, to: Path, settings: dict[str, Any], device: str | None
) -> Path:
    """The folder of the supernet, made of a checkpoint where it is none."""
    if start is None:
        return source
    folder = to / _NET
    if not is_file(folder / "model.safetensors"):
        train(
            [
                *(start, str(source), "--steps", "0", "--output", str(folder)),
                *_reading(to, settings),
                *(("--device", device) if device is not None else ()),
            ]
        )
    return folder


def _reading(to: Path, settings: dict[str, Any]) -> list[str]:
    texts = [word for name in settings["text"] for word in ("--text", name)]
    return [
        *texts,
        "--text-field",
        settings["text_field"],
        "--corpus",
        str(to / _CORPUS),
        "--sequence-length",
        str(settings["sequence_length"]),
        "--max-tokens",
        str(settings["max_tokens"]),
        "--held-out",
        str(_HELD_OUT),
    ]


def _texts(folder: Path, net: Supernet, to: Path, settings: dict[str, Any]) -> Any:
    """The text that is searched by, and the text that the front is checked on."""
    from nastool_supernets.cli.texts import named_sources, open_corpus
    from nastool_supernets.corpus.corpus import fixed_masks
    from nastool_supernets.corpus.masked_text import check_corpus, check_length
    from nastool_supernets.corpus.tokenizer import load_tokenizer

    sources = named_sources(tuple(settings["text"]), (), settings["text_field"], streaming=False)
    corpus = open_corpus(
        sources,
        str(folder),
        to / _CORPUS,
        settings["sequence_length"],
        _HELD_OUT,
        settings["max_tokens"],
    )
    check_corpus(corpus, load_tokenizer(folder), net.model.config, str(folder))
    check_length(net.model.config, corpus.train.shape[1], str(folder))
    if not len(corpus.held_out):
        raise InvalidInputError(
            f"--text: expected documents of which a tenth fills a block of "
            f"{settings['sequence_length']} tokens, got {len(corpus.train)} blocks with too few "
            "documents to hold some out; blank lines part those of a .txt file"
        )
    # Spread over the text; importance was seen on its beginning.
    train = fixed_masks(corpus, "train", min(len(corpus.train), 256), 0, net.task)
    return train, fixed_masks(corpus, "held_out", min(len(corpus.held_out), 256), 0, net.task)


def _campaign(
    net: Supernet,
    bounds: Sequence[Constraint],
    to: Path,
    settings: dict[str, Any],
    texts: Any,
    serving: Serving,
    spent: float,
) -> tuple[Campaign, float | None]:
    """The campaign, and the pace of the probe where its plan is new."""
    from nastool_supernets.shrinking.campaign import Campaign, Plan
    from nastool_supernets.shrinking.planning import make_plan, probe

    file, pace = to / _PLAN, None

    def made(plan: Plan) -> Campaign:
        believed, further = serving.believed(bounds), serving.costs(net.space)
        keeps = partial(serving.keeps, net.space, bounds)
        read, check = texts
        return Campaign(net, believed, to, plan, read, check, further=further, keeps=keeps)

    if is_file(file):
        return made(_read_plan(file)), pace
    made(Plan(1, 1, 1, 1, 1, 1))  # refuses what cannot be kept
    pace = probe(net, texts[0])
    plan = make_plan(
        net, texts[0], texts[1], pace, 60 * settings["minutes"], settings["seed"], spent
    )
    write_whole(file, json.dumps(asdict(plan), indent=2) + "\n")
    return made(plan), pace


def _read_plan(file: Path) -> Plan:
    from nastool_supernets.shrinking.campaign import Plan

    try:
        return Plan(**read_json_object(file))
    except (TypeError, InvalidInputError) as error:
        raise InvalidInputError(f"{file}: expected the plan of a run: {error}") from error


def _announce(net: Supernet, plan: Plan, pace: float | None, length: int) -> None:
    from nastool_supernets.shrinking.blocks import one_block_changes
    from nastool_supernets.shrinking.planning import expected

    scored = len(one_block_changes(net.space, plan.levels))
    announce(
        f"{net.space.size:.3g} shapes; {scored:,} one-block scores, {plan.first} assembled shapes, "
        f"{plan.rounds} refinements of {plan.shapes}, each on {plan.blocks} blocks of {length} "
        "tokens",
        None if pace is None else expected(net, plan, pace),
    )


def _run(campaign: Campaign, minutes_of: dict[str, float], serving: Serving) -> Front:
    from nastool.cli.progress import ProgressBar

    with ProgressBar("shrinking") as bar:
        last = [time.perf_counter()]

        def told(what: str, done: int, total: int) -> None:
            now = time.perf_counter()
            minutes_of[what] = minutes_of.get(what, 0.0) + (now - last[0] if done else 0.0)
            last[0] = now
            bar(done, total, what)

        campaign.told = told
        try:
            return campaign.run()
        except InfeasibleError as error:
            if serving.served is None:
                raise
            # Measured once, it is believed: the same command alone would say the same.
            raise InfeasibleError(
                f"{error}: give other bounds and another folder, or remove {serving.file} to time "
                "anew on a quieter machine"
            ) from error
