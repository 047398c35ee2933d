"""Names and positions: whatever is written around a name, and heads for whatever cap."""

import warnings

import mne
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from eegxai_support.montages import (
    EEGBCI_CHANNELS,
    MONTAGE,
    canonical_name,
    canonical_names,
    name_places,
    nearest_names,
    scalp_places,
    scalp_positions,
)
from eegxai_support.viz.parts import head_positions

TEMPLATE = mne.channels.make_standard_montage(MONTAGE)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("EEG F3-Ref", "F3"),
        ("EEG Fp1-REF", "Fp1"),
        ("EEG FP1-LE", "Fp1"),
        ("Fc5.", "FC5"),
        ("Fcz.", "FCz"),
        ("Iz..", "Iz"),
        ("EEG.AF3", "AF3"),
        ("POL C3", "C3"),
        ("C4-A1", "C4"),
        ("C4:M1", "C4"),
        ("O1-A1A2", "O1"),
        (" fpz ", "Fpz"),
        ("ccp5H", "CCP5h"),
        ("T3", "T3"),
        ("EEG Fpz-Cz", None),  # bipolar
        ("F3-C3", None),
        ("E12", None),
        ("EEG", None),
        ("EEG001", None),
        ("EOG horizontal", None),
        ("F7'", None),
        ("1", None),
        ("", None),
    ],
)
def test_names_that_differ_by_decoration_only_are_one_electrode(written, name):
    assert canonical_name(written) == name


def test_every_name_of_the_template_is_its_own():
    assert [canonical_name(name) for name in TEMPLATE.ch_names] == TEMPLATE.ch_names
    assert canonical_names(f"EEG {name.upper()}-REF" for name in TEMPLATE.ch_names) == TEMPLATE.ch_names


@pytest.mark.parametrize("cap", ["biosemi128", "biosemi160", "biosemi256"])
def test_electrodes_counted_by_letter_and_number_are_not_of_the_10_05_system(cap):
    names = mne.channels.make_standard_montage(cap).ch_names
    assert "A1" in names and canonical_name("A1") == "A1"
    assert set(canonical_names(names)) == {None}


BUILT_IN = mne.channels.get_builtin_montages()
# Electrodes of nets and caps without 10-05 names that are known to lie at a place of the 10-10 system (Luu & Ferree
# 2005 for the nets, the maker's layout for the cap).
KNOWN = {
    "GSN-HydroCel-128": "E22 Fp1 E9 Fp2 E24 F3 E124 F4 E33 F7 E122 F8 E36 C3 E104 C4 E45 T7 E108 T8 E52 P3 E92 P4"
    " E58 P7 E96 P8 E62 Pz E70 O1 E83 O2 E75 Oz",
    "biosemi128": "A1 Cz A19 Pz A23 Oz B26 T8 C17 Fpz C21 Fz D23 T7",
}
HEADBAND = ["TP9", "AF7", "AF8", "TP10"]
OCCIPITAL = ["Oz", "O1", "O2", "PO3", "POz", "PO7", "PO8", "PO4"]
CAP = "F3 Fz F4 FC5 FC6 C3 Cz C4 CP5 CP6 P3 Pz P4".split()


def located(montage, names=None):
    """Return the info of a montage of MNE's, or of some of its electrodes."""
    montage = mne.channels.make_standard_montage(montage)
    info = mne.create_info(montage.ch_names if names is None else names, 100.0, "eeg")
    return info.set_montage(montage)


