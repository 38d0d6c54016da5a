"""What plugins say about themselves: in the class, by properties or on their instances."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nastool.errors import InvalidInputError

__all__ = ["attribute"]

if TYPE_CHECKING:
    # For type checkers what it is declared by is a property, which any subclass may override.
    from builtins import property as attribute
else:

    class attribute:  # noqa: N801  # a decorator, as property is
        """A property of a base class that a subclass may also set on its instances.

        A property would refuse ``self.name = ...``, and an abstract one would keep a class whose
        ``__init__`` or dataclass fields set it from being made.

        Args:
            function: Returns the default; marked as abstract where there is none.
        """

        def __init__(self, function: Callable[[Any], Any]) -> None:
            self.function = function
            self.needed = getattr(function, "__isabstractmethod__", False)
            self.__doc__ = function.__doc__

        def __set_name__(self, owner: type, name: str) -> None:
            self.name = name

        def __get__(self, instance: Any, owner: type) -> Any:
            if instance is None:
                # Dataclasses would take what is found here for the default of a field.
                raise AttributeError(f"{owner.__name__} has {self.name!r} on its instances")
            if self.needed:
                raise _MissingError(
                    f"{type(instance).__name__} must have {self.name!r}: an attribute of the "
                    "class, a property, or set in __init__"
                )
            return self.function(instance)


class _MissingError(InvalidInputError, AttributeError):
    """An attribute that a plugin must have is not there."""
