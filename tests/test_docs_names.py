"""What pages name in their text is there: modules, files, links, commands, options, what ships.

Blocks of code are run or parsed by test_docs_blocks.
"""

import importlib
import json
import re
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from nastool import load_space
from nastool.cli.main import main
from nastool.predictors import Card

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    # Decisions and the changelog tell of what was.
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if page.name != "decisions.md"),
    *sorted((ROOT / "docs" / "tutorials").glob("*.ipynb")),
    *(
        page
        for folder in ("examples", "search_spaces", "integrations")
        for page in sorted((ROOT / folder).rglob("README.md"))
    ),
]
IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]
PLACES = (ROOT, ROOT / "nastool", ROOT / "search_spaces", ROOT / "objectives")
NAMED = re.compile(r"\bnastool(?:_[a-z]+)?(?:\.[A-Za-z_]\w*)+")
FILE_ENDINGS = ("csv", "db", "html", "json", "md", "py", "toml")
OF_OTHERS = {"--extra-index-url", "--logdir", "--nthreads"}
"""Options of pip, tensorboard and Dask."""


def text_of(page):
    """The text of a page without its blocks of code."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page):
    """The headings of a page, as links name them behind a hash."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def spans(page):
    """What stands between backticks, each on one line."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text_of(page))]


def is_there(name):
    """Whether a dotted name is a module, or what one has."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[length:]:
            if not hasattr(found, attribute):
                return False
            found = getattr(found, attribute)
        return True
    return False


def commands(command=main, path=""):
    """Every command by its path, groups included."""
    found = {path: command}
    if isinstance(command, click.Group):
        ctx = click.Context(command)
        for name in command.list_commands(ctx):
            found |= commands(command.get_command(ctx, name), f"{path} {name}".strip())
    return found


def options(command):
    return {
        name
        for param in command.get_params(click.Context(command))
        for name in (*param.opts, *param.secondary_opts)
    }


COMMANDS = commands()
ALL_OPTIONS = set().union(*(options(command) for command in COMMANDS.values()))


def is_option(name, page):
    """Whether a command of nastool has it, or a script that the page names."""
    scripts = {*re.findall(r"benchmarks/\w+\.py", page.read_text(encoding="utf-8"))}
    source = "".join((ROOT / script).read_text(encoding="utf-8") for script in scripts)
    # One of two names stands before a slash.
    return name in ALL_OPTIONS | OF_OTHERS or re.search(f'"{name}["/]', source)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_module_and_what_it_has_is_there(page):
    text = page.read_text(encoding="utf-8")
    groups = PROJECT["project"]["entry-points"].keys() | {"nastool.predictors", "nastool.executors"}
    names = {n for n in NAMED.findall(text) if n.rpartition(".")[2] not in FILE_ENDINGS}
    assert [name for name in sorted(names - groups) if not is_there(name)] == []


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_file_of_the_repository_is_there(page):
    tops = {path.name for place in PLACES for path in place.iterdir() if path.is_dir()}
    named = [s for s in spans(page) if re.fullmatch(r"[\w.-]+(/[\w.-]+)+/?", s)]
    named = [s for s in named if s.partition("/")[0] in tops]
    # CONTRIBUTING.md names modules as benchmarks/mutation.py does, without their ending.
    there = [any((p / s).exists() or (p / f"{s}.py").exists() for p in PLACES) for s in named]
    assert [s for s, found in zip(named, there, strict=True) if not found] == []


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_option_and_command_of_the_text_is_there(page):
    missing = []
    for span in spans(page):
        words = span.split()
        name, known = None, None
        if words[0] == "nastool" and len(words) > 1 and words[1] != "COMMAND":
            name = max(
                (p for p in COMMANDS if f"{span} ".startswith(f"nastool {p} ")), key=len, default=""
            )
            known = options(COMMANDS[name])
            if not name and not words[1].startswith("-"):
                missing.append(span)
        missing += [
            f"{option} in {span}"
            for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", span)
            if not (option in known if known is not None else is_option(option, page))
        ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_link_leads_to_a_file_and_a_heading(page):
    missing = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        place, _, anchor = link.partition("#")
        target = page.parent / place if place else page
        if not link.startswith("https://") and not (
            target.exists() and (not anchor or anchor in anchors(target))
        ):
            missing.append(link)
    assert missing == []


def test_names_that_rot_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "`nastool.chain` `nastool/chain.py` `nastool fit --executor x` `nastool fly` `--fly` "
        "[away](page.md#away)"
    )
    for test in (
        test_every_module_and_what_it_has_is_there,
        test_every_file_of_the_repository_is_there,
        test_every_option_and_command_of_the_text_is_there,
        test_every_link_leads_to_a_file_and_a_heading,
    ):
        with pytest.raises(AssertionError):
            test(page)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_the_predictors_that_ship_have_one_score(page):
    text = " ".join(page.read_text(encoding="utf-8").split())
    for space, said in re.findall(
        r"XGBoost on [\d,]+ shapes of ([\w-]+), (held-out R2 \S+ Spearman [\d.]+)", text
    ):
        shipped = load_space(f"supershaper:{space}" if space != "supershaper" else space)
        folder = shipped.reference("perplexity")
        card = Card.from_json((folder / "card.json").read_text(encoding="utf-8"))
        assert said == card.error


def test_the_excerpt_of_the_readme_is_what_its_command_prints(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(
        r"\.venv/bin/nastool (search .*) --plot front.html$", readme, re.MULTILINE
    )
    (excerpt,) = re.findall(r"^```text\n(shape .*?)^```$", readme, re.DOTALL | re.MULTILINE)
    printed = CliRunner().invoke(main, [*command.split(), "--storage", "none"]).output
    assert [line for line in excerpt.splitlines() if line not in printed.splitlines()] == []


def test_the_map_names_every_room():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for package in ("nastool", "nastool_supernets"):
        _, _, section = text.partition(f"## Rooms of `{package}`")
        rooms = re.findall(r"^\| (`.*?) \|", section.partition("\n## ")[0], re.MULTILINE)
        named = {name.strip("`/").removesuffix(".py") for row in rooms for name in row.split(", ")}
        (layers,) = (
            contract["layers"]
            for contract in PROJECT["tool"]["importlinter"]["contracts"]
            if contract.get("containers") == [package]
        )
        assert named == {*re.findall(r"\w+", " ".join(layers))} - {"__main__"}
