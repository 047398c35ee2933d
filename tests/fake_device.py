"""An accelerator rehearsed on a CPU.

Inside ``FakeDevice()`` the device "meta" stands for an accelerator: what is moved or made there keeps its memory and is
computed by the CPU's kernels, but refuses what an accelerator refuses: to meet a tensor of the CPU, and

- without `float64`, as on Apple's MPS, double precision;
- with `tf32`, as on NVIDIA GPUs since Ampere, the backward pass of recurrent layers in eval mode while cuDNN is on;
  and it rounds the operands of convolutions and matrix products to 11 bits of significand where torch's settings allow.

What passes here has not run on an accelerator; what fails here fails there.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from unittest.mock import patch

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

DEVICE = torch.device("meta")
DOUBLE = (torch.float64, torch.complex128)
# Their indices, the second argument, may be on the CPU.
INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index"}
# Operations whose first so many arguments TF32 rounds, and the setting that allows it.
CONVOLUTIONS = {"aten::convolution": 2, "aten::convolution_backward": 3}
PRODUCTS = {"aten::mm": 2, "aten::bmm": 2, "aten::addmm": 3, "aten::baddbmm": 3}


class OnDevice(torch.Tensor):
    """A tensor that says it is on `DEVICE` and holds its values on the CPU."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    is_cuda = False

    @staticmethod
    def __new__(cls, inner: torch.Tensor):
        self = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, inner.stride(), inner.storage_offset(), dtype=inner.dtype, device=DEVICE
        )
        self.inner = inner.detach()
        return self

    def __repr__(self):
        return f"OnDevice({self.inner})"

    def tolist(self):
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise RuntimeError(f"{function} outside of FakeDevice()")


class FakeDevice(TorchDispatchMode):
    """A context in which `DEVICE` can be used.

    Parameters
    ----------
    float64 : bool
        The device has double precision.
    tf32 : bool
        The device is a GPU with TF32, says ``is_cuda``, and has cuDNN.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:  # that would import the compiler, which takes seconds
        return False

    def __init__(self, *, float64: bool = True, tf32: bool = False):
        super().__init__()
        self.float64, self.tf32 = float64, tf32

    def __enter__(self):
        self.stack = ExitStack()
        self.stack.enter_context(patch.object(torch, "Generator", Generator))
        for name in ("tensor", "as_tensor"):  # torch makes these without values on "meta"
            self.stack.enter_context(patch.object(torch, name, partial(_tensor, getattr(torch, name))))
        self.stack.enter_context(patch.object(OnDevice, "is_cuda", self.tf32))
        if self.tf32:
            self.stack.callback(register_module_forward_pre_hook(_refuse_recurrent_gradient).remove)
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self.stack.close()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, function._schema.name
        if not _is_on_device(name, args, kwargs):
            return function(*_inner(args), **_on_cpu(kwargs))
        if not self.float64 and "dtype" in kwargs and _is_backward_of("Renorm"):
            kwargs = kwargs | {"dtype": torch.float32}
        if kwargs.get("dtype") in DOUBLE:
            self._refuse_double()
        given = _inner(args)
        result = function(*(_rounded(name, given) if self.tf32 else given), **_on_cpu(kwargs))
        held = self._hold(result)
        copies = name == "aten::_to_copy" or not any(isinstance(each, OnDevice) for each in _tensors(args))
        return held if copies else return_and_correct_aliasing(function, args, kwargs, held)

    def _hold(self, result):
        if isinstance(result, list | tuple):
            return type(result)(map(self._hold, result))
        if not isinstance(result, torch.Tensor):
            return result
        if result.dtype in DOUBLE:
            self._refuse_double()
        return OnDevice(result.resolve_conj().resolve_neg())

    def _refuse_double(self):
        if not self.float64:
            raise TypeError(
                "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64."
            )


def _tensors(arguments) -> Iterator[torch.Tensor]:
    """Return the tensors among the arguments of an operation, also those in lists."""
    for each in arguments:
        if isinstance(each, torch.Tensor):
            yield each
        elif isinstance(each, list | tuple):
            yield from _tensors(each)


def _inner(argument):
    """Return arguments of an operation with what the tensors on the device hold in their place."""
    if isinstance(argument, list | tuple):
        return type(argument)(map(_inner, argument))
    return argument.inner if isinstance(argument, OnDevice) else argument


def _on_cpu(kwargs: dict) -> dict:
    return {name: _inner(value) if name != "device" else value and "cpu" for name, value in kwargs.items()}


def _is_on_device(name: str, args: tuple, kwargs: dict) -> bool:
    """Tell whether an operation runs on the device; refuse a tensor of the CPU beside one of the device.

    A single number may be on the CPU, and so may indices.
    """
    if name == "aten::copy_":
        return isinstance(args[0], OnDevice)
    if name != "aten::_to_copy":
        met = [*_tensors(args[:1] + args[2:] if name in INDEXING else args), *_tensors(kwargs.values())]
        devices = {isinstance(each, OnDevice) for each in met if isinstance(each, OnDevice) or each.ndim}
        if name in INDEXING and not isinstance(args[0], OnDevice):
            devices |= {isinstance(each, OnDevice) for each in _tensors(args[1])}
        if len(devices) == 2:
            raise RuntimeError(f"Expected all tensors to be on the same device, but found at least two ({name}).")
    if kwargs.get("device") is not None:
        return torch.device(kwargs["device"]) == DEVICE
    return any(isinstance(each, OnDevice) for each in [*_tensors(args), *_tensors(kwargs.values())])


def _is_backward_of(operation: str) -> bool:
    """Tell whether torch computes the gradient of an operation just now.

    That of `torch.renorm`, by which braindecode bounds norms, sums in the type that torch accumulates float32 in:
    double on the CPU and on "meta", single on MPS.
    """
    node = torch._C._current_autograd_node()
    return node is not None and node.name().startswith(operation)


def _refuse_recurrent_gradient(module: nn.Module, inputs: tuple) -> None:
    if not isinstance(module, nn.RNNBase) or module.training or not torch.backends.cudnn.enabled:
        return
    met = [each for each in (*_tensors(inputs), *module.parameters()) if isinstance(each, OnDevice)]
    if torch.is_grad_enabled() and any(each.requires_grad for each in met):
        raise RuntimeError("cudnn RNN backward can only be called in training mode")


def _rounded(name: str, args: tuple) -> tuple:
    for operations, setting in ((CONVOLUTIONS, torch.backends.cudnn.conv), (PRODUCTS, torch.backends.cuda.matmul)):
        if name in operations and setting.fp32_precision == "tf32":
            n_operands = operations[name]
            return (*map(to_tf32, args[:n_operands]), *args[n_operands:])
    return args


def to_tf32(x: torch.Tensor) -> torch.Tensor:
    """Return float32 rounded to the 10 bits of mantissa that TF32 keeps, ties away from zero."""
    if x.dtype != torch.float32:
        return x
    return ((x.contiguous().view(torch.int32) + (1 << 12)) & -(1 << 13)).view(torch.float32).view_as(x)


class Generator(torch.Generator):
    """A generator for any device; on the emulated one it draws what the CPU draws."""

    def __new__(cls, device="cpu"):
        return super().__new__(cls, "cpu" if torch.device(device) == DEVICE else device)


def _tensor(make, data, *, dtype=None, device=None, **options) -> torch.Tensor:
    if device is None or torch.device(device) != DEVICE:
        return make(data, dtype=dtype, device=device, **options)
    return make(data, dtype=dtype, **options).to(DEVICE)
