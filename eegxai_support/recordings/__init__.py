"""Real trials: motor imagery, a P300 speller, flicker, drowsiness, your own; and the results recorded from them."""

from eegxai_support.recordings.bnci2014_001 import load_bnci2014_001
from eegxai_support.recordings.drowsiness import load_drowsiness
from eegxai_support.recordings.eegbci import load_eegbci
from eegxai_support.recordings.motor_imagery import load_motor_imagery
from eegxai_support.recordings.own import from_array, from_epochs
from eegxai_support.recordings.p300 import load_p300
from eegxai_support.recordings.reading import Recording, read_recording
from eegxai_support.recordings.results import recorded, write_recorded
from eegxai_support.recordings.ssvep import SSVEP_FREQUENCIES, load_ssvep
from eegxai_support.recordings.ssvep_files import fetch_ssvep

__all__ = [
    "SSVEP_FREQUENCIES",
    "Recording",
    "fetch_ssvep",
    "from_array",
    "from_epochs",
    "load_bnci2014_001",
    "load_drowsiness",
    "load_eegbci",
    "load_motor_imagery",
    "load_p300",
    "load_ssvep",
    "read_recording",
    "recorded",
    "write_recorded",
]
