"""Networks by name: every braindecode model, Cui's InterpretableCNN, and DeepNet."""

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


class DeepNet(nn.Module):
    """The network of Sujatha Ravindran & Contreras-Vidal: five temporal convolutions, then one over the channels.

    Parameters
    ----------
    n_chans, n_outputs, n_times : int
        Channels, classes and samples of a trial.
    n_filters : int
        Filters of every convolution, and units of the hidden layer.
    kernel_length : int
        Samples of a temporal filter.
    drop_prob : float
        Dropout before the last layer.

    Notes
    -----
    ReLU throughout and no batch norm [1]_, so every rule of every method is defined on it. Max pooling halves the
    time axis after the first four convolutions.

    References
    ----------
    .. [1] Sujatha Ravindran & Contreras-Vidal (2023). An empirical comparison of deep learning explainability
       approaches for EEG using simulated ground truth. doi:10.1038/s41598-023-43871-8
    """

    def __init__(self, n_chans, n_outputs, n_times, *, n_filters=32, kernel_length=5, drop_prob=0.5):
        super().__init__()
        self.n_chans, self.n_outputs, self.n_times = n_chans, n_outputs, n_times
        temporal = []
        for layer in range(5):
            temporal += [nn.Conv2d(n_filters if layer else 1, n_filters, (1, kernel_length)), nn.ReLU()]
            temporal += [nn.MaxPool2d((1, 2))] if layer < 4 else []
            n_times -= kernel_length - 1
            n_times //= 2 if layer < 4 else 1
        self.temporal = nn.Sequential(*temporal)
        self.spatial = nn.Sequential(nn.Conv2d(n_filters, n_filters, (n_chans, 1)), nn.ReLU(), nn.Flatten())
        self.hidden = nn.Sequential(nn.Linear(n_filters * n_times, n_filters), nn.ReLU(), nn.Dropout(drop_prob))
        self.final_layer = nn.Linear(n_filters, n_outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits (trial, class) of trials (trial, channel, time)."""
        # Filters next to each other in memory: three times faster on a processor, the same function.
        x = x.unsqueeze(1).to(memory_format=torch.channels_last)
        return self.final_layer(self.hidden(self.spatial(self.temporal(x))))


OWN_NETWORKS = {network.__name__: network for network in (InterpretableCNN, DeepNet)}


def build_decoder(name: str, trials: Trials, *, n_times: int | None = None, seed: int = 0, **options) -> nn.Module:
    """Build an untrained network for a set of trials.

    Parameters
    ----------
    name : str
        "InterpretableCNN", "DeepNet" or a braindecode model: "EEGNet", "ShallowFBCSPNet", "Deep4Net", …
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
    if name in OWN_NETWORKS:
        network = OWN_NETWORKS[name]
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
        raise unknown_name("decoder", name, [*models_dict, *OWN_NETWORKS])
    return models_dict[name]
