"""What a network reads in the amplitude spectrum of its input."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from eegxai_support.model import checked_batch_size, device_of, exact, frozen, look, simplify
from eegxai_support.spectral.fourier import bin_weights
from eegxai_support.trials import unknown_name

QUANTITIES = ("amplitude", "power", "phase")


def amplitude_gradients(model: nn.Module, x, *, quantity: str = "amplitude", batch_size: int = 64) -> np.ndarray:
    r"""Return the gradient of every output with respect to every trial's amplitude spectrum.

    With :math:`X = \mathrm{rfft}(x)`, amplitude :math:`A_k = |X_k|`, phase :math:`\varphi_k` and
    :math:`G_k = e^{-i \varphi_k} \, \mathrm{rfft}(\partial f / \partial x)_k`, the gradients [1]_ [2]_ are

    .. math:: \frac{\partial f}{\partial A_k} = \frac{w_k}{T} \, \mathrm{Re}\, G_k, \qquad
        \frac{\partial f}{\partial A_k^2} = \frac{1}{2 A_k} \frac{\partial f}{\partial A_k}, \qquad
        \frac{\partial f}{\partial \varphi_k} = \frac{w_k}{T} A_k \, \mathrm{Im}\, G_k,

    where :math:`w_k` is 1 at zero frequency and, for an even number of samples :math:`T`, at the Nyquist frequency,
    and 2 elsewhere, since there one amplitude stands for a pair of conjugate coefficients. One input gradient and one
    Fourier transform per output suffice, and no trial depends on the others.

    A coefficient that is exactly zero has no phase; it is given phase 0, as `numpy.angle` does, so its gradient is that
    of a cosine. With respect to power it has no derivative there: the result is NaN.

    Parameters
    ----------
    model : torch.nn.Module
        Maps (trial, channel, time) to (trial, output). Explained in eval mode and given back as it was.
    x : ndarray or Tensor, shape (trial, channel, time)
    quantity : {"amplitude", "power", "phase"}
        What the outputs are differentiated by, the other one of amplitude and phase kept.
    batch_size : int
        Trials per forward pass. The result does not depend on it.

    Returns
    -------
    ndarray, shape (output, trial, channel, freq)
        In units of output per unit of `x`, of its square, or per radian; ``freq = time // 2 + 1`` as in
        `numpy.fft.rfft`. float32, or float64 for a float64 model.

    Raises
    ------
    ValueError
        `x` does not fit the model, the model does not return (trial, output), or an unknown quantity.
    UnsupportedOperation
        The outputs have no derivative with respect to the trials.

    References
    ----------
    .. [1] Schirrmeister et al. (2017). Deep learning with convolutional neural networks for EEG decoding and
       visualization. Hum. Brain Mapp. 38(11), 5391-5420.
    .. [2] Hartmann, Schirrmeister & Ball (2018). Hierarchical internal representation of spectral features in deep
       convolutional networks trained for EEG decoding. Int. Conf. Brain-Computer Interface.
    """
    if quantity not in QUANTITIES:
        raise unknown_name("quantity", quantity, QUANTITIES)
    seen = look(model, x)
    seen.require_gradient("amplitude_gradients")
    seen.warn_of_kind("amplitude_gradients")
    model, x = seen.model, seen.x
    with torch.inference_mode(False), torch.enable_grad(), frozen(model), exact(model):
        simplified, device = simplify(model, x), device_of(model)
        batch_size, result = checked_batch_size(batch_size), None
        for first in tqdm(range(0, len(x), batch_size), desc="amplitude_gradients", delay=2, leave=False):
            rows = slice(first, first + batch_size)
            gradients = spectral_gradients(simplified, x[rows].to(device), quantity).cpu().numpy()
            if result is None:
                result = np.empty((len(gradients), len(x), *gradients.shape[2:]), gradients.dtype)
            result[:, rows] = gradients
        return result


def spectral_gradients(respond: Callable[[Tensor], Tensor], x: Tensor, quantity: str) -> Tensor:
    """Return the gradient of every response (trial, output) by a quantity: (output, trial, channel, freq)."""
    spectrum = torch.fft.rfft(x)
    scale = torch.as_tensor(bin_weights(x.shape[-1]) / x.shape[-1]).to(x)
    rotated = torch.fft.rfft(_input_gradients(respond, x)) * (phase_factor(spectrum).conj() * scale)
    if quantity == "phase":
        return rotated.imag * spectrum.abs()
    if quantity == "power":
        return torch.where(spectrum == 0, torch.nan, rotated.real / (2 * spectrum.abs()))
    return rotated.real


def phase_factor(spectrum: Tensor) -> Tensor:
    """Return exp(i phase) of each coefficient, 1 where it is zero."""
    return torch.where(spectrum == 0, 1, spectrum.sgn())


def _input_gradients(respond: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.enable_grad():
        x = x.clone().requires_grad_()
        responses = respond(x.clone())  # a network may change its input in place
        return _gradients(responses.sum(0), x, one_pass=x.is_cuda)


def _gradients(outputs: Tensor, x: Tensor, *, one_pass: bool) -> Tensor:
    # One pass spares a GPU the launches; on a CPU it takes 0.8 to 1.5 times as long and the memory of all outputs.
    if one_pass:
        with suppress(RuntimeError):  # an operation that cannot be batched, or too little memory
            unit = torch.eye(len(outputs)).to(outputs)
            return torch.autograd.grad(outputs, x, unit, retain_graph=True, is_grads_batched=True)[0]
    return torch.stack([torch.autograd.grad(output, x, retain_graph=True)[0] for output in outputs])
