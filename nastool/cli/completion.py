"""What a shell may offer for a value: names of spaces, strategies, metrics, studies and more.

Whatever goes wrong while names are looked up, nothing is offered: a shell has no place for errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

import click
from click.shell_completion import CompletionItem

from nastool.discovery import DEVICES, OBJECTIVES, PREDICTORS, SEARCH_SPACES, STRATEGIES, available

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

SHAPES = ("knee", "smallest", "largest")
"""Names that stand for a shape wherever one is taken."""


def names(find: Callable[[click.Context], Iterable[str]], end: str = "") -> Completer:
    """Offers what begins as what was typed.

    Args:
        find: Looks the names up.
        end: Put behind each, where more must follow.
    """

    def complete(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        del param
        with suppress(Exception):
            found = dict.fromkeys(find(ctx))
            return [
                CompletionItem(name + end) for name in found if (name + end).startswith(incomplete)
            ]
        return []

    return complete


def described(group: str) -> Completer:
    """Offers the plugins of a group, each with what it is."""

    def complete(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        del ctx, param
        with suppress(Exception):
            return [
                CompletionItem(plugin.name, help=plugin.summary)
                for plugin in available(group)
                if plugin.name.startswith(incomplete)
            ]
        return []

    return complete


def _metrics(ctx: click.Context) -> list[str]:
    """What may be bounded: chain costs of the space, and objectives."""
    found: list[str] = []
    # Arguments are not read where the value of an option is missing.
    for text in (ctx.params.get("space_text"), ctx.params.get("name"), *ctx.args[:1]):
        if text:
            from nastool.plugins import load_space

            with suppress(Exception):
                found += load_space(str(text)).costs
    return [*found, *(plugin.name for plugin in available(OBJECTIVES))]


def _studies(ctx: click.Context) -> list[str]:
    from nastool.store import open_store

    with open_store(ctx.params.get("storage"), create=False) as store:
        return [summary.name for summary in store.list_studies()]


spaces = described(SEARCH_SPACES)
objectives = described(OBJECTIVES)
strategies = described(STRATEGIES)
predictors = described(PREDICTORS)
devices = described(DEVICES)
metrics = names(_metrics)
bounds = names(_metrics, "=")
constraints = names(_metrics, "<=")
studies = names(_studies)
shapes = names(lambda _: SHAPES)
torch_devices = names(lambda _: ("auto", "cpu", "cuda", "mps"))
"""Devices that training and measuring run on."""
