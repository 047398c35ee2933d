"""Networks of a report from files: built from what is known of them, then filled with their weights."""

from __future__ import annotations

import copy
import json
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

from torch import nn

from eegxai_support.decoders import DeepNet, InterpretableCNN
from eegxai_support.decoders.named import imported
from eegxai_support.decoders.weights import fill, read
from eegxai_support.files import to_json
from eegxai_support.model import needed, unwrapped
from eegxai_support.trials import Trials

NETWORK_KEY = "network"  # of a file's header
# Files that run code of whoever wrote them as soon as they are read, or that hold another library's network.
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib")
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


def check_weights_file(path: Path) -> None:
    """Refuse a file of weights by its ending, before anything of it is read.

    Raises
    ------
    FileNotFoundError
        There is none.
    ValueError
        It is not a safetensors file.
    """
    if path.suffix.lower() in PICKLES:
        raise ValueError(
            f"{path} is not read: a {path.suffix} file is a pickle, which can run any code of whoever made it. If it is"
            " yours, write its weights once as safetensors: import torch, safetensors.torch;"
            f" safetensors.torch.save_file(torch.load({path.name!r}, weights_only=True),"
            f" {path.with_suffix('.safetensors').name!r}). Where the file holds more than the weights, such as"
            " Lightning's, take its ['state_dict']."
        )
    if path.suffix.lower() != ".safetensors":
        raise ValueError(
            f"{path} ends with {path.suffix or 'nothing'}; expected weights in a .safetensors file, as xs.save(model,"
            " path) and safetensors.torch.save_file(model.state_dict(), path) write it."
        )
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; expected a .safetensors file.")


def load_network(path: Path, trials: Trials, network: str | Callable | nn.Module | None = None) -> nn.Module:
    """Return the network that a file's weights belong to, filled with them, in eval mode.

    Parameters
    ----------
    path : Path
        A safetensors file.
    trials : Trials
        Handed to `network`.
    network : callable, "module:callable" or torch.nn.Module, optional
        Returns the network, given the trials, or is it. Without, the file's header has to describe it: see `describe`.

    Raises
    ------
    ValueError
        A file or a network that cannot be had, or that do not fit each other.
    TypeError
        `network` returns something else.
    """
    check_weights_file(path)
    weights, metadata = read(path)
    model = described(metadata, path) if network is None else _built(network, trials)
    prefix = next(iter(weights), "").partition(".")[0] + "."
    if all(name.startswith(prefix) for name in weights) and not any(n.startswith(prefix) for n in model.state_dict()):
        raise ValueError(
            f"Every weight of {path} begins with {prefix!r}, which {type(model).__name__} does not know: the"
            f" network was wrapped when they were saved. Save those of what is inside: model.{prefix[:-1]}"
            ".state_dict(), or let --network return it wrapped as it was."
        )
    fill(model, weights, metadata, path)
    return model


def _built(network: str | Callable | nn.Module, trials: Trials) -> nn.Module:
    if isinstance(network, nn.Module):
        return copy.deepcopy(unwrapped(network))  # the caller's keeps its weights
    name = network if isinstance(network, str) else getattr(network, "__name__", repr(network))
    call = f"{name} is called with the trials alone and returns the network: def build(trials): return Net(…)"
    try:
        model = (_imported(network) if isinstance(network, str) else network)(trials)
    except _NothingThere as error:
        raise ValueError(str(error)) from error
    except Exception as error:  # code of somebody else's: it may raise anything
        last = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ValueError(f"{name} fails at {Path(last.filename).name}, line {last.lineno}: {said}. {call}.") from error
    if not isinstance(model, nn.Module):
        raise TypeError(f"{name} returns a {type(model).__name__}; expected a torch.nn.Module. {call}.")
    return unwrapped(model)


class _NothingThere(Exception):
    """A name that leads to nothing, unlike what the code behind it may raise."""


def _imported(network: str) -> Callable:
    if ":" not in network:
        raise _NothingThere(
            f"network is {network!r}; expected 'module:callable', such as my_nets:build, where"
            " my_nets.py has def build(trials): return xs.build_decoder('EEGNet', trials)."
        )
    try:
        return imported(network)
    except ValueError as error:
        raise _NothingThere(str(error)) from error


def describe(model: nn.Module) -> str | None:
    """Return JSON text that a network can be built from again, for ``xs.save(model, path, network=describe(model))``.

    Parameters
    ----------
    model : torch.nn.Module

    Returns
    -------
    str or None
        Of networks of braindecode, and of this package; None for one of one's own, and where some option is no plain
        number, text or class, so that what is built from the text would be another network.
    """
    model = unwrapped(model)
    if type(model) in OWN:
        sizes = {name: getattr(model, name) for name in ("n_chans", "n_outputs", "n_times")}
        config = sizes | OWN[type(model)](model)
    elif type(model).__module__.startswith("braindecode.models."):
        config = model.get_config()
    else:
        return None
    text = to_json({"name": type(model).__name__, "config": config})
    try:
        again = described({NETWORK_KEY: text}, "it")
    except Exception:  # whatever a network says of options that JSON could not hold
        return None
    return text if nn.Module.__repr__(again) == nn.Module.__repr__(model) else None


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
