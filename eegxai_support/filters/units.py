"""Run a network as far as its first units, and see what it computed them with."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np
import torch
from scipy.signal import correlate
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from eegxai_support.model import UnsupportedOperation, device_of, dtype_of, model_size
from eegxai_support.model.fields import PROBE_SCALES


@dataclass(eq=False)
class Units:
    """What a network made of trials in its two first layers.

    Parameters
    ----------
    x : Tensor, shape (trial, channel, time)
    weights : dict
        Weight that each of the convolutions used.
    first : str or None
        Which of them ran first; None where another module computes both.
    layer : str
        Module that was the last to run, and the innermost: braindecode's CombinedConv computes its two itself.
    output : Tensor, shape (trial, unit, ...)
    """

    x: Tensor
    weights: dict[str, Tensor]
    first: str | None
    layer: str
    output: Tensor


class _Reached(Exception):
    """Both convolutions ran. What follows was perhaps made for trials of another length, and does not matter."""


class _UsedWeights(TorchFunctionMode):
    """Keep the weights of convolutions as they were computed with: max-norm is often applied in a forward pass."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__name__", "") in ("conv1d", "conv2d", "conv3d"):
            self.seen.append(args[1] if len(args) > 1 else kwargs["weight"])
        return function(*args, **(kwargs or {}))


def run_units(model: nn.Module, temporal: str, spatial: str, n_times: int | None) -> Units:
    """Run a network on random trials of the size that it declares, or that its two convolutions may want.

    Parameters
    ----------
    model : torch.nn.Module
        A copy, since forward passes may leave something in it.
    temporal, spatial : str
        Names of two convolutions.
    n_times : int, optional
        Samples of a trial.

    Returns
    -------
    Units
    """
    convolutions = {name: model.get_submodule(name) for name in (temporal, spatial)}
    given = n_times or model_size(model, "n_times")
    n_times, sizes = given or 2 * max(convolutions[temporal].kernel_size), _n_channels(model, *convolutions.values())
    first_error = None
    for n_channels, has_axis in product(sizes, (False, True)):
        noise = np.random.default_rng(0).standard_normal((len(PROBE_SCALES), n_channels, n_times))
        x = torch.as_tensor(noise * PROBE_SCALES[:, None, None]).to(dtype_of(model)).to(device_of(model))
        x.requires_grad_()
        try:
            units = _run(model, convolutions, x.unsqueeze(1) if has_axis else x)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            first_error = first_error or error
            continue
        if units is not None:
            return Units(x, *units)
        raise ValueError(f"Of {temporal!r} and {spatial!r} in {type(model).__name__} one does not run.")
    line = next(iter(str(first_error).splitlines()), "")
    raise ValueError(
        f"{type(model).__name__} does not get as far as {temporal!r} and {spatial!r} with trials of"
        f" {' or '.join(map(str, sizes))} channels and {n_times} samples ({type(first_error).__name__}: {line}), nor"
        " with an axis of one before the channels. Pass the length of its trials,"
        f" {f'if it is not {given},' if given else 'which it does not declare,'} as n_times=."
    ) from first_error


def _n_channels(model: nn.Module, temporal: nn.Module, spatial: nn.Module) -> list[int]:
    """Return how many EEG channels the network may want: what it declares, or what its convolutions take."""
    if declared := model_size(model, "n_chans"):
        return [declared]
    size = prod(spatial.kernel_size)  # 1 where the EEG channels are inputs, not an axis
    return [size] if size > 1 else list(dict.fromkeys((temporal.in_channels, spatial.in_channels)))


def _run(model: nn.Module, convolutions: dict[str, nn.Module], x: Tensor) -> tuple | None:
    """Run the network until both of its convolutions ran; None where they never do."""
    weights, used, handles = {}, _UsedWeights(), []

    def ended(name, output):
        within = [each for each in convolutions if each not in weights and f"{each}.".startswith(f"{name}.")]
        for each in within:
            own = convolutions[each].weight
            weights[each] = used.seen[-1] if each == name and used.seen and used.seen[-1].shape == own.shape else own
        if within and len(weights) == len(convolutions):
            first = None if len(within) == len(convolutions) else next(iter(weights))
            raise _Reached(weights, first, name, output)

    holders = {".".join(name.split(".")[:n]) for name in convolutions for n in range(1, name.count(".") + 2)}
    for name in holders:
        module = model.get_submodule(name)
        handles.append(module.register_forward_hook(lambda _, __, output, name=name: ended(name, output)))
        if name in convolutions:
            handles.append(module.register_forward_pre_hook(lambda *_: used.seen.clear()))
    try:
        with torch.enable_grad(), used:
            model(x.clone())
    except _Reached as reached:
        return reached.args
    finally:
        for handle in handles:
            handle.remove()


def are_units(units: Units, kernels: np.ndarray, spatial: np.ndarray) -> bool:
    """Tell whether the gradients of the units are the filters."""
    output, (_, n_channels, n_times), n_taps = units.output, units.x.shape, kernels.shape[1]
    if not isinstance(output, Tensor) or output.ndim < 3 or output.shape[1] != len(spatial):
        return False
    if not output.requires_grad:
        raise UnsupportedOperation(
            f"The units of {units.layer!r} have no derivative with respect to the trial, so that their weights cannot"
            " be checked. Leave out no_grad, detach and NumPy before them."
        )
    output = output.flatten(2)
    mix = np.random.default_rng(0).standard_normal(len(spatial)).astype(kernels.dtype)
    total = (output[:, :, output.shape[2] // 2].sum(0) * torch.as_tensor(mix).to(output)).sum()
    gradient = torch.autograd.grad(total, units.x)[0].cpu().numpy()
    expected = np.einsum("u,ukc,kt->ct", mix, spatial, kernels)
    if gradient.shape[1] != len(expected):
        return False
    start = correlate(gradient[0], expected)[n_channels - 1].argmax() - (n_taps - 1)
    padded = np.pad(expected, [(0, 0), (n_times, n_times)])[:, n_times - start : 2 * n_times - start]
    tolerance = np.sqrt(np.finfo(kernels.dtype).eps) * np.abs(expected).max()
    return bool(np.abs(gradient - padded).max() <= tolerance)
