"""`xs.score_maps` against braindecode 1.8.1 on the same maps, in one process.

    python benchmarks/scoring.py [--threads N]

1,000 pairs of smooth random maps of 62 × 250 in float64, protocol "braindecode", no chance levels. braindecode needs
two calls, `compute_metrics` and `compute_ssim_metrics`, for what one call of ours returns. The two sides run in turn,
and the median over the rounds of the ratio of their times is compared with the target: what else runs on the machine
weighs on both sides of a round alike. The first round, which pays for set-up, is left out.

Ends with status 1 when a target is missed or a score differs by more than 1e-9.
"""

import argparse
import statistics
import time
import warnings

warnings.simplefilter("ignore")

import mne  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from braindecode.visualization.metrics import compute_metrics, compute_ssim_metrics  # noqa: E402
from scipy.ndimage import gaussian_filter  # noqa: E402
from table import end, judge  # noqa: E402

import eegxai_support as xs  # noqa: E402

SHAPE, ROUNDS, TOLERANCE = (1000, 62, 250), 3, 1e-9
TARGETS = {"channel × time": 3, "topographic": 5}


def seconds(run):
    """Return how long a call takes, and what it returns."""
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def compare(mode, maps, reference, info):
    """Run the two sides in turn, print the row, and return whether it meets its target."""

    def ours():
        return xs.score_maps(maps, reference, info, protocol="braindecode", n_null=0).to_numpy()

    def theirs():
        chs_info = info and info["chs"]
        return [score(maps, reference, chs_info)[0] for score in (compute_metrics, compute_ssim_metrics)]

    times, errors = [], []
    for _ in range(ROUNDS + 1):
        (our_time, our_scores), (their_time, their_scores) = seconds(ours), seconds(theirs)
        times.append((our_time, their_time, their_time / our_time))
        errors.append(np.abs(our_scores - np.hstack(their_scores)).max())
    (our_time, their_time, ratio), error = map(statistics.median, zip(*times[1:], strict=True)), max(errors)
    met = judge(
        mode,
        [our for our, _, _ in times[1:]],
        [their for _, their, _ in times[1:]],
        peer="braindecode",
        size=" × ".join(map(str, SHAPE)),
        target=TARGETS[mode],
        difference=error,
        tolerance=TOLERANCE,
    )
    print(
        f"{mode:16}{their_time:13.2f}{our_time:8.2f}{ratio:8.1f}{min(times[1:], key=lambda t: t[2])[2]:8.1f}"
        f"{TARGETS[mode]:8}{error:12.1e}   {'met' if met else 'MISSED'}",
        flush=True,
    )
    return met


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, help="of the CPU; all by default")
    threads = parser.parse_args().threads
    if threads:
        torch.set_num_threads(threads)
    noise = np.random.default_rng(0).standard_normal((2, *SHAPE))
    maps, reference = gaussian_filter(noise, (0, 0, 1, 5))
    info = mne.create_info(xs.simulate("spectral", n_trials=4).info.ch_names[: SHAPE[1]], 250.0, "eeg")
    info.set_montage("colin27_1005")
    print(f"{SHAPE[0]} trials of {SHAPE[1]} × {SHAPE[2]}, CPU, {torch.get_num_threads()} threads; times in s\n")
    print(f"{'':16}{'braindecode':>13}{'ours':>8}{'ratio':>8}{'lowest':>8}{'target':>8}{'difference':>12}")
    met = [compare(mode, maps, reference, given) for mode, given in zip(TARGETS, (None, info), strict=True)]
    end(met)


if __name__ == "__main__":
    main()
