"""Options of any command from a file (``--config``), and as a file (``--dump-config``).

A file's keys are the names of the options and arguments, so that whatever a command takes, its
files take, too. What stands on the command line goes before what stands in a file.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from nastool.cli.options import PLUGIN_FILES, WholeNumber, load_plugin
from nastool.errors import InvalidInputError, nearest
from nastool.numbers import is_number, is_whole

if TYPE_CHECKING:
    from nastool.files.documents import Document

COMMAND = "command"
"""Key of a file that says which command it is for."""

CONFIG_FILES = "nastool.config_files"
"""Where a context's ``meta`` keeps the files that options were read from."""

_RUN = "nastool.run"
_PLACES = "nastool.places"
_DOCUMENTS = "nastool.documents"
"""Where a context's ``meta`` keeps the file of ``nastool run``, and whatever was read."""

_DUMP = "nastool.dump_config"

_UNTAKEN = {"--config", "--dump-config", "--help", "--verbose", "--quiet"}
"""Options that no file gives."""

_MANY = 6
"""Options from which on a command takes them from a file, too."""

_QUOTED = re.compile(r"'([^']+)'")

_NUMBERS = re.compile(r"\b(N|SHAPE)\b")
"""In the metavar of an option whose texts may be numbers."""


def configurable(command: click.Command) -> click.Command:
    """Let a command of many options, or those of a group, take ``--config`` and ``--dump-config``.

    A command with a ``--config`` of its own must call that by another name, too; then what ends in
    .toml is a file of options, and anything else its own.
    """
    if isinstance(command, click.Group):
        for member in command.commands.values():
            configurable(member)
        return command
    names = [name for param in command.params for name in param.opts]
    if len(command.params) < _MANY or command.callback is None or "--dump-config" in names:
        return command
    for param in command.params:
        if "--config" in param.opts:
            param.opts.remove("--config")
            command.params.insert(0, _config_option(param))
            break
    else:
        command.params.insert(0, _config_option(None))
    dump = click.Option(
        ["--dump-config"],
        is_flag=True,
        expose_value=False,
        callback=_note_dump,
        help="Print the options that would be used as such a file, and stop.",
    )
    command.params.insert(1, dump)
    command.callback = _dumping(command.callback)
    return command


def invoke_file(ctx: click.Context, path: Path, arguments: list[str]) -> Any:
    """Run the command that a file is for.

    Args:
        ctx: Of ``nastool run``.
        path: The file; a search unless it names another command.
        arguments: Further ones, which win.

    Raises:
        InvalidInputError: It cannot be read, or names no command that takes a file.
    """
    document = _document(ctx, path)
    said = document.content.get(COMMAND, "search")
    parent = ctx.find_root()
    group: click.Command = parent.command
    parts = said.split() if isinstance(said, str) else []
    hint = ""
    for part in parts:
        if not isinstance(group, click.Group):
            break
        found = group.get_command(parent, part)
        if found is None:
            hint = f"; {nearest(part, group.list_commands(parent))}"
            break
        group = found
        if isinstance(group, click.Group):
            parent = click.Context(group, info_name=part, parent=parent)
    else:
        if any("--dump-config" in param.opts for param in group.params):
            ctx.meta[_RUN] = path
            with group.make_context(parts[-1], arguments, parent=parent) as own:
                return group.invoke(own)
    raise InvalidInputError(
        f"{document.at(COMMAND)}: expected a command that takes a file of options, such as "
        f"'search' or 'latency measure', got {said!r}{hint}"
    )


def _document(ctx: click.Context, path: Path) -> Document:
    """A file of options, read once however often it is looked at: a pipe gives it only once."""
    documents: dict[Path, Document] = ctx.meta.setdefault(_DOCUMENTS, {})
    if path not in documents:
        from nastool.files.documents import read_document

        documents[path] = read_document(path)
    return documents[path]


