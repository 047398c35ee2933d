"""Relevance per region and band against loops."""

import mne
import numpy as np
import pytest

from eegxai_support.spectral.regions import REGIONS, region_relevance

FREQS = np.arange(0, 41, 2.0)
BANDS = {"low": (0, 8), "high": (8, 41)}
MONTAGE = mne.channels.make_standard_montage("colin27_1005").ch_names
POSITIONS = """
Fp1 Fpz Fp2 AF7 AF3 AFz AF4 AF8 F7 F5 F3 F1 Fz F2 F4 F6 F8 FT7 FC5 FC3 FC1 FCz FC2 FC4 FC6 FT8 T9 T7 C5 C3 C1 Cz C2 C4
C6 T8 T10 TP7 CP5 CP3 CP1 CPz CP2 CP4 CP6 TP8 P7 P5 P3 P1 Pz P2 P4 P6 P8 PO7 PO3 POz PO4 PO8 O1 Oz O2 Iz
""".split()  # of EEGBCI


@pytest.fixture(scope="module")
def info():
    return mne.create_info(POSITIONS, 80.0, "eeg")


@pytest.fixture(scope="module")
def values():
    return np.random.default_rng(0).standard_normal((3, 64, len(FREQS)))


def test_regions_cover_the_montage_once_and_mirror_each_other():
    channels = [channel for region in REGIONS.values() for channel in region]
    assert len(set(channels)) == len(channels)
    assert set(POSITIONS) <= set(channels) <= set(MONTAGE)
    for name, left in REGIONS.items():
        if name.endswith("left"):
            right = REGIONS[name.replace("left", "right")]
            assert [int(c.strip("AFPTCOp")) + 1 for c in left] == [int(c.strip("AFPTCOp")) for c in right]


def test_sums_against_loops(info, values):
    table = region_relevance(values, info, FREQS, BANDS)
    assert len(table) == 3 * len(REGIONS) * 2
    for row in table.itertuples():
        positive = negative = 0.0
        for channel in set(REGIONS[row.region]) & set(POSITIONS):
            for freq, value in zip(FREQS, values[row.trial, POSITIONS.index(channel)], strict=True):
                if BANDS[row.band][0] <= freq < BANDS[row.band][1]:
                    positive += max(value, 0)
                    negative += min(value, 0)
        np.testing.assert_allclose([row.positive, row.negative], [positive, negative], atol=1e-12)


def test_relevance_is_conserved(info, values):
    table = region_relevance(values.astype("float32"), info, FREQS, BANDS)
    total = table.groupby("trial")[["positive", "negative"]].sum().sum(axis=1)
    np.testing.assert_allclose(total, values.sum((1, 2)), atol=1e-4)


def test_names_in_any_case_and_channels_that_are_missing(values):
    info = mne.create_info(["c3", "CZ", "T3"], 80.0, "eeg")
    regions = {"motor": ["C3", "C1", "Cz"], "temporal": ["T7", "T3"]}
    table = region_relevance(values[:1, :3], info, FREQS, {"all": (0, 41)}, regions)
    total = table["positive"] + table["negative"]
    np.testing.assert_allclose(total, [values[0, :2].sum(), values[0, 2].sum()])


def test_by_default_regions_without_a_channel_are_left_out():
    central = mne.create_info(["Fz", "C3", "Cz", "C4"], 80.0, "eeg")
    table = region_relevance(np.ones((1, 4, len(FREQS))), central, FREQS, BANDS)
    assert set(table["region"]) == {"motor left", "motor right", "midline"}


def test_names_that_are_not_of_the_10_10_system_have_the_region_of_their_place():
    net = mne.channels.make_standard_montage("GSN-HydroCel-128")
    info = mne.create_info(net.ch_names, 80.0, "eeg").set_montage(net)
    relevance = np.zeros((1, 128, len(FREQS)))
    for value, name in enumerate(("E36", "E104", "E75", "E33", "E96"), start=1):  # at C3, C4, Oz, F7 and P8
        relevance[0, net.ch_names.index(name), 0] = value
    table = region_relevance(relevance, info, FREQS, {"all": (0, 41)}).set_index("region")["positive"]
    found = {"motor left": 1, "motor right": 2, "midline": 3, "frontal left": 4, "parietal right": 5}
    assert table[table > 0].to_dict() == found


def test_names_that_differ_by_decoration_only_are_in_their_region():
    info = mne.create_info(["EEG F3-Ref", "Fc5.", "EEG O2-LE"], 80.0, "eeg")
    table = region_relevance(np.ones((1, 3, len(FREQS))), info, FREQS, {"all": (0, 41)})
    assert set(table["region"]) == {"frontal left", "motor left", "occipital right"}
    named = region_relevance(np.ones((1, 3, len(FREQS))), info, FREQS, {"all": (0, 41)}, {"mine": ["F3", "Cz"]})
    assert named["positive"].tolist() == [len(FREQS)]


def test_channels_without_name_or_position_are_counted_as_unplaced(values):
    info = mne.create_info(["EEG Fpz-Cz", "E7", "Cz"], 80.0, "eeg")
    table = region_relevance(values[:, :3], info, FREQS, {"all": (0, 41)})
    assert list(table["region"][:2]) == ["midline", "unplaced"]
    total = table.groupby("trial")[["positive", "negative"]].sum().sum(axis=1)
    np.testing.assert_allclose(total, values[:, :3].sum((1, 2)), atol=1e-12)


def test_refusals(info, values):
    with pytest.raises(ValueError, match=r"shape \(3, 64, 20\); expected \(trial, 64, 21\)"):
        region_relevance(values[:, :, 1:], info, FREQS, BANDS)
    with pytest.raises(ValueError, match="Region eyes, ears: none"):
        region_relevance(values, info, FREQS, BANDS, {"eyes": ["EOG"], "ears": [], "vertex": ["Cz"]})
    with pytest.raises(ValueError, match="Band gamma: none"):
        region_relevance(values, info, FREQS, {"gamma": (60, 80)})
    with pytest.raises(ValueError, match="regions and bands need one entry each"):
        region_relevance(values, info, FREQS, BANDS, {})
