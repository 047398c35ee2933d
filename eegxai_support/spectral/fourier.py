"""What every sum over a one-sided spectrum needs."""

from __future__ import annotations

import numpy as np


def bin_weights(n_times: int) -> np.ndarray:
    """Return how many coefficients of the two-sided spectrum each bin of the one-sided one stands for, shape (freq,).

    1 at zero frequency and, for an even number of samples, at the Nyquist frequency; 2 elsewhere.
    """
    weights = np.full(n_times // 2 + 1, 2.0)
    weights[0] = 1
    if n_times % 2 == 0:
        weights[-1] = 1
    return weights