def placed(names, xyz, **fiducials):
    """Return the info of electrodes at positions in whatever frame, as a file would give them."""
    montage = mne.channels.make_dig_montage(dict(zip(names, xyz, strict=True)), **fiducials)
    info = mne.create_info(list(names), 100.0, "eeg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MNE's, that fiducials are missing
        return info.set_montage(montage)


def locations(info):
    return np.array([channel["loc"][:3] for channel in info["chs"]])


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_montage_is_drawn_inside_the_head_nose_up_and_left_on_the_left(name):
    info = located(name)
    plane, xyz = scalp_positions(info), locations(info)
    assert np.linalg.norm(head_positions(info), axis=1).max() <= 1 + 1e-9
    aside = np.abs(xyz[:, 0]) > 0.01
    np.testing.assert_array_equal(np.sign(plane[aside, 0]), np.sign(xyz[aside, 0]))
    front, back = xyz[:, 1].argmax(), xyz[:, 1].argmin()
    assert plane[front, 1] > plane[back, 1] + 0.4
    if not name.startswith("artinis"):  # which has none at the back
        assert plane[front, 1] > 0.6 and plane[back, 1] < -0.6


@pytest.mark.parametrize("name", [name for name in BUILT_IN if name != "colin27_prefixed"])
def test_named_electrodes_lie_at_their_place_on_the_template(name):
    info = located(name)
    for known, place in zip(canonical_names(info.ch_names), scalp_positions(info), strict=True):
        if known:
            assert np.linalg.norm(place - name_places([known])[0]) < 0.16, known


def test_names_in_another_sense_are_not_believed():
    """In the prefixed system PO5 is elsewhere than in the 10-05 system; the others hold the head in place."""
    prefixed, template = located("colin27_prefixed"), located(MONTAGE)
    at = {tuple(xyz.round(6)): place for xyz, place in zip(locations(template), scalp_positions(template), strict=True)}
    expected = np.array([at[tuple(xyz.round(6))] for xyz in locations(prefixed)])
    np.testing.assert_allclose(scalp_positions(prefixed), expected, atol=0.05)
    np.testing.assert_allclose(scalp_places(prefixed), expected, atol=0.3)


@pytest.mark.parametrize("name", KNOWN)
def test_electrodes_without_10_05_names_lie_where_they_are_known_to_be(name):
    info, words = located(name), KNOWN[name].split()
    place = dict(zip(info.ch_names, scalp_positions(info), strict=True))
    gap = [np.linalg.norm(place[e] - name_places([known])[0]) for e, known in zip(words[::2], words[1::2], strict=True)]
    assert np.mean(gap) < 0.1 and max(gap) < 0.25


@pytest.mark.parametrize("name", ["colin27_1020", "biosemi32", "easycap-M10", "GSN-HydroCel-128"])
def test_rotated_shifted_and_scaled_heads_with_fiducials_are_the_same_head(name):
    montage = mne.channels.make_standard_montage(name)
    frame = montage.get_positions()
    rotation = Rotation.from_euler("zxy", [100, 30, -20], degrees=True)

    def moved(xyz):
        return rotation.apply(xyz) * 1.3 + (0.02, -0.05, 0.1)

    fiducials = {key: moved(frame[key]) for key in ("nasion", "lpa", "rpa")}
    xyz = moved(np.array(list(frame["ch_pos"].values())))
    info = placed(montage.ch_names, xyz, coord_frame="unknown", **fiducials)
    np.testing.assert_allclose(scalp_positions(info), scalp_positions(located(name)), atol=1e-6)


@pytest.mark.parametrize("radius", [0.085, 1.0, 85.0])
def test_spheres_without_fiducials(radius):
    """What EEGLAB writes: a sphere round the origin, in any unit."""
    cap = located("spherical_1020")
    xyz = locations(cap)
    plane = scalp_positions(placed(cap.ch_names, xyz / np.linalg.norm(xyz, axis=1).mean() * radius))
    np.testing.assert_allclose(plane, name_places(cap.ch_names), atol=0.16)
    unnamed = placed([f"E{k}" for k in range(len(xyz))], xyz * radius)
    np.testing.assert_allclose(scalp_positions(unnamed), name_places(cap.ch_names), atol=0.3)
    patch = placed([f"E{k}" for k in range(4)], xyz[:4] * radius)
    np.testing.assert_allclose(scalp_positions(patch), scalp_positions(unnamed)[:4], atol=1e-4)  # MNE's file is rounded


def test_names_turn_a_head_whose_nose_is_elsewhere():
    """EEGLAB's nose is along x, where MNE's right ear is."""
    cap = located("biosemi32")
    nose_along_x = Rotation.from_euler("z", -90, degrees=True).apply(locations(cap))
    plane = scalp_positions(placed(cap.ch_names, nose_along_x))
    np.testing.assert_allclose(plane, name_places(cap.ch_names), atol=0.1)


def test_flat_positions_are_a_drawing_already():
    cap = located("colin27_1020", CAP + OCCIPITAL)
    drawing = np.column_stack([scalp_positions(cap) * 40 + (300, 200), np.zeros(21)])
    named = placed(cap.ch_names, drawing)
    np.testing.assert_allclose(scalp_positions(named), scalp_positions(cap), atol=1e-6)
    unnamed = placed([f"E{k}" for k in range(21)], drawing)
    shift = scalp_positions(unnamed) - scalp_positions(cap)
    assert np.linalg.norm(head_positions(unnamed), axis=1).max() == pytest.approx(1)
    correlation = np.corrcoef(np.c_[scalp_positions(unnamed), scalp_positions(cap)].T)
    np.testing.assert_allclose([correlation[0, 2], correlation[1, 3]], 1)
    assert np.abs(shift).max() < 0.6  # where the drawing's head ends is not known


@pytest.mark.parametrize("names", [HEADBAND, OCCIPITAL, CAP, ["C3", "Cz", "C4"], ["Oz", "O1"]])
@pytest.mark.parametrize("cap", ["colin27_1005", "fsaverage_1005", "brainproducts-RNP-BA-128"])
def test_few_electrodes_do_not_bend_the_head(cap, names):
    there = mne.channels.make_standard_montage(cap).ch_names
    names = [name for name in names if name in there]
    plane = scalp_positions(located(cap, names))
    np.testing.assert_allclose(plane, name_places(names), atol=0.1)
    unnamed = located(cap, names)
    mne.rename_channels(unnamed, {name: f"E{k}" for k, name in enumerate(names)}, verbose=False)
    np.testing.assert_allclose(scalp_positions(unnamed), plane, atol=0.3)  # by the fiducials, of another head


@pytest.mark.parametrize(
    ("names", "flat"),
    [
        (CAP + OCCIPITAL, False),
        (CAP + OCCIPITAL, True),
        (EEGBCI_CHANNELS, False),
        (EEGBCI_CHANNELS, True),
        (OCCIPITAL, True),
    ],
)
def test_a_mirrored_head_is_refused(names, flat):
    cap = located(MONTAGE, list(names))
    xyz = np.column_stack([scalp_positions(cap), np.zeros(len(names))]) if flat else locations(cap)
    with pytest.raises(ValueError, match=r"Names and positions disagree.*Is left on the left"):
        scalp_positions(placed(cap.ch_names, xyz * (-1, 1, 1)))


@pytest.mark.parametrize(
    ("names", "xyz", "reason"),
    [
        (CAP, np.full((13, 3), np.nan), "No channel has a position"),
        (CAP, np.zeros((13, 3)), "No channel has a position"),
        (CAP, np.full((13, 3), 0.05), "on a straight line or in one place"),
        (CAP, np.outer(np.arange(1, 14), (0.01, 0.02, 0.03)), "on a straight line or in one place"),
        (CAP, np.random.default_rng(0).normal(size=(13, 3)), "Names and positions disagree"),
        ("E1 E2 E3 E4 E5 E6".split(), np.random.default_rng(0).uniform(size=(6, 3)), "do not say where the head is"),
    ],
)
def test_positions_that_are_no_head_are_refused_with_the_reason(names, xyz, reason):
    info = mne.create_info(list(names), 100.0, "eeg")
    for channel, place in zip(info["chs"], xyz, strict=True):
        channel["loc"][:3] = place
    with pytest.raises(ValueError, match=reason):
        scalp_positions(info)


def test_positions_of_some_channels_are_enough():
    info = located("colin27_1020", CAP)
    info["chs"][3]["loc"][:3] = np.nan
    plane = scalp_positions(info)
    np.testing.assert_allclose(np.delete(plane, 3, axis=0), name_places(np.delete(CAP, 3)), atol=1e-6)
    assert np.isnan(plane[3]).all()
    np.testing.assert_allclose(scalp_places(info), name_places(CAP), atol=1e-6)  # its name says where it is


def test_channels_that_are_nowhere():
    info = mne.create_info(["EEG C3-Ref", "EEG Fpz-Cz", "E5"], 100.0, "eeg")
    assert nearest_names(info, ["C3", "Cz"]) == ["C3", None, None]
