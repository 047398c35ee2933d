"""What a network reads in the amplitude spectrum of its input."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from eegxai_support.attribution.core import checked_batch_size
from eegxai_support.attribution.simplify import simplify
from eegxai_support.decoders import device_of, frozen, model_input


def amplitude_gradients(model: nn.Module, x, *, batch_size: int = 64) -> np.ndarray:
    r"""Return the gradient of every output with respect to every trial's amplitude spectrum.

    With :math:`X = \mathrm{rfft}(x)`, amplitude :math:`A_k = |X_k|` and phase :math:`\varphi_k`, the phases are kept,
    and

    .. math:: \frac{\partial f}{\partial A_k}
        = \frac{w_k}{T} \, \mathrm{Re}\left(e^{-i \varphi_k} \, \mathrm{rfft}(\partial f / \partial x)_k\right),

    where :math:`w_k` is 1 at zero frequency and, for an even number of samples :math:`T`, at the Nyquist frequency,
    and 2 elsewhere, since there one amplitude stands for a pair of conjugate coefficients [1]_ [2]_. One input gradient
    and one Fourier transform per output suffice, and no trial depends on the others.

    A coefficient that is exactly zero has no phase; it is given phase 0, as `numpy.angle` does, so its gradient is that
    of a cosine.

    Parameters
    ----------
    model : torch.nn.Module
        Maps (trial, channel, time) to (trial, output). Explained in eval mode and given back as it was.
    x : ndarray or Tensor, shape (trial, channel, time)
    batch_size : int
        Trials per forward pass. The result does not depend on it.

    Returns
    -------
    ndarray, shape (output, trial, channel, freq)
        In units of output per unit of `x`, ``freq = time // 2 + 1`` as in `numpy.fft.rfft`; float32, or float64 for a
        float64 model.

    Raises
    ------
    ValueError
        `x` does not fit the model, or the model does not return (trial, output).

    References
    ----------
    .. [1] Schirrmeister et al. (2017). Deep learning with convolutional neural networks for EEG decoding and
       visualization. Hum. Brain Mapp. 38(11), 5391-5420.
    .. [2] Hartmann, Schirrmeister & Ball (2018). Hierarchical internal representation of spectral features in deep
       convolutional networks trained for EEG decoding. Int. Conf. Brain-Computer Interface.
    """
    x = model_input(model, x)
    with frozen(model), torch.enable_grad():
        simplified = simplify(model, x)
        batches = tqdm(x.split(checked_batch_size(batch_size)), desc="amplitude_gradients", delay=2, leave=False)
        return np.concatenate(
            [_amplitude_gradients(simplified, batch.to(device_of(model))) for batch in batches], axis=1
        )


def _amplitude_gradients(model: nn.Module, x: Tensor) -> np.ndarray:
    x = x.clone().requires_grad_()
    outputs = model(x)
    if outputs.ndim != 2:
        raise ValueError(f"The model returns shape {tuple(outputs.shape)}; expected (trial, output).")
    to_amplitude = _conjugate_phase(x.detach()) * _bin_weights(x)
    gradients = []
    # One output after the other: vmap over the outputs takes as long or longer on a CPU (1.0 to 1.6 times, measured).
    for output in outputs.sum(0):
        (gradient,) = torch.autograd.grad(output, x, retain_graph=True)
        gradients.append((torch.fft.rfft(gradient) * to_amplitude).real)
    return torch.stack(gradients).cpu().numpy()


def _conjugate_phase(x: Tensor) -> Tensor:
    spectrum = torch.fft.rfft(x)
    return torch.where(spectrum == 0, 1, spectrum.sgn().conj())


def _bin_weights(x: Tensor) -> Tensor:
    n_times = x.shape[-1]
    weights = x.new_full((n_times // 2 + 1,), 2 / n_times)
    weights[0] /= 2
    if n_times % 2 == 0:
        weights[-1] /= 2
    return weights
