"""What a file of weights says of the network that they belong to, so that it can be built without its code."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import torch
from torch import nn

from eegxai_support.decoders.models import DeepNet, InterpretableCNN
from eegxai_support.files import to_json
from eegxai_support.model import forked, needed, unwrapped

NETWORK_KEY = "network"  # of a file's header
TYPES_FROM = ("torch.nn.", "braindecode.")  # a header names activations; nothing else is imported on its word
OWN = {
    InterpretableCNN: lambda net: {
        "n_spatial": net.conv_spatial.out_channels,
        "depth": net.conv_temporal.out_channels // net.conv_temporal.in_channels,
        "kernel_length": net.conv_temporal.kernel_size[1],
    },
    DeepNet: lambda net: {
        "n_filters": net.temporal[0].out_channels,
        "kernel_length": net.temporal[0].kernel_size[1],
        "drop_prob": net.hidden[2].p,
    },
}


def describe(model: nn.Module) -> str | None:
    """Return JSON text that a network can be built from again; the random states of the caller stay as they were.

    Parameters
    ----------
    model : torch.nn.Module

    Returns
    -------
    str or None
        Of networks of braindecode, and of this package; None for one of one's own or one that `adapted` changed, and
        where some option is no plain number, text or class, so that what is built from the text would be another
        network.
    """
    model = unwrapped(model)
    if type(model) not in OWN and not type(model).__module__.startswith("braindecode.models."):
        return None
    try:
        if type(model) in OWN:
            sizes = {name: getattr(model, name) for name in ("n_chans", "n_outputs", "n_times")}
            config = sizes | OWN[type(model)](model)
        else:
            config = model.get_config()
        text = to_json({"name": type(model).__name__, "config": config})
        with forked(torch.device("cpu")):
            again = described({NETWORK_KEY: text}, "it")
    except Exception:  # whatever a network says of options that JSON cannot hold
        return None
    return text if _form(again) == _form(model) else None


def _form(model: nn.Module) -> tuple[str, list[int]]:
    """Return what a network consists of, and how many hooks each part has: `adapted` adds one."""
    hooks = [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules()]
    return nn.Module.__repr__(model), hooks


def described(metadata: dict[str, str], path: Path | str) -> nn.Module:
    """Build the network that the header of a file describes, with other weights.

    A header may come from anybody. Of what it names, only networks of braindecode and of this package are built, and
    only classes of torch.nn and braindecode are imported for their options.

    Raises
    ------
    ValueError
        It describes none, or one that cannot be built.
    """
    remedy = "Give --network module:callable, which takes the trials and returns the network."
    if metadata.get(NETWORK_KEY, "null") == "null":  # what `describe` says of a network of one's own
        raise ValueError(f"{path} does not say which network its weights belong to. {remedy}")
    try:
        asked = json.loads(metadata[NETWORK_KEY])
        name, config = asked["name"], asked["config"]
        strange = [value for value in config.values() if isinstance(value, str) and "." in value
                   and not value.startswith(TYPES_FROM)]  # fmt: skip
        if strange:
            raise ValueError(f"{strange[0]!r} is nothing that a header may ask for")
        own = {network.__name__: network for network in OWN}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return own[name](**config) if name in own else _of_braindecode(name).from_config(config)
    except ImportError:
        raise
    except Exception as error:  # what braindecode says of options of another version
        raise ValueError(f"The network that {path} describes cannot be built ({error}). {remedy}") from error


def _of_braindecode(name: str) -> type[nn.Module]:
    with needed("a network of braindecode", extra="decoders"):
        from braindecode.models.util import _init_models_dict, models_dict
    if not models_dict:
        _init_models_dict()
    return models_dict[name]
