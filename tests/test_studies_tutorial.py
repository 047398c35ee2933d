"""Study of the tutorial: subjects are either trained on or unseen, and bands are what their frequencies hold."""

import numpy as np
import pytest
import torch
from tiny_studies import CHANNELS, Recordings, calls_of, gradients, linear_decoders, logits, number

import eegxai_support as xs
from studies import tutorial

SUBJECTS = {"training": (1, 2, 3), "unseen": (4, 5)}
FITS = [(None, 0.01, 0), (7.0, 0.001, 3)]
BANDS = {"low": (0, 6), "alpha": (7, 14), "beta": (15, 30), "high": (31, 80)}


@pytest.fixture
def study(recordings, monkeypatch):
    monkeypatch.setitem(tutorial.TUTORIAL, "subjects", SUBJECTS)
    monkeypatch.setitem(tutorial.TUTORIAL, "fits", FITS)
    return recordings


def numbers(part: str) -> set[int]:
    return set().union(*(number(subject, (4, 8, 12)) for subject in SUBJECTS[part]))


def test_the_split_of_the_subjects_leaves_none_in_both_parts():
    training, unseen = tutorial.TUTORIAL["subjects"].values()
    assert not set(training) & set(unseen)
    assert sorted({*training, *unseen}) == [*range(1, 21), 42]


def test_the_network_is_a_mean_over_windows_and_differs_by_seed(study):
    trials = study.load_eegbci(1, tmax=4.1)
    one, again, other = (tutorial._tutorial_network(trials, seed) for seed in (0, 0, 1))
    assert torch.equal(one.final_layer[-1].weight, again.final_layer[-1].weight)
    assert not torch.equal(one.final_layer[-1].weight, other.final_layer[-1].weight)
    assert (one.n_times, logits(one, trials.signal[..., :450]).shape) == (450, (len(trials), 2))
    seen, pool = [], one.final_layer[0]
    pool.register_forward_hook(lambda _, args, out: seen.append((args[0], out)))
    logits(one, trials.signal[:2, :, :450])
    ((windows, mean),) = seen
    assert windows.shape[2] > 1
    np.testing.assert_allclose(mean.flatten(1), windows.flatten(2).mean(2), rtol=1e-4, atol=1e-5)


def test_training_subjects_are_trained_on_and_both_parts_are_explained(study, monkeypatch):
    linear_decoders(monkeypatch)
    monkeypatch.setattr(
        tutorial, "_tutorial_network", lambda trials, seed: xs.build_decoder("", trials, n_times=450, seed=seed)
    )
    tested = calls_of(monkeypatch, "permutation_p_value")
    table = tutorial.tutorial_2018(epochs=7)
    trained = study.trained
    assert [m.numbers for m in trained] == [numbers("training")] * 2
    training = {"batch_size": 64, "weight_decay": 0.05, "cache": True, "epochs": 7}
    assert [m.options for m in trained] == [training | {"lr": lr, "seed": seed} for _, lr, seed in FITS]
    asked = [(call["subjects"], call["l_freq"], call["h_freq"], call["tmin"], call["tmax"]) for call in study.loaded]
    assert asked == [(subjects, low, None, 1.0, 4.1) for low, _, _ in FITS for subjects in SUBJECTS.values()]
    calls = iter(tested)
    for (l_freq, lr, seed), model in zip(FITS, trained, strict=True):
        for part, subjects in SUBJECTS.items():
            trials = Recordings.load_eegbci(study, subjects, tmax=4.1)
            own = table[(table["lr"] == lr) & (table["seed"] == seed) & (table["subjects"] == part)]
            assert own["l_freq"].isna().all() if l_freq is None else (own["l_freq"] == l_freq).all()
            check_rows(own, model, trials, next(calls))


def check_rows(table, model, trials, permuted) -> None:
    """Compare the rows of one decoder and part with what a linear network gives."""
    x, label = trials.signal[..., :450].astype(float), trials.label
    freqs, spectrum = np.fft.rfftfreq(450, 1 / 160), np.fft.rfft(x)
    predicted = logits(model, x).argmax(1)
    assert table["accuracy"].unique() == pytest.approx([np.mean(predicted == label)])
    assert table["n_trials"].unique() == [len(trials)]
    np.testing.assert_array_equal(permuted.args[0], label)
    np.testing.assert_array_equal(permuted.args[1], predicted)
    recording = [f"{s}-{r}" for s, r in zip(trials.metadata["subject"], trials.metadata["run"], strict=True)]
    groups = [np.unique(np.asarray(permuted.args[2])[np.array(recording) == each]) for each in np.unique(recording)]
    assert all(len(group) == 1 for group in groups) and len(np.unique(groups)) == len(groups)
    assert table["p_value"].unique() == [permuted.result]
    pairs = np.where((freqs == 0) | (freqs == 80), 1, 2) / 450
    along = pairs * np.real(np.exp(-1j * np.angle(spectrum)) * np.fft.rfft(gradients(model, x)))
    variance = ((along * np.abs(spectrum)) ** 2).sum((1, 2))
    size = np.sqrt((along**2).sum((1, 2, 3)) * len(x))  # of noise on every amplitude, to first order
    correlation = along.sum(1) / size[:, None, None]
    for band, (low, high) in BANDS.items():
        inside = (freqs >= low) & (freqs <= high)
        without = np.fft.irfft(np.where(inside, 0, spectrum), 450)
        accuracy = np.mean(logits(model, without).argmax(1) == label)
        for k, class_name in enumerate(("left fist", "right fist")):
            rows = table[(table["band"] == band) & (table["class_name"] == class_name)].set_index("channel")
            assert rows["accuracy_without_band"].unique() == pytest.approx([accuracy])
            assert rows["share"].unique() == pytest.approx([variance[k, inside].sum() / variance[k].sum()], rel=1e-3)
            np.testing.assert_allclose(
                rows["correlation"].loc[[*CHANNELS]], correlation[k][:, inside].mean(1), rtol=1e-3, atol=1e-6
            )
