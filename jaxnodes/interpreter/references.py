"""What a cache may keep of a function: enough to know it again, never its life.

A function that closes over large arrays, or over tracers, must not live on because
a cache remembers what it compiled for it. So things that compare by identity are
remembered weakly, and things that compare by value (a frozen description, a string)
by value. A bound method is known by its function and its owner: `net.predict` is
another object each time it is written, and yet the same function.
"""

import collections
import threading
import types
import weakref
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class _Value(NamedTuple):
    kind: type  # `True == 1`, and they hash alike
    value: Any


class _Method(NamedTuple):
    function: Hashable
    owner: Hashable


class _Unique:
    """Of what can't be hashed: never equal to another one."""

    def __init__(self, value: Any):
        self.value = value


def ref(x: Any, unhashable: bool = False) -> Hashable:
    """A hashable reference to `x`.

    Raises:
      TypeError: `x` can't be hashed, and isn't allowed to be.
    """
    if isinstance(x, types.MethodType):
        return _Method(ref(x.__func__), ref(x.__self__, unhashable))
    if type(x).__hash__ is object.__hash__:
        try:
            return weakref.ref(x)
        except TypeError:
            pass
    try:
        hash(x)
    except TypeError:
        if unhashable:
            return _Unique(x)
        raise
    return _Value(type(x), x)


def deref(reference: Any) -> Any:
    """What a reference made by `ref` refers to, while it lives."""
    if isinstance(reference, _Method):
        return types.MethodType(deref(reference.function), deref(reference.owner))
    return reference() if isinstance(reference, weakref.ref) else reference.value


def is_dead(reference: Any) -> bool:
    """Whether what `reference` refers to is gone."""
    if isinstance(reference, _Method):
        return is_dead(reference.function) or is_dead(reference.owner)
    return isinstance(reference, weakref.ref) and reference() is None


class Cache:
    """The values made last, each by its key: a tuple that holds the references `refs`.

    Example:

    >>> cache = Cache(maxsize=2)
    >>> [cache.get("a", (), lambda: 1), cache.get("a", (), lambda: 2)]
    [1, 1]
    """

    def __init__(self, maxsize: int):
        self.maxsize = maxsize
        self._entries: collections.OrderedDict = collections.OrderedDict()
        self._lock = threading.Lock()  # not held while a value is made, which may ask for others

    def get(self, key: Hashable, refs: tuple, make: Callable[[], T]) -> T:
        """The value at `(key, refs)`, made if it isn't there."""
        full = (key, refs)
        with self._lock:
            if full in self._entries:
                self._entries.move_to_end(full)
                return self._entries[full]
            for old in [old for old in self._entries if any(map(is_dead, old[1]))]:
                del self._entries[old]
        value = make()
        with self._lock:
            value = self._entries.setdefault(full, value)
            while len(self._entries) > self.maxsize:
                self._entries.popitem(last=False)
        return value

    def drop(self, key: Hashable, refs: tuple) -> None:
        """Forgets the value at `(key, refs)`."""
        with self._lock:
            self._entries.pop((key, refs), None)

    def __len__(self) -> int:
        return len(self._entries)
