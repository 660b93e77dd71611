"""Objects of the user's own class whose calls pass through our methods first.

`extend(model, Mixin, own)` returns an object that *is* a model of the user's class: it shares the state of the given
object, so what one writes the other reads. Its class is made at run time from the mixin and the user's class. The
mixin's methods call `self._plain`, the given object itself, so no method of ours is entered twice.
"""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from pydantic import BaseModel

from turnguard.core.errors import ConfigError

T = TypeVar("T")

_STATE = ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
_classes: dict[tuple[type, type], type] = {}


class Extension:
    """Base of the mixins. `_plain` is the object as the user made it, `_own` is what the mixin keeps for this one."""

    __slots__ = ()
    _plain: Any
    _own: Any

    @staticmethod
    def members(_base: type) -> dict[str, Any]:
        """More members of the class that extends this one."""
        return {}

    def __copy__(self) -> Any:
        return extend(copy.copy(self._plain), _mixin(type(self)), self._own)

    def __deepcopy__(self, memo: Any = None) -> Any:
        return extend(copy.deepcopy(self._plain, memo), _mixin(type(self)), self._own)


def extend(thing: T, mixin: type[Extension], own: Any) -> T:
    """An object with the class and the state of `thing`, whose methods are the mixin's first.

    Raises `ConfigError` where the class cannot be extended.
    """
    cls = _extended(type(thing), mixin)
    made: T = _sharing(cls, thing)
    object.__setattr__(made, "_plain", thing)
    object.__setattr__(made, "_own", own)
    return made


def own(thing: Any) -> Any:
    """What an extended object keeps; None for any other, and for one that its class was called to make anew."""
    return getattr(thing, "_own", None) if isinstance(thing, Extension) else None


def adopted(thing: Any) -> Any:
    """An object that its extended class was called to make, as the user's class would have made it."""
    return _sharing(type(thing).__bases__[1], thing)


def _sharing(cls: type, thing: Any) -> Any:
    made: Any = object.__new__(cls)
    for name in _STATE if isinstance(thing, BaseModel) else _STATE[:1]:
        object.__setattr__(made, name, getattr(thing, name))
    return made


def _mixin(cls: type) -> type[Extension]:
    found: type[Extension] = cls.__bases__[0]
    return found


def _extended(cls: type, mixin: type[Extension]) -> type:
    if _mixin(cls) is mixin:  # extended already: the same class once more, around that object
        return cls
    made = _classes.get((cls, mixin))
    if made is not None:
        return made
    members: dict[str, Any] = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    members |= {"__slots__": ("_plain", "_own")}
    if issubclass(cls, BaseModel):
        members["model_config"] = {"defer_build": True}  # nothing is validated here
    try:
        made = type(cls)(cls.__name__, (mixin, cls), members)
        for name, member in mixin.members(cls).items():  # pydantic takes none of these while it makes the class
            setattr(made, name, member)
    except Exception as error:
        raise ConfigError(f"{cls.__name__} cannot be guarded, because its class cannot be extended: {error}") from error
    return _classes.setdefault((cls, mixin), made)
