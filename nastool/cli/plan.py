"""How a problem is to be searched, from the texts of a command line, and the study it becomes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

from nastool.cli.progress import ProgressBar
from nastool.cli.settings import strategy_settings
from nastool.comparison import runs_of
from nastool.errors import InvalidInputError
from nastool.plugins import STRATEGIES, find, load_strategy, parse_spec
from nastool.problem import Problem
from nastool.results import Result
from nastool.store import open_store
from nastool.store.urls import showable
from nastool.strategies.base import Strategy
from nastool.study import Study


@dataclass(frozen=True)
class Plan:
    """How a problem is to be searched.

    Args:
        problem: What is searched.
        strategy_text: E.g. ``evolution:paper``.
        settings_texts: Of the strategy, each ``key=value``.
        seed: Fixes everything that is drawn.
        batch_size: Candidates asked for at a time; None for the strategy's choice.
    """

    problem: Problem
    strategy_text: str
    settings_texts: tuple[str, ...]
    seed: int
    batch_size: int | None

    def study(self, storage: str, name: str | None, description: Mapping[str, Any]) -> Study:
        """The study, with what the store already holds of it."""
        settings, strategy = self.settings, self.strategy()
        description = {**description, "strategy": self.strategy_text, "settings": settings}
        if storage == "none":
            return Study(self.problem, strategy, None, name, self.seed, description=description)
        if name:
            _check_name(storage, name)
        name = name or self._name(strategy)
        return Study(self.problem, strategy, storage, name, self.seed, description=description)

    def strategy(self) -> Strategy:
        """A fresh one."""
        return load_strategy(self.strategy_text, self.problem, self.seed, self.settings)

    @property
    def settings(self) -> dict[str, Any]:
        """Of the strategy, as values."""
        if not self.settings_texts:
            return {}
        plugin = find(STRATEGIES, parse_spec(self.strategy_text).name)
        return strategy_settings(plugin, self.settings_texts)

    @property
    def name(self) -> str:
        """A name that two searches share exactly when they would find the same."""
        return self._name(self.strategy())

    def _name(self, strategy: Strategy) -> str:
        content = [self.problem.fingerprint, self.strategy_text, self.seed, self.batch_size]
        text = json.dumps([*content, sorted(self.settings.items())])
        if strategy.revision > 1:
            text += f" revision {strategy.revision}"
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        space = self.problem.space.name.partition("[")[0]
        kind = self.strategy_text.partition("[")[0].partition(":")[0]
        return f"{space}-{kind}-{digest}"

    def run(self, study: Study, budget: int, storage: str, label: str = "") -> Result:
        """Run the study up to the budget and, unless it is one of many, say what was there before.

        Args:
            study: From `study`.
            budget: Evaluations.
            storage: Where it is kept, for the message.
            label: Which of many searches it is; empty for one by itself.
        """
        before = len(study)
        with ProgressBar(f"searching, {label}" if label else "searching") as progress:
            result = study.run(budget, self.batch_size, progress)
        if label:
            return result.first(budget)
        if 0 < before == len(result):
            held = min(before, budget)
            click.echo(
                f"Study {study.name} in {showable(storage)} holds these {held:,} evaluations "
                "already; nothing was evaluated.",
                err=True,
            )
        elif before:
            click.echo(
                f"Study {study.name} in {showable(storage)} went on after {before:,} evaluations.",
                err=True,
            )
        return result.first(budget)


def _check_name(storage: str, name: str) -> None:
    """Refuse the name of a comparison, which ``nastool show`` would show instead."""
    with open_store(storage) as store:
        if runs_of(store, name):
            raise InvalidInputError(
                f"--study: expected a name of its own, got {name!r}, a comparison in {store.url}"
            )
