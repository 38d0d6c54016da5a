"""Libraries that say more than their caller's users can use, held back."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet(*libraries: str, warning: type[Warning] | None = None) -> Iterator[None]:
    """Within this block libraries log errors only, and perhaps do not warn.

    Args:
        libraries: Names of their loggers, e.g. ``optuna``; none for everything that logs.
        warning: The kind of warnings that are ignored; none by default.
    """
    loggers = [logging.getLogger(name) for name in libraries]
    before, disabled = [logger.level for logger in loggers], logging.root.manager.disable
    for logger in loggers:
        logger.setLevel(max(logger.level, logging.ERROR))
    if not loggers:
        logging.disable(max(disabled, logging.WARNING))
    try:
        if warning is None:
            yield
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", warning)
                yield
    finally:
        logging.disable(disabled)
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
