"""Relevance per component against sources that are known, MNE's own unmixing, and a planted blink."""

import os
import warnings
from dataclasses import replace
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import eegxai_support as xs
from eegxai_support.montages import electrode_info
from eegxai_support.simulate import dipole_topography
from eegxai_support.sources import component_relevance, fit_ica, label_components, remove_components

NAMES = tuple("Fp1 Fp2 F7 F3 Fz F4 F8 T7 C3 Cz C4 T8 P7 P3 Pz P4 P8 O1 O2 FC1 FC2 CP1".split())
SFREQ = 100.0
CLASSES = ["brain", "muscle artifact", "eye blink", "heart beat", "line noise", "channel noise", "other"]


class OneSource(nn.Module):
    """Reads one source through a spatial filter and weighs its time course; the other output is its negative."""

    def __init__(self, spatial, course):
        super().__init__()
        self.weight = nn.Parameter(torch.as_tensor(np.outer(spatial, course)))

    def forward(self, x):
        score = (x * self.weight).sum((1, 2))
        return torch.stack([score, -score], 1)


def trials_of(signal, unit="uV", ch_names=NAMES, highpass=1.0, lowpass=50.0, sfreq=SFREQ):
    info = electrode_info(ch_names, sfreq)
    with info._unlock():
        info["highpass"], info["lowpass"] = highpass, lowpass
    metadata = pd.DataFrame({"subject": 1, "session": 1, "run": 1}, index=range(len(signal)))
    return xs.Trials(signal, unit, np.arange(len(signal)) % 2, info, ("left", "right"), metadata)


def epochs_of(signal, info):
    return mne.EpochsArray(signal, info, verbose=False)


