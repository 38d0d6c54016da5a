"""Everything nastool raises on purpose derives from one class."""


class NastoolError(Exception):
    """Something a user can act on; the message is one line."""


class InvalidInputError(NastoolError, ValueError):
    """An input breaks a rule: the message says what must hold and what was got."""


class InfeasibleError(InvalidInputError):
    """No architecture of the space satisfies the constraints, and that is proven."""


class MissingDependencyError(NastoolError, ImportError):
    """An optional package is needed; the message names the extra that installs it."""


class StoreError(NastoolError):
    """A store cannot be opened, read or written, or holds something else than expected."""
