"""One look at a model and its trials, before anything is explained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

from eegxai_support.model.arithmetic import exact
from eegxai_support.model.devices import is_out_of_memory
from eegxai_support.model.errors import UnsupportedOperation, warn
from eegxai_support.model.inputs import extra_inputs, given, model_input, warn_of_scale
from eegxai_support.model.outputs import output_kind
from eegxai_support.model.seeds import forked
from eegxai_support.model.state import copied, device_of, frozen, unwrapped
from eegxai_support.trials import Trials

APART = 1e-3  # share of the outputs by which a trial's may differ from place to place and in other company
FOLLOW = (
    "A batch size is written into it, or it keeps a state, such as that of an LSTM, from one call to the next. Let both"
    " begin anew with every call and follow the trials: len(x) rows."
)
PRECISIONS = (torch.float32, torch.float64)
NO_GRADIENT = "occlusion, channel_ablation, window_ablation, kernel_shap"


@dataclass(frozen=True, eq=False)
class Look:
    """What a model is, as seen with two of the trials.

    Parameters
    ----------
    model : torch.nn.Module
        A copy in eval mode of what was given, out of its wrappers, that maps (trial, channel, time) and further inputs
        to (trial, output). The model itself where it cannot be copied; hold it with `frozen`.
    x : Tensor, shape (trial, channel, time)
        On the CPU, in the type of the model.
    extra : tuple of Tensor
        The further inputs, a row per trial.
    outputs : Tensor, shape (2, output)
        Of the first two trials; of the only one, and of the same backwards in time.
    kind : {"logits", "probabilities", "log_probabilities"}
        What the outputs are.
    cut : str
        Why the outputs have no derivative with respect to the trials; "" where they have one.
    trials : Trials, optional
        What was given, where it was Trials.
    form : str
        The arguments of `adapted` that bring the model into this form; "" where it has it.
    """

    model: nn.Module
    x: Tensor
    extra: tuple[Tensor, ...]
    outputs: Tensor
    kind: str
    cut: str
    trials: Trials | None
    form: str

    @property
    def n_outputs(self) -> int:
        """Number of outputs for a trial."""
        return self.outputs.shape[1]

    def require_gradient(self, what: str) -> None:
        """Raise `UnsupportedOperation` where the outputs have no derivative."""
        if self.cut:
            raise UnsupportedOperation(
                f"{what} needs the derivative of the outputs with respect to the trials, and {name_of(self.model)} cuts"
                f" it off ({self.cut}). Methods that do without: {NO_GRADIENT}."
            )

    def warn_of_kind(self, what: str) -> None:
        """Warn where outputs are probabilities, whose gradients vanish where the network is sure."""
        if self.kind == "logits":
            return
        last = [name for name, module in self.model.named_modules() if isinstance(module, nn.Softmax | nn.LogSoftmax)]
        remedy = (
            f"model.{last[-1]} = torch.nn.Identity()"
            if last and last[-1]
            else "model = xs.adapted(model, output=lambda p: p.log())"
            if self.kind == "probabilities"
            else "the difference of two classes, target=(a, b), in which the normalisation cancels"
        )
        warn(
            f"{name_of(self.model)} returns {self.kind.replace('_', '-')}. Where it is sure of a trial their gradient"
            f" vanishes, and with two classes {what} gives both the same map but for the sign. Explain what goes into"
            f" the softmax: {remedy}.",
        )


@torch.inference_mode(False)  # where a copy's weights would be good for no gradient
def look(model, x, *, extra=(), name: str = "x") -> Look:
    """Check a model and trials, and find out what the one makes of the other.

    Parameters
    ----------
    model : torch.nn.Module or what wraps one
        See `unwrapped`.
    x : array-like, Trials, mne.Epochs, or a dataset of windows; shape (trial, channel, time)
    extra : tuple of array-like
        Further inputs of the model, each with a row per trial.
    name : str
        What the error messages call the trials.

    Returns
    -------
    Look

    Raises
    ------
    TypeError
        No model, no trials, half precision, or outputs in a container.
    ValueError
        Trials that do not fit the model, a lazy network that has never run, outputs that are not (trial, output), or a
        model that holds one row per trial itself.

    Warns
    -----
    UserWarning
        A trial's output depends on the other trials of its batch, or is another one at every call; the trials are of
        quite another size than those of the training.
    """
    module = unwrapped(model)
    _check_precision(module)
    source = given(x, name)
    x = model_input(module, source, name=name).cpu()
    _check_initialised(module, x)
    warn_of_scale(module, x)
    extra = extra_inputs(module, extra, len(x))
    copy = copied(module)
    two = x[:2] if len(x) > 1 else torch.cat([x, x.flip(2)])
    others = tuple(each[:2] if len(x) > 1 else each[[0, 0]] for each in extra)
    rows = tuple(each.to(device_of(module)) for each in (two, *others))
    with forked(rows[0].device), frozen(copy), exact(copy):
        try:
            outputs, cut, before = _run(copy, rows, own=copy is not module)
        except ValueError as error:
            _check_batch_size(copy, (x, *extra), error)
            raise
        copy, outputs, after = _with_matrix(copy, outputs, own=copy is not module)
        _check_rows(copy, rows, outputs)
    form = ", ".join(filter(None, (before, after)))
    return Look(copy, x, extra, outputs.cpu(), output_kind(outputs), cut, source.trials, form)


def name_of(model: nn.Module) -> str:
    """Return what messages call a model."""
    return type(model).__name__


def _check_precision(model: nn.Module) -> None:
    """Refuse half precision."""
    types = {p.dtype for p in model.parameters() if p.is_floating_point()}
    if other := types - set(PRECISIONS):
        raise TypeError(
            f"{name_of(model)} has weights in {', '.join(sorted(map(str, other)))}; float32 and float64 are supported,"
            " since no receipt survives the rounding of less. Give model.float()."
        )
    if len(types) > 1:
        raise TypeError(
            f"{name_of(model)} has weights in float32 and in float64. Give model.float() or model.double()."
        )


def _check_initialised(model: nn.Module, x: Tensor) -> None:
    """Refuse lazy layers that saw no trial yet: a copy's weights would be drawn, explained and thrown away."""
    lazy = [name for name, parameter in model.named_parameters() if is_lazy(parameter)]
    if lazy:
        raise ValueError(
            f"{name_of(model)} has weights that are not there yet: {', '.join(lazy)}. Load what was trained, or let its"
            f" lazy layers draw theirs before the training: model.eval()(torch.zeros{(1, *x.shape[1:])})."
        )


