"""Random draws that leave no trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int, device: str | torch.device = "cpu") -> Iterator[None]:
    """Draw from one seed on the CPU and on one device, and leave the caller's random states as they were.

    `torch.manual_seed` would seed every GPU of the machine, and `torch.random.fork_rng` without devices would wake them
    all to keep their states; both touch the device that is used, and no other.
    """
    device, seed = torch.device(device), int(seed)  # torch refuses numbers of NumPy
    with forked(device):
        torch.default_generator.manual_seed(seed)
        for drawn_on in _with_generator(device):
            state = torch.Generator(drawn_on).manual_seed(seed).get_state()
            torch.get_device_module(drawn_on).set_rng_state(state, drawn_on)
        yield


@contextmanager
def forked(device: torch.device) -> Iterator[None]:
    """Leave the random states of the CPU and of one device as they were."""
    drawn_on = _with_generator(device)
    # Without devices only the CPU's state is kept, whatever the type; torch 2.11, Colab's, does not take None for it.
    with torch.random.fork_rng(drawn_on, device_type=device.type if drawn_on else "cuda"):
        yield


def _with_generator(device: torch.device) -> list[torch.device]:
    return [] if device.type in ("cpu", "meta") else [device]
