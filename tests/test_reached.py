"""Every public name is reached from a command, from Python's front door, from the docs or a suite.

What only tests reach is not a feature but a burden. Names are followed from where users begin, by
what the code of each reached definition names; methods are followed by their names alone.
"""

import ast
import functools
import re
import tomllib

from tests.sources import ROOT, trees

FRONT_DOORS = ("nastool", "nastool.plugins", "nastool.testing")
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
OVERRIDES = {
    # What other libraries call: click, logging, Optuna, transformers.
    "format_commands", "emit", "infer_relative_search_space", "sample_relative", "after_trial",
    "on_evaluate", "compute_loss",
}  # fmt: skip


@functools.cache
def docs():
    """What users read and run: the README, the pages but for decisions, examples."""
    files = [ROOT / "README.md"]
    for folder, pattern in (
        ("docs", "*.md"), ("docs", "*.ipynb"), ("docs", "*.py"), ("examples", "*.py"),
        ("integrations", "*.py"),
    ):  # fmt: skip
        files += (ROOT / folder).rglob(pattern)
    return "\n".join(f.read_text("utf-8") for f in files if f.name != "decisions.md")


@functools.cache
def own(module):
    """What a module defines at its top level, by name; and the rest of its statements."""
    found, rest = {}, []
    for node in trees()[module].body:
        if isinstance(node, DEFINITIONS):
            found.setdefault(node.name, []).append(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for name in (n for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)):
                found.setdefault(name.id, []).append(node)
        else:
            rest.append(node)
    return found, rest


@functools.cache
def imported(module):
    """Names that a module binds by importing them: from where, and what they are called there."""
    found = {}
    for node in ast.walk(trees()[module]):
        if isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
    return found


def named(module, nodes):
    """What some statements of a module name, as pairs of a module and a name of its own."""
    for node in (inner for outer in nodes for inner in ast.walk(outer)):
        if isinstance(node, ast.Name) and node.id in own(module)[0]:
            yield module, node.id
        elif isinstance(node, ast.Name) and node.id in imported(module):
            yield imported(module)[node.id]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in imported(module):
                yield ".".join(imported(module)[node.value.id]), node.attr
        elif isinstance(node, ast.Constant) and re.fullmatch(r"[\w.]+:\w+", str(node.value)):
            yield tuple(node.value.split(":"))


def is_registered(definition):
    """Whether a decorator hands it on: a subcommand of a group."""
    calls = (d.func for d in definition.decorator_list if isinstance(d, ast.Call))
    return any(
        isinstance(f, ast.Attribute) and f.attr == "command" and ast.unparse(f.value) != "click"
        for f in calls
    )


def beginnings():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for group in (project["scripts"], *project["entry-points"].values()):
        yield from (tuple(value.split(":")) for value in group.values())
    yield "nastool.discovery", "_BUILT_IN"
    for door in FRONT_DOORS:
        yield from ((door, name) for name in {**own(door)[0], **imported(door)})
    for node in ast.walk(trees()["nastool"]):  # what it imports when it is asked for
        if isinstance(node, ast.Dict):
            for home, names in zip(node.keys, node.values, strict=True):
                if isinstance(names, ast.Tuple):
                    yield from ((home.value, name.value) for name in names.elts)
    for home, names in re.findall(r"from ([\w.]+) import \(?([\w, \n]+)", docs()):
        yield from ((home, name) for name in re.findall(r"\w+", names))
    for dotted in re.findall(r"\bnastool\w*(?:\.\w+)+", docs()):
        yield tuple(dotted.rsplit(".", 1))
    for module, tree in trees().items():
        if any("__main__" in ast.unparse(n.test) for n in tree.body if isinstance(n, ast.If)):
            yield from ((module, name) for name in own(module)[0])


def reached():
    found, open_modules, todo = set(), set(), list(beginnings())
    while todo:
        module, name = todo.pop()
        if module not in trees() or (module, name) in found:
            continue
        found.add((module, name))
        definitions, rest = own(module)
        if module not in open_modules:
            open_modules.add(module)
            todo += named(module, rest)
            todo += [
                (module, each)
                for each, nodes in definitions.items()
                if any(isinstance(n, DEFINITIONS) and is_registered(n) for n in nodes)
            ]
        if name in definitions:
            todo += named(module, definitions[name])
        elif name in imported(module):
            todo.append(imported(module)[name])
    return found


def test_functions_classes_and_constants_are_reached():
    found = reached()
    assert len(found) > 2_000
    public = [(m, n) for m in trees() for n in own(m)[0] if not n.startswith("_")]
    lost = [f"{module}.{name}" for module, name in public if (module, name) not in found]
    assert not lost, lost


def test_methods_are_called_by_name_somewhere():
    called = set(re.findall(r"\w+", docs())) | OVERRIDES
    for tree in trees().values():
        called |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    lost = [
        f"{module}.{definition.name}.{method.name}"
        for module, tree in trees().items()
        for definition in ast.walk(tree)
        if isinstance(definition, ast.ClassDef)
        for method in definition.body
        if isinstance(method, ast.FunctionDef)
        and not method.name.startswith(("_", "test_"))
        and method.name not in called
    ]
    assert not lost, lost
