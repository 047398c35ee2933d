"""Shortcuts that are put into trials: where, when and at which frequency they are, and how surely they tell classes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import eegxai_support as xs
from eegxai_support.simulate import SHORTCUTS, add_shortcut

N = 400
CHANNELS = tuple("Fpz Fp1 Fp2 AF7 AF8 F7 F8 Fz C3 Cz C4 T7 T8 TP7 TP8 P7 P8 Oz".split())


@pytest.fixture(scope="module")
def trials():
    """Simulated trials whose source is 200 dB below their noise."""
    about = {"sfreq": 160, "duration": 1.5, "ch_names": CHANNELS, "sources": ("C3", "C4")}
    made = xs.simulate("spatial", n_trials=N, snr_db=-200, seed=1, **about)
    with made.info._unlock():
        made.info["line_freq"] = 60.0
    return made


def added(trials, kind, **options):
    return add_shortcut(trials, kind, **options).signal.astype(float) - trials.signal


def strongest(difference, trials, n=4):
    size = np.square(difference).mean(axis=(0, 2))
    return [trials.info.ch_names[c] for c in np.argsort(size)[::-1][:n]]


@pytest.mark.parametrize("kind", SHORTCUTS)
def test_an_artefact_goes_along_with_the_class(trials, kind):
    """In 400 trials, the share of a class that has the artefact is its reliability to 0.06, three standard errors."""
    for reliability in (0.5, 0.8):
        difference = added(trials, kind, reliability=reliability, seed=2)
        size = np.abs(difference).max(axis=(1, 2))
        if kind in ("glances", "drift"):  # there always, of either sign
            channel = np.abs(difference).max(axis=(0, 2)).argmax()
            late = np.take_along_axis(difference[:, channel], np.abs(difference[:, channel]).argmax(1)[:, None], 1)[
                :, 0
            ]
            slope = difference[:, channel, -1] - difference[:, channel, 0]
            signed = late if kind == "glances" else slope
            present = signed * np.sign(np.corrcoef(signed, trials.label)[0, 1]) > 0
        else:
            present = size > size.max() / 4
        for label, expected in ((0, 1 - reliability), (1, reliability)):
            assert present[trials.label == label].mean() == pytest.approx(expected, abs=0.08)


def test_an_artefact_is_where_it_is_in_recordings(trials):
    assert strongest(added(trials, "blinks"), trials, 3)[0] == "Fpz"
    assert set(strongest(added(trials, "blinks"), trials, 3)) == {"Fpz", "Fp1", "Fp2"}
    assert set(strongest(added(trials, "glances"), trials)) == {"AF7", "AF8", "F7", "F8"}
    assert strongest(added(trials, "muscle"), trials, 1)[0] in ("T7", "T8")
    alone = np.square(added(trials, "channel")).mean(axis=(0, 2))
    assert np.sort(alone)[-1] > 100 * np.sort(alone)[-2]


def test_glances_are_positive_on_the_side_to_which_the_eyes_turn(trials):
    difference = added(trials, "glances", reliability=1.0)
    right = trials.label == 1
    f7, f8 = (trials.info.ch_names.index(name) for name in ("F7", "F8"))
    assert (difference[right, f8].mean(1) > 0).all() and (difference[right, f7].mean(1) < 0).all()
    assert (difference[~right, f7].mean(1) > 0).all() and (difference[~right, f8].mean(1) < 0).all()


def test_an_artefact_is_when_and_at_the_frequency_where_it_is_in_recordings(trials):
    frequency = np.fft.rfftfreq(240, 1 / 160)

    def spectrum(kind):
        return np.square(np.abs(np.fft.rfft(added(trials, kind)))).sum(axis=(0, 1))

    assert frequency[spectrum("line").argmax()] == pytest.approx(60, abs=0.4)
    assert spectrum("muscle")[frequency > 18].sum() > 0.95 * spectrum("muscle").sum()
    assert spectrum("blinks")[frequency < 6].sum() > 0.95 * spectrum("blinks").sum()
    course = np.square(added(trials, "edge")).sum(axis=(0, 1))
    assert max(course[:24].sum(), course[-24:].sum()) > 0.95 * course.sum()
    drift = added(trials, "drift")
    np.testing.assert_allclose(np.diff(drift, n=2, axis=2), 0, atol=1e-4)


@pytest.mark.parametrize("kind", SHORTCUTS)
def test_what_is_added_has_the_reference_and_the_strength(trials, kind):
    once, twice = added(trials, kind), added(trials, kind, strength=2.0)
    np.testing.assert_allclose(twice, 2 * once, atol=1e-3)
    assert np.abs(add_shortcut(trials, kind).signal.mean(1)).max() < 1e-4
    offset = replace(trials, signal=trials.signal + np.float32(5))
    if kind not in ("blinks", "glances"):  # whose fields have a reference of their own
        assert np.abs(added(offset, kind).mean(1)).max() > 0.01
    before = trials.signal.copy()
    np.testing.assert_array_equal(add_shortcut(trials, kind, seed=5).signal, add_shortcut(trials, kind, seed=5).signal)
    np.testing.assert_array_equal(trials.signal, before)


def test_classes_between_lie_between(trials):
    label = np.arange(N) % 3
    three = replace(trials, label=label, class_names=("a", "b", "c"))
    size = np.abs(added(three, "blinks", reliability=1.0)).max(axis=(1, 2)) > 1
    assert [size[label == k].mean() for k in range(3)] == pytest.approx([0, 0.5, 1], abs=0.12)


def test_simulated_trials_keep_their_truth_and_lose_their_law(trials):
    made = add_shortcut(trials, "line")
    np.testing.assert_array_equal(made.truth, trials.truth)
    with pytest.raises(ValueError, match="without artefacts"):
        made.ideal_log_likelihood()


def test_a_recording_of_ones_own_will_do():
    rng = np.random.default_rng(0)
    own = xs.from_array(
        20 * rng.standard_normal((12, 4, 160)), 160, ["EEG Fp1-Ref", "EEG C3-Ref", "EEG T8-Ref", "EEG Oz-Ref"],
        np.arange(12) % 2, event_id={"a": 0, "b": 1}, unit="uV",
        metadata=pd.DataFrame({"subject": 1, "session": 1, "run": np.arange(12) // 6}),
    )  # fmt: skip
    for kind in SHORTCUTS:
        assert np.abs(added(own, kind)).max() > 1 and add_shortcut(own, kind).info.ch_names == own.info.ch_names


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"kind": "blink"}, "Unknown shortcut 'blink'. Did you mean 'blinks'"),
        ({"label": None, "class_names": ()}, {}, "add_shortcut needs the class"),
        ({"label": np.zeros(N, int), "class_names": ("a",)}, {}, "All trials are of the class a"),
        ({"unit": "standardised"}, {}, "trials are in 'standardised'; an artefact of so many µV"),
        ({}, {"strength": 0}, "strength is 0; expected a positive number"),
        ({}, {"reliability": 0.4}, "reliability is 0.4; expected 0.5"),
    ],
)
def test_what_cannot_be_is_refused(trials, change, options, message):
    with pytest.raises(ValueError, match=message):
        add_shortcut(replace(trials, **change), **{"kind": "blinks"} | options)


def test_mains_above_half_the_rate_are_refused(trials):
    slow = xs.simulate("spatial", n_trials=8, sfreq=100, sources=("C3", "C4"))
    with pytest.raises(ValueError, match="100 samples per second hold no mains of 50 Hz"):
        add_shortcut(slow, "line")
