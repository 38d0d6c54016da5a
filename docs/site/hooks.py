"""What the documentation site makes for itself: pages that are written nowhere else.

The README is its front page, notebooks and the READMEs of other folders are pages, and so are the
help of every command and the schema of every JSON output. Pages link files as they lie in the
repository; here the links are turned to where those are on the site.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from nastool.cli.main import main
from nastool.cli.pages import sections

ROOT = Path(__file__).parent.parent.parent

PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "docs/schemas": "reference/schemas.md",
    "docs/tutorials": "tutorials/search.md",
    "examples/minilm-6": "models/minilm-6.md",
    "examples/novel-or-speech/README.md": "models/novel-or-speech.md",
    "examples/minilm-6/README.md": "models/minilm-6.md",
    "search_spaces/nastool_supershaper/reference/README.md": "models/reference.md",
    "integrations/optunahub/samplers/nastool/README.md": "optunahub/sampler.md",
    "integrations/optunahub/benchmarks/supershaper/README.md": "optunahub/benchmark.md",
}
"""Where things of the repository are on the site; pages of `docs` are where they are."""

WIDTH = 100
_LINK = re.compile(r"(\[[^\]]*\])\(([^)\s]+)\)")
_FENCE = re.compile(r"^ *```")
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made, and the files that pages link."""
    for place, target in PAGES.items():
        if place.endswith(".md"):
            text = _FRONT_MATTER.sub("", (ROOT / place).read_text(encoding="utf-8"))
            files.append(File.generated(config, target, content=text))
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        text = notebook_page(Path(str(notebook.abs_src_path)))
        files.append(File.generated(config, _page_of(notebook.src_uri), content=text))
    files.append(File.generated(config, "reference/commands.md", content=commands_page()))
    files.append(File.generated(config, "reference/schemas.md", content=schemas_page()))
    for place in sorted(_linked_elsewhere(files)):
        if (ROOT / place).is_dir():
            files.append(File.generated(config, _target(place), content=_folder_page(place)))
        else:
            source = str(ROOT / place)
            files.append(File.generated(config, _target(place), abs_src_path=source))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to where their targets are on the site."""
    del config, files
    return "".join(
        line if is_code else _LINK.sub(lambda link: _turned(link, page.file.src_uri), line)
        for line, is_code in _lines(markdown)
    )


def notebook_page(path: Path) -> str:
    """A notebook as Markdown: its text, its code and what that printed."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text)
            continue
        is_shell = text.startswith("!")
        code = re.sub("^!", "", text, flags=re.MULTILINE) if is_shell else text
        parts.append(f"```{'sh' if is_shell else 'python'}\n{code}\n```")
        printed = "".join("".join(output["text"]) for output in cell["outputs"])
        if printed.strip():
            parts.append(f"```text\n{printed.rstrip()}\n```")
    # As HTML: a link in Markdown to a notebook means its page.
    parts.append(f'<a href="../{path.name}" download>This page as a notebook</a>')
    return "\n\n".join(parts) + "\n"


def commands_page() -> str:
    """Every command with its options, as its help page shows them."""
    # Help pages are as wide as the terminal; the site's are the same everywhere.
    ctx = click.Context(main, info_name="nastool", terminal_width=WIDTH)
    parts = ["# Commands", f"`nastool --version` is {_version()}. What all have in common: "]
    parts[-1] += "[command line](../command-line.md)."
    for command, own in _commands(main, ctx):
        parts.append(f"## {own.command_path}")
        parts.append(_paragraphs(command.help or ""))
        usage = " ".join(command.collect_usage_pieces(own))
        parts.append(f"```text\n{own.command_path} {usage}\n```")
        for title, rows in sections(command, own):
            parts.append(f"**{title}**")
            parts += [f"`{names}`\n:   {_escaped(text) or chr(160)}" for names, text in rows]
        if command.epilog:
            _, _, examples = command.epilog.partition(":\n")
            lines = "\n".join(line.strip() for line in examples.splitlines())
            parts.append(f"**Examples**\n\n```sh\n{lines}\n```")
    return "\n\n".join(parts) + "\n"


def schemas_page() -> str:
    """Every JSON output with what is in it."""
    parts = [
        "# Schemas",
        "Every JSON output names its schema and its version. The files are JSON Schemas (2020-12).",
    ]
    for path in sorted((ROOT / "docs" / "schemas").glob("*.json")):
        schema = json.loads(path.read_text(encoding="utf-8"))
        parts.append(f"## {schema['$id']}")
        parts.append(f"{schema['title']} [{path.name}](../schemas/{path.name})")
        needed = schema.get("required", [])
        rows = [
            f"| `{name}` | {_kind(schema, part)} | {'always' if name in needed else ''} |"
            for name, part in schema["properties"].items()
        ]
        parts.append("\n".join(["| key | value | there |", "| --- | --- | --- |", *rows]))
    return "\n\n".join(parts) + "\n"


