"""Methods that rules call, with a signature that costs nothing to ask for."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

from hardscale.plan.input_names import input_name


class for_rules:  # noqa: N801 - a decorator
    """A method that a rule uses as a function of its wildcards.

    Snakemake reads the signature of such a function at every call. That of a bound method is put together anew each
    time, which costs more than most of the functions do; a ``__signature__`` is found at once.
    """

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self._method
        call = with_signature(self._method.__get__(instance))
        instance.__dict__[self._name] = call  # found before this descriptor from now on
        return call


class for_inputs(for_rules):  # noqa: N801 - a decorator
    """A method that a rule uses as an input function: the paths that it returns are names, never patterns."""

    def __init__(self, method: Callable[..., str | list[str]]) -> None:
        @functools.wraps(method)
        def names(*args: Any, **kwargs: Any) -> str | list[str]:
            found = method(*args, **kwargs)
            return input_name(found) if isinstance(found, str) else [input_name(path) for path in found]

        super().__init__(names)


def with_signature(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function with its signature attached."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    call.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    call.__doc__ = function.__doc__
    if "snakemake.common" in sys.modules:  # not worth importing elsewhere
        remember_signature(call)
    return call


def remember_signature(method: Callable[..., Any]) -> None:
    """Let Snakemake know the parameters of a method of its own at once; it asks at every call, too."""
    from snakemake.common import overwrite_function_params

    overwrite_function_params(method, inspect.signature(method).parameters)
