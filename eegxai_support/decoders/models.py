"""Networks by name: every braindecode model, and Cui's InterpretableCNN."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from eegxai_support.trials import Trials, unknown_name

# Measured on left-out runs of EEGBCI at 80 Hz (chapter 02); the kernels span 0.4 s and 0.16 s. The faster batch-norm
# momentum matters: with EEGNet's own 0.01 the running statistics lag behind 60 short epochs.
RECIPES = {
    "EEGNet": {"kernel_length": 32, "drop_prob": 0.25, "batch_norm_momentum": 0.1},
    "ShallowFBCSPNet": {
        "n_filters_time": 20,
        "n_filters_spat": 20,
        "filter_time_length": 13,
        "pool_time_length": 40,
        "pool_time_stride": 8,
    },
}


class InterpretableCNN(nn.Module):
    """Cui's compact network: spatial filters, depthwise temporal filters, mean over time.

    Parameters
    ----------
    n_chans, n_outputs, n_times : int
        Channels, classes and samples of a trial.
    n_spatial : int
        Spatial filters, N1 in the paper.
    depth : int
        Temporal filters per spatial filter, d in the paper.
    kernel_length : int
        Samples of a temporal filter; 64 is half a second at the paper's 128 Hz.

    Notes
    -----
    ReLU comes before batch norm, as in the paper [1]_. Two things differ from its published code: the
    output is the logit, and batch norm keeps running statistics, so that the explanation of a trial
    does not depend on the other trials of the test set.

    References
    ----------
    .. [1] Cui et al. (2022). EEG-based cross-subject driver drowsiness recognition with an
       interpretable convolutional neural network. doi:10.1109/TNNLS.2022.3147208
    """

    def __init__(self, n_chans, n_outputs, n_times, *, n_spatial=16, depth=2, kernel_length=64):
        super().__init__()
        self.n_chans, self.n_outputs, self.n_times = n_chans, n_outputs, n_times
        n_features = n_spatial * depth
        self.conv_spatial = nn.Conv2d(1, n_spatial, (n_chans, 1))
        self.conv_temporal = nn.Conv2d(n_spatial, n_features, (1, kernel_length), groups=n_spatial)
        self.activation = nn.ReLU()
        self.bnorm = nn.BatchNorm2d(n_features)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.final_layer = nn.Linear(n_features, n_outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits (trial, class) of trials (trial, channel, time)."""
        x = self.activation(self.conv_temporal(self.conv_spatial(x.unsqueeze(1))))
        return self.final_layer(self.pool(self.bnorm(x)).flatten(1))


def build_decoder(name: str, trials: Trials, *, n_times: int | None = None, seed: int = 0, **options) -> nn.Module:
    """Build an untrained network for a set of trials.

    Parameters
    ----------
    name : str
        "InterpretableCNN" or a braindecode model: "EEGNet", "ShallowFBCSPNet", "Deep4Net", …
    trials : Trials
        Gives channels, classes and sampling rate.
    n_times : int, optional
        Samples that the network takes, when it is to be trained on crops of the trials.
    seed : int
        Seed of the initial weights; the caller's random state is left alone.
    **options
        Passed to the network; `RECIPES` holds the book's settings at 80 Hz.

    Returns
    -------
    torch.nn.Module
        Maps (trial, channel, time) to logits (trial, class).

    Raises
    ------
    ValueError
        Unknown name, or a number of samples that the network cannot take.
    """
    n_times = n_times or trials.signal.shape[2]
    if n_times > trials.signal.shape[2]:
        raise ValueError(f"n_times is {n_times} but the trials have only {trials.signal.shape[2]} samples.")
    sizes = {"n_chans": trials.signal.shape[1], "n_outputs": trials.n_classes, "n_times": n_times}
    if name == "InterpretableCNN":
        network = InterpretableCNN
    else:
        network = _braindecode_model(name)
        sizes |= {"sfreq": trials.sfreq, "chs_info": trials.info["chs"]}
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        try:
            model = network(**sizes, **options).eval()
            with torch.no_grad():
                output = model(torch.zeros(1, sizes["n_chans"], n_times))
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"{name} cannot take {n_times} samples of {sizes['n_chans']} channels with these options ({reason})."
                " Use longer trials, or shorter kernels and pools."
            ) from error
    if output.shape != (1, trials.n_classes):
        raise ValueError(
            f"{name} returns {tuple(output.shape)} for one trial; expected (1, {trials.n_classes}), a logit per class."
        )
    return model


def _braindecode_model(name: str) -> type[nn.Module]:
    with warnings.catch_warnings():  # braindecode 1.8 still asks MNE 1.13 for montages by their old names
        warnings.simplefilter("ignore")
        import braindecode.models
        from braindecode.models.util import models_dict
    if not models_dict:
        braindecode.models.util._init_models_dict()
    if name not in models_dict:
        raise unknown_name("decoder", name, [*models_dict, "InterpretableCNN"])
    return models_dict[name]
