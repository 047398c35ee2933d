"""The stem of EEGNet and its relatives, trained in a fraction of the time.

Such a network begins with temporal filters on every channel, batch norm, and spatial filters over all channels. All
three are linear but for the mean and variance of the batch, so the spatial filters could come first and leave one
signal of many for the temporal ones, if only the statistics were known: those of all filtered channels, which nobody
has computed then. But a filter ``w`` of K samples turns the trials x into values of mean and mean square

    sum_k w_k m_k / n,    m_k  = sum x(t + k),             over trials, channels and t,
    w' A w / n,           A_jk = sum x(t + j) x(t + k),

and m and A depend on the trials alone. Far from the edges of a trial A is its autocovariance, a function of k - j; near
them the window of the filter reaches into the padding, and each pair (j, k) adds up products over a range of its own.
Running sums of the products x(u) x(u + lag) give them all.

The statistics are computed in double precision: a filter that passes only what is weak in the trials, as the high
frequencies of EEG, is a small difference of large numbers in ``w' A w``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from scipy.fft import next_fast_len
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from eegxai_support.model import duplicate, forked, linear_stems, wide

Outputs = Callable[[Tensor, Tensor], Tensor]  # of crops, and of which trials they are


def training_pass(model: nn.Module, windows: Tensor, label: Tensor, *, fast: bool) -> Outputs:
    """Return what computes a model's outputs in training, with its stem computed faster where that is the same.

    Parameters
    ----------
    model : torch.nn.Module
        In train mode.
    windows : Tensor, shape (trial, channel, crop, time)
        What it is trained on, see `crop_view`.
    label : Tensor, shape (trial,)
    fast : bool
        Whether to look for a stem.

    Returns
    -------
    callable
        Takes crops (trial, channel, time) and which trials they are from.
    """
    if fast and _is_same_when_fast(model, windows[:16, :, :1], label[:16]):
        return _fast_pass(model, windows)
    return lambda x, trial: model(x)


def _fast_pass(model: nn.Module, windows: Tensor) -> _FastPass:
    return _FastPass(model, [_FastStem(*stem, windows) for stem in linear_stems(model, windows[:2, :, 0])])


class _FastPass:
    """A model in train mode whose stems are computed with the spatial filters first.

    Their layers stay where they are and keep their parameters. While the model runs, the first layer of a stem computes
    all of it and the other two hand on what they get.
    """

    def __init__(self, model: nn.Module, stems: list[_FastStem]):
        self.model, self.stems = model, stems

    def __call__(self, x: Tensor, trial: Tensor) -> Tensor:
        """Return the outputs for crops (trial, channel, time) of some trials."""
        with ExitStack() as stack:
            for stem in self.stems:
                stack.enter_context(stem.in_place(x, trial))
            return self.model(x)


class _FastStem:
    """Three layers of a model, computed with the spatial filters first.

    Parameters
    ----------
    temporal, norm, spatial : torch.nn.Module
        See `LinearStem`.
    time : {2, 3}
        The axis of time in the input of `temporal`.
    windows : Tensor, shape (trial, channel, crop, time)
        What the model is trained on. The moments of trials without crops are computed once, where they take no more
        memory than the trials.
    """

    def __init__(self, temporal, norm, spatial, time, windows):
        self.temporal, self.norm, self.spatial, self.time = temporal, norm, spatial, time
        self.padding, self.known = _padding(temporal, time), None
        if windows.shape[2] == 1 and 8 * temporal.weight[0].numel() ** 2 <= windows[0].nbytes:
            moments = [self._moments(x) for x in windows[:, :, 0].split(64)]
            self.known = [torch.cat(each) for each in zip(*moments, strict=True)]

    @contextmanager
    def in_place(self, x: Tensor, trial: Tensor) -> Iterator[None]:
        """Let the layers compute so inside the context, for these crops."""
        moments = self._moments(x) if self.known is None else [it[trial.to(it.device)] for it in self.known]
        self.first, self.second = (each.sum(0) for each in moments)
        self.temporal.forward, self.norm.forward, self.spatial.forward = self._forward, _as_it_is, _as_it_is
        try:
            yield
        finally:
            for module in (self.temporal, self.norm, self.spatial):
                del module.forward

    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return lagged_moments(x, self.temporal.kernel_size[self.time - 2], self.padding)

    def _forward(self, x: Tensor) -> Tensor:
        x = x.squeeze(1) if self.time == 3 else x.squeeze(1).mT
        kernel, filters = self.temporal.weight.flatten(1), self.spatial.weight.flatten(1)
        n_places = x.shape[2] + sum(self.padding) - kernel.shape[1] + 1
        scale, shift = self._normalised(kernel, x.shape[0] * x.shape[1] * n_places)
        signals = (filters.expand(len(x), -1, -1) @ x).unflatten(1, (len(kernel), -1))
        made = filtered(signals, scale[:, None] * kernel, self.padding)
        offset = shift[:, None] * filters.sum(1).view(len(kernel), -1)
        if self.spatial.bias is not None:
            offset = offset + self.spatial.bias.view_as(offset)
        return (made + offset[..., None]).flatten(1, 2).unsqueeze(5 - self.time)

    def _normalised(self, kernel: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """Return what batch norm multiplies each temporal filter by and adds to it, and count the batch."""
        norm, kernel_wide = self.norm, wide(kernel)
        mean = kernel_wide @ self.first / n
        variance = torch.einsum("fj,jk,fk->f", kernel_wide, self.second, kernel_wide) / n - mean**2
        with torch.no_grad():
            norm.running_mean.lerp_(mean.to(norm.running_mean), norm.momentum)
            norm.running_var.lerp_((variance * n / (n - 1)).to(norm.running_var), norm.momentum)
            norm.num_batches_tracked += 1
        scale = (variance + norm.eps).rsqrt()
        scale, mean = scale.to(kernel), mean.to(kernel)
        scale = scale if norm.weight is None else scale * norm.weight
        return scale, -mean * scale if norm.bias is None else norm.bias - mean * scale


def _as_it_is(x: Tensor) -> Tensor:
    return x


def _padding(temporal: nn.Conv2d, time: int) -> tuple[int, int]:
    """Return the zeros that a temporal convolution adds before and after a trial."""
    axis = time - 2
    if temporal.padding == "same":
        total = temporal.kernel_size[axis] - 1
        return total // 2, total - total // 2
    return (0, 0) if temporal.padding == "valid" else (temporal.padding[axis],) * 2


def lagged_moments(x: Tensor, length: int, padding: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return what decides over mean and variance of filtered trials: first and second moments of a filter's window.

    Parameters
    ----------
    x : Tensor, shape (trial, channel, time)
    length : int
        Samples of the filter.
    padding : (int, int)
        Zeros before and after each trial.

    Returns
    -------
    first : Tensor, shape (trial, length)
        The sum of the k-th sample of the window over channels and places of the window, in double precision.
    second : Tensor, shape (trial, length, length)
        The same of the product of the j-th and the k-th sample.
    """
    x = pad(x, padding)
    n_edge = length - 1
    head, tail = x[..., :n_edge], x[..., x.shape[2] - n_edge :]
    # Of all pairs of samples a lag apart, the window in its first places does not hold the last as its first two.
    gained = wide(tail.mT @ tail - head.mT @ head)  # where the window moves by one: (trial, from, to)
    all_pairs = wide(_autocorrelation(x, length))
    lag = torch.arange(length, device=gained.device)
    left_out = _diagonals(wide(tail.mT @ tail)).sum(1)
    moved = pad(_diagonals(gained).cumsum(1), (0, 0, 1, 0))
    by_lag = (all_pairs - left_out)[:, None] + moved
    second = by_lag[:, torch.minimum(lag[:, None], lag), (lag[:, None] - lag).abs()]
    total = wide(x[..., : x.shape[2] - n_edge].sum((1, 2)))
    first = total[:, None] + pad(wide(tail.sum(1) - head.sum(1)).cumsum(1), (1, 0))
    return first, second


