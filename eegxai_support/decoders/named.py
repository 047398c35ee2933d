"""Own networks and methods by name: "module:name", which any process can import, and the source behind it."""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
from collections.abc import Iterable
from functools import partial
from importlib import import_module
from operator import attrgetter
from pathlib import Path

# A version, or `package_digest`, says what their source is.
VERSIONED = ("torch", "braindecode", "builtins", "eegxai_support")


def imported(name: str) -> object:
    """Return the object that "module:name" stands for.

    Raises
    ------
    ValueError
        The module cannot be imported, or has nothing of that name.
    """
    module, _, attribute = name.partition(":")
    try:
        return attrgetter(attribute)(import_module(module))
    except ImportError as error:
        raise ValueError(
            f"{name!r} cannot be imported ({error}). Expected 'module:name'; is the module installed, or in a folder of"
            " PYTHONPATH, on every machine that computes?"
        ) from error
    except (AttributeError, ValueError) as error:  # a ValueError where the module's name is empty
        raise ValueError(f"{name!r} names nothing ({error}). Expected 'module:name', such as 'my_nets:Net'.") from error


def reference(given: object) -> str:
    """Return "module:name" of a class or function; `is_importable` tells whether it leads back."""
    return f"{given.__module__}:{given.__qualname__}" if hasattr(given, "__qualname__") else f":{given!r}"


def is_importable(given: object) -> bool:
    """Tell whether another process gets the same object by its `reference`; not so for a lambda or in a notebook."""
    module, _, name = reference(given).partition(":")
    try:
        return module != "__main__" and attrgetter(name)(sys.modules[module]) is given
    except (KeyError, AttributeError):
        return False


def source_digest(objects: Iterable[object]) -> str:
    """Return a hash of the source of classes and functions and of all in the files that define them.

    Libraries that `VERSIONED` lists are left out. What a file imports from other files of one's own is not followed.

    Raises
    ------
    ValueError
        The source of one of them cannot be had.
    """
    sources = {text for each in objects for text in _sources(each)}
    return hashlib.sha256("\0".join(sorted(sources)).encode()).hexdigest()


def _sources(given: object) -> Iterable[str]:
    if isinstance(given, partial):
        yield repr((given.args, sorted(given.keywords.items())))
        yield from _sources(given.func)
        return
    given = inspect.unwrap(given)
    for part in inspect.getmro(given) if inspect.isclass(given) else [given]:
        module = getattr(part, "__module__", None) or type(part).__module__
        if module.partition(".")[0] not in VERSIONED:
            yield (_file(module) or _text(part)) + _held(part)


def _file(module: str) -> str | None:
    """Return the source file of a module, which holds the helpers too; None for what was typed."""
    path = getattr(sys.modules.get(module), "__file__", None)
    return Path(path).read_text(encoding="utf-8") if path and path.endswith(".py") else None


def _held(part: object) -> str:
    """Return what a function holds besides its source: two closures of one text may differ in it."""
    if not inspect.isfunction(part):
        return ""
    held = part.__defaults__, part.__kwdefaults__, inspect.getclosurevars(part).nonlocals
    return re.sub("0x[0-9a-f]+", "", repr(held))  # an address says nothing


def _text(part: object) -> str:
    """Return the source of what a notebook defines: IPython knows that of functions, not that of classes."""
    functions = [it for it in vars(part).values() if inspect.isfunction(it)] if inspect.isclass(part) else [part]
    try:
        return "".join(map(inspect.getsource, functions))
    except (OSError, TypeError) as error:
        raise ValueError(f"The source of {reference(part)} cannot be read ({error}).") from error
