"""``nastool latency measure``: a campaign on a device."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nastool.cli import completion
from nastool.cli.cost import announce, dry_run_option, settled_seconds
from nastool.cli.executing import Executing, executor_options
from nastool.cli.options import count, opened_storage, plugin_option, storage_option, whole
from nastool.cli.pages import help_page
from nastool.errors import InvalidInputError, NastoolError
from nastool.files.writing import owned
from nastool_objectives.cli.latency.options import (
    devices_option,
    fit_options,
    gate_options,
    space_option,
    workload_options,
)
from nastool_objectives.cli.latency.output import echo_table, fit_and_echo

if TYPE_CHECKING:
    from nastool.devices import Device, Workload
    from nastool.space import Genotypes, SearchSpace
    from nastool_objectives.latency.campaign import Plan
    from nastool_objectives.latency.registry import DeviceCard

_WORTH_TIMING = 200
"""Visits from which on it is measured beforehand how long they take."""


@help_page(
    "nastool latency measure --device cpu --threads 1 --batch-size 1 --shapes 300",
    "nastool latency measure --device onnxruntime --name laptop",
    groups={
        "Device": "--device --name --option --threads --devices-dir",
        "Workload": "--batch-size --sequence-length --space --shapes --choose --seed",
        "Timing": "--rounds --warmup --repeats --anchors --dry-run",
        "Where it is measured": "--executor --timeout-per-shape",
        "Noise gate and predictor": "--min-spearman --max-difference --force --model --like",
    },
)
@click.command()
@click.option(
    "--device",
    "device_text",
    shell_complete=completion.devices,
    metavar="NAME",
    default="cpu",
    show_default=True,
    help="cpu, cuda, onnxruntime, openvino, command[EXECUTABLE] or a plugin.",
)
@click.option("--name", help="What to call the device. Default: from device and workload.")
@click.option("--threads", type=count, help="Threads, each on a core of its own. Default: 1.")
@workload_options
@click.option("--shapes", type=count, default="300", show_default=True, help="Shapes to measure.")
@click.option(
    "--anchors",
    type=count,
    default="5",
    show_default=True,
    help="Shapes visited again and again, which show the machine drift.",
)
@click.option("--rounds", type=count, default="4", show_default=True, help="Visits of a shape.")
@click.option("--warmup", type=whole, default=2, show_default=True, help="Passes before timing.")
@click.option("--repeats", type=count, default="3", show_default=True, help="Passes of a visit.")
@click.option(
    "--choose",
    type=click.Choice(["spread", "informative"]),
    default="spread",
    show_default=True,
    help="Shapes of every size, or the few that tell most about all others.",
)
@click.option(
    "--seed", type=whole, default=0, show_default=True, help="Of shapes and the order of visits."
)
@click.option(
    "--option",
    "settings_texts",
    metavar="KEY=VALUE",
    multiple=True,
    help="A setting of the device, e.g. compile=true; repeatable.",
)
@space_option
@executor_options
@gate_options
@fit_options
@devices_option
@storage_option
@dry_run_option
@plugin_option
def measure(
    device_text: str,
    name: str | None,
    threads: int | None,
    batch_size: int,
    sequence_length: int,
    shapes: int,
    anchors: int,
    rounds: int,
    warmup: int,
    repeats: int,
    choose: Any,
    seed: int,
    settings_texts: tuple[str, ...],
    space_text: str,
    executing: Executing,
    min_spearman: float,
    max_difference: float,
    force: bool,
    model: str | None,
    sources: tuple[str, ...],
    devices_dir: Path | None,
    storage: str,
    dry_run: bool,
) -> None:
    """Measure shapes on a device; the same command goes on where it stopped.

    Shapes run merged, as they are deployed, with random weights, which latency does not depend on.
    What was measured is also kept in --storage, so that 'nastool verify' and searches on
    measured_latency, measured_energy and measured_memory do not measure it again. What --storage
    knows of this device is not measured again either, where 20 of the known shapes repeat. The
    device of an --executor is another machine's, where the executor has its one worker.
    """
    from nastool.cli.progress import ProgressBar
    from nastool.devices import Workload
    from nastool.files.reading import is_file
    from nastool.plugins import load_device, load_space
    from nastool_objectives.latency.campaign import Plan, run
    from nastool_objectives.latency.elsewhere import DeviceRecipe, Elsewhere
    from nastool_objectives.latency.fitting import check_fit, keep
    from nastool_objectives.latency.known import WITNESSES, read_known
    from nastool_objectives.latency.ledger import keep_campaign, recall, with_known
    from nastool_objectives.latency.objective import device_as_begun
    from nastool_objectives.latency.registry import (
        CARD,
        VISITS,
        DeviceCard,
        check_enterable,
        devices_folder,
        find_device,
        read_card,
    )
    from nastool_objectives.latency.repeatability import NoiseGate
    from nastool_objectives.latency.tables import tabulate

    space = load_space(space_text)
    settings = _settings(device_text, settings_texts, threads)
    workload = Workload(batch_size, sequence_length)
    name = name or _default_name(device_text, settings, workload.as_dict())
    folder = devices_folder(devices_dir) / name
    check_enterable(folder)
    # Until the command ends.
    executor = click.get_current_context().with_resource(executing.opened())

    def made(text: str, settings: Mapping[str, Any]) -> Device:
        if executor is None:
            return load_device(text, settings)
        recipe = DeviceRecipe(text, tuple(sorted(settings.items())), space_text, os.getcwd())
        return Elsewhere(executor, recipe)

    if "pad" not in settings and is_file(folder / CARD):
        device = device_as_begun(device_text, settings, read_card(folder).facts, made)
    else:
        device = made(device_text, settings)
    plan = Plan(shapes, anchors, rounds, warmup, repeats, choose=choose, seed=seed)
    card = DeviceCard(
        name=name,
        device=device_text,
        settings=settings,
        facts=dict(device.facts),
        workload=workload,
        space=space_text,
        fingerprint=space.fingerprint,
        plan=plan.as_dict(),
        gate=NoiseGate(min_spearman, max_difference),
        date=f"{datetime.now(UTC):%Y-%m-%d}",
    )
    like = [find_device(source, devices_dir) for source in sources]
    check_fit(folder, space, model, like)
    genotypes, n_anchors = plan.architectures(space)
    if dry_run:
        visits = len(plan.order(len(genotypes), n_anchors))
        seconds = _seconds_of_visits(space, device, workload, plan, genotypes, visits)
        announce(_what(card, genotypes, visits), seconds)
        return
    with (
        opened_storage(storage) as store,
        owned(folder, "campaign", say=lambda line: click.echo(line, err=True)),
    ):
        card = _begin(folder, card)
        if store is not None and not is_file(folder / VISITS):
            recall(store, folder, space, device, workload, plan)
        known = read_known(folder)
        skipped = [] if known is None or known.agrees is False else known.skipped
        if known is not None:
            click.echo(
                f"{len(known.rows):,} of {len(genotypes):,} shapes were measured before: "
                f"{WITNESSES} of them are measured again, the others only where those do not "
                "repeat (--storage none measures all)",
                err=True,
            )
        visits = len(plan.order(len(genotypes), n_anchors, skipped))
        if visits >= _WORTH_TIMING:
            seconds = _seconds_of_visits(space, device, workload, plan, genotypes, visits)
            if seconds is not None:
                announce(_what(card, genotypes, visits), seconds)
        try:
            with ProgressBar("measuring") as progress:
                measured = run(space, device, workload, plan, folder / VISITS, progress, card.gate)
        except NastoolError:
            _forget(folder)
            raise
        table = own = tabulate(measured, genotypes, n_anchors, plan.rounds)
        if (known := read_known(folder)) is not None:
            table = with_known(own, known, genotypes, measured)
        judged = keep(folder, space, card, table, force=force)
        if store is not None and judged.verdict != "refused":
            keep_campaign(store, space, device, workload, plan, measured, own)
        echo_table(judged, table)
        fit_and_echo(folder, space, model, like, force=force)


def _what(card: DeviceCard, genotypes: Genotypes, visits: int) -> str:
    return f"Measuring {len(genotypes):,} shapes on {card.name}, {visits:,} visits"


def _seconds_of_visits(
    space: SearchSpace,
    device: Device,
    workload: Workload,
    plan: Plan,
    genotypes: Genotypes,
    visits: int,
) -> float | None:
    """How long the visits take, by those to a shape of middling size; None where they fail.

    What is wrong with a device is said by the campaign.
    """
    import numpy as np

    from nastool_objectives.latency.campaign import timed_visit

    sizes = space.features(genotypes).sum(axis=1)
    middle = genotypes[int(np.argsort(sizes)[len(sizes) // 2])]
    visit = partial(timed_visit, space, device, workload, plan, middle)
    try:
        return visits * settled_seconds(visit, visit)
    except NastoolError:
        return None


def _settings(device_text: str, texts: tuple[str, ...], threads: int | None) -> dict[str, Any]:
    from nastool.discovery import DEVICES, find
    from nastool.plugins import parse_spec
    from nastool.recipes.settings import read_pairs, typed_settings

    plugin = find(DEVICES, parse_spec(device_text).name)
    settings = typed_settings(plugin, read_pairs(texts, "--option"), "--option")
    return settings if threads is None else {**settings, "threads": threads}


def _default_name(device_text: str, settings: dict[str, Any], workload: dict[str, int]) -> str:
    """E.g. ``cpu-1-b1-l128``: device, threads, batch size, sequence length."""
    import re

    base = re.sub(r"[^\w.+-]+", "-", Path(device_text).name).strip("-.") or "device"
    threads = f"-{settings['threads']}" if "threads" in settings else ""
    return f"{base}{threads}-b{workload['batch_size']}-l{workload['sequence_length']}"


def _forget(folder: Path) -> None:
    """Remove a campaign without a single visit, or it would be listed as a device."""
    import shutil

    from nastool_objectives.latency.campaign import read_visits
    from nastool_objectives.latency.known import KNOWN
    from nastool_objectives.latency.registry import CARD, VISITS

    # The lock is this process's own.
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".lock")}
    if names <= {CARD, VISITS, KNOWN} and not (VISITS in names and read_visits(folder / VISITS)):
        shutil.rmtree(folder)


def _begin(folder: Path, card: DeviceCard) -> DeviceCard:
    """Write the card of a new campaign, or check that the one that is there is the same.

    Returns:
        The card, with the day on which the campaign began.
    """
    import json
    from dataclasses import replace

    from nastool.files.reading import is_file
    from nastool_objectives.latency.registry import CARD, check_enterable, read_card, write_card

    check_enterable(folder)
    if not is_file(folder / CARD):
        write_card(folder, card)
        return card
    known = read_card(folder)
    for key in ("device", "settings", "facts", "workload", "fingerprint", "plan"):
        before, now = getattr(known, key), getattr(card, key)
        if key in ("settings", "facts", "plan"):
            # More rounds go on where fewer ended.
            before, now = (
                {k: v for k, v in json.loads(json.dumps(dict(part))).items() if k != "rounds"}
                for part in (before, now)
            )
        if before != now:
            raise InvalidInputError(
                f"device {card.name!r} was begun with {key} {before}, got {now}: take another "
                f"--name, or remove {folder}"
            )
    return replace(card, date=known.date, remarks=known.remarks)