def _autocorrelation(x: Tensor, n_lags: int) -> Tensor:
    """Return sum x(t) x(t + lag) over channels and all t, shape (trial, lag), by way of the power spectrum."""
    n = next_fast_len(x.shape[2] + n_lags, real=True)
    power = torch.view_as_real(torch.fft.rfft(x, n)).square().sum((1, 3))
    return torch.fft.irfft(power, n)[:, :n_lags]


def _diagonals(x: Tensor) -> Tensor:
    """Return the diagonals of square matrices from the main one on, (matrix, place, lag), and one of zeros."""
    n = x.shape[1]
    return pad(pad(x, (0, n)).flatten(1), (0, n)).view(-1, n, 2 * n + 1)[..., : n + 1]


def filtered(x: Tensor, kernel: Tensor, padding: tuple[int, int]) -> Tensor:
    """Return signals filtered as a convolution layer filters, with one filter for several signals.

    Parameters
    ----------
    x : Tensor, shape (trial, filter, signal, time)
    kernel : Tensor, shape (filter, length)
    padding : (int, int)
        Zeros before and after each signal.

    Returns
    -------
    Tensor, shape (trial, filter, signal, place)

    Notes
    -----
    A convolution with few signals per filter runs at a fraction of the speed of a processor. Here a block of as many
    places as the filter is long is a product of what the filters reach from there, twice their length, with a matrix
    that has the filter in each row, one sample later than in the row before. It computes twice as much, half of it with
    zeros, in a third of the time.
    """
    length = kernel.shape[1]
    n_places = x.shape[3] + sum(padding) - length + 1
    n_blocks = -(-n_places // length)
    x = pad(x, (padding[0], (n_blocks + 1) * length - x.shape[3] - padding[0]))
    reached = x.unfold(3, 2 * length, length).transpose(0, 1)  # (filter, trial, signal, block, 2 length)
    shifted = pad(kernel, (0, length + 1)).repeat(1, length)[:, : 2 * length * length].view(-1, length, 2 * length)
    made = reached.flatten(1, 3) @ shifted.mT
    return made.view(*reached.shape[:3], -1)[..., :n_places].transpose(0, 1)


def _is_same_when_fast(model: nn.Module, windows: Tensor, label: Tensor) -> bool:
    """Tell whether a model has stems, and its outputs, gradients and running statistics are the same either way.

    A trace in eval mode does not see what a network does in training only. Copies are tried, since a step may leave
    anything in a network.
    """
    try:
        plain, copy = duplicate(model), duplicate(model)
    except Exception:  # who cannot be copied is not tried
        return False
    quick = _fast_pass(copy, windows)
    if not quick.stems:
        return False
    right, made = _step(plain, lambda x, trial: plain(x), windows, label), _step(copy, quick, windows, label)
    tolerance = torch.finfo(windows.dtype).eps ** 0.5
    # Among the gradients are some that are zero but for rounding, as of a bias before another batch norm: all together.
    return all(
        torch.allclose(made[kind], right[kind], rtol=tolerance, atol=tolerance * float(right[kind].abs().max()))
        for kind in right
    )


def _step(model: nn.Module, outputs: Outputs, windows: Tensor, label: Tensor) -> dict[str, Tensor]:
    """Return all that a step computes, by its kind."""
    with forked(windows.device):
        output = outputs(windows[:, :, 0], torch.arange(len(windows), device=windows.device))
    cross_entropy(output, label).backward()
    gradients = [torch.zeros_like(it) if it.grad is None else it.grad for it in model.parameters()]
    statistics = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
    made = {"output": [output.detach()], "gradients": gradients, "statistics": statistics}
    return {kind: torch.cat([each.flatten() for each in values]) for kind, values in made.items() if values}