def _commands(group: click.Group, ctx: click.Context) -> Iterator[tuple[click.Command, Any]]:
    """Commands and those of groups, in their order, with the context of each."""
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if command is None:
            continue
        own = click.Context(command, info_name=name, parent=ctx, terminal_width=WIDTH)
        if isinstance(command, click.Group):
            yield from _commands(command, own)
        else:
            yield command, own


def _version() -> str:
    import nastool

    return nastool.__version__


def _paragraphs(text: str) -> str:
    """A docstring of click's, whose blocks after a backspace keep their lines."""
    blocks = []
    for block in text.expandtabs().split("\n\n"):
        lines = block.strip("\n")
        if lines.startswith("\b"):
            blocks.append(f"```text\n{lines.removeprefix(chr(8)).strip(chr(10))}\n```")
        else:
            blocks.append(_escaped(" ".join(lines.split())))
    return "\n\n".join(blocks)


def _escaped(text: str) -> str:
    """Text in which no sign means anything to Markdown."""
    return re.sub(r"([\\`*_\[\]<>#|])", r"\\\1", text)


def _kind(schema: dict[str, Any], part: dict[str, Any]) -> str:
    """What a value may be, in words."""
    while "$ref" in part:
        *_, name = part["$ref"].split("/")
        part = schema["$defs"][name]
    if "const" in part:
        return f"`{json.dumps(part['const'])}`"
    if "enum" in part:
        return ", ".join(f"`{json.dumps(value)}`" for value in part["enum"])
    for several in ("oneOf", "anyOf"):
        if several in part:
            return " or ".join(_kind(schema, one) for one in part[several])
    kinds = part.get("type", "any")
    words = " or ".join([kinds] if isinstance(kinds, str) else kinds)
    if "items" in part:
        words += f" of {_kind(schema, part['items'])}"
    if "properties" in part:
        words += " with " + ", ".join(f"`{name}`" for name in part["properties"])
    return words


def _page_of(notebook: str) -> str:
    """Where a notebook can be read; anything else is where it is."""
    return re.sub(r"\.ipynb$", ".md", notebook)


def _lines(markdown: str) -> Iterator[tuple[str, bool]]:
    """Lines, and whether they are inside a block of code."""
    inside = False
    for line in markdown.splitlines(keepends=True):
        fence = bool(_FENCE.match(line))
        yield line, inside or fence
        inside ^= fence


def _source(page: str) -> str:
    """Where what a page of the site says lies in the repository."""
    for place, target in PAGES.items():
        if target == page and place.endswith(".md"):
            return place
    return f"docs/{page}"


def _place(link: str, page: str) -> str | None:
    """What of the repository a link means, or None for one to elsewhere or within the page."""
    path = link.partition("#")[0]
    if not path or re.match(r"[a-z]+:", path):
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(_source(page)), path))


def _target(place: str) -> str:
    """Where a file or folder of the repository is on the site."""
    if place in PAGES:
        return PAGES[place]
    if place.startswith("docs/"):
        return _page_of(place.removeprefix("docs/"))
    return f"files/{place}/index.md" if (ROOT / place).is_dir() else f"files/{place}"


def _turned(link: re.Match[str], page: str) -> str:
    place = _place(link[2], page)
    if place is None or not (ROOT / place).exists():
        return link[0]
    _, hash_, anchor = link[2].partition("#")
    start = posixpath.dirname(page) or "."
    return f"{link[1]}({posixpath.relpath(_target(place), start)}{hash_}{anchor})"


def _linked_elsewhere(files: Files) -> set[str]:
    """What pages link that is neither a page nor in `docs`."""
    places = set()
    for file in files.documentation_pages():
        for line, is_code in _lines(file.content_string):
            for _, link in () if is_code else _LINK.findall(line):
                place = _place(link, file.src_uri)
                if place and (ROOT / place).exists() and not place.startswith("docs/"):
                    places.add(place)
    return places - {*PAGES}


def _folder_page(place: str) -> str:
    """The files of a folder, each with what is in it."""
    parts = [f"# {place}"]
    for path in sorted((ROOT / place).iterdir()):
        if path.is_file():
            language = {".py": "python", ".Dockerfile": "dockerfile"}.get(path.suffix, "sh")
            text = path.read_text(encoding="utf-8")
            parts.append(f"## {path.name}\n\n```{language}\n{text.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"
