"""Where a model runs."""

from __future__ import annotations

import os

import torch


def best_device(device: str | torch.device | None = None) -> torch.device:
    """Return the device to train and explain on.

    Parameters
    ----------
    device : str or torch.device, optional
        Taken as it is; if None, the environment variable ``EEGXAI_DEVICE`` where that is set, else the accelerator
        where there is one (CUDA, or MPS on a Mac), else the CPU.

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        No such device, or one that this machine lacks.
    """
    wanted = device or os.environ.get("EEGXAI_DEVICE")
    if wanted is None:
        return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    try:
        chosen = torch.device(wanted)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"The device {str(wanted)!r} cannot be used here ({str(error).splitlines()[0]}). Name another one as"
            " device=, such as 'cpu', or leave it out, and EEGXAI_DEVICE unset, for the best that there is."
        ) from error
    return chosen


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether an error says that a device has too little memory; Apple's MPS has no class of its own for it."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "out of memory" in str(error)
    )


def free_memory() -> None:
    """Return what torch keeps of an accelerator's memory for later, where there is an accelerator."""
    if torch.accelerator.is_available():
        torch.get_device_module(torch.accelerator.current_accelerator()).empty_cache()