class OpenCommand(click.Command):
    """A command that plugins give further options, also those of files that are named with it."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        if parent is not None:
            for file in _plugins_named(parent, args):
                load_plugin(parent, file)
        return super().make_context(info_name, args, parent, **extra)


def _plugins_named(ctx: click.Context, arguments: list[str]) -> Iterator[Path]:
    """Files of plugins that arguments name, or files of options among them.

    What is wrong with the latter is said where they are read.
    """
    documents = [ctx.meta[_RUN]] if _RUN in ctx.meta else []
    words = iter(arguments)
    for word in words:
        option, sign, value = word.partition("=")
        if option in ("--plugin", "--config"):
            value = value if sign else next(words, "")
            if option == "--plugin":
                yield Path(value)
            elif _is_toml(value):
                documents.append(Path(value))
    for path in documents:
        with suppress(InvalidInputError):
            content = _document(ctx, path).content
            for key in ("plugin", "plugins"):
                named = content.get(key, [])
                yield from map(Path, [named] if isinstance(named, str) else named)


def _config_option(own: click.Parameter | None) -> click.Option:
    """The option ``--config`` of a command.

    Args:
        own: A parameter that takes its values where they do not end in .toml.
    """
    help_text = "Read options from a file, named as here; those on the command line win."

    def read(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> None:
        del param
        files = [Path(value) for value in values if own is None or _is_toml(value)]
        if path := ctx.meta.pop(_RUN, None):
            files.insert(0, path)
        if not values and not files:
            return
        taken = {} if ctx.default_map is None else dict(ctx.default_map)
        for file in files:
            taken |= _read(ctx, file, own)
        for value in values:
            if own is not None and not _is_toml(value):
                taken[str(own.name)] = value
        ctx.default_map = taken
        ctx.meta[CONFIG_FILES] = (*ctx.meta.get(CONFIG_FILES, ()), *files)

    return click.Option(
        ["--config"],
        metavar="FILE.toml",
        multiple=True,
        is_eager=True,
        expose_value=False,
        callback=read,
        help=help_text,
    )


def _is_toml(value: str) -> bool:
    return value.lower().endswith(".toml")


def _note_dump(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    del param
    ctx.meta[_DUMP] = wanted


def _dumping(callback: Callable[..., Any]) -> Callable[..., Any]:
    """What prints the options where that is wanted, instead of going to work with them."""

    @functools.wraps(callback)
    def run(*arguments: Any, **options: Any) -> Any:
        ctx = click.get_current_context()
        if not ctx.meta.pop(_DUMP, False):
            try:
                return callback(*arguments, **options)
            except InvalidInputError as error:
                if (text := _placed(ctx, str(error))) != str(error):
                    raise InvalidInputError(text) from error
                raise
        click.echo(_dumped(ctx), nl=False)
        return None

    return run


def _placed(ctx: click.Context, text: str) -> str:
    """A message about an option that a file gave, which names the place there; others as they are.

    What a command finds wrong in an option, it says as if it were typed: it begins with the option,
    or quotes what stands in one of them.
    """
    head, _, rest = text.partition(":")
    option = head.partition(" ")[0] if head.startswith("-") else head
    quoted = "" if option.startswith("-") else "|".join(map(re.escape, _QUOTED.findall(text)))
    found = []
    for param in ctx.command.get_params(ctx):
        name = str(param.name)
        place = ctx.meta.get(_PLACES, {}).get(name)
        if place is None or ctx.get_parameter_source(name) is not ParameterSource.DEFAULT_MAP:
            continue
        if option in param.opts or place.endswith(f": {option}"):
            return f"{place}:{rest}"
        given = (ctx.default_map or {})[name]
        texts = str(given) if isinstance(given, str | list) else ""
        if quoted and re.search(rf"(?<!\w)({quoted})(?!\w)", texts):
            found.append(place)
    return f"{found[0]}: {text}" if len(found) == 1 else text


def _command_name(ctx: click.Context) -> str:
    """E.g. ``latency measure``."""
    names: list[str] = []
    while ctx.parent is not None:
        names.insert(0, str(ctx.info_name))
        ctx = ctx.parent
    return " ".join(names)


def _taken(ctx: click.Context) -> Iterator[click.Parameter]:
    """The parameters of a command that a file may give."""
    for param in ctx.command.get_params(ctx):
        if not _UNTAKEN & {*param.opts}:
            yield param


def _key(param: click.Parameter) -> str:
    """What a parameter is called in files: its longest name."""
    if isinstance(param, click.Argument):
        return str(param.name)
    return max(param.opts, key=len).lstrip("-")


def _keys(ctx: click.Context, own: click.Parameter | None) -> dict[str, click.Parameter]:
    """Every name that a file may use; of what may be given more than once the plural, too.

    What a recipe calls by another name than the option may be called so as well.
    """
    from nastool.recipes.study_recipe import FIELDS

    found = {_key(param): param for param in _taken(ctx)}
    if own is not None:
        found["config"] = own
    plural = {FIELDS[name]: param for name, param in found.items() if name in FIELDS}
    for name, param in found.items():
        if isinstance(param, click.Option) and param.multiple:
            plural[re.sub("y$", "ie", name) + "s"] = param
    return {name.replace("-", "_"): param for name, param in {**plural, **found}.items()}


def _read(ctx: click.Context, path: Path, own: click.Parameter | None) -> dict[str, Any]:
    """What a file gives, by the names of parameters, as ``Context.default_map`` takes it."""
    document = _document(ctx, path)
    known, name = _keys(ctx, own), _command_name(ctx)
    heading = _heading(document, name)
    content: dict[str, Any] = {}
    for key, value in document.content.items():
        if key in heading:
            continue
        if key == COMMAND:
            if value != name:
                raise InvalidInputError(f"{document.at(key)}: expected {name!r}, got {value!r}")
            continue
        param = known.get(key.replace("-", "_"))
        if param is None:
            listed = [_key(each) for each in _taken(ctx)]
            raise InvalidInputError(f"{document.at(key)}: unknown key; {nearest(key, listed)}")
        if param.name in content:
            raise InvalidInputError(f"{document.at(key)}: expected once, got it by two names")
        content[str(param.name)] = _value(ctx, document, key, param, value)
        ctx.meta.setdefault(_PLACES, {})[str(param.name)] = document.at(key)
    return content


def _heading(document: Document, command: str) -> frozenset[str]:
    """Keys of a recipe in JSON that say what it is; a recipe is a file for a search, too."""
    if command != "search" or "schema" not in document.content:
        return frozenset()
    from nastool.recipes.study_recipe import check_schema

    check_schema(document)
    return frozenset({"schema", "version"})


def _value(
    ctx: click.Context, document: Document, key: str, param: click.Parameter, value: Any
) -> Any:
    """A value of a file as the command line would have given it; checked as it is there."""
    several = param.nargs != 1 or (isinstance(param, click.Option) and param.multiple)
    given: Any
    if isinstance(param, click.Option) and param.is_flag:
        if not isinstance(value, bool):
            raise _wrong(document, (key,), "true or false", value)
        given = value
    elif several and isinstance(value, Mapping) and "=" in (param.metavar or ""):
        given = [f"{name}={_word(document, (key, name), v)}" for name, v in value.items()]
    elif several:
        items = value if isinstance(value, list) else [value]
        given = [_scalar(document, key, param, item) for item in items]
    else:
        given = _scalar(document, key, param, value)
    try:
        param.type_cast_value(ctx, given)
    except click.BadParameter as error:
        raise InvalidInputError(f"{document.at(key)}: {error.message}") from error
    return given


def _scalar(document: Document, key: str, param: click.Parameter, value: Any) -> Any:
    """One value of the type that a parameter takes; texts are read as on the command line."""
    if isinstance(value, str):
        return value
    if isinstance(param.type, (WholeNumber, click.types.IntParamType)):
        if is_whole(value):
            return value
        raise _wrong(document, (key,), "a whole number", value)
    if isinstance(param.type, click.types.FloatParamType):
        if is_number(value):
            return value
        raise _wrong(document, (key,), "a number", value)
    if is_number(value) and _NUMBERS.search(param.metavar or ""):
        return str(value)
    raise _wrong(document, (key,), "a text", value)


def _word(document: Document, keys: tuple[str, ...], value: Any) -> str:
    """A value of a table as it stands behind ``KEY=``; JSON has a word for nothing."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, int, float)):
        return str(value)
    raise _wrong(document, keys, "a text or a number", value)