def _run(model: nn.Module, rows: tuple[Tensor, ...], *, own: bool) -> tuple[object, str, str]:
    """Return what comes back, why it has no derivative, and how `adapted` brings the trials into the model's form.

    Where it does not take (trial, channel, time), the model, a copy, gets an axis of one before the channels.
    """
    try:
        return *_derivable(model, rows), ""
    except Exception as error:
        if is_out_of_memory(error):
            raise
        first = error
    try:
        made, cut = _derivable(model, (rows[0].unsqueeze(1), *rows[1:]))
    except Exception:
        made = cut = None
    # A tuple and the like, or one number for all trials, is let through: `_with_matrix` says what to do about it.
    if made is None or not own or (isinstance(made, Tensor) and made.ndim and len(made) != len(rows[0])):
        shapes = ", ".join(str(tuple(each.shape)) for each in rows)
        what = " and further inputs " if len(rows) > 1 else " "
        raise ValueError(
            f"{name_of(model)} cannot take two trials{what}of shape {shapes} ({type(first).__name__}:"
            f" {_line(first)}), nor with an axis of one before the channels. If it wants another form, give"
            " xs.adapted(model, input=lambda x: ...), which turns (trial, channel, time) into it; what it takes besides"
            " the trials, a row for each, goes to attribute and predict as extra=(rows,)."
        ) from first
    model.register_forward_pre_hook(lambda module, args: (args[0].unsqueeze(1), *args[1:]))
    return made, cut, "input=lambda x: x.unsqueeze(1)"


