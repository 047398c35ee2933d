"""Networks of a report from files: built from what is known of them, then filled with their weights."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable
from pathlib import Path

from torch import nn

from eegxai_support.decoders.descriptions import described
from eegxai_support.decoders.named import imported
from eegxai_support.decoders.weights import fill, read
from eegxai_support.model import unwrapped
from eegxai_support.trials import Trials

# Files that run code of whoever wrote them as soon as they are read, or that hold another library's network.
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib")


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
        Returns the network, given the trials, or is it. Without, the file's header has to describe it: see `save`.

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
