"""The page of a sweep: the best under each limit, before what was measured and what has a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nastool.plots.front import Cloud, front_data
from nastool.plots.page import Section, document
from nastool.plots.report import front_panel, head_of, members, members_table, shapes_panel
from nastool.results import Result


def sweep_page(
    best: Result,
    metric: str,
    facts: Mapping[str, str | float],
    clouds: Sequence[Cloud] = (),
) -> str:
    """The page as HTML (SuperShaper, figure 4).

    Args:
        best: The best architecture under each limit, of a problem whose objectives are the one
            that was optimised and the one that was limited.
        metric: Name of the limited one.
        facts: What to say about it, by label.
        clouds: Further points for the figure.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    problem = best.problem
    name = problem.objectives[0].name
    title = f"Best {name} over {metric}"
    data = front_data({"best under each limit": best}, x=metric, y=name, clouds=clouds)
    rows = members("", best)
    sections: list[Section] = [
        front_panel(data, title),
        shapes_panel("shapes", best, "The best shapes"),
        members_table(problem, rows, "", "The best shapes"),
    ]
    head = head_of(f"{problem.space.name}: {title[0].lower()}{title[1:]}", problem, facts)
    return document(head, sections, problem.space, rows)
