"""How often does the verdict name what a decoder uses? It is asked about decoders whose answer is known.

Honest decoders tell classes apart by a source in the cortex. Others read blinks, glances, muscles, the mains, a drift,
an edge of the window or a loose electrode, which go along with the class; were tested on samples that they had been
trained on; or know nothing, since labels were permuted, nothing was trained, or a few trials were learnt by heart. The
rules of the verdict were made on one half, "made on"; "judged" are others, on which nothing was chosen: other subjects,
other simulated recordings, other networks. A decoder that is at chance though something was there for it has learnt
nothing: the right answer is then "nothing", and it counts as no decoder of its kind.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from zlib import crc32

import mne
import numpy as np
import pandas as pd
from joblib import Parallel, delayed

import eegxai_support as xs
from eegxai_support.files import expanded
from eegxai_support.montages import MONTAGE
from eegxai_support.provenance import package_digest
from eegxai_support.recordings.eegbci import files_of
from eegxai_support.report.parts import Parts
from studies.form import Study, defaults, eegbci

ROOT = Path(__file__).parents[1]
CELLS = expanded(os.environ.get("EEGXAI_BATTERY") or ROOT / ".battery")
ANSWERS = {
    "honest": "brain",
    "blinks": "eyes",
    "glances": "eyes",
    "muscle": "muscle",
    "line": "line",
    "drift": "drift",
    "edge": "edge",
    "channel": "channel",
    "leak": "leak",
    "permuted": "nothing",
    "overfitted": "nothing",
    "untrained": "nothing",
}
ARTEFACTS = ("blinks", "glances", "muscle", "line", "drift", "edge", "channel")
N_CELLS = {"made on": {"honest": 36, "others": 10}, "judged": {"honest": 120, "others": 36}}
SUBJECTS = {"made on": tuple(range(1, 11)), "judged": (*range(11, 21), 42)}
NETWORKS = {"made on": ("EEGNet", "ShallowFBCSPNet"), "judged": ("CTNet", "FBLightConvNet", "EEGNet")}
RUNS, SFREQ, SECONDS, BAND = (4, 8, 12), 160.0, 2.0, (0.3, 79.0)
SIMULATED = {"n_trials": 150, "sfreq": SFREQ, "duration": SECONDS, "n_runs": 3}
EPOCHS = 25
