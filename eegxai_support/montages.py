"""Channel names and positions: what heads, regions and simulations need."""

from __future__ import annotations

import mne

from eegxai_support.trials import unknown_name

MONTAGE = "colin27_1005"  # all 10-05 positions; MNE's name for what was standard_1005
# The 64 electrodes of PhysioNet's EEGBCI, in its order.
EEGBCI_CHANNELS = tuple(
    "FC5 FC3 FC1 FCz FC2 FC4 FC6 C5 C3 C1 Cz C2 C4 C6 CP5 CP3 CP1 CPz CP2 CP4 CP6 Fp1 Fpz Fp2 AF7 AF3 AFz AF4 AF8"
    " F7 F5 F3 F1 Fz F2 F4 F6 F8 FT7 FT8 T7 T8 T9 T10 TP7 TP8 P7 P5 P3 P1 Pz P2 P4 P6 P8 PO7 PO3 POz PO4 PO8 O1 Oz O2"
    " Iz".split()
)


def electrode_info(ch_names: tuple[str, ...], sfreq: float) -> mne.Info:
    """Return channel names, sampling rate and positions of electrodes of the 10-05 system."""
    info = mne.create_info(list(ch_names), sfreq, "eeg", verbose=False)
    try:
        info.set_montage(MONTAGE, verbose=False)
    except ValueError:
        known = mne.channels.make_standard_montage(MONTAGE).ch_names
        name = next(name for name in ch_names if name not in known)
        raise unknown_name("electrode", name, known) from None
    return info