def _check_batch_size(model: nn.Module, rows: tuple[Tensor, ...], error: ValueError) -> None:
    """Raise another error where the model takes all trials, though not two of them."""
    try:
        _forward(model, tuple(each.to(device_of(model)) for each in rows))
    except Exception:
        return
    raise ValueError(f"{name_of(model)} takes {len(rows[0])} trials but not two. {FOLLOW}") from error


def _forward(model: nn.Module, rows: tuple[Tensor, ...]):
    with torch.no_grad():
        return model(rows[0].clone(), *rows[1:])


def _derivable(model: nn.Module, rows: tuple[Tensor, ...]) -> tuple[object, str]:
    """Return what comes back and why it has no derivative, "" where it has one."""
    leaf = rows[0].detach().clone().requires_grad_()
    try:
        with torch.enable_grad():
            outputs = model(leaf.clone(), *rows[1:])
    except RuntimeError as error:
        return _forward(model, rows), _line(error)
    tensors = [each for each in tree_leaves(outputs) if isinstance(each, Tensor) and each.requires_grad]
    cut = ""
    if not tensors:
        cut = "no_grad, detach or NumPy on the way"
    elif _without_derivative(tensors):
        cut = "an operation without one, as in quantised layers"
    return tree_map_only(Tensor, torch.detach, outputs), cut


def _without_derivative(outputs: list[Tensor]) -> bool:
    """Tell whether an operation has none, which it would say when asked; asking would run the hooks of others."""
    waiting, seen = [output.grad_fn for output in outputs], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if node.name().endswith("NotImplemented"):
            return True
        seen.add(node)
        waiting += [earlier for earlier, _ in node.next_functions]
    return False


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _with_matrix(model: nn.Module, outputs, *, own: bool) -> tuple[nn.Module, Tensor, str]:
    """Return the model with outputs (trial, output), and these; refuse what is not one number per trial and output."""
    name = name_of(model)
    if not isinstance(outputs, Tensor):
        if isinstance(outputs, dict):
            shapes = ", ".join(f"{key!r} {_shape(value)}" for key, value in outputs.items())
            which = f"output[{'logits' if 'logits' in outputs else next(iter(outputs), 'logits')!r}]"
        elif isinstance(outputs, tuple | list):
            shapes, which = ", ".join(map(_shape, outputs)), "output[0]"
        elif isinstance(outputs, np.ndarray):
            shapes, which = str(outputs.shape), "torch.as_tensor(output)"
        else:
            shapes, which = "no tensor", "output.logits" if hasattr(outputs, "logits") else "..."
        raise TypeError(
            f"{name} returns {type(outputs).__name__} ({shapes}) for two trials; expected a tensor (trial, output)."
            f" Choose: model = xs.adapted(model, output=lambda output: {which})."
        )
    if not outputs.ndim or len(outputs) != 2 or not outputs.is_floating_point():
        raise ValueError(
            f"{name} returns {outputs.dtype} of shape {tuple(outputs.shape)} for two trials; expected real numbers"
            " (trial, output). Keep the axis of trials, and explain scores, not decisions."
        )
    if outputs.ndim == 2:
        return model, outputs, ""
    if outputs.ndim > 2 and outputs[0].numel() > outputs.shape[1]:
        longest = 1 + max(range(outputs.ndim - 1), key=outputs.shape[1:].__getitem__)
        time = longest if outputs.ndim == 3 else tuple(range(2, outputs.ndim))
        remedy = (
            "If these are the outputs of a trial: model = xs.adapted(model, output=lambda output: output.flatten(1))."
            " If it is one output at many times, average them: output.flatten(1).mean(1, keepdim=True)."
            if outputs.shape[1] == 1
            else f"Average what it says of crops over time, or choose a time; if axis {time} is time:"
            f" model = xs.adapted(model, output=lambda output: output.mean({time}))."
        )
        raise ValueError(
            f"{name} returns shape {tuple(outputs.shape)} for two trials; expected (trial, output). {remedy}"
        )
    if not own:
        raise ValueError(f"{name} returns shape {tuple(outputs.shape)} for two trials; expected (2, output).")
    # One number per trial, or axes of one behind the outputs: as a matrix they say the same.
    model.register_forward_hook(lambda module, args, made: made.reshape(len(made), -1))
    return model, outputs.reshape(2, -1), "output=lambda output: output.reshape(len(output), -1)"


