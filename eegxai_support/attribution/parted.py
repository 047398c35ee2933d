"""A network in two parts: what is linear in the trials, and what comes behind it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from eegxai_support.attribution.families import CUTS, LINEAR, PRODUCTS, depends, function_name, taken_apart
from eegxai_support.model import same


class Parts:
    """A network as ``behind(before(x))`` with an affine `before`.

    The gradient behind is that at the trials but for the transpose of `before`, which is the same everywhere. On the
    line from a baseline to a trial, `before` is therefore needed at its two ends only, and its transpose once for all
    points of the line. The stem of most EEG decoders is linear, and most of their work.

    There are no two modules to be called one after the other: what is before is the first calls of torch functions,
    whoever makes them. `before` runs the network and leaves it after the last of them. `behind` runs the network as
    well, but answers these calls with tensors without memory and the last one with what it was given.

    Parameters
    ----------
    model : callable
    calls : list of (str, Tensor)
        Name of each function before, and a tensor like its result.
    x : Tensor, shape (row, channel, time)
        A tensor like the trials.
    """

    def __init__(self, model: Callable[..., Tensor], calls: list[tuple[str, Tensor]], x: Tensor):
        self.model, self.calls, self.x = model, calls, _without_memory(x, len(x))

    def before(self, x: Tensor, *extra: Tensor) -> Tensor:
        """Return the last tensor that is affine in the trials and on which alone the outputs depend, (trial, ...)."""
        try:
            with torch.enable_grad(), _Calls(x, self.calls):  # a network may take another course without
                self.model(x, *extra)
        except _Left as left:
            return left.made
        raise OtherCourse

    def behind(self, made: Tensor, *extra: Tensor) -> Tensor:
        """Return the outputs of the network, (trial, output), where `before` returned `made`."""
        x = _without_memory(self.x, len(made))
        with torch.enable_grad(), _Calls(x, self.calls, made) as calls:
            outputs = self.model(x, *extra)
        if calls.position < len(self.calls):
            raise OtherCourse
        return outputs


def parted(model: nn.Module, x: Tensor, extra: tuple[Tensor, ...] = ()) -> Parts | None:
    """Part a network, or return None where nothing is linear before all else, or its parts make something else.

    Parameters
    ----------
    model : torch.nn.Module
        In eval mode, without parameter gradients.
    x : Tensor, shape (2, channel, time)
        Trials by which the parts are found and compared with the whole.
    extra : tuple of Tensor
        Further inputs, two rows each.
    """
    try:
        with torch.enable_grad(), _Trace(x.detach().clone().requires_grad_()) as trace:
            model(trace.x, *extra)
        parts = Parts(model, trace.bottleneck(), x)
        return parts if parts.calls and _is_whole(parts, x, extra) else None
    except Exception:  # a forward pass may do anything; as a whole the network is right
        return None


def _is_whole(parts: Parts, x: Tensor, extra: tuple[Tensor, ...]) -> bool:
    """Compare outputs and gradients in other company: the first part of each trial alone, the second of three."""
    rows = torch.tensor([0, 1, 0], device=x.device)
    x, extra = x.detach()[rows].requires_grad_(), tuple(each[rows] for each in extra)
    right = parts.model(x.clone(), *extra)
    alone = zip(x.clone().split(1), *(each.split(1) for each in extra), strict=True)
    made = parts.behind(torch.cat([parts.before(*row) for row in alone]), *extra)
    close = torch.finfo(right.dtype).eps ** 0.5
    gradients = (torch.autograd.grad(each.square().sum(), x)[0] for each in (made, right))
    return same(made.detach(), right.detach(), close) and same(*gradients, close)


class OtherCourse(RuntimeError):
    """The calls of a network are not those that were recorded."""


class _Left(BaseException):
    """Ends a forward pass; no error, which a network might handle."""

    def __init__(self, made: Tensor):
        self.made = made


class _Trace(TorchFunctionMode):
    """A forward pass: its first calls as long as they are affine in the trials, and who uses their results."""

    def __init__(self, x: Tensor):
        super().__init__()
        self.x, self.calls, self.ended = x, [], False
        self.made_by = {id(x): -1}
        self.last_use = {-1: -1}  # of the result of each call; calls after the first part have no number

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        made = function(*args, **kwargs)
        operands = [leaf for leaf in tree_leaves((args, kwargs)) if depends(leaf)]
        if not operands or _tells_no_values(function, made):
            return made
        known = {self.made_by.get(id(operand)) for operand in operands}
        self.ended |= None in known or not self._is_affine(function, args, kwargs, made)
        number = float("inf") if self.ended else len(self.calls)
        self.last_use.update(dict.fromkeys(known, number))
        if not self.ended:
            self.made_by[id(made)], self.last_use[number] = number, number
            self.calls.append((function_name(function)[0], _without_memory(made, len(made))))
            self.alive.append(made)
        return made

    def __enter__(self):
        self.alive = [self.x]  # an id is unique only while its tensor lives
        return super().__enter__()

    def _is_affine(self, function, args, kwargs, made) -> bool:
        name, in_place, args, kwargs = taken_apart(function, args, dict(kwargs))
        moving = [i for i, argument in enumerate(args) if depends(argument)]
        n_moving = len(moving) + sum(map(depends, kwargs.values()))
        affine = name in LINEAR or (n_moving == 1 and (name in PRODUCTS or (name == "div" and moving == [0])))
        training = name == "batch_norm" and (kwargs.get("training") or args[5:6] == (True,))
        one_of_a_kind = isinstance(made, Tensor) and depends(made) and made.dtype == self.x.dtype
        return affine and not (in_place or training) and one_of_a_kind and made.shape[:1] == self.x.shape[:1]

    def bottleneck(self) -> list[tuple[str, Tensor]]:
        """Return the first calls up to the last one through whose result alone the trials act on the rest."""
        for last in range(len(self.calls) - 1, -1, -1):
            if all(self.last_use[earlier] <= last for earlier in range(-1, last)):
                return self.calls[: last + 1]
        return []


class _Calls(TorchFunctionMode):
    """A forward pass that ends with the last of some calls, or that gets the results of these calls from elsewhere."""

    def __init__(self, x: Tensor, calls: list[tuple[str, Tensor]], given: Tensor | None = None):
        super().__init__()
        self.calls, self.given, self.position = calls, given, 0
        self.known, self.alive = {id(x)}, [x]

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self.position == len(self.calls) or not any(id(leaf) in self.known for leaf in tree_leaves((args, kwargs))):
            return function(*args, **kwargs)
        name, like = self.calls[self.position]
        if name != function_name(function)[0]:
            made = function(*args, **kwargs)
            if not _tells_no_values(function, made):
                raise OtherCourse
            return made
        self.position += 1
        last = self.position == len(self.calls)
        if self.given is None:
            made = function(*args, **kwargs)
            if last:
                raise _Left(made)
        else:
            made = self.given if last else _without_memory(like, len(self.given))
        self.known.add(id(made))
        self.alive.append(made)
        return made


def _without_memory(like: Tensor, n_rows: int) -> Tensor:
    """Return a tensor of the form of another one, with another number of rows."""
    return like.new_empty(()).expand(n_rows, *like.shape[1:])


def _tells_no_values(function: Callable, made) -> bool:
    """Whether a call tells of a tensor no more than its form."""
    return function_name(function)[0] not in CUTS and not any(isinstance(leaf, Tensor) for leaf in tree_leaves(made))
