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
    device = torch.device(device)
    drawn_on = [] if device.type in ("cpu", "meta") else [device]
    with torch.random.fork_rng(drawn_on, device_type=device.type if drawn_on else None):
        torch.default_generator.manual_seed(seed)
        for _ in drawn_on:
            with torch.accelerator.device_index(device.index):
                torch.get_device_module(device).manual_seed(seed)
        yield
