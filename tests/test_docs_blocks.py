"""Every block of code in the documentation is run, or its commands are parsed, or it says why not.

Python runs, page by page, in a folder of its own, with small budgets. Commands of nastool are
parsed as the command line does: options must exist, values be of their type. A comment before a
block says what a reader does with it: `<!-- file: NAME -->`, `<!-- not run: REASON -->`.
"""

import contextlib
import dataclasses
import importlib.util
import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest

from nastool import discovery
from nastool.cli.main import main

ROOT = Path(__file__).parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("README.md")),
]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
BUDGET = 300

BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>.*?) -->\n+)?```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
SHELLS = ("sh", "bash", "console")
OUTPUTS = ("text",)
OTHER_PROGRAMS = {
    "bash", "dask", "docker", "eval", "export", "git", "lint-imports", "mkdocs", "mypy",
    "optuna-dashboard", "pip", "pytest", "python", "python3", "ray", "ruff", "sbatch", "scp", "set",
    "source", "ssh", "uv",
}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _no_plugins_of_pages():
    """Forget what pages register, for the tests after these."""
    before = discovery._registered.copy()
    yield
    discovery._registered.clear()
    discovery._registered.update(before)


@dataclasses.dataclass(frozen=True)
class Block:
    line: int
    language: str
    code: str
    mark: str


def blocks(page):
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            text[: found.start()].count("\n") + 1,
            found["language"],
            found["code"],
            found["mark"] or "",
        )
        for found in BLOCK.finditer(text)
    ]


def skipped(block):
    return len(block.mark.partition("not run: ")[2]) > 10


def commands(code):
    """The commands of a block, each as its words; what a shell puts around them is left out."""
    code = re.sub(r"\\\n\s*", " ", code)
    lines = code.splitlines()
    if any(line.startswith("$ ") for line in lines):
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    for line in "\n".join(lines).replace("&&\n", "&& ").splitlines():
        for part in re.split(r" && | \| ", line):
            words = shlex.split(part.partition(" > ")[0], comments=True)
            while words and re.match(r"[A-Z_]+=", words[0]):
                words = words[1:]
            if words:
                yield words


def check_command(words):
    """Parse words as the command line does, without running them."""
    command, ctx = main, click.Context(main, info_name="nastool")
    while isinstance(command, click.Group):
        if not words or words[0].startswith("-"):
            return
        name, *words = words
        command = command.get_command(ctx, name)
        assert command is not None, f"no command {name!r} in {ctx.command_path}"
        ctx = click.Context(command, info_name=name, parent=ctx, **command.context_settings)
    given, rest, _ = command.make_parser(ctx).parse_args(list(words))
    assert not rest or ctx.allow_extra_args, (
        f"{ctx.command_path}: more arguments than it takes, {rest}"
    )
    for param in command.get_params(ctx):
        value = given.get(param.name)
        is_given = isinstance(value, str | bool | int | list | tuple)
        is_file = isinstance(param.type, click.Path | click.File)
        if is_given and not is_file and isinstance(param, click.Option):
            param.type_cast_value(ctx, value)
        assert is_given or not param.required or "--config" in words, f"{param.name} is missing"


def check_shell(code):
    for words in commands(code):
        program = words[0].rpartition("/")[2]
        if "-m" in words and words[words.index("-m") + 1] == "nastool":
            program, words = "nastool", words[words.index("-m") + 1 :]
        if program == "nastool":
            check_command(words[1:])
            continue
        assert program in {*OTHER_PROGRAMS, "torchrun"}, f"unknown program {program!r}"
        if program == "python" and words[1].endswith(".py"):
            script = ROOT / words[1]
            assert script.is_file(), f"no script {words[1]}"
            source = script.read_text(encoding="utf-8")
            for word in words[2:]:
                assert not word.startswith("--") or f'"{word}"' in source, f"{words[1]}: {word}"


def extras():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {*project["optional-dependencies"]}


def shortened(code):
    """Python with budgets that end soon."""
    return re.sub(r"\b\d+_000\b", str(BUDGET), code).replace("range(10)", "range(2)")


@pytest.mark.parametrize("name", NAMES)
def test_every_block_is_python_shell_settings_or_output(name):
    for block in blocks(ROOT / name):
        known = ("python", "toml", "dockerfile", *SHELLS, *OUTPUTS)
        assert block.language in known, f"{name}:{block.line}: {block.language!r}"
        kinds = ("", "file: ", "not run: ")
        assert any(block.mark.startswith(kind) for kind in kinds[1:]) or not block.mark
        assert not block.mark.startswith("not run") or skipped(block), f"{name}:{block.line}: why?"


@pytest.mark.parametrize("name", NAMES)
def test_commands_are_parsed(name):
    for block in blocks(ROOT / name):
        if block.language in SHELLS and not skipped(block) and not block.mark.startswith("file:"):
            try:
                check_shell(block.code)
            except (click.ClickException, AssertionError, ValueError) as error:
                raise AssertionError(f"{name}:{block.line}: {error}") from error
        for named in re.findall(r"(?:\.|nastool)\[([a-z,-]+)\]['\"]", block.code):
            assert {*named.split(",")} <= extras(), f"{name}:{block.line}: {named}"


@pytest.mark.parametrize("name", NAMES)
def test_settings_can_be_read(name):
    for block in blocks(ROOT / name):
        if block.language == "toml":
            tomllib.loads(block.code)


PYTHON = [
    name for name in NAMES if any(block.language == "python" for block in blocks(ROOT / name))
]


@pytest.mark.filterwarnings("ignore")  # what a user's libraries say is not ours to fail at
@pytest.mark.parametrize("name", PYTHON)
def test_python_runs(name, tmp_path, monkeypatch):
    for library in ("optuna", "pandas", "torch"):
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    names = {"__name__": "page"}
    for block in blocks(ROOT / name):
        if block.language != "python" or skipped(block):
            continue
        if block.mark.startswith("file: "):
            (tmp_path / block.mark.removeprefix("file: ")).write_text(block.code)
        with contextlib.redirect_stdout(None):
            exec(compile(shortened(block.code), f"{name}:{block.line}", "exec"), names)


def test_what_rots_is_found():
    for words in (
        "search --space supershaper --budgets 3",
        "search --space supershaper --format yaml",
        "fly",
        "pretrain --text corpus.txt",
        "show one two",
    ):
        with pytest.raises((click.ClickException, AssertionError)):
            check_command(words.split())
    with pytest.raises(AssertionError, match="unknown program"):
        check_shell("nastol search")


def test_dockerfiles_install_as_the_readme_and_the_page_on_installing_say():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "installing.md").read_text(encoding="utf-8")
    for name in ("CPU", "CUDA"):
        (line,) = re.findall(rf"^(pip install .*?) +# {name}\b.*$", readme, re.MULTILINE)
        dockerfile = (ROOT / "docker" / f"{name.lower()}.Dockerfile").read_text(encoding="utf-8")
        (run,) = re.findall(r"^RUN (.*)$", dockerfile, re.MULTILINE)
        assert run.replace(" --no-cache-dir", "") == line
        assert f"| `{line}` |" in page
        # What a checkout holds beside what is installed stays out of the image.
        assert "COPY . .\n" in dockerfile
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {".git", ".venv*"} <= set(ignored)
