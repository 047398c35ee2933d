"""How a model computes while it is explained: in single precision as IEEE 754 has it, with sums in double precision."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from eegxai_support.model.state import device_of


@contextmanager
def exact(model: nn.Module | None = None) -> Iterator[None]:
    """Compute in IEEE float32 inside the context, whatever the device and the settings of the process.

    A receipt adds up what float32 rounds to 24 bits. Three settings make a convolution or a matrix product round its
    operands to 11 or 8 bits instead, and each misses the receipt by more than a method should: TF32, which torch allows
    convolutions on NVIDIA GPUs by default; ``torch.set_float32_matmul_precision``, which acts on CPUs as well; and
    ``torch.autocast`` around the call. All are off inside.

    cuDNN is off where `model` has recurrent layers and gradients are enabled as the context is entered, since it
    refuses their backward pass in eval mode.

    Parameters
    ----------
    model : torch.nn.Module, optional

    Notes
    -----
    Except for autocast the settings are those of the process. The first of several threads to enter changes them and
    the last to leave restores them, also after an exception; other work of the process is slower meanwhile.
    """
    with ExitStack() as stack:
        stack.enter_context(_IEEE())
        if model is not None and torch.is_grad_enabled() and _is_recurrent(model):
            stack.enter_context(_WITHOUT_CUDNN())
        for device in {"cpu"} if model is None else {"cpu", device_of(model).type}:
            if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


def wide(x: Tensor) -> Tensor:
    """Return a tensor in double precision, on the CPU: not every accelerator has it."""
    return x.cpu().double()


def _is_recurrent(model: nn.Module) -> bool:
    return any(isinstance(module, nn.RNNBase) for module in model.modules())


class _Shared:
    """Changed settings of the process, for as long as at least one thread needs them.

    Parameters
    ----------
    change : callable
        Returns a context manager that changes the settings and restores them.
    """

    def __init__(self, change: Callable[[], AbstractContextManager]):
        self.change, self.changed = change, ExitStack()
        self.lock, self.n_users = threading.Lock(), 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self.lock:
            if self.n_users == 0:
                self.changed.enter_context(self.change())
            self.n_users += 1
        try:
            yield
        finally:
            with self.lock:
                self.n_users -= 1
                if self.n_users == 0:
                    self.changed.close()


@contextmanager
def _without_cudnn() -> Iterator[None]:
    before = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = before


@contextmanager
def _ieee() -> Iterator[None]:
    """Set the precision of float32 to IEEE's, by both of torch's interfaces, which must agree.

    Since torch 2.9 each operation has a setting of its own, which takes that of its library and of all libraries where
    it has none. They are set from the outside in, and only where the outer one was not enough, so that what had no
    value of its own has none afterwards. The flags that torch had before stay beside them, and reading one that
    contradicts the settings raises; a network may well read it (``torch.backends.cudnn.flags`` does).
    """
    flags, settings = _flags(), _settings()
    before = [setting.fp32_precision for setting in settings]
    try:
        for write, _, ieee in flags:
            write(ieee)
        _set(settings, ["ieee"] * len(settings))
        yield
    finally:
        for write, value, _ in flags:
            write(value)
        _set(settings, before)


def _flags() -> list[tuple[Callable, object, object]]:
    """Return torch's older flags that allow rounding: what sets each, its value, and the one that allows none."""
    flags = []
    for read, write, ieee in (
        (lambda: torch.backends.cudnn.allow_tf32, partial(setattr, torch.backends.cudnn, "allow_tf32"), False),
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"),
    ):
        try:
            value = read()
        except RuntimeError:  # it contradicts the settings, which then count alone
            continue
        if value != ieee:
            flags.append((write, value, ieee))
    return flags


def _settings() -> list:
    """Return what has an ``fp32_precision``, the outer ones first; nothing before torch 2.9."""
    backends = torch.backends
    if not hasattr(backends, "fp32_precision"):
        return []
    operations = [backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul]
    operations += [getattr(backends.mkldnn, name) for name in ("conv", "rnn", "matmul")]
    return [backends, backends.cudnn, *operations]


def _set(settings: list, precisions: list[str]) -> None:
    for setting, precision in zip(settings, precisions, strict=True):
        if setting.fp32_precision != precision:
            setting.fp32_precision = precision


_IEEE, _WITHOUT_CUDNN = _Shared(_ieee), _Shared(_without_cudnn)
