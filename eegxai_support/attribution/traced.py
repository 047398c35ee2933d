"""Functions of each number by itself that a network spells in several calls, put together again."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten
from torch.utils.weak import WeakIdKeyDictionary

from eegxai_support.attribution.families import POINTWISE, depends


class Notes(WeakIdKeyDictionary):
    """What is known of tensors, forgotten when they are overwritten."""

    def __setitem__(self, tensor: Tensor, note) -> None:
        super().__setitem__(tensor, (tensor._version, note))

    def get(self, tensor: Tensor, default=None):
        """Return the note on a tensor that is still what it was."""
        version, note = super().get(tensor, (None, None))
        return note if version == tensor._version else default


class Pointwise(NamedTuple):
    """A tensor as a function of another one, the root, each number of the one number."""

    root: Tensor
    version: int  # of the root
    function: Callable[[Tensor], Tensor]
    first: str = ""  # name of the torch function that was applied to the root


class Traced(Notes):
    """Of each tensor the roots of which it is a function number by number, the nearest first.

    ``x * (x > 0)`` is a rectifier. The comparison by itself has no derivative, so that no rule could handle it, and the
    product by itself would be one of two activations. Both are functions of the same root, and so is what they make.
    """

    def call(self, function: Callable, name: str, in_place: bool, args: tuple, kwargs: dict) -> list[Pointwise]:
        """Return a call as a function of each root that its operands share, or nothing."""
        operands = self.operands((args, kwargs))
        lines = [[Pointwise(each, each._version, lambda z: z), *(self.get(each) or ())] for each in operands]
        if name not in POINTWISE:
            return []

        def of_root(root):
            parts = {
                id(each): next((p.function for p in line if p.root is root), None)
                for each, line in zip(operands, lines, strict=True)
            }
            return None if None in parts.values() else lambda z: _put(function, in_place, args, kwargs, parts, z)

        shared = ((p, of_root(p.root)) for p in lines[0] if p.version == p.root._version)
        return [Pointwise(p.root, p.version, made, p.first or name) for p, made in shared if made is not None]

    def operands(self, tree) -> list[Tensor]:
        """Return the tensors of a call that depend on the input or were made of what does."""
        return [leaf for leaf in tree_leaves(tree) if depends(leaf) or self.knows(leaf)]

    def knows(self, value) -> bool:
        """Whether a value is a tensor that was made of a root."""
        return isinstance(value, Tensor) and self.get(value) is not None


def _put(function: Callable, in_place: bool, args: tuple, kwargs: dict, parts: dict, z: Tensor) -> Tensor:
    """Call a function with its operands as functions of `z`."""
    leaves, structure = tree_flatten((args, kwargs))
    args, kwargs = tree_unflatten([parts[id(leaf)](z) if id(leaf) in parts else leaf for leaf in leaves], structure)
    if not in_place:
        return function(*args, **kwargs)
    args = (args[0].clone(), *args[1:])
    function(*args, **kwargs)
    return args[0]
