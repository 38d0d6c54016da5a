"""Runs the tutorials' notebooks in this process: python docs/site/notebooks.py [--write].

With `--write` what the cells print is kept in the notebooks, for the pages of the site. A cell is
Python, or commands of nastool, each a line that begins with `!`.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from click.testing import CliRunner

from nastool.cli.main import main

ROOT = Path(__file__).parent.parent.parent
NOTEBOOKS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))


def run_notebook(path: Path, folder: Path) -> list[str]:
    """Run the code cells of a notebook one after the other.

    Args:
        path: The notebook.
        folder: An empty folder to run it in, in which `examples` is made to be the repository's.

    Returns:
        What each cell printed.
    """
    (folder / "examples").symlink_to(ROOT / "examples")
    names: dict[str, Any] = {"__name__": "__main__"}
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    with contextlib.chdir(folder), mock.patch.dict(os.environ):
        return [
            run_cell("".join(cell["source"]), f"{path.name}, cell {number}", names)
            for number, cell in enumerate(cells, 1)
            if cell["cell_type"] == "code"
        ]


def run_cell(source: str, title: str, names: dict[str, Any]) -> str:
    """Run a cell and return what it prints, with the value of its last line."""
    if source.startswith("!"):
        return "".join(run_command(line.removeprefix("!")) for line in joined(source))
    tree = ast.parse(source, title)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, title, "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), title, "eval"), names)
            if value is not None:
                print(value)
    return printed.getvalue()


def run_command(line: str) -> str:
    """Run a command line of nastool and return what it prints to stdout."""
    program, *words = shlex.split(line, comments=True)
    if program != "nastool":
        raise ValueError(f"expected a command of nastool, got {line!r}")
    result = CliRunner().invoke(main, words, prog_name="nastool")
    if result.exit_code:
        raise RuntimeError(f"{line}: exit code {result.exit_code}\n{result.output}")
    return result.stdout


def joined(source: str) -> Iterator[str]:
    """Lines, those that end in a backslash together with the next."""
    return iter(source.replace("\\\n", " ").splitlines())


def kept_outputs(path: Path) -> list[str]:
    """What a notebook says that its code cells print."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [
        "".join(text for output in cell["outputs"] for text in output["text"])
        for cell in cells
        if cell["cell_type"] == "code"
    ]


def write_outputs(path: Path, outputs: list[str]) -> None:
    """Keep in a notebook what its cells print."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    printed = iter(outputs)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            text = next(printed).splitlines(keepends=True)
            stream = {"name": "stdout", "output_type": "stream", "text": text}
            cell["outputs"] = [stream] if text else []
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    os.environ["COLUMNS"] = "100"
    for notebook in NOTEBOOKS:
        with tempfile.TemporaryDirectory() as scratch:
            outputs = run_notebook(notebook, Path(scratch))
        if "--write" in sys.argv[1:]:
            write_outputs(notebook, outputs)
        print(f"{notebook.name}: {len(outputs)} cells")
