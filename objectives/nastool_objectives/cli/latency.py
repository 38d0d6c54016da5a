"""``nastool latency``: measure devices, import tables, compare and list them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nastool.cli.options import count, plugin_option
from nastool.errors import InvalidInputError

if TYPE_CHECKING:
    from nastool.space import SearchSpace
    from nastool_objectives.latency.registry import DeviceCard
    from nastool_objectives.latency.tables import LatencyTable

_F = TypeVar("_F", bound=Callable[..., Any])

_SPACE = "supershaper"


@click.group()
def latency() -> None:
    """Measure latency on devices and make objectives of it.

    Example: nastool latency measure --device cpu --threads 1 --batch-size 1 --shapes 300
    """


def _devices_option(command: _F) -> _F:
    return click.option(
        "--devices-dir",
        metavar="DIR",
        envvar="NASTOOL_DEVICES",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder that devices are kept in. Default: the user's data folder.",
    )(command)


def _space_option(command: _F) -> _F:
    return click.option(
        "--space",
        "space_text",
        metavar="NAME",
        default=_SPACE,
        show_default=True,
        help="Space whose architectures are measured.",
    )(command)


def _workload_options(command: _F) -> _F:
    for option in (
        click.option("--sequence-length", type=count, default="128", show_default=True),
        click.option("--batch-size", type=count, default="1", show_default=True),
    ):
        command = option(command)
    return command


def _gate_options(command: _F) -> _F:
    for option in (
        click.option("--force", is_flag=True, help="Let a noisy table through, marked as such."),
        click.option(
            "--max-difference",
            type=float,
            default=0.05,
            show_default=True,
            help="Largest median relative difference between repeats.",
        ),
        click.option(
            "--min-spearman",
            type=float,
            default=0.9,
            show_default=True,
            help="Lowest rank correlation between repeats.",
        ),
    ):
        command = option(command)
    return command


def _fit_options(command: _F) -> _F:
    for option in (
        click.option(
            "--like",
            "sources",
            metavar="DEVICE",
            multiple=True,
            help="Known device to recalibrate, from ten shapes on; repeatable.",
        ),
        click.option(
            "--model",
            default="auto",
            show_default=True,
            help="Kind of predictor; 'auto' compares all by cross-validation.",
        ),
    ):
        command = option(command)
    return command


@latency.command()
@click.option(
    "--device",
    "device_text",
    metavar="NAME",
    default="cpu",
    show_default=True,
    help="cpu, cuda, onnxruntime, openvino, command[EXECUTABLE] or a plugin.",
)
@click.option("--name", help="What to call the device. Default: from device and workload.")
@click.option("--threads", type=count, help="Threads, each on a core of its own. Default: 1.")
@_workload_options
@click.option("--shapes", type=count, default="300", show_default=True, help="Shapes to measure.")
@click.option("--anchors", type=count, default="5", show_default=True, help="Anchor shapes.")
@click.option("--rounds", type=count, default="4", show_default=True, help="Visits of a shape.")
@click.option("--warmup", type=int, default=2, show_default=True, help="Passes before timing.")
@click.option("--repeats", type=count, default="3", show_default=True, help="Passes of a visit.")
@click.option(
    "--choose",
    type=click.Choice(["spread", "informative"]),
    default="spread",
    show_default=True,
    help="Shapes of every size, or the few that tell most about all others.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--option",
    "settings_texts",
    metavar="KEY=VALUE",
    multiple=True,
    help="A setting of the device, e.g. compile=true; repeatable.",
)
@_space_option
@_gate_options
@_fit_options
@_devices_option
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
    min_spearman: float,
    max_difference: float,
    force: bool,
    model: str,
    sources: tuple[str, ...],
    devices_dir: Path | None,
) -> None:
    """Measure shapes on a device; the same command goes on where it stopped.

    Shapes run merged, as they are deployed, with random weights, which latency does not depend on.
    """
    from nastool.cli.progress import ProgressBar
    from nastool.deployment import Workload
    from nastool.plugins import load_device, load_space
    from nastool_objectives.latency.campaign import Plan, run
    from nastool_objectives.latency.fitting import keep
    from nastool_objectives.latency.registry import VISITS, DeviceCard, devices_folder
    from nastool_objectives.latency.repeatability import NoiseGate
    from nastool_objectives.latency.tables import tabulate

    space = load_space(space_text)
    settings = _settings(device_text, settings_texts, threads)
    device = load_device(device_text, settings)
    workload = Workload(batch_size, sequence_length)
    plan = Plan(shapes, anchors, rounds, warmup, repeats, choose=choose, seed=seed)
    card = DeviceCard(
        name=name or _default_name(device_text, settings, workload.as_dict()),
        device=device_text,
        settings=settings,
        facts=dict(device.facts),
        workload=workload,
        space=space_text,
        fingerprint=space.fingerprint,
        plan=plan.as_dict(),
        gate=NoiseGate(min_spearman, max_difference),
    )
    folder = devices_folder(devices_dir) / card.name
    _begin(folder, card)
    with ProgressBar("measuring") as progress:
        visits = run(space, device, workload, plan, folder / VISITS, progress)
    genotypes, n_anchors = plan.architectures(space)
    table = tabulate(visits, genotypes, n_anchors, plan.rounds)
    judged = keep(folder, space, card, table, force=force)
    _echo_table(judged, table)
    _fit(folder, space, model, sources, devices_dir, force=force)


@latency.command("import")
@click.argument("tables", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--device", "name", metavar="NAME", required=True, help="What to call the device.")
@click.option("--unit", required=True, help="Unit of the latencies: s, ms, us or ns.")
@click.option("--column", default="latency_s", show_default=True, help="Column of the latencies.")
@click.option("--about", default="", help="What was measured, on what: kept with the table.")
@_workload_options
@_space_option
@_gate_options
@_fit_options
@_devices_option
@plugin_option
def import_table(
    tables: tuple[Path, ...],
    name: str,
    unit: str,
    column: str,
    about: str,
    batch_size: int,
    sequence_length: int,
    space_text: str,
    min_spearman: float,
    max_difference: float,
    force: bool,
    model: str,
    sources: tuple[str, ...],
    devices_dir: Path | None,
) -> None:
    """Import a table measured elsewhere, or two runs of the same shapes.

    A table has a column for each gene (layer_1, layer_2, ...) and one of latencies. With two runs
    the noise gate can tell whether they agree; with one, nobody can.
    """
    from nastool.deployment import Workload
    from nastool.plugins import load_space
    from nastool_objectives.latency.fitting import keep
    from nastool_objectives.latency.registry import DeviceCard, devices_folder
    from nastool_objectives.latency.repeatability import NoiseGate
    from nastool_objectives.latency.tables import join, read_latencies

    if len(tables) > 2:
        raise InvalidInputError(f"expected one table, or two runs of it, got {len(tables)}")
    space = load_space(space_text)
    card = DeviceCard(
        name=name,
        device="imported",
        settings={},
        facts={"about": about, "tables": [table.name for table in tables]},
        workload=Workload(batch_size, sequence_length),
        space=space_text,
        fingerprint=space.fingerprint,
        gate=NoiseGate(min_spearman, max_difference),
    )
    read = [read_latencies(path, space, unit, column) for path in tables]
    table = read[0] if len(read) == 1 else join(space, *read)
    folder = devices_folder(devices_dir) / name
    _free(folder, card)
    judged = keep(folder, space, card, table, force=force)
    _echo_table(judged, table)
    _fit(folder, space, model, sources, devices_dir, force=force)


@latency.command()
@click.argument("first")
@click.argument("second")
@click.option("--unit", default="s", show_default=True, help="Unit of the latencies in files.")
@click.option("--column", default="latency_s", show_default=True, help="Column of the latencies.")
@_space_option
@_gate_options
@_devices_option
@plugin_option
def compare(
    first: str,
    second: str,
    unit: str,
    column: str,
    space_text: str,
    min_spearman: float,
    max_difference: float,
    force: bool,
    devices_dir: Path | None,
) -> None:
    """Compare two runs of the same shapes: do they say the same?

    FIRST and SECOND are tables or devices. The exit code is 2 where the noise gate refuses.
    """
    from nastool.plugins import load_space
    from nastool_objectives.latency.fitting import judge
    from nastool_objectives.latency.registry import TABLE, find_device
    from nastool_objectives.latency.repeatability import NoiseGate
    from nastool_objectives.latency.tables import join, read_latencies

    space = load_space(space_text)
    runs = []
    for text in (first, second):
        if Path(text).is_file():
            runs.append(read_latencies(Path(text), space, unit, column))
        else:
            runs.append(read_latencies(find_device(text, devices_dir) / TABLE, space, "s"))
    both = join(space, *runs)
    click.echo(f"{first} against {second}: {both.repeats()}")
    verdict, reason = judge(both, NoiseGate(min_spearman, max_difference), force=force)
    if verdict == "refused":
        raise InvalidInputError(f"too noisy to rank by: {reason}")
    click.echo(f"noise gate: {verdict}" + (f" ({reason})" if reason else ""))


@latency.command()
@click.argument("name", metavar="DEVICE")
@click.option("--force", is_flag=True, help="Keep a predictor that does not rank, marked as such.")
@_fit_options
@_devices_option
@plugin_option
def fit(
    name: str, force: bool, model: str, sources: tuple[str, ...], devices_dir: Path | None
) -> None:
    """Fit the predictor of a device again.

    DEVICE is a name that 'nastool latency list' shows, or the path to a device's folder.
    """
    from nastool.plugins import load_space
    from nastool_objectives.latency.registry import find_device, read_card

    folder = find_device(name, devices_dir)
    space = load_space(read_card(folder).space)
    _fit(folder, space, model, sources, devices_dir, force=force)


@latency.command("list")
@_devices_option
def list_devices(devices_dir: Path | None) -> None:
    """List the devices that are kept."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from nastool_objectives.latency.registry import (
        PREDICTOR,
        device_names,
        devices_folder,
        read_card,
    )

    root = devices_folder(devices_dir)
    names = device_names(devices_dir)
    if not names:
        click.echo(f"No devices in {root}")
        return
    table = Table(box=None, pad_edge=False)
    for header in ("device", "measured by", "space", "batch", "length", "noise gate", "predictor"):
        table.add_column(header, overflow="fold")
    for name in names:
        card = read_card(root / name)
        batch, length = card.workload.batch_size, card.workload.sequence_length
        cells = (name, card.device, card.space, str(batch), str(length), card.verdict)
        fitted = _predictor_text(root / name / PREDICTOR)
        table.add_row(*map(Text, (*cells, fitted)))
    Console(highlight=False).print(table)


