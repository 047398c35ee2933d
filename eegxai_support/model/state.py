"""What a model is: its device, type and sizes; and how to hold it still or copy it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

_lock = threading.Lock()
_held: dict[int, list] = {}  # id -> how many hold it, the module or parameter, what it was before the first did


@contextmanager
def frozen(model: nn.Module) -> Iterator[nn.Module]:
    """Hold a model still while it is explained, and give it back as it was.

    Inside the context every module is in eval mode, no parameter requires or collects a gradient and
    batch-norm statistics do not move. Training flags, ``requires_grad`` and ``.grad`` are restored on
    the way out, also after an exception. Input gradients work as usual.

    Parameters
    ----------
    model : torch.nn.Module

    Notes
    -----
    Two threads may hold one model at a time, or two models that share layers. Each of the flags belongs to a module
    or parameter, so it is these that are counted: the first holder notes what each was, the last one restores it,
    in whatever order they leave.
    """
    modules, parameters = list(model.modules()), list(model.parameters())
    with _lock:
        for thing in (*modules, *parameters):
            _held.setdefault(id(thing), [0, thing, _flags(thing)])[0] += 1
    try:
        model.eval()
        for parameter in parameters:
            parameter.requires_grad_(False)
        yield model
    finally:
        with _lock:
            for thing in (*modules, *parameters):
                entry = _held[id(thing)]
                entry[0] -= 1
                if not entry[0]:
                    _restore(*_held.pop(id(thing))[1:])


def _flags(thing: nn.Module | nn.Parameter):
    return thing.training if isinstance(thing, nn.Module) else (thing.requires_grad, thing.grad)


def _restore(thing: nn.Module | nn.Parameter, flags) -> None:
    if isinstance(thing, nn.Module):
        thing.training = flags
    else:
        thing.requires_grad_(flags[0])
        thing.grad = flags[1]


def copied(model: nn.Module) -> nn.Module:
    """Return a copy in eval mode without parameter gradients; a model that cannot be copied is returned itself."""
    try:
        return copy_of(model)
    except Exception:
        return model


def copy_of(model: nn.Module) -> nn.Module:
    """Return a copy in eval mode without parameter gradients.

    Compiled parts of it run as they were written: what is explained has to be seen function by function. Backward hooks
    are left behind: what another tool forgot on the model would make other gradients of the same function.
    """
    copy = duplicate(model).eval().requires_grad_(False)
    for parent in list(copy.modules()):
        for hooks in ("_backward_hooks", "_backward_pre_hooks"):
            vars(parent).get(hooks, {}).clear()
        for name, child in parent._modules.items():
            parent._modules[name] = getattr(child, "_orig_mod", child)
    return copy


def duplicate(model: nn.Module) -> nn.Module:
    """Return a deep copy, also of a model that keeps what it computed: weights by weight norm, positions, masks."""
    tables = _empty_tables(model)
    try:
        return deepcopy(model, dict(tables))
    except RuntimeError:  # PyTorch copies no tensor that has a history
        # As it stands in a module it is a value to go on with.
        kept = (leaf for module in model.modules() for leaf in tree_leaves(vars(module)) if isinstance(leaf, Tensor))
        return deepcopy(model, tables | {id(it): it.detach().clone() for it in kept if not it.is_leaf})


def _empty_tables(model: nn.Module) -> dict[int, OrderedDict]:
    """Return copies of the tables of hooks and children that are empty: `deepcopy` takes half of its time for them."""
    tables = (each for module in model.modules() for each in vars(module).values() if type(each) is OrderedDict)
    return {id(table): OrderedDict() for table in tables if not table}


def unwrapped(model) -> nn.Module:
    """Take a network out of what people wrap it in.

    Parameters
    ----------
    model : torch.nn.Module, or a fitted classifier of skorch or braindecode, DataParallel or a compiled model
        A Lightning module is a module like any other.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    TypeError
        Something else, with what to pass instead.
    """
    if isinstance(model, nn.parallel.DataParallel | nn.parallel.DistributedDataParallel):
        return unwrapped(model.module)
    if hasattr(model, "_orig_mod"):
        return unwrapped(model._orig_mod)
    if isinstance(model, nn.Module):
        return model
    kind = model.__name__ if isinstance(model, type) else type(model).__name__
    if isinstance(model, type):
        raise TypeError(f"model is the class {kind}; expected a network, an instance of it: {kind}(...).")
    if isinstance(getattr(model, "module_", None), nn.Module):
        return unwrapped(model.module_)
    if hasattr(model, "module") and hasattr(model, "initialize"):
        raise TypeError(f"The {kind} has no network yet. Call its fit, or initialize, first.")
    if hasattr(model, "steps") or hasattr(model, "best_estimator_"):
        raise TypeError(
            f"model is a {kind}, whose earlier steps change the trials. Pass the network in it,"
            " such as pipeline[-1].module_, and the trials as pipeline[:-1].transform(x) gives them."
        )
    if type(model).__module__.startswith("torch.export"):
        raise TypeError("model is an exported program, in which no layer can be seen. Pass the module it was made of.")
    raise TypeError(
        f"model is a {kind}; expected a torch.nn.Module that maps (trial, channel, time) to (trial, output), or an"
        " EEGClassifier. A function becomes one as the forward of a class that derives from torch.nn.Module."
    )


def adapted(model, *, input: Callable | None = None, output: Callable | None = None) -> nn.Module:
    """Return a copy of a model with another form of input or output, its layers under the names they have.

    Parameters
    ----------
    model : torch.nn.Module or what wraps one
    input : callable, optional
        From trials (trial, channel, time) to what the model takes, such as ``lambda x: x.unsqueeze(1)``.
    output : callable, optional
        From what the model returns to outputs (trial, output), such as ``lambda output: output[0]``.

    Returns
    -------
    torch.nn.Module
        It does not share its weights with `model`.
    """
    copy = duplicate(unwrapped(model))
    if input is not None:
        copy.register_forward_pre_hook(lambda module, args: (input(args[0]), *args[1:]))
    if output is not None:
        copy.register_forward_hook(lambda module, args, made: output(made))
    return copy


def is_braindecode(module: nn.Module, *names: str) -> bool:
    """Tell braindecode's layers by name, since importing braindecode takes seconds."""
    return type(module).__name__ in names and type(module).__module__.startswith("braindecode.")


def dtype_of(model: nn.Module) -> torch.dtype:
    """Return the type of a model's real parameters; float32 where it has none."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a model's parameters or buffers; the CPU where it has none."""
    return next(model.parameters(), next(model.buffers(), torch.empty(0))).device


def model_size(model: nn.Module, attribute: str) -> int | None:
    """Size that a braindecode model declares; its properties raise ValueError where it was not given."""
    try:
        return getattr(model, attribute, None)
    except ValueError:
        return None
