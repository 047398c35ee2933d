"""Explain a plain torch network with nothing but the core dependencies: maps, frequencies, patterns, heads.

A script, run in a fresh environment by `tools/fresh_environment.py`, and in one where the other packages are hidden by
the tests. The network has an answer that is known: it never looks at the last channel, and it is made of a rhythm.
"""

import matplotlib

matplotlib.use("agg")

import mne
import numpy as np
import torch
from torch import nn

import eegxai_support as xs

SFREQ, N_TIMES, RHYTHM = 80, 160, 10.0  # Hz, samples, Hz
CHANNELS = ["C3", "Cz", "C4", "Oz"]
NOT_BY_CHANNEL = {"grad_cam", "window_ablation", "random"}


class Decoder(nn.Module):
    """A bank of temporal filters over the first three channels, and two classes."""

    def __init__(self):
        super().__init__()
        self.filters = nn.Conv1d(len(CHANNELS), 6, kernel_size=17, padding=8)
        self.pool = nn.AvgPool1d(20)
        self.classes = nn.Linear(6 * (N_TIMES // 20), 2)
        nn.init.zeros_(self.filters.weight[:, -1].data)

    def forward(self, x):
        return self.classes(self.pool(torch.relu(self.filters(x))).flatten(1))


def main():
    torch.manual_seed(0)
    draws = np.random.default_rng(0)
    time = np.arange(N_TIMES) / SFREQ
    x = draws.standard_normal((4, len(CHANNELS), N_TIMES)).astype("float32")
    x[:, 0] += 5 * np.sin(2 * np.pi * RHYTHM * time)
    model, target = Decoder().eval(), np.array([0, 1, 0, 1])
    logit = model(torch.as_tensor(x)).detach().numpy()[np.arange(4), target]
    zeros = model(torch.zeros(1, *x.shape[1:])).detach().numpy()[0, target]

    for name, method in xs.METHODS.items():
        result = xs.attribute(model, x, target, name)
        assert result.values.shape == x.shape and np.isfinite(result.values).all() and result.values.any(), name
        if name not in NOT_BY_CHANNEL:
            unseen = abs(result.values[:, -1]).max()
            assert unseen <= 1e-5 * abs(result.values).max(), f"{name}: a channel that is not looked at"
        if method.conserves:
            assert abs(result.delta).max() < 0.01 * abs(logit - zeros).max(), name
    lift = xs.attribute(model, x, target, "deep_lift")
    np.testing.assert_allclose(lift.values.sum((1, 2)), logit - zeros, atol=1e-4)

    relevance = xs.frequency_relevance(lift, x)
    np.testing.assert_allclose(relevance.sum((1, 2)), lift.values.sum((1, 2)), atol=1e-4)
    freqs = np.fft.rfftfreq(N_TIMES, 1 / SFREQ)
    assert freqs[abs(relevance[:, 0]).mean(0)[1:].argmax() + 1] == RHYTHM
    gradients = xs.amplitude_gradients(model, x)
    assert gradients.shape == (2, 4, len(CHANNELS), len(freqs)) and not gradients[:, :, -1].any()

    trials = draws.standard_normal((200, 5)) @ draws.standard_normal((5, 5))
    weights = draws.standard_normal((2, 5))
    np.testing.assert_allclose(xs.haufe_patterns(weights, trials), weights @ np.cov(trials.T), atol=1e-9)

    info = mne.create_info(CHANNELS, SFREQ, "eeg").set_montage("biosemi64")
    figure = xs.viz.plot_channel_topomaps(abs(lift.values).sum(2)[:2], info, ["first", "second"], label="logit")
    figure.canvas.draw()
    print(f"core only: {len(xs.METHODS)} methods, frequencies, patterns and heads")


if __name__ == "__main__":
    main()