@latency.command()
@click.argument("name", metavar="DEVICE")
@_devices_option
def show(name: str, devices_dir: Path | None) -> None:
    """Show what is known about a device.

    DEVICE is a name that 'nastool latency list' shows, or the path to a device's folder.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from nastool_objectives.latency.registry import PREDICTOR, find_device, read_card

    folder = find_device(name, devices_dir)
    card = read_card(folder)
    rows: dict[str, object] = {
        "device": card.name,
        "measured by": card.device,
        **dict(card.settings),
        **dict(card.facts),
        **{key.replace("_", " "): value for key, value in card.workload.as_dict().items()},
        "space": card.space,
        **{key.replace("_", " "): value for key, value in card.plan.items()},
        "repeats, shapes": card.shapes or "not known",
        "repeats, anchors": card.anchors or "not known",
        "noise gate": f"{card.verdict}: {card.reason}" if card.reason else card.verdict,
        "predictor": _predictor_text(folder / PREDICTOR),
        "folder": folder,
    }
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for key, value in rows.items():
        grid.add_row(Text(key), Text(str(value)))
    Console(highlight=False).print(grid)


@latency.command()
@click.argument("names", metavar="DEVICE...", nargs=-1, required=True)
@_space_option
@click.option(
    "--objective",
    "objective_text",
    metavar="NAME",
    default="perplexity",
    show_default=True,
    help="What shapes are searched for.",
)
@click.option(
    "--budget",
    type=count,
    default="10000",
    show_default=True,
    help="Evaluations of each of the two searches for a device.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--output",
    metavar="FILE.html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Page for the figures.",
)
@_devices_option
@plugin_option
def study(
    names: tuple[str, ...],
    space_text: str,
    objective_text: str,
    budget: int,
    seed: int,
    output: Path | None,
    devices_dir: Path | None,
) -> None:
    """Study devices: does the shape matter, and does it pay to search under latency?

    Prints how much of the latency the parameter count explains; --output draws shapes found under
    parameter limits, under latency limits and by heuristics, importances, and predicted against
    measured latency.
    """
    from nastool.cli.problems import make_problem
    from nastool_objectives.latency.device_study import study_device
    from nastool_objectives.latency.figures import study_page
    from nastool_objectives.latency.objective import create
    from nastool_objectives.latency.registry import find_device, write_atomically

    problem = make_problem(space_text, [objective_text], ())
    space, quality = problem.space, problem.objectives[0]
    found = []
    for name in names:
        predicted = create(space, str(find_device(name, devices_dir)), f"latency[{name}]")
        found.append(study_device(space, quality, predicted, budget=budget, seed=seed))
        click.echo(f"{found[-1].name}: {found[-1].sensitivity}")
    if output is not None:
        write_atomically(output, study_page(found))
        click.echo(f"Wrote {output}", err=True)


def _predictor_text(folder: Path) -> str:
    from nastool.predictors.base import CARD, Card

    if not (folder / CARD).is_file():
        return "none"
    card = Card.from_json((folder / CARD).read_text(encoding="utf-8"))
    return f"{card.label}, {card.shapes:,} shapes" + (f", {card.error}" if card.error else "")


def _settings(device_text: str, texts: tuple[str, ...], threads: int | None) -> dict[str, Any]:
    from nastool.cli.settings import strategy_settings
    from nastool.plugins import DEVICES, find, parse_spec

    plugin = find(DEVICES, parse_spec(device_text).name)
    settings = strategy_settings(plugin, texts) if texts else {}
    return settings if threads is None else {**settings, "threads": threads}


def _default_name(device_text: str, settings: dict[str, Any], workload: dict[str, int]) -> str:
    """E.g. ``cpu-1-b1-l128``: device, threads, batch size, sequence length."""
    import re

    base = re.sub(r"[^\w.+-]+", "-", Path(device_text).name).strip("-.") or "device"
    threads = f"-{settings['threads']}" if "threads" in settings else ""
    return f"{base}{threads}-b{workload['batch_size']}-l{workload['sequence_length']}"


def _free(folder: Path, card: DeviceCard) -> None:
    """Keep an import from replacing a device that came from something else."""
    from nastool_objectives.latency.registry import CARD, read_card

    if (folder / CARD).is_file() and read_card(folder).device != card.device:
        raise InvalidInputError(
            f"{card.name!r} is a device that was measured here; take another name, or remove "
            f"{folder}"
        )


def _begin(folder: Path, card: DeviceCard) -> None:
    """Write the card of a new campaign, or check that the one that is there is the same."""
    import json

    from nastool_objectives.latency.registry import CARD, read_card, write_card

    if not (folder / CARD).is_file():
        write_card(folder, card)
        return
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


def _echo_table(card: DeviceCard, table: LatencyTable) -> None:
    from nastool.constraint import format_quantity

    low, high = (format_quantity(float(v), "s") for v in (min(table.latency), max(table.latency)))
    failed = f", {table.failed} failed" if table.failed else ""
    click.echo(f"{card.name}: {len(table):,} shapes, {low} to {high} a pass{failed}")
    if card.shapes is not None:
        click.echo(f"repeats, shapes:  {card.shapes}")
    if card.anchors is not None:
        click.echo(f"repeats, anchors: {card.anchors}")
    click.echo(f"noise gate: {card.verdict}" + (f" ({card.reason})" if card.reason else ""))


def _fit(
    folder: Path,
    space: SearchSpace,
    model: str,
    sources: tuple[str, ...],
    devices_dir: Path | None,
    *,
    force: bool = False,
) -> None:
    from nastool_objectives.latency.fitting import fit_device
    from nastool_objectives.latency.registry import find_device

    known = [find_device(source, devices_dir) for source in sources]
    fitted = fit_device(folder, space, model, sources=known, force=force)
    for candidate in fitted.ranking:
        click.echo(f"  {candidate.label}: cross-validated {candidate.scores}")
    interval = fitted.card.interval
    within = "" if interval is None else f", 90% within ±{interval:.3g} s"
    click.echo(f"predictor: {fitted.card}{within}")
    click.echo(f"Wrote {folder}; use it as --objective 'latency[{folder.name}]'")
