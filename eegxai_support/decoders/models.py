"""Networks: every braindecode model, Cui's InterpretableCNN, DeepNet, and those of one's own."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable

import torch
from torch import nn

from eegxai_support.decoders.named import imported
from eegxai_support.model import dtype_of, needed, seeded
from eegxai_support.trials import Trials, unknown_name

# Measured on left-out runs of EEGBCI at 80 Hz (chapter 02). The faster batch-norm momentum matters: with EEGNet's own
# 0.01 the running statistics lag behind 60 short epochs.
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
RECIPE_SFREQ = 80.0
IN_SAMPLES = ("kernel_length", "filter_time_length", "pool_time_length", "pool_time_stride")
HALF_A_SECOND = {"InterpretableCNN": {"kernel_length": 40}}  # as in its paper, at the rate of the recipes


def recipe(name: str, sfreq: float) -> dict:
    """Return the options of `build_decoder` that the book uses, with kernels and pools as long in seconds.

    Parameters
    ----------
    name : str
        "EEGNet" (kernels of 0.4 s), "ShallowFBCSPNet" (0.16 s, pools of 0.5 s) or "InterpretableCNN" (0.5 s).
    sfreq : float
        Sampling rate of the trials in Hz.

    Returns
    -------
    dict
        Lengths in samples; at 80 Hz those of `RECIPES`. Empty for any other network.

    Examples
    --------
    >>> recipe("EEGNet", 250)
    {'kernel_length': 100, 'drop_prob': 0.25, 'batch_norm_momentum': 0.1}
    """
    options = (RECIPES | HALF_A_SECOND).get(name, {})
    faster = sfreq / RECIPE_SFREQ
    return {key: max(1, round(it * faster)) if key in IN_SAMPLES else it for key, it in options.items()}


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


# What `build_decoder` can tell a network, by the names that braindecode gave these arguments.
ARGUMENTS = ("n_chans", "n_outputs", "n_times", "sfreq", "chs_info")
AMPLE = 1999  # samples; who takes these and not fewer wants longer trials. Prime, so that no patch divides it


def build_decoder(name, trials: Trials, *, n_times: int | None = None, seed: int = 0, **options) -> nn.Module:
    """Build an untrained network for a set of trials.

    Parameters
    ----------
    name : str, class or function
        "InterpretableCNN", "DeepNet" or a braindecode model: "EEGNet", "ShallowFBCSPNet", "Deep4Net", … Or a network
        of your own: a class or function that returns a `torch.nn.Module`, or its name as "module:name". Of ``n_chans``,
        ``n_outputs``, ``n_times``, ``sfreq`` and ``chs_info`` (MNE's list of channels) it is given those that it takes.
    trials : Trials
        Gives channels, classes and sampling rate.
    n_times : int, optional
        Samples that the network takes, when it is to be trained on crops of the trials.
    seed : int
        Seed of the initial weights; the caller's random state is left alone.
    **options
        Passed to the network; `recipe` has the book's settings.

    Returns
    -------
    torch.nn.Module
        Maps (trial, channel, time) to logits (trial, class).

    Raises
    ------
    ValueError
        Unknown name, trials without classes, a network that cannot be built for them, or one that returns anything but
        a logit per class.
    TypeError
        What is given returns no `torch.nn.Module`, or the network takes none of these arguments or options.
    ModuleNotFoundError
        A model of braindecode, which is not installed.
    """
    trials.require_classes("build_decoder")
    n_times = n_times or trials.signal.shape[2]
    if n_times > trials.signal.shape[2]:
        raise ValueError(f"n_times is {n_times} but the trials have only {trials.signal.shape[2]} samples.")
    network, title = _network(name)
    n_chans = trials.signal.shape[1]
    sizes = dict(zip(ARGUMENTS, (n_chans, trials.n_classes, n_times, trials.sfreq, trials.info["chs"]), strict=True))
    try:
        model, output = _built(network, title, sizes, options, seed)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        if _wants_longer_trials(network, title, sizes, options, seed, error):
            raise ValueError(
                f"{title} cannot take {n_times} samples of {n_chans} channels with these options ({reason})."
                " Use longer trials, or shorter kernels and pools."
            ) from error
        rate = f"{n_chans} channels and {n_times} samples at {trials.sfreq:g} Hz"
        raise ValueError(f"{title} cannot be built for {rate} with these options: {reason}.") from error
    shape = getattr(output, "shape", type(output).__name__)
    if shape != (1, trials.n_classes):
        given = tuple(shape) if isinstance(output, torch.Tensor) else f"a {shape}"
        raise ValueError(f"{title} returns {given} for one trial; expected (1, {trials.n_classes}), a logit per class.")
    return model


def _built(network: Callable, title: str, sizes: dict, options: dict, seed: int) -> tuple[nn.Module, object]:
    """Return a network in eval mode and what it makes of zeros."""
    arguments = _taken(network, title, sizes, options)
    with seeded(seed, torch.get_default_device()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = network(**arguments)
        if not isinstance(model, nn.Module):
            raise TypeError(f"{title} returns a {type(model).__name__}; expected a torch.nn.Module.")
        with torch.no_grad():
            return model, model.eval()(torch.zeros(1, sizes["n_chans"], sizes["n_times"], dtype=dtype_of(model)))


def _taken(network: Callable, title: str, sizes: dict, options: dict) -> dict:
    """Return the arguments for a network: those sizes that it has a parameter for, and the options."""
    parameters = inspect.signature(network).parameters
    takes_all = any(it.kind == it.VAR_KEYWORD for it in parameters.values())
    arguments = {name: size for name, size in sizes.items() if takes_all or name in parameters} | options
    try:
        inspect.signature(network).bind(**arguments)
    except TypeError as error:
        raise TypeError(
            f"{title}{inspect.signature(network)}: {error}. It is called with the options and, of"
            f" {', '.join(ARGUMENTS)}, those that it takes, all by name; rename its parameters, or wrap it, as in"
            " lambda n_chans, n_outputs, n_times: Net(n_chans, n_outputs)."
        ) from error
    return arguments


def _wants_longer_trials(network, title, sizes: dict, options: dict, seed: int, error: Exception) -> bool:
    """Tell whether length is what a network lacks, by giving it more: its message may say anything."""
    if isinstance(error, OSError):  # a download
        return False
    try:
        _built(network, title, sizes | {"n_times": max(AMPLE, 2 * sizes["n_times"] + 1)}, options, seed)
    except (RuntimeError, ValueError, TypeError):
        return False
    return True


def _network(given) -> tuple[Callable, str]:
    """Return what builds a network, and what to call it."""
    if isinstance(given, nn.Module):
        raise TypeError(
            f"A {type(given).__name__} is a network already; give `train` and `attribute` this object, and"
            " `build_decoder` its class or a function that makes one."
        )
    if isinstance(given, str):
        network = imported(given) if ":" in given else OWN_NETWORKS.get(given) or _braindecode_model(given)
    else:
        network = given
    title = given if isinstance(given, str) else getattr(given, "__name__", repr(given))
    if not callable(network):
        raise TypeError(
            f"{title} is a {type(network).__name__}; expected a name, a class or function, or 'module:name'."
        )
    return network, title


def _braindecode_model(name: str) -> type[nn.Module]:
    with warnings.catch_warnings(), needed(f"build_decoder({name!r})", extra="decoders"):
        warnings.simplefilter("ignore")  # braindecode 1.8 still asks MNE 1.13 for montages by their old names
        import braindecode.models
        from braindecode.models.util import models_dict
    if not models_dict:
        braindecode.models.util._init_models_dict()
    if name not in models_dict:
        raise unknown_name("decoder", name, [*models_dict, *OWN_NETWORKS])
    return models_dict[name]
