"""Braindecode's interpretability tutorial, computed by braindecode 1.8.1 and by eegxai, side by side.

Same trained ShallowFBCSPNet, same data (22 × 1125 samples, 288 training trials, 8 explained, 4 classes): amplitude
gradients, Haufe patterns, three maps per trial, label randomisation, cascading weight randomisation, the twelve metrics
and four SSIM. Each side runs in a process of its own; imports and loading are not counted.

    python benchmarks/tutorial.py

Ends with status 1 when we take more than a third of the processor time or of the memory, or a figure disagrees where
braindecode's is right. The targets are judged twice: at the same 32 nodes of integrated gradients on both sides, and
with our default, which refines each trial. The maps of the default, of the trained network, of other labels and of
each level of the cascade, are compared with those of 512 nodes, spread evenly and as t⁴: none may differ by more than
2 % in L1, which a small delta alone does not promise. braindecode is given eval mode, which its tutorial forgets.
"""

# The parent imports nothing heavy: on Linux a child's peak memory starts at the size of its parent.
import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

from table import end, judge

CHANNELS = "Fz FC3 FC1 FCz FC2 FC4 C5 C3 C1 Cz C2 C4 C6 CP3 CP1 CPz CP2 CP4 P1 Pz P2 POz".split()
N_TIMES, N_CLASSES, N_TRAIN, N_EXPLAINED, BATCH_SIZE, N_STEPS = 1125, 4, 288, 8, 64, 32
TARGET, DISTANCE = 1 / 3, 0.02
METHODS = ("saliency", "integrated_gradients", "deep_lift")
SIDES = {"braindecode": "braindecode 1.8.1", "ours": "eegxai, same 32 nodes", "refined": "eegxai, IG refined by trial"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mode", nargs="?", choices=["prepare", *SIDES, "agreement", "distance", "defects"])
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    if arguments.mode is None:
        end(run_all())
    warnings.simplefilter("ignore")
    mode = globals().get(arguments.mode)
    result = mode(arguments.folder) if mode else measure(arguments.mode, arguments.folder)
    (arguments.folder / f"{arguments.mode}.json").write_text(json.dumps(result))


def run_all():
    """Run and print all; return of time and memory whether they meet their targets."""
    with tempfile.TemporaryDirectory() as folder:

        def run(mode):
            quiet = {**os.environ, "TQDM_DISABLE": "1"}
            subprocess.run([sys.executable, __file__, mode, "--folder", folder], check=True, env=quiet)
            return json.loads((Path(folder) / f"{mode}.json").read_text())

        print(f"ShallowFBCSPNet, accuracy on 32 trials left out: {run('prepare'):.2f}\n")
        cost = {side: run(side) for side in SIDES}
        agreement, distance, defects = run("agreement"), run("distance"), run("defects")
    print(f"{'':32}{'time (s)':>10}{'CPU (s)':>10}{'peak (MB)':>12}{'CPU ratio':>13}{'memory share':>14}")
    reference = cost["braindecode"]
    for side, title in SIDES.items():
        seconds, peak = cost[side]["seconds"], cost[side]["peak"]
        ratio, share = reference["cpu"] / cost[side]["cpu"], peak / reference["peak"]
        print(f"{title:32}{seconds:10.2f}{cost[side]['cpu']:10.2f}{peak:12.0f}{ratio:13.1f}{share:14.2f}")
    print(f"{'target':32}{'':32}{'≥ 3':>13}{'≤ 1/3':>14}")
    for side in SIDES:
        print(
            f"\nprocessor seconds, {SIDES[side]}: " + ", ".join(f"{k} {v:.2f}" for k, v in cost[side]["steps"].items())
        )
    print("\nLargest difference where braindecode is right, relative to the largest value")
    for figure, (difference, tolerance) in agreement.items():
        print(f"  {figure:68}{difference:10.1e}   tolerance {tolerance:.0e}")
    print("\nIntegrated gradients as by default: largest distance of a map from that of 512 nodes, relative, in L1")
    for figure, share in distance.items():
        print(f"  {figure:68}{share:10.1%}   tolerance {DISTANCE:.0%}")
    print(f"\nWhere braindecode is not right{'':36}{'braindecode':>14}{'eegxai':>12}{'right':>8}")
    for what, numbers in defects.items():
        print(f"  {what:62}" + "".join(f"{number:>12}" for number in numbers))
    worst = dict(zip(("difference", "tolerance"), max(agreement.values(), key=lambda it: it[0] / it[1]), strict=True))
    apart = {"difference": max(distance.values()), "tolerance": DISTANCE}
    given = {"peer": "braindecode", "size": f"{N_TRAIN} × {len(CHANNELS)} × {N_TIMES}", "target": 1 / TARGET}
    return [
        judge("time, same nodes", cost["ours"]["cpu"], reference["cpu"], unit="CPU s", **given, **worst),
        judge("time, default", cost["refined"]["cpu"], reference["cpu"], unit="CPU s", **given, **apart),
        judge("peak memory, same nodes", cost["ours"]["peak"], reference["peak"], unit="MB", **given),
        judge("peak memory, default", cost["refined"]["peak"], reference["peak"], unit="MB", **given),
    ]


def prepare(folder):
    """Simulate the trials, train the network, choose the trials to explain."""
    import numpy as np

    from eegxai_support import build_decoder, predict, save, simulate, train

    design = {"frequencies": (8.0, 12.0, 18.0, 26.0), "sfreq": 250.0, "duration": 4.5, "ch_names": tuple(CHANNELS)}
    trials = simulate("spectral", n_trials=N_TRAIN + 32, snr_db=-10, **design)
    trials = trials.standardise(scale=trials.signal.std())
    model = build_decoder("ShallowFBCSPNet", trials)
    train(model, trials.subset(range(N_TRAIN)), epochs=5, device="cpu")
    test = trials.subset(range(N_TRAIN, len(trials)))
    right = predict(model, test.signal).argmax(1) == test.label
    explained = test.subset(np.flatnonzero(right)[:N_EXPLAINED])
    save(model, folder / "model.safetensors")
    np.savez(folder / "trials.npz", train=trials.signal[:N_TRAIN], x=explained.signal, target=explained.label)
    return float(right.mean())


def loaded(folder):
    import numpy as np
    from braindecode.models import ShallowFBCSPNet
    from safetensors.torch import load_file

    model = ShallowFBCSPNet(n_chans=len(CHANNELS), n_outputs=N_CLASSES, n_times=N_TIMES)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    with np.load(folder / "trials.npz") as data:
        return model.eval(), data["train"], data["x"], data["target"]


def measure(side, folder):
    """Run one side's computation; return seconds, seconds per step and peak memory above imports and data."""
    import numpy as np

    steps = {"braindecode": braindecode_steps, "ours": our_steps, "refined": our_steps}[side]
    computation = steps(*loaded(folder), refined=side == "refined")
    before, start, cpu = peak_memory(), time.perf_counter(), time.process_time()
    seconds, figures = {}, {}
    for name, step in computation.items():
        step_start = time.process_time()
        figures |= step(figures)
        seconds[name] = time.process_time() - step_start
    total, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = peak_memory() - before
    np.savez(folder / f"{side}.npz", **figures)
    return {"seconds": total, "cpu": cpu, "peak": peak, "steps": seconds}


def peak_memory():
    """Return the largest memory this process ever held, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def braindecode_steps(model, train, x, target, refined):
    import copy

    import numpy as np
    import torch
    from braindecode import visualization as bd
    from einops import einsum, rearrange

    x, target = torch.as_tensor(x), torch.as_tensor(target)
    dataset = torch.utils.data.TensorDataset(torch.as_tensor(train), torch.zeros(len(train)))
    methods = {
        "saliency": bd.saliency,
        "integrated_gradients": lambda *given: bd.integrated_gradients(*given, steps=N_STEPS),
        "deep_lift": bd.deep_lift,
    }

    def maps(model, target):
        return {name: method(model, x, target).numpy() for name, method in methods.items()}

    def amplitude(figures):
        return {"amplitude": bd.amplitude_gradients_per_trial(model, dataset, batch_size=BATCH_SIZE)}

    def haufe(figures):
        amplitudes = np.abs(np.fft.rfft(np.stack([trial.numpy() for trial, _ in dataset]), axis=-1))
        n_channels, n_freqs = amplitudes.shape[1:]
        covariance = rearrange(
            np.cov(rearrange(amplitudes, "n c f -> (c f) n")),
            "(c f) (d g) -> c f d g", c=n_channels, f=n_freqs, d=n_channels, g=n_freqs,
        )  # fmt: skip
        gradients = figures["amplitude"].mean(1)
        gradients = gradients - gradients.mean(0)
        return {"haufe": einsum(gradients, covariance, "k c f, c f d g -> k d g")}

    def randomised(figures):
        figures = maps(model, bd.random_target(target, N_CLASSES))
        return {f"label {name}": value for name, value in figures.items()}

    def cascade(figures):
        levels = [maps(level, target) for _, level in bd.cascading_layer_reset(model)]
        return {f"cascade {name}": np.stack([level[name] for level in levels]) for name in methods}

    def scores(figures):
        def reset(module):
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()

        random = maps(copy.deepcopy(model).apply(reset), target)
        table = {f"random {name}": value for name, value in random.items()}
        for name in methods:
            given = torch.as_tensor(figures[name]), torch.as_tensor(random[name])
            metrics, ssim = bd.compute_metrics(*given)[0], bd.compute_ssim_metrics(*given)[0]
            table[f"scores {name}"] = np.concatenate([metrics, ssim], 1)
        return table

    return {
        "amplitude gradients": amplitude,
        "Haufe": haufe,
        "three maps": lambda figures: maps(model, target),
        "random labels": randomised,
        "cascade": cascade,
        "scores": scores,
    }


def our_steps(model, train, x, target, refined):
    import numpy as np

    import eegxai_support as xs

    fixed = {} if refined else {"n_steps": N_STEPS, "path": "linear", "tol": np.inf}
    options = {name: fixed if name == "integrated_gradients" else {} for name in METHODS}

    def maps(model, target):
        return {name: xs.attribute(model, x, target, name, **options[name]).values for name in METHODS}

    def amplitude(figures):
        return {"amplitude": xs.amplitude_gradients(model, train, batch_size=BATCH_SIZE)}

    def haufe(figures):
        gradients = figures["amplitude"].mean(1)
        return {"haufe": xs.haufe_patterns(gradients - gradients.mean(0), np.abs(np.fft.rfft(train)))}

    def randomised(figures):
        figures = maps(model, xs.random_target(target, N_CLASSES, seed=0))
        return {f"label {name}": value for name, value in figures.items()}

    def cascade(figures):
        levels = [maps(level, target) for _, level in xs.randomize(model, seed=0)]
        return {f"cascade {name}": np.stack([level[name] for level in levels]) for name in METHODS}

    def scores(figures):
        # The last level of the cascade is the fully randomised network: nothing to compute again.
        pairs = {name: (figures[f"cascade {name}"][-1], figures[name]) for name in METHODS}
        tables = {name: xs.score_maps(*pair, protocol="randomisation", n_null=0) for name, pair in pairs.items()}
        return {f"scores {name}": table.to_numpy(float) for name, table in tables.items()}

    return {
        "amplitude gradients": amplitude,
        "Haufe": haufe,
        "three maps": lambda figures: maps(model, target),
        "random labels": randomised,
        "cascade": cascade,
        "scores": scores,
    }


def agreement(folder):
    """Return (largest relative difference, tolerance) per figure where braindecode's is right."""
    import numpy as np
    from braindecode import visualization as bd

    import eegxai_support as xs

    theirs, ours = np.load(folder / "braindecode.npz"), np.load(folder / "ours.npz")
    amplitudes = np.abs(np.fft.rfft(loaded(folder)[1]))
    in_batch = np.repeat([BATCH_SIZE] * 4 + [N_TRAIN - 4 * BATCH_SIZE], [BATCH_SIZE] * 4 + [N_TRAIN - 4 * BATCH_SIZE])
    weighted = theirs["amplitude"].mean(1)

    def difference(a, b):
        return float(abs(a - b).max() / abs(b).max())

    figures = {
        "amplitude gradients by trial, its 1/batch removed": (
            difference(ours["amplitude"], theirs["amplitude"] * in_batch[:, None, None]),
            1e-4,
        ),
        "Haufe patterns of its gradients, explicit covariance": (
            difference(xs.haufe_patterns(weighted - weighted.mean(0), amplitudes), theirs["haufe"]),
            1e-4,
        ),
        "saliency": (difference(ours["saliency"], theirs["saliency"]), 1e-4),
        "integrated gradients, 32 Gauss-Legendre nodes": (
            difference(ours["integrated_gradients"], theirs["integrated_gradients"]),
            1e-4,
        ),
    }
    for name in METHODS:
        pair = theirs[name].astype(float), theirs[f"random {name}"].astype(float)
        scores = xs.score_maps(*pair, protocol="braindecode", n_null=0)
        peer = np.concatenate([bd.compute_metrics(*pair)[0], bd.compute_ssim_metrics(*pair)[0]], axis=1)
        columns = [column.removesuffix("_vs_refnorm") for column in (*bd.METRIC_NAMES, *bd.SSIM_METRIC_NAMES)]
        figures[f"12 metrics and 4 SSIM of {name}, protocol braindecode"] = (
            np.max([difference(scores[column], right) for column, right in zip(columns, peer.T, strict=True)]),
            1e-9,
        )
    return figures


def distance(folder):
    """Return how far the refined maps are from those of 512 nodes at most, relative, in L1."""
    import numpy as np

    import eegxai_support as xs

    refined = np.load(folder / "refined.npz")
    model, _, x, target = loaded(folder)
    levels = [level for _, level in xs.randomize(model, seed=0)]
    cases = {
        "trained": (refined["integrated_gradients"], model, target),
        "random labels": (refined["label integrated_gradients"], model, xs.random_target(target, N_CLASSES, seed=0)),
        **{
            f"cascade, {number} layers": (maps, level, target)
            for number, (maps, level) in enumerate(zip(refined["cascade integrated_gradients"], levels, strict=True), 1)
        },
    }

    def furthest(maps, model, target):
        shares = []
        for path in ("linear", "power"):
            options = {"n_steps": 512, "path": path, "tol": np.inf}
            fine = xs.attribute(model, x, target, "integrated_gradients", **options).values
            shares.append(abs(maps - fine).sum((1, 2)) / abs(fine).sum((1, 2)))
        return float(np.max(shares))

    return {name: furthest(*case) for name, case in cases.items()}


def defects(folder):
    """Return (braindecode, ours, right value) for what braindecode gets wrong, measured on this network."""
    import numpy as np
    import torch
    from braindecode import visualization as bd
    from braindecode.models import EEGNet
    from braindecode.util import set_random_seeds

    import eegxai_support as xs

    theirs, ours = np.load(folder / "braindecode.npz"), np.load(folder / "ours.npz")
    model, train, x, target = loaded(folder)
    inputs, classes = torch.as_tensor(x), torch.as_tensor(target)

    def correlation(a, b):
        return float(np.mean([np.corrcoef(p.ravel(), q.ravel())[0, 1] for p, q in zip(a, b, strict=True)]))

    def missing(maps):
        change = (xs.predict(model, x) - xs.predict(model, np.zeros_like(x)))[np.arange(len(x)), target]
        return f"{np.median(abs(maps.sum((1, 2)) - change) / abs(change)):.1%}"

    def training_mode():
        model.train()
        try:
            first, second = (bd.deep_lift(model, inputs, classes).numpy() for _ in range(2))
            mine = [xs.attribute(model, x, target, "deep_lift").values for _ in range(2)]
        finally:
            model.eval()
        return f"{correlation(first, second):.3f}", f"{correlation(*mine):.3f}", "1"

    def weight_of_the_remainder():
        norm = np.sqrt(np.divide(*[(each["amplitude"] ** 2).sum((0, 2, 3)) for each in (theirs, ours)]))
        return f"{np.median(norm[4 * BATCH_SIZE :]) / np.median(norm[: 4 * BATCH_SIZE]):.2f}", "1.00", "1"

    def kept(cascade, network):
        trained = network.state_dict()["conv_spatial.parametrizations.weight.original"]
        *_, (_, last) = cascade
        return f"{(last.state_dict()['conv_spatial.parametrizations.weight.original'] == trained).float().mean():.0%}"

    def drawn(draw):
        set_random_seeds(0, cuda=False)
        first = draw()
        set_random_seeds(0, cuda=False)
        return f"{np.mean(np.asarray(first) == np.asarray(draw())):.0%}"

    def gradients_left(explain):
        model.zero_grad()
        explain()
        return str(sum(p.grad is not None for p in model.parameters()))

    eegnet = EEGNet(n_chans=22, n_outputs=N_CLASSES, n_times=N_TIMES)
    many = np.tile(target, 50)
    product = xs.attribute(model, x, target, "input_x_gradient").values
    same = torch.as_tensor(ours["deep_lift"])
    pearson = bd.METRIC_NAMES.index("Pearson_raw_vs_refnorm")
    return {
        "DeepLIFT: missing share of the output's change, median": (
            missing(theirs["deep_lift"]), missing(ours["deep_lift"]), "0%",
        ),
        "DeepLIFT: r with input × gradient (1: it is nothing else)": (
            f"{correlation(theirs['deep_lift'], product):.4f}", f"{correlation(ours['deep_lift'], product):.4f}", "< 1",
        ),
        "IG, 32 nodes: missing share, median (ours: refined by trial)": (
            missing(theirs["integrated_gradients"]),
            missing(np.load(folder / "refined.npz")["integrated_gradients"]), "< 1%",
        ),
        "amplitude gradients: weight of a trial in the last batch": weight_of_the_remainder(),
        "amplitude gradients: parameters left with a gradient": (
            gradients_left(lambda: bd.amplitude_gradients(model, train[:2])),
            gradients_left(lambda: xs.amplitude_gradients(model, train[:2])), "0",
        ),
        "cascade: different models in list(cascade), of 4 or more": (
            str(len({id(level) for _, level in list(bd.cascading_layer_reset(model))})),
            str(len({id(level) for _, level in list(xs.randomize(model, 0))})), "≥ 4",
        ),
        "cascade: EEGNet's spatial weights still trained at the end": (
            kept(bd.cascading_layer_reset(eegnet), eegnet), kept(xs.randomize(eegnet, 0), eegnet), "0%",
        ),
        "model in training mode: r of two DeepLIFT maps": training_mode(),
        "random labels: the same after the same seed": (
            drawn(lambda: bd.random_target(many, N_CLASSES)),
            drawn(lambda: xs.random_target(many, N_CLASSES, 0)), "100%",
        ),
        "metrics: Pearson_raw of identical maps": (
            f"{bd.compute_metrics(same, same)[0][:, pearson].mean():.2f}",
            f"{xs.score_maps(same, same, protocol='randomisation', n_null=0)['Pearson_raw'].mean():.2f}", "1",
        ),
    }  # fmt: skip


if __name__ == "__main__":
    main()