def _wrong(
    document: Document, keys: tuple[str, ...], expected: str, value: Any
) -> InvalidInputError:
    from nastool.files.documents import kind_of

    return InvalidInputError(
        f"{document.at(*keys)}: expected {expected}, got {kind_of(value)} ({value!r:.80})"
    )


def _dumped(ctx: click.Context) -> str:
    """The options of a command as a file that gives the same."""
    from nastool.files.documents import toml_text

    content: dict[str, Any] = {COMMAND: _command_name(ctx)}
    hidden = []
    for param in _taken(ctx):
        value = ctx.params.get(str(param.name))
        if param.name == "plugin":
            value = ctx.meta.get(PLUGIN_FILES)
        if value is None or value == ():
            continue
        plain = _plain(value)
        if param.name == "storage" and _has_secret(plain):
            hidden.append(f"# {_key(param)}: has a password, which is not shown\n")
        elif isinstance(plain, list) and "=" in (param.metavar or ""):
            content[_key(param)] = _table(plain)
        else:
            content[_key(param)] = plain
    return "".join(hidden) + toml_text(content)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _table(texts: list[str]) -> dict[str, Any] | list[str]:
    """``KEY=VALUE`` texts as a table, where each key stands once and its text comes back."""
    pairs = [text.partition("=") for text in texts]
    table = {key: _number(value) for key, _, value in pairs}
    same = [f"{key}={_word_of(value)}" for key, value in table.items()] == texts
    return table if same else texts


def _number(text: str) -> Any:
    """A text as the number or truth that it is, where that is written the same way."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        if str(value) == text and text not in ("inf", "-inf", "nan"):
            return value
    return text


def _word_of(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _has_secret(url: str) -> bool:
    from nastool.store.urls import showable

    return showable(url) != url