def _shape(value) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__


def _check_rows(model: nn.Module, rows: tuple[Tensor, ...], outputs: Tensor) -> None:
    """Find out whether a trial's output depends on its place, on its company or on chance."""
    swapped = _forward(model, tuple(each.flip(0) for each in rows)).flip(0)
    try:
        with _HalfPrecision() as half:
            alone = _forward(model, tuple(each[:1] for each in rows))
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ValueError(
            f"{name_of(model)} takes two trials but not one after them ({type(error).__name__}: {_line(error)})."
            f" {FOLLOW}"
        ) from error
    if half.function:
        raise TypeError(
            f"The forward of {name_of(model)} computes in half precision ({half.function}), by autocast or a cast;"
            " float32 and float64 are supported, since no receipt survives the rounding of less. Explain it without:"
            " torch.autocast(..., enabled=False)."
        )
    if alone.shape != outputs[:1].shape:
        raise ValueError(
            f"{name_of(model)} returns shape {tuple(alone.shape)} for one trial and {tuple(outputs.shape)} for two;"
            " expected (trial, output). Keep the axis of trials: squeeze with the number of the axis, squeeze(2)."
        )
    if same(swapped, outputs) and same(alone, outputs[:1]):
        return
    name = name_of(model)
    if not same(_forward(model, rows), outputs):
        warn(
            f"{name} gives the same trial another output at every call, in eval mode too: dropout that does not look at"
            " the mode, noise, or a state that it keeps from one call to the next. Its maps explain one draw; make it"
            " depend on the trial alone.",
        )
    elif same(alone, outputs[:1]) and _second_is_apart(model, rows, outputs):
        raise ValueError(
            f"{name} gives a trial another output at another place in the batch: it holds one row per trial itself,"
            " such as ages or embeddings, and methods put trials in other places. Let its forward take them after the"
            " trials, and give them as extra=(rows,)."
        )
    else:
        warn(
            f"{name} gives the first trial another output when the second one is in the same batch."
            " Its maps depend on `batch_size` and on the other trials; look for statistics over the batch, or a"
            " recurrent or attention layer that takes the trials for time (batch_first=True).",
        )


def _second_is_apart(model: nn.Module, rows: tuple[Tensor, ...], outputs: Tensor) -> bool:
    """Tell whether the second trial's output stays where the first trial is another one."""
    other = torch.stack([rows[0][0].flip(1), rows[0][1]])
    return same(_forward(model, (other, *rows[1:]))[1:], outputs[1:])


class _HalfPrecision(TorchFunctionMode):
    """Note the first function that returns numbers of less than 32 bits."""

    function = ""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if not self.function and isinstance(made, Tensor) and made.dtype in (torch.float16, torch.bfloat16):
            self.function = function.__name__
        return made


def same(a: Tensor, b: Tensor, share: float = APART) -> bool:
    """Tell whether outputs differ by no more than a share of the largest; those that are not finite are alike."""
    size = b[b.isfinite()].abs().max() if b.isfinite().any() else b.new_tensor(0.0)
    return torch.allclose(a, b, rtol=0, atol=share * float(size), equal_nan=True)
