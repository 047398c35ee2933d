"""Names and positions: whatever is written around a name, and heads for whatever cap."""

import mne
import pytest

from eegxai_support.montages import MONTAGE, canonical_name, canonical_names

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
