"""`xs.attribute` against captum 0.9.0 on the same networks and trials, in one process.

    python benchmarks/attribution.py [--threads N]

Trained weights change nothing about the cost: the networks are untrained, their batch norms have seen noise. Each row
runs the two sides in turn, and the median over the rounds of the ratio of their times is compared with the target.
captum gets the batch size that is fastest for it, found before the clock starts; we keep our default. On one thread of
a CPU, the default, processor time is measured, which does not count what else runs on the machine.

The last two shares say how far our side is from what the machine can do. "product": floating-point operations of its
products and convolutions, per second, over those of a large matrix product in the same run. "memory": the bytes that
its operations read and write, per second, over those of a copy of 256 MB; operands that are still in a cache count all
the same, so the share may exceed 1. The larger of the two bounds the row. What a stem folded into spatial filters
leaves of EEGNet is little product and much traffic: ELU, pooling and depthwise convolutions, each a pass over all
features.

The three rows that are farthest from both limits spend their time, by torch's profiler, as follows. EEGNet, integrated
gradients, 64 channels: 43 % of that of torch's operations are depthwise convolutions, the rest passes over features,
none of which has more than 8 %. EEGNet, DeepLIFT: torch's operations are little more than half of the time, the rest is
Python's, of which the rules take more the smaller the tensors are; 27 % of the operations are convolutions. Deep4Net,
DeepLIFT: 45 % are convolutions and their gradients, the rest passes, of which none has more than 6 %. No single one is
left that would pay.

The difference is that of four trials in float64, relative to the largest value. On Deep4Net, where max pooling follows
an activation, captum 0.9.0 gives the activation the wrong gradient; there the maps are compared with captum's after its
tensors have been parted, and the times with captum as it is.

The same table follows for a GPU where there is one. Ends with status 1 when a target is missed or the two sides do not
agree to 1e-5.
"""

import argparse
import math
import statistics
import time
import warnings
from dataclasses import dataclass

warnings.simplefilter("ignore")

import torch  # noqa: E402
from braindecode.models import Deep4Net, EEGNet  # noqa: E402
from captum.attr import DeepLift, FeatureAblation, IntegratedGradients, Saliency  # noqa: E402
from table import end, judge  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402
from torch.utils.flop_counter import flop_registry  # noqa: E402

import eegxai_support as xs  # noqa: E402

SMALL, LARGE = (22, 1000), (64, 480)  # channels and samples: data set 2a of BCI Competition IV, EEGBCI
N_CLASSES, N_STEPS, REPETITIONS, TOLERANCE = 4, 32, 5, 1e-5
BATCH_SIZES = (8, 16, 32, 64, 128)


@dataclass
class Row:
    """One comparison."""

    network: type
    method: str
    size: tuple[int, int]
    n_trials: int
    target: float  # how many times faster we have to be


ROWS = [
    Row(EEGNet, "saliency", SMALL, 128, 5),
    Row(EEGNet, "saliency", LARGE, 128, 8),
    Row(EEGNet, "integrated_gradients", SMALL, 8, 5),
    Row(EEGNet, "integrated_gradients", LARGE, 8, 8),
    Row(EEGNet, "deep_lift", SMALL, 64, 1),
    Row(Deep4Net, "deep_lift", SMALL, 64, 2),
    Row(EEGNet, "channel_ablation", SMALL, 32, 5),
    Row(EEGNet, "channel_ablation", LARGE, 16, 5),
]
# Both sides with the same nodes and weights, and no refinement.
OPTIONS = {"integrated_gradients": {"n_steps": N_STEPS, "path": "linear", "tol": float("inf")}}


def captum(method, model, x, target, batch_size):
    """Return captum's maps; `batch_size` is that of its forward passes."""
    if method == "integrated_gradients":
        options = {"n_steps": N_STEPS, "method": "gausslegendre", "internal_batch_size": batch_size}
        return IntegratedGradients(model).attribute(x, target=target, **options)
    one = {
        "saliency": lambda x: Saliency(model).attribute(x, target=target),
        "deep_lift": lambda x: DeepLift(model).attribute(x, target=target),
        "channel_ablation": lambda x: ablation(model, x, target, batch_size),
    }[method]
    return torch.cat([one(trials.requires_grad_()) for trials in x.split(batch_size)]).detach()


