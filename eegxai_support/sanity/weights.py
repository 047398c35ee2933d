"""Random weights in place of the learned ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.utils._pytree import tree_leaves

from eegxai_support.model import device_of, dtype_of, duplicate, exact, frozen, model_size, unwrapped
from eegxai_support.sanity.kept import forget, kept_tensors, warn_of_idle, without_gradient

ORDERS = ("cascading", "independent", "at_once")


def randomize(
    model: nn.Module, seed: int, *, order: str = "cascading", shape: tuple[int, int] | None = None
) -> Iterator[tuple[str, nn.Module]]:
    """Yield copies of a model whose learned weights are replaced by random ones, module by module.

    Every learned tensor of a module is redrawn at once: the original behind a parametrised weight (max-norm, weight
    norm), bare parameters, attention projections, the scale and shift of a normalisation and its running statistics.
    A tensor is drawn from the normal distribution with the mean and standard deviation of its trained values; where
    all of them are the same value, from one with mean 0 and that value as standard deviation, so that zeros stay zero.
    Running variances must stay positive: each filter gets that of another one, if there is one. The singular vectors
    that a spectral norm keeps follow the new weight.

    Parameters
    ----------
    model : torch.nn.Module
        It is not changed.
    seed : int
        A seed gives the same values whatever the order or device, and each tensor the same values at every level.
    order : {"cascading", "independent", "at_once"}
        cascading: from the output to the input, every level keeps what the levels before replaced.
        independent: each level replaces one module of the trained model.
        at_once: the last level of the cascade alone.
    shape : tuple of int, optional
        Channels and samples of a trial; needed where the model does not declare ``n_chans`` and ``n_times``, unless all
        modules are replaced at once and the model keeps nothing but weights.

    Yields
    ------
    name : str
        Qualified name of the module just replaced; "" is the model itself, where it owns parameters or where all of it
        is replaced at once.
    model : torch.nn.Module
        A new copy in eval mode on the same device.

    Raises
    ------
    ValueError
        Unknown order, no size of a trial, or no parameter that requires a gradient.

    Warns
    -----
    UserWarning
        Replacing a weight changes nothing, because the model goes on with what it computed from it before.

    Notes
    -----
    What the model computed from its weights and keeps, such as positions or normalised weights, is taken from the
    copies where the model makes it again.

    Randomisation is that of [1]_, [2]_ except for the distribution. Both reset to initial values, as
    ``reset_parameters`` does: this misses parametrised and bare parameters, takes PyTorch's default where the model has
    its own initialisation, and resets a normalisation to the identity, so that the signal that reaches the
    nonlinearities changes its scale and a map may change for that reason alone. Trained moments destroy what was
    learned by each weight and keep the scale, by one rule for every tensor of every architecture.

    The order is that of a forward pass with a zero input, not of registration; a module that is called twice, and a
    weight that modules share, count where they are called last. Modules that are never called because a parent uses
    their weights (``conv_time`` and ``conv_spat`` of braindecode's ShallowFBCSPNet and Deep4Net, the output projection
    of ``nn.MultiheadAttention``) take the place of that parent, in registration order; those that nothing calls come
    with the model itself, nearest to the input.

    A network of ReLU without normalisation can come out dead, every unit shut; its maps are zero and correlate with
    nothing. Draw several seeds and count those that live.

    Parameters that do not require a gradient are fixed by design (a filter bank) and kept. Call
    ``model.requires_grad_(True)`` first where training froze some, and do not call it inside ``frozen``.

    References
    ----------
    .. [1] Adebayo, J., et al. (2018). Advances in Neural Information Processing Systems, 31.
    .. [2] Sujatha Ravindran, A., & Contreras-Vidal, J. (2023). Scientific Reports, 13, 17709.
    """
    model = unwrapped(model)
    learned, redrawn = learned_by_level(model, order, shape), _redrawn(model, seed)
    return _levels(_without_kept(model, redrawn, shape), learned, redrawn, cascading=order == "cascading")


def learned_by_level(model: nn.Module, order: str, shape: tuple[int, int] | None) -> dict[str, list[str]]:
    """Return the names of the learned tensors that each level of `randomize` replaces first."""
    if order not in ORDERS:
        raise ValueError(f"Unknown order {order!r}; expected one of {ORDERS}.")
    if order == "at_once":
        return {"": [name for names in _learned(model) for name in names]}
    return _learned_by_module(model, shape)


def _levels(
    model: nn.Module, learned: dict[str, list[str]], redrawn: dict[str, Tensor], *, cascading: bool
) -> Iterator[tuple[str, nn.Module]]:
    replaced = []
    for module, tensors in learned.items():
        replaced = [*replaced, *tensors] if cascading else tensors
        yield module, _with_values(model, {name: redrawn[name] for name in replaced})


def _with_values(model: nn.Module, values: dict[str, Tensor]) -> nn.Module:
    copy = duplicate(model).eval()
    state = copy.state_dict()
    for name, value in values.items():
        state[name].copy_(value)
    for module in set(map(_owner, values)):
        _settle(copy.get_submodule(module))
    return copy


def _without_kept(model: nn.Module, redrawn: dict[str, Tensor], shape: tuple[int, int] | None) -> nn.Module:
    """Return a copy without what was computed from the weights, as far as the model makes it again."""
    copy = duplicate(model).eval()
    if not kept_tensors(copy):
        return copy
    shape = _checked_shape(copy, shape)
    noise = _trials_for(copy, torch.randn((2, *shape), generator=torch.Generator().manual_seed(0)))

    def run(network: nn.Module):
        return network(noise.clone())

    with torch.no_grad(), exact(copy):
        left = forget(copy, run)
        if left:
            original, ran, state = duplicate(copy), _last_call(copy, shape), copy.state_dict()
            idle = [
                name
                for name in without_gradient(original, left, run)
                if _owner(name) in ran and not torch.equal(redrawn[name], state[name].cpu())
                if _are_equal(run(_with_values(copy, {name: redrawn[name]})), run(original))
            ]
            if idle:
                warn_of_idle(copy, idle, left)
    return copy


def _are_equal(one, other) -> bool:
    return all(map(torch.equal, tree_leaves(one), tree_leaves(other)))


@torch.no_grad()
def _settle(module: nn.Module) -> None:
    """Let a spectral norm find the singular vectors of its new weight.

    It holds them in buffers that only move in training mode, by a step of a power iteration whenever the weight is
    read. PyTorch takes fifteen steps for a new weight.
    """
    if is_parametrized(module) and any(True for _ in module.parametrizations.buffers()):
        module.parametrizations.train()
        for _ in range(15):
            for name in module.parametrizations:
                getattr(module, name)
        module.parametrizations.eval()


def _learned_by_module(model: nn.Module, shape: tuple[int, int] | None) -> dict[str, list[str]]:
    """Names of the learned tensors of each module that has any, from the output to the input."""
    last_call = _last_call(model, shape)

    def place(module: str) -> int:
        while module not in last_call:
            module = module.rpartition(".")[0]
        return last_call[module]

    learned = defaultdict(list)
    for names in _learned(model):
        name = max(names, key=lambda name: place(_owner(name)))
        learned[_owner(name)].append(name)
    return {module: learned[module] for module in reversed(sorted(learned, key=place))}


def _owner(name: str) -> str:
    """Name of the module that a tensor belongs to."""
    # A parametrised weight lives in a child of its module: "conv.parametrizations.weight.original".
    return name.partition(".parametrizations.")[0] if ".parametrizations." in name else name.rpartition(".")[0]


def _learned(model: nn.Module) -> dict[tuple[str, ...], Tensor]:
    """Parameters that training moves and the running statistics that it leaves behind, each with all its names."""
    names = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.requires_grad:
            names[parameter].append(name)
    if not names:
        raise ValueError(
            "No parameter of the model requires a gradient, so none counts as learned. Call randomize outside frozen,"
            " or model.requires_grad_(True) first."
        )
    for name, buffer in model.named_buffers(remove_duplicate=False):
        if name.rpartition(".")[2] in ("running_mean", "running_var"):
            names[buffer].append(name)
    return {tuple(each): tensor.detach() for tensor, each in names.items()}


def _last_call(model: nn.Module, shape: tuple[int, int] | None) -> dict[str, int]:
    """Position of each called module in a forward pass (that of its last call), under each of its names."""
    model = duplicate(unwrapped(model))
    x = _trials_for(model, torch.zeros((1, *_checked_shape(model, shape))))
    names, calls = defaultdict(list), []
    with ExitStack() as stack, torch.no_grad():
        stack.enter_context(frozen(model))
        for name, module in model.named_modules(remove_duplicate=False):
            if module not in names:
                stack.enter_context(module.register_forward_pre_hook(lambda module, _: calls.append(module)))
            names[module].append(name)
        model(x)
    return {name: position for position, module in enumerate(calls) for name in names[module]}


@torch.no_grad()
def _trials_for(model: nn.Module, x: Tensor) -> Tensor:
    """Return trials as the model takes them: (trial, channel, time), or with an axis of one before the channels."""
    x = x.to(dtype_of(model)).to(device_of(model))
    for given in (x, x.unsqueeze(1)):
        with frozen(model), suppress(Exception):
            duplicate(model)(given.clone())
            return given
    return x  # so that the error is the one of trials


def _checked_shape(model: nn.Module, shape: tuple[int, int] | None) -> tuple[int, int]:
    declared = model_size(model, "n_chans"), model_size(model, "n_times")
    if all(declared):
        return declared
    if shape is None:
        raise ValueError(
            "randomize follows a forward pass, and the model does not declare n_chans and n_times: pass"
            " shape=(n_channels, n_times)."
        )
    return shape


def _redrawn(model: nn.Module, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(int(seed))
    values = {}
    for names, value in _learned(model).items():
        values |= dict.fromkeys(names, _redraw(names[0], value.cpu(), generator))
    return values


def _redraw(name: str, value: Tensor, generator: torch.Generator) -> Tensor:
    if name.rpartition(".")[2] == "running_var":
        ring = torch.randperm(len(value), generator=generator)
        return torch.empty_like(value).index_copy(0, ring, value[ring.roll(1)])  # no filter keeps its own
    mean, std = value.mean(), value.std(correction=0)
    if value.min() == value.max():
        mean, std = torch.zeros_like(mean), mean.abs()
    return mean + std * torch.randn(value.shape, generator=generator, dtype=value.dtype)
