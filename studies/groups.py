"""How often does the test over subjects find an effect that is there, and how often one that is not?

Maps of both classes of each subject, of noise that neighbours in time share, and on a scale of each subject's own. The
effect is in some of the subjects only, at two channels and for a third of the window, as large as the noise or twice
that.
"""

from __future__ import annotations

import mne
import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter1d
from scipy.stats import binomtest

import eegxai_support as xs
from studies.form import Study, defaults, no_recordings

CHANNELS = ("F3", "Fz", "F4", "C3", "Cz", "C4", "P3", "Pz", "P4")
N_PLACES, SMOOTH, SCALES = (
    12,
    1.0,
    1.5,
)  # samples; their width of the noise; standard deviation of the scales' logarithm
WHERE = ((3, 4), slice(4, 8))  # of the effect: C3 and Cz, a third of the window
N_UNITS, EFFECTS, SHOWING = (6, 8, 10, 15, 21, 30), (0.0, 1.0, 2.0), 0.7
N_GROUPS = {0.0: 500, 1.0: 100, 2.0: 100}  # the more for the level, which is what must be known best
N_PERMUTATIONS = 256


def group_power() -> pd.DataFrame:
    """Share of groups in which some point has p < 0.05, with a 95 % Wilson interval: n_units, effect, n_groups, found.

    `effect` is the difference between the classes in standard deviations of the noise; `inside` is the share of groups
    in which a cluster with p < 0.05 touches the place where it is.
    """
    return pd.DataFrame([_row(n, effect) for effect in EFFECTS for n in N_UNITS])


def _row(n_units: int, effect: float) -> dict:
    info = mne.create_info(list(CHANNELS), 100.0, "eeg").set_montage("colin27_1005")
    found, inside, n_groups = 0, 0, N_GROUPS[effect]
    for seed in range(n_groups):
        maps = group(n_units, effect, np.random.default_rng([n_units, round(100 * effect), seed]))
        p_value = xs.group_map(maps, info, n_permutations=N_PERMUTATIONS, seed=seed).all.test.p_value
        found += p_value.min() < 0.05
        inside += p_value[list(WHERE[0]), WHERE[1]].min() < 0.05
    interval = binomtest(int(found), n_groups).proportion_ci(method="wilson")
    row = {"n_units": n_units, "effect": effect, "n_groups": n_groups, "found": found / n_groups}
    return row | {"low": interval.low, "high": interval.high, "inside": inside / n_groups}


def group(n_units: int, effect: float, rng: np.random.Generator) -> np.ndarray:
    """Draw maps, shape (unit, class, channel, place)."""
    noise = gaussian_filter1d(rng.standard_normal((n_units, 2, len(CHANNELS), N_PLACES)), SMOOTH, mode="wrap")
    maps = noise / noise.std()
    showing = rng.random(n_units) < SHOWING
    maps[np.ix_(showing, [1], WHERE[0], range(N_PLACES)[WHERE[1]])] += effect
    return maps * rng.lognormal(0, SCALES, (n_units, 1, 1, 1))


STUDY = Study(
    configuration={
        "maps": {"channels": CHANNELS, "n_places": N_PLACES, "smooth": SMOOTH, "scales": SCALES},
        "effects": {"where": [list(WHERE[0]), [WHERE[1].start, WHERE[1].stop]], "sizes": EFFECTS, "showing": SHOWING},
        "groups": {"n_units": N_UNITS, "n_groups": {str(effect): n for effect, n in N_GROUPS.items()}},
        "n_permutations": N_PERMUTATIONS,
        "defaults": defaults(xs.group_map),
    },
    tables={group_power: no_recordings},
)