def ablation(model, x, target, batch_size):
    channel = torch.arange(x.shape[1], device=x.device)[None, :, None].expand(1, *x.shape[1:])
    at_once = max(1, batch_size // len(x))
    return FeatureAblation(model).attribute(x, target=target, feature_mask=channel, perturbations_per_eval=at_once)


class Parted(DeepLift):
    """captum's DeepLIFT with a copy after each layer, so that no tensor is an output and an input at once."""

    def _register_hooks(self, module, attribute_to_layer_input=True):
        n_hooks = len(self.forward_handles)
        super()._register_hooks(module, attribute_to_layer_input)
        if len(self.forward_handles) > n_hooks:
            self.forward_handles.append(module.register_forward_hook(lambda *call: call[-1].clone()))


def difference(row, model, x, options):
    """Return the largest difference between the two sides' maps, relative to the largest value."""
    model, x = model.double(), x.double()
    if row.method == "deep_lift":  # with other trials as baselines: at zeros, max pools have ties
        baseline = x.roll(1, 0)
        ours = xs.attribute(model, x.cpu().numpy(), 0, "deep_lift", baseline=baseline.cpu().numpy()).values
        ours, reference = torch.as_tensor(ours), Parted(model).attribute(x.requires_grad_(), baseline, target=0)
    else:
        ours = torch.as_tensor(xs.attribute(model, x.cpu().numpy(), 0, row.method, **options).values)
        reference = captum(row.method, model, x, 0, len(x))
    reference = reference.detach().cpu()
    return float((ours - reference).abs().max() / reference.abs().max())


class Operations(TorchDispatchMode):
    """Count floating-point operations by torch's own formulas, and the bytes of operands and results.

    torch's FlopCounterMode also follows the modules, by hooks that fail where a gradient is taken at a network's input.
    """

    total = traffic = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function._overloadpacket in flop_registry:
            self.total += flop_registry[function._overloadpacket](*args, **(kwargs or {}), out_val=result)
        if not function.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
            self.traffic += sum(stored(tensor) for tensor in tensors)
        return result


def stored(tensor):
    """Return the bytes of a tensor, of an expanded one those that it has in memory."""
    sizes = [size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride]
    return math.prod(sizes) * tensor.element_size()


def network(row, device):
    torch.manual_seed(0)
    n_chans, n_times = row.size
    model = row.network(n_chans=n_chans, n_outputs=N_CLASSES, n_times=n_times)
    with torch.no_grad():
        for _ in range(20):
            model(torch.randn(16, n_chans, n_times))
    return model.eval().requires_grad_(False).to(device)


def seconds(run, device):
    """Return how long a call takes, and what it returns."""
    clock = time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    result = run()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start, result


def matrix_rate(device, size=2048):
    """Return the floating-point operations per second of a large matrix product."""
    a, b = torch.randn(2, size, size, device=device)
    return 2 * size**3 / min(seconds(lambda: a @ b, device)[0] for _ in range(10))


def memory_rate(device, n_bytes=2**28):
    """Return the bytes per second that a large copy reads and writes."""
    a, b = torch.empty(2, n_bytes // 4, device=device)
    b.copy_(a)
    return 2 * n_bytes / min(seconds(lambda: b.copy_(a), device)[0] for _ in range(5))


def compare(row, device, rate, bandwidth):
    """Run the two sides in turn, print the row, and return whether it meets its target."""
    model = network(row, device)
    x = torch.randn(row.n_trials, *row.size, generator=torch.Generator().manual_seed(1))
    on_device, options = x.to(device), OPTIONS.get(row.method, {})

    def ours():
        return xs.attribute(model, x.numpy(), 0, row.method, **options).values

    def theirs(batch_size):
        return captum(row.method, model, on_device, 0, batch_size)

    with Operations() as operations:
        ours()
    theirs(BATCH_SIZES[0])  # the first call pays for set-up
    best = min(BATCH_SIZES, key=lambda batch_size: seconds(lambda: theirs(batch_size), device)[0])
    times = [(seconds(ours, device)[0], seconds(lambda: theirs(best), device)[0]) for _ in range(REPETITIONS)]
    our_time, their_time = (statistics.median(side) for side in zip(*times, strict=True))
    ratio = statistics.median(their / our for our, their in times)
    share, memory = operations.total / our_time / rate, operations.traffic / our_time / bandwidth
    error = difference(row, model, on_device[:4], options)
    met = judge(
        f"{row.network.__name__}, {row.method}" + ", GPU" * (device == "cuda"),
        *zip(*times, strict=True),
        peer="captum",
        size=f"{row.n_trials} × {row.size[0]} × {row.size[1]}",
        target=row.target,
        difference=error,
        tolerance=TOLERANCE,
    )
    print(
        f"{row.network.__name__:10}{row.method:22}{row.n_trials:4} × {row.size[0]} × {row.size[1]:<6}{best:6}"
        f"{their_time * 1e3:11.1f}{our_time * 1e3:10.1f}{ratio:8.1f}{row.target:8}"
        f"{share:9.1%}{memory:8.0%}{error:11.1e}   {'met' if met else 'MISSED'}",
        flush=True,
    )
    return met


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="of the CPU; 1 by default")
    torch.set_num_threads(parser.parse_args().threads)
    met = []
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        rate, bandwidth = matrix_rate(device), memory_rate(device)
        name = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
        rates = f"matrix product {rate / 1e9:.0f} GFLOP/s in float32, copy {bandwidth / 1e9:.1f} GB/s"
        print(f"\n{name}: {rates}; times in ms\n")
        print(
            f"{'network':10}{'method':22}{'trials × shape':18}{'batch':>6}"
            f"{'captum':>11}{'ours':>10}{'ratio':>8}{'target':>8}{'product':>9}{'memory':>8}{'difference':>11}"
        )
        met += [compare(row, device, rate, bandwidth) for row in ROWS]
    end(met)


if __name__ == "__main__":
    main()