def mixed(seed, n_channels=22, n_trials=4, n_times=150):
    """Return heavy-tailed sources, mixed at random, and the mixing."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((n_channels, n_channels))
    sources = rng.laplace(size=(n_trials, n_channels, n_times))
    return mixing @ sources, mixing


def known_ica(signal, mixing=None, n_components=22, noise_cov=None):
    """Return an ICA whose PCA MNE has fitted and whose unmixing is known: the inverse of `mixing`, or at random."""
    ica = mne.preprocessing.ICA(
        n_components, noise_cov=noise_cov, method="infomax", max_iter=1, random_state=0, verbose="ERROR"
    )
    ica.fit(epochs_of(signal, trials_of(signal).info), verbose="ERROR")
    return set_unmixing(ica, seed=0) if mixing is None else set_mixing(ica, mixing)


def set_mixing(ica, mixing):
    ica.unmixing_matrix_ = np.linalg.inv(mixing) * ica.pre_whitener_.T @ ica.pca_components_.T
    ica.mixing_matrix_ = np.linalg.inv(ica.unmixing_matrix_)
    return ica


def set_unmixing(ica, seed):
    ica.unmixing_matrix_ = np.random.default_rng(seed).standard_normal((ica.n_components_,) * 2)
    ica.mixing_matrix_ = np.linalg.inv(ica.unmixing_matrix_)
    return ica


def sources_of(ica, signal):
    """Return what MNE calls the sources of a change: those of the signal less those of zeros."""
    sources = ica.get_sources(epochs_of(signal, ica.info)).get_data()
    return sources - ica.get_sources(epochs_of(0 * signal, ica.info)).get_data()


def explained(signal, spatial, seed=0, method="input_x_gradient", **options):
    course = np.random.default_rng(seed).standard_normal(signal.shape[2])
    return xs.attribute(OneSource(spatial, course), signal, 0, method, **options), course


def test_a_decoder_that_reads_one_source_is_said_to_read_it_and_the_unmixed_map_names_another():
    named, named_by_unmixing = 0, 0
    ica = known_ica(mixed(0)[0])
    for draw in range(100):
        signal, mixing = mixed(draw)
        set_mixing(ica, mixing)
        read = draw % 22
        attribution, _ = explained(signal, np.linalg.inv(mixing)[read], draw)
        relevance = component_relevance(attribution, signal, ica)
        np.testing.assert_allclose(relevance[:, read], attribution.values.sum((1, 2)), rtol=1e-8)
        named += np.abs(relevance).sum(0).argmax() == read
        unmixed = ica.get_sources(epochs_of(attribution.values, ica.info)).get_data()
        named_by_unmixing += np.abs(unmixed).sum((0, 2)).argmax() == read
    assert named >= 99
    assert named_by_unmixing < 20


def test_at_reduced_rank_the_rest_stands_in_the_last_column():
    named = 0
    ica = known_ica(mixed(0)[0], n_components=12)
    for draw in range(100):
        signal, _ = mixed(draw)
        set_unmixing(ica, draw)
        read, dropped = draw % 12, ica.pca_components_[12:].sum(0)
        unmixing = ica.unmixing_matrix_ @ ica.pca_components_[:12] / ica.pre_whitener_.T
        attribution, course = explained(signal, unmixing[read] + dropped, draw)
        relevance = component_relevance(attribution, signal, ica)
        named += np.abs(relevance[:, :-1]).sum(0).argmax() == read
        assert relevance.shape == (len(signal), 13)
        np.testing.assert_allclose(relevance[:, read], sources_of(ica, signal)[:, read] @ course, rtol=1e-7)
        np.testing.assert_allclose(relevance[:, -1], np.einsum("c,nct,t->n", dropped, signal, course), rtol=1e-7)
    assert named >= 99


@pytest.mark.parametrize("n_components", [22, 12])
def test_relevance_is_that_of_a_network_which_reads_the_sources(n_components):
    """The virtual inspection layer: the gradient with respect to the sources, by autograd, times the sources."""
    signal, _ = mixed(3)
    ica = known_ica(signal, n_components=n_components)
    model = nn.Sequential(nn.Flatten(), nn.Linear(22 * 150, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    attribution = xs.attribute(model, signal, 1, "input_x_gradient")
    sources = torch.tensor(sources_of(ica, signal), requires_grad=True)
    mixing = torch.as_tensor(ica.get_components() * ica.pre_whitener_)
    back = mixing @ sources
    model(back + torch.as_tensor(signal) - back.detach())[:, 1].sum().backward()
    expected = (sources * sources.grad).sum(2).detach().numpy()
    relevance = component_relevance(attribution, torch.as_tensor(signal), ica)
    np.testing.assert_allclose(relevance[:, :-1], expected, rtol=1e-7, atol=1e-12 * np.abs(expected).max())
    np.testing.assert_allclose(relevance.sum(1), attribution.values.sum((1, 2)), rtol=1e-10)


def test_a_component_that_is_removed_takes_its_relevance_with_it():
    """Of a linear decoder: the output without components is the output less their relevance."""
    signal, mixing = mixed(4)
    signal += 5 * np.random.default_rng(0).standard_normal((22, 1))  # means that removing takes along
    ica = known_ica(signal, mixing)
    trials = trials_of(signal)
    attribution, course = explained(trials.signal.astype(float), mixing.sum(1))
    model = OneSource(mixing.sum(1), course)
    relevance = component_relevance(attribution, trials.signal.astype(float), ica)
    cleaned = remove_components(trials, ica, [2, 7, 2])
    outputs = [xs.predict(model, it.signal.astype(float))[:, 0] for it in (trials, cleaned)]
    np.testing.assert_allclose(outputs[0] - outputs[1], relevance[:, [2, 7]].sum(1), rtol=1e-4)


def test_the_change_from_the_baseline_is_shared_out_in_float32_too():
    signal, mixing = mixed(5)
    ica = known_ica(signal, mixing)
    signal, baseline = signal[:2].astype(np.float32), signal[2:].astype(np.float32)
    model = nn.Sequential(nn.Flatten(), nn.Linear(22 * 150, 8), nn.Tanh(), nn.Linear(8, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xs.BaselineWarning)
        attribution = xs.attribute(model, signal, (0, 1), "integrated_gradients", baseline=baseline)
    relevance = component_relevance(attribution, signal, ica)
    assert relevance.dtype == np.float32
    share = np.abs(relevance.sum(1) - attribution.values.sum((1, 2))) / np.abs(relevance).sum(1)
    assert share.max() < 1e-6
    assert (component_relevance(replace(attribution, multiplier=0 * signal, values=0 * signal), signal, ica) == 0).all()


def test_a_noise_covariance_whitens_as_in_mne():
    signal, _ = mixed(6)
    info = electrode_info(NAMES, SFREQ)
    noise = mne.make_ad_hoc_cov(info, std={"eeg": 2.0}, verbose=False)
    root = np.random.default_rng(0).standard_normal((22, 22))
    noise["data"], noise["diag"] = root @ root.T, False
    ica = known_ica(signal, n_components=12, noise_cov=noise)
    trials = trials_of(signal - signal.mean((0, 2), keepdims=True))
    mne_cleaned = ica.apply(epochs_of(trials.signal.astype(float), ica.info), exclude=[1], verbose=False).get_data()
    means = ica.apply(epochs_of(0 * signal, ica.info), exclude=[1], verbose=False).get_data()
    cleaned = remove_components(trials, ica, [1])
    np.testing.assert_allclose(cleaned.signal, mne_cleaned - means, atol=1e-4 * np.abs(signal).max())
    attribution, course = explained(signal, np.linalg.inv(root)[0])
    relevance = component_relevance(attribution, signal, ica)
    kept = remove_components(trials_of(signal), ica, range(12)).signal
    rest = np.einsum("c,nct,t->n", np.linalg.inv(root)[0], kept, course)
    np.testing.assert_allclose(relevance[:, -1], rest, rtol=1e-3, atol=1e-4)


def test_removing_is_what_mne_does_to_centred_trials_and_nothing_is_left_to_remove():
    signal, mixing = mixed(7)
    signal -= signal.mean((0, 2), keepdims=True)
    ica = known_ica(signal, mixing)
    trials = replace(trials_of(signal), truth=signal)
    cleaned = remove_components(trials, ica, pd.Series([0, 5]))
    expected = ica.apply(epochs_of(signal, ica.info), exclude=[0, 5], verbose=False).get_data()
    np.testing.assert_allclose(cleaned.signal, expected, atol=1e-5 * np.abs(signal).max())
    np.testing.assert_array_equal(cleaned.truth, cleaned.signal)
    again = remove_components(cleaned, ica, [0, 5]).signal
    np.testing.assert_allclose(again, cleaned.signal, atol=1e-5 * np.abs(signal).max())
    np.testing.assert_array_equal(remove_components(trials, ica, []).signal, trials.signal)


@pytest.fixture(scope="module")
def separated():
    """Eight heavy-tailed sources in eight trials, average reference of eight channels, and their ICA."""
    signal, mixing = mixed(8, n_channels=8, n_trials=8, n_times=300)
    mixing -= mixing.mean(0)
    trials = trials_of(signal - signal.mean(1, keepdims=True), ch_names=NAMES[:8])
    return trials, mixing, fit_ica(trials)


@pytest.mark.filterwarnings("ignore:label_components will refuse")
def test_a_fitted_ica_finds_the_source_that_a_decoder_reads():
    signal, mixing = mixed(9, n_channels=8, n_trials=16, n_times=400)
    trials = trials_of(signal, ch_names=NAMES[:8])
    ica = fit_ica(trials)
    topographies = np.abs(np.corrcoef(ica.get_components().T, mixing.T)[:8, 8:])
    assert topographies.max(1).min() > 0.98
    for read in range(8):
        attribution, _ = explained(signal, np.linalg.inv(mixing)[read], read)
        relevance = np.abs(component_relevance(attribution, signal, ica)).mean(0)
        assert relevance.argmax() == topographies[:, read].argmax()
        assert relevance.max() > 0.7 * relevance.sum()


@pytest.mark.filterwarnings("ignore:label_components will refuse")
def test_the_default_number_of_components_is_the_rank(separated):
    trials, _, ica = separated
    assert ica.n_components_ == 7 and ica.method == "infomax" and ica.fit_params["extended"] is True
    full = trials_of(mixed(8, n_channels=4)[0], ch_names=NAMES[:4])
    assert fit_ica(full).n_components_ == 4
    assert fit_ica(trials, n_components=3).n_components_ == 3


def test_the_fit_depends_on_the_seed_alone_and_not_on_the_unit(separated):
    trials, *_ = separated
    ica, again, other_seed = (fit_ica(trials, n_components=3, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(again.unmixing_matrix_, ica.unmixing_matrix_)
    assert not np.array_equal(other_seed.unmixing_matrix_, ica.unmixing_matrix_)
    other = fit_ica(replace(trials, unit="standardised"), n_components=3)
    attribution, _ = explained(trials.signal.astype(float), np.arange(8.0))
    relevance = [component_relevance(attribution, trials.signal.astype(float), it) for it in (ica, other)]
    np.testing.assert_allclose(*relevance, rtol=1e-6, atol=1e-6 * np.abs(relevance[0]).max())


def test_fitting_is_silent_but_where_a_recording_was_never_high_pass_filtered(separated):
    trials, _, _ = separated
    simulated = replace(trials_of(trials.signal, ch_names=NAMES[:8], highpass=0.0), truth=trials.signal)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_ica(trials, n_components=2)
        fit_ica(simulated, n_components=2)
    with pytest.warns(RuntimeWarning, match="has not been high-pass filtered"):
        fit_ica(replace(simulated, truth=None), n_components=2)


@pytest.fixture(scope="module")
def blinks():
    """Trials with blinks and trials without, nothing else between the classes, and their ICA."""
    options = {"n_trials": 40, "snr_db": -60.0, "sfreq": SFREQ, "duration": 2.0, "ch_names": NAMES}
    parts = [xs.simulate("spectral", seed=seed, blink_rate=rate, **options) for seed, rate in enumerate((0.0, 2.0))]
    signal, truth = (np.concatenate([getattr(part, name) for part in parts]) for name in ("signal", "truth"))
    trials = xs.Trials(
        signal, "uV", np.repeat([0, 1], 40), parts[0].info, ("still", "blinks"),
        pd.concat([part.metadata for part in parts]), truth,
    )  # fmt: skip
    return trials, fit_ica(trials, n_components=8)


@pytest.mark.parametrize("unit", ["uV", "standardised"])
def test_a_planted_blink_is_found_and_called_by_its_label(blinks, unit):
    trials, ica = blinks
    scale = 1.0 if unit == "uV" else 10.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = label_components(ica, replace(trials, signal=trials.signal / scale, unit=unit))
    topography = dipole_topography("Fpz", "radial", NAMES, lowered=20.0)
    planted = np.abs(np.corrcoef(topography, ica.get_components().T)[0, 1:]).argmax()
    assert list(table) == ["component", "label", "probability", *CLASSES]
    assert table.component.tolist() == list(range(8))
    assert (table.label == "eye blink").to_numpy().nonzero()[0].tolist() == [planted]
    assert table.probability[planted] > 0.9
    np.testing.assert_allclose(table[CLASSES].sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(table[CLASSES].to_numpy().max(1), table.probability)
    assert not getattr(ica, "labels_", {})


def test_a_network_that_reads_blinks_gives_them_the_largest_relevance_and_fails_without_them(blinks):
    trials, ica = blinks
    learnt, held_out = (trials.subset(np.arange(80) % 2 == part) for part in (0, 1))
    network = xs.train(xs.build_decoder("ShallowFBCSPNet", trials), learnt, epochs=10).model
    eyes = label_components(ica, trials).query("label == 'eye blink'").component
    cleaned = remove_components(held_out, ica, eyes)
    accuracy = [(xs.predict(network, it.signal).argmax(1) == it.label).mean() for it in (held_out, cleaned)]
    assert accuracy[0] > 0.75 and accuracy[1] < 0.65
    attribution = xs.attribute(network, held_out.signal, (1, 0), "input_x_gradient")
    relevance = np.abs(component_relevance(attribution, held_out.signal, ica)).mean(0)
    assert relevance.argmax() == eyes.item()


def test_a_narrow_band_is_refused(separated):
    trials, _, ica = separated
    for band in ((7.0, 50.0), (1.0, 38.0)):
        narrow = trials_of(trials.signal, ch_names=NAMES[:8], highpass=band[0], lowpass=band[1])
        for refuse in (fit_ica, lambda it: label_components(ica, it)):
            with pytest.raises(ValueError, match=f"{band[0]:g}-{band[1]:g} Hz, too narrow.*same trials broadband"):
                refuse(narrow)
        assert remove_components(narrow, ica, [0]).signal.shape == trials.signal.shape


def test_labels_need_a_rate_that_iclabel_can_use(separated):
    trials, _, ica = separated
    slow = trials_of(trials.signal, ch_names=NAMES[:8], lowpass=40.0, sfreq=80.0)
    with pytest.raises(ValueError, match=r"rate is 80 Hz; ICLabel needs 100 Hz or more\. Where these were resampled"):
        label_components(ica, slow)


def test_bad_channels_are_refused(separated):
    bad = replace(separated[0], info=separated[0].info.copy())
    bad.info["bads"] = [bad.info.ch_names[1]]
    with pytest.raises(ValueError, match=f"Marked as bad: {bad.info.ch_names[1]}. Leave"):
        fit_ica(bad)


def test_errors_say_what_to_do(separated):
    trials, _, ica = separated
    signal = trials.signal.astype(float)
    attribution, _ = explained(signal, np.arange(8.0))
    with pytest.raises(ValueError, match=r"'saliency' has no multiplier.*per frequency or component"):
        component_relevance(xs.attribute(OneSource(np.ones(8), np.ones(300)), signal, 0, "saliency"), signal, ica)
    with pytest.raises(ValueError, match="x is not what was explained"):
        component_relevance(attribution, signal[::-1], ica)
    with pytest.raises(ValueError, match="fitted to 22 channels but 8 were explained"):
        component_relevance(attribution, signal, known_ica(mixed(0)[0]))
    unfitted = mne.preprocessing.ICA(verbose=False)
    for use in (
        lambda: component_relevance(attribution, signal, unfitted),
        lambda: label_components(unfitted, trials),
        lambda: remove_components(trials, unfitted, [0]),
    ):
        with pytest.raises(ValueError, match=r"ica is not fitted\. Use fit_ica"):
            use()
    for wrong in ([7], [-1], [0.5], np.arange(7) == 2):
        with pytest.raises(ValueError, match="expected numbers from 0 to 6"):
            remove_components(trials, ica, wrong)
    other = trials_of(trials.signal, ch_names=NAMES[7::-1])
    for use in (lambda: remove_components(other, ica, [0]), lambda: label_components(ica, other)):
        with pytest.raises(ValueError, match=r"fitted to the channels Fp1.*the trials have T7.*trials\.pick"):
            use()
    with pytest.raises(ValueError, match=r"mean over channels has 0\.\d+ of the trials' root mean square"):
        label_components(ica, replace(trials, signal=trials.signal + trials.signal[:, :1]))


@pytest.mark.skipif(
    not (Path(os.environ.get("MNE_DATA", "/nonexistent")) / "MNE-eegbci-data").is_dir(),
    reason="MNE_DATA names no folder with EEGBCI",
)
def test_eye_movements_of_a_recording_are_found():
    broad = xs.load_eegbci(7, runs=4, tmin=0.0, l_freq=1.0, h_freq=79.0)
    ica = fit_ica(broad, n_components=15)
    table = label_components(ica, broad)
    frontal = [broad.info.ch_names.index(name) for name in ("Fp1", "Fpz", "Fp2", "AF7", "AF8")]
    weight = np.abs(ica.get_components())
    eyes = table.query("label == 'eye blink'").component
    frontal = weight[frontal].mean(0) / weight.mean(0)
    assert frontal.argmax() == table.probability[eyes].idxmax() and frontal.max() > 2
    with pytest.raises(ValueError, match="too narrow"):
        fit_ica(xs.load_eegbci(7, runs=4))


# ---- a recording of one's own --------------------------------------------------------------------------------------


def recording(ch_names=NAMES[:10], sfreq=250.0, seconds=20, seed=0, located=True, **options):
    """Return heavy-tailed sources mixed at random, as a recording in volts, with an EOG channel."""
    rng = np.random.default_rng(seed)
    sources = rng.laplace(size=(len(ch_names), round(seconds * sfreq)))
    signal = 1e-5 * np.linalg.qr(rng.standard_normal((len(ch_names),) * 2))[0] @ sources
    info = mne.create_info([*ch_names, "EOG"], sfreq, ["eeg"] * len(ch_names) + ["eog"], verbose=False)
    if located:
        info.set_montage("colin27_1005", on_missing="ignore")
    with info._unlock():
        for name, value in options.items():
            info[name] = value
    return mne.io.RawArray(np.vstack([signal, signal[:1]]), info, verbose=False)


@pytest.fixture
def no_fit(monkeypatch):
    """Fail where the fit begins: what is refused must be refused before."""

    def fit(*args, **kwargs):
        raise AssertionError("fitted")

    monkeypatch.setattr(mne.preprocessing.ICA, "fit", fit)


def test_a_recording_is_made_broadband_and_average_referenced_in_one_call():
    raw = recording()
    before = raw.get_data()
    ica = fit_ica(raw, n_components=3)
    table = label_components(ica, raw)
    np.testing.assert_array_equal(raw.get_data(), before)
    by_hand = raw.copy().pick("eeg").filter(1, 100, verbose=False).set_eeg_reference("average", verbose=False)
    epochs = mne.make_fixed_length_epochs(by_hand, 2.0, preload=True, verbose=False)
    expected = mne.preprocessing.ICA(
        3, method="infomax", fit_params={"extended": True, "ext_blocks": 10}, random_state=0, verbose=False
    ).fit(epochs, verbose=False)
    np.testing.assert_allclose(ica.get_components(), expected.get_components(), rtol=1e-4, atol=1e-8)
    assert len(table) == 3 and ica.ch_names == [*NAMES[:10]]
    pieces = mne.make_fixed_length_epochs(raw, 2.0, preload=True, verbose=False)
    pieces.filter(1, None, verbose="ERROR")
    assert label_components(ica, pieces).shape == table.shape
    pd.testing.assert_frame_equal(label_components(ica, epochs), table)


def test_names_of_a_file_without_positions_are_those_of_its_trials():
    raw = recording([f"EEG {name}-Ref" for name in NAMES[:10]], located=False)
    events = mne.make_fixed_length_events(raw, duration=2.0)
    trials = xs.from_epochs(mne.Epochs(raw, events, tmin=0, tmax=1, baseline=None, preload=True, verbose=False))
    ica = fit_ica(raw, n_components=2)
    assert ica.ch_names == trials.info.ch_names == [*NAMES[:10]]
    assert remove_components(trials, ica, [0]).signal.shape == trials.signal.shape


def test_a_constant_channel_and_a_bad_one_are_no_part_of_the_components():
    raw = recording()
    raw._data[2] = 0
    raw.info["bads"] = [NAMES[5]]
    with pytest.warns(UserWarning, match=f"record nothing: {NAMES[2]}"):
        ica = fit_ica(raw, n_components=2)
    assert ica.ch_names == [name for c, name in enumerate(NAMES[:10]) if c not in (2, 5)]


@pytest.mark.parametrize("kind", ["raw", "epochs"])
@pytest.mark.parametrize("band", [{"highpass": 8.0}, {"lowpass": 30.0}])
def test_a_narrow_band_is_refused_before_the_fit(no_fit, kind, band):
    inst = recording(**band)
    if kind == "epochs":
        inst = mne.make_fixed_length_epochs(inst, 2.0, verbose=False)
    with pytest.raises(ValueError, match=r"too narrow .*the recording as it was before the filter"):
        fit_ica(inst)


@pytest.mark.parametrize("n_channels", [1, 2])
def test_one_and_two_channels_have_nothing_to_separate(no_fit, n_channels):
    with pytest.raises(ValueError, match=r"these hold one signal, as two do in average reference\. Take more channels"):
        fit_ica(recording(NAMES[:n_channels]))
    signal = np.random.default_rng(0).standard_normal((4, n_channels, 150))
    trials = trials_of(10 * signal, ch_names=NAMES[:n_channels])
    with pytest.raises(ValueError, match="these hold one signal"):
        fit_ica(trials if n_channels == 1 else trials.rereference())


def test_what_iclabel_will_refuse_is_said_before_the_fit(no_fit):
    signal = 10 * np.random.default_rng(0).standard_normal((4, 10, 150))
    referenced = trials_of(signal, ch_names=NAMES[:10]).rereference()
    unlocated = replace(referenced, info=mne.create_info([*NAMES[:10]], SFREQ, "eeg"))
    for trials, reason in (
        (trials_of(signal, ch_names=NAMES[:10]), r"average reference\. Use trials\.rereference\(\) before fit_ica"),
        (trials_of(signal, ch_names=NAMES[:10], sfreq=80.0), "rate is 80 Hz; ICLabel needs 100 Hz"),
        (trials_of(signal[:, :5], ch_names=NAMES[:5]).rereference(), "5 channels are too few for ICLabel"),
        (unlocated, r"Channels without a position: Fp1, Fp2, .*\. Set a montage"),
    ):
        with pytest.warns(UserWarning, match=reason), pytest.raises(AssertionError, match="fitted"):
            fit_ica(trials)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(AssertionError, match="fitted"):
            fit_ica(referenced)


def test_too_few_channels_for_iclabel_are_refused():
    trials = trials_of(mixed(0, 5)[0], ch_names=NAMES[:5]).rereference()
    with pytest.warns(UserWarning, match="too few"):
        ica = fit_ica(trials, n_components=2)
    with pytest.raises(ValueError, match="5 channels are too few for ICLabel"):
        label_components(ica, trials)


def test_fit_ica_leaves_the_projectors_of_a_recording_alone():
    names = [f"EEG {name}-Ref" for name in ("Fp1", "Fp2", "C3", "C4", "O1", "O2")]
    info = mne.create_info(names, 250.0, "eeg")
    raw = mne.io.RawArray(1e-5 * np.random.default_rng(0).laplace(size=(6, 5000)), info, verbose=False)
    raw.filter(1.0, None, verbose=False).set_eeg_reference(projection=True, verbose=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # too few channels for ICLabel
        ica = xs.fit_ica(raw, n_components=2)
    assert ica.ch_names[0] == "Fp1"
    assert raw.info["projs"][0]["data"]["col_names"] == raw.ch_names == names
