"""Relevance per frequency summed over regions of the scalp and frequency bands."""

from __future__ import annotations

from collections.abc import Mapping

import mne
import numpy as np
import pandas as pd

from eegxai_support.montages import canonical_names, nearest_names

# Every position of the 10-10 system once; T3 to T6 are the old names of T7, T8, P7 and P8.
REGIONS = {
    "frontal left": "Fp1 AF7 AF3 F9 F7 F5 F3 F1".split(),
    "frontal right": "Fp2 AF8 AF4 F10 F8 F6 F4 F2".split(),
    "motor left": "FC5 FC3 FC1 C5 C3 C1 CP5 CP3 CP1".split(),
    "motor right": "FC6 FC4 FC2 C6 C4 C2 CP6 CP4 CP2".split(),
    "temporal left": "FT9 FT7 T9 T7 T3 TP9 TP7".split(),
    "temporal right": "FT10 FT8 T10 T8 T4 TP10 TP8".split(),
    "parietal left": "P9 P7 T5 P5 P3 P1".split(),
    "parietal right": "P10 P8 T6 P6 P4 P2".split(),
    "occipital left": "PO9 PO7 PO3 O1".split(),
    "occipital right": "PO10 PO8 PO4 O2".split(),
    "midline": "Fpz AFz Fz FCz Cz CPz Pz POz Oz Iz".split(),
}


def region_relevance(
    values,
    info: mne.Info,
    freqs,
    bands: Mapping[str, tuple[float, float]],
    regions: Mapping[str, list[str]] | None = None,
) -> pd.DataFrame:
    """Sum relevance per frequency over the channels of regions and the frequencies of bands.

    Parameters
    ----------
    values : array-like, shape (trial, channel, freq)
        Such as the result of `frequency_relevance`.
    info : mne.Info
        Names of the channels and, where they have any, positions.
    freqs : array-like, shape (freq,)
        In Hz.
    bands : dict of str to (float, float)
        Lowest frequency in Hz, which is included, and highest, which is not: bands side by side share none.
    regions : dict of str to list of str, optional
        Channels of each region, as `info` or as the 10-05 system spells them and whatever their case; those that `info`
        lacks are left out. By default those of `REGIONS` that have a channel: a channel belongs to its name or, where
        that is none of theirs, to the name whose place is nearest. Channels with neither name nor position make up a
        last region, "unplaced".

    Returns
    -------
    DataFrame
        A row per trial, region and band: trial, region, band, positive and negative, the sums of what lies above and
        below zero, in units of the output. Over regions and bands that share nothing and leave nothing out, both
        together are the sum of the map.

    Raises
    ------
    ValueError
        `values` of another shape, no region or band, a region without a channel or a band without a frequency.
    """
    values, freqs, names = np.asarray(values), np.asarray(freqs), [name.casefold() for name in info.ch_names]
    if values.ndim != 3 or values.shape[1:] != (len(names), len(freqs)):
        raise ValueError(f"values have shape {values.shape}; expected (trial, {len(names)}, {len(freqs)}).")
    regions = _default_regions(info) if regions is None else regions
    if not (regions and bands):
        raise ValueError("regions and bands need one entry each at least.")
    stripped = [(name or "").casefold() for name in canonical_names(info.ch_names)]
    wanted = [[name.casefold() for name in region] for region in regions.values()]
    in_region = np.array([np.isin(names, region) | np.isin(stripped, region) for region in wanted])
    in_band = np.array([(low <= freqs) & (freqs < high) for low, high in bands.values()])
    for kind, known, inside in (("Region", regions, in_region), ("Band", bands, in_band)):
        if empty := [name for name, row in zip(known, inside, strict=True) if not row.any()]:
            raise ValueError(f"{kind} {', '.join(empty)}: none of the values lies there. Leave it out, or widen it.")
    columns = {"trial": range(len(values)), "region": list(regions), "band": list(bands)}
    table = pd.MultiIndex.from_product(columns.values(), names=columns).to_frame(index=False)
    for sign, part in (("positive", np.maximum(values, 0)), ("negative", np.minimum(values, 0))):
        table[sign] = np.einsum("rc,tcf,bf->trb", in_region, part, in_band, optimize=True, dtype=np.float64).ravel()
    return table


def _default_regions(info: mne.Info) -> dict[str, list[str]]:
    """Return the channels of each region that has one, as `info` spells them."""
    region_of = {name: region for region, names in REGIONS.items() for name in names}
    found = {region: [] for region in [*REGIONS, "unplaced"]}
    for channel, name in zip(info.ch_names, nearest_names(info, region_of), strict=True):
        found[region_of.get(name, "unplaced")].append(channel)
    return {region: channels for region, channels in found.items() if channels}
