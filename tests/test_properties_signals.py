"""Trials, their spectra, components and decoders: units, types, order, and what is the same there and back."""

import tempfile
from functools import partial
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from properties import SFREQ, Net, assert_close, info_of, of, seeds, tasks, trials_of, units
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

import eegxai_support as xs
from eegxai_support.simulate import SHORTCUTS

pytestmark = pytest.mark.filterwarnings("ignore")  # of units and sizes that nobody records
BANDS = {"theta": (4, 7), "alpha": (8, 13), "all": (1, 30)}
dtypes = st.sampled_from(("float32", "float64"))
channels = st.sampled_from((3, 2, 4, 5))


def recording(rng, n_trials=8, n_channels=3, n_times=160, n_classes=2, **options):
    """Return trials of classes in turn, all in each of two runs."""
    label = np.arange(n_trials) // 2 % n_classes
    mixing = rng.standard_normal((n_classes, n_channels, n_channels))  # or no channel would differ from another
    signal = mixing[label] @ rng.standard_normal((n_trials, n_channels, n_times))
    return trials_of(signal.astype("float32"), label, n_classes, **options)


def moved(trials, order, by_channel):
    """Return trials in another order, of channels in another order."""
    return trials.subset(order).pick([trials.info.ch_names[c] for c in by_channel])


def louder(trials, unit):
    return trials.apply_matrix(unit * np.eye(trials.signal.shape[1]))


# --- trials there and back --------------------------------------------------------------------------------------------


@of("Trials", "concatenate", "from_array", "from_epochs", "to_epochs", "to_array", "to_evoked")
@given(n=st.integers(4, 9), n_channels=channels, n_times=st.integers(8, 20), exponent=st.integers(-6, 6), seed=seeds)
def test_trials_come_back_from_wherever_they_were(n, n_channels, n_times, exponent, seed):
    rng = np.random.default_rng(seed)
    trials = louder(recording(rng, n, n_channels, n_times), 10.0**exponent)
    names = trials.info.ch_names
    joined = xs.concatenate(trials.split("run").values())
    by_run = np.argsort(trials.metadata["run"].to_numpy(), kind="stable")
    same_trials(joined, trials.subset(by_run))
    first = trials.subset(np.arange(n) < 2)
    order = rng.permutation(n_channels)
    same_trials(xs.concatenate([first, first.pick([names[c] for c in order])]), xs.concatenate([first, first]))

    epochs = xs.to_epochs(trials)
    np.testing.assert_array_equal(xs.to_array(epochs), trials.signal)
    same_trials(xs.from_epochs(epochs), trials)
    maps = rng.standard_normal(trials.signal.shape).astype("float32")
    for name, evoked in xs.to_evoked(trials, maps).items():
        own = maps[trials.label == trials.class_names.index(name)]
        assert_close(xs.to_array(evoked), own.mean(0, dtype=float).astype("float32"))
    for unit, size in (("V", 1e-6), ("mV", 1e-3), ("uV", 1.0), ("nV", 1e3)):
        given = trials.signal.astype(float) * size
        made = xs.from_array(given, SFREQ, names, trials.label, event_id={"a": 0, "b": 1}, unit=unit)
        assert_close(made.signal, trials.signal)
        assert made.unit == "uV" and made.class_names == trials.class_names
        np.testing.assert_array_equal(made.label, trials.label)


def same_trials(found, expected):
    np.testing.assert_array_equal(found.signal, expected.signal)
    np.testing.assert_array_equal(found.label, expected.label)
    assert (found.class_names, found.info.ch_names) == (expected.class_names, expected.info.ch_names)
    assert list(found.metadata["run"]) == list(expected.metadata["run"])


@of(
    "to_spectrum",
    "to_spatial_filter",
    "frequency_relevance",
    "time_frequency_relevance",
    "region_relevance",
    "attribute",
)
@given(task=tasks(), method=st.sampled_from(("deep_lift", "input_x_gradient", "lrp_gamma")), unit=units, seed=seeds)
def test_relevance_in_another_domain_sums_to_the_map_and_has_no_unit(task, method, unit, seed):
    (n, n_channels, n_times), rng = task.x.shape, np.random.default_rng(seed)
    order = rng.permutation(n_channels)
    stft = ShortTimeFFT(hann(8, sym=False), 4, SFREQ)
    domains = {"frequency": xs.frequency_relevance, "both": partial(xs.time_frequency_relevance, stft=stft)}

    def explained(task):
        attribution = xs.attribute(task.model, task.x, task.target, method)
        return attribution, {name: domain(attribution, task.x) for name, domain in domains.items()}

    attribution, found = explained(task)
    (_, scaled), (_, permuted) = explained(task.in_unit(unit)), explained(task.channels(order))
    for name, relevance in found.items():
        assert relevance.dtype == task.x.dtype and relevance.shape[:2] == (n, n_channels)
        size = np.abs(relevance).sum((2, 3) if name == "both" else 2).max()
        assert_close(relevance.sum(tuple(range(2, relevance.ndim))), attribution.values.sum(2), size=size)
        assert_close(scaled[name], relevance)
        assert_close(permuted[name], relevance[:, order])

    relevance, info = found["frequency"], info_of(n_channels)
    freqs = np.fft.rfftfreq(n_times, 1 / SFREQ)
    table = xs.region_relevance(relevance, info, freqs, {"low": (0, 10), "high": (10, SFREQ)})
    parts = table.groupby("trial")[["positive", "negative"]].sum().sum(axis=1)
    assert_close(parts, relevance.sum((1, 2), dtype=float), "float32", size=np.abs(relevance).sum((1, 2)).max())
    assert (table["positive"] >= 0).all() and (table["negative"] <= 0).all()
    renamed = mne.pick_info(info, order)
    again = xs.region_relevance(relevance[:, order], renamed, freqs, {"low": (0, 10), "high": (10, SFREQ)})
    keys = ["trial", "region", "band"]
    pd.testing.assert_frame_equal(*(each.sort_values(keys, ignore_index=True) for each in (again, table)), atol=1e-6)

    trials = trials_of(task.x, task.target, task.n_classes)
    single = relevance.astype("float32")
    np.testing.assert_array_equal(xs.to_array(xs.to_spectrum(trials, single)), single)
    spatial = xs.to_spatial_filter(single[0].T, single[0].T, info)
    assert np.allclose(spatial.filters * spatial.patterns, single[0].T.astype(float) ** 2, rtol=1e-12)


@of("make_baseline")
@given(n=st.integers(2, 6), n_times=st.integers(8, 21), dtype=dtypes, unit=units, seed=seeds)
def test_baselines_keep_what_they_promise_in_any_unit(n, n_times, dtype, unit, seed):
    rng = np.random.default_rng(seed)
    x, label, order = rng.standard_normal((n, 3, n_times)).astype(dtype), np.arange(n) % 2, rng.permutation(3)
    amplitude = np.abs(np.fft.rfft(x))
    for kind in ("zero", "trial_mean", "phase_scrambled", "mean_amplitude", "other_class"):
        make = partial(xs.make_baseline, kind=kind, label=label, seed=seed)
        found = make(x)
        assert found.dtype == dtype and found.shape == x.shape and not np.shares_memory(found, x)
        assert_close(make(unit * x), unit * found)
        assert_close(make(x[:, order]), found[:, order])
        if kind in ("zero", "trial_mean", "phase_scrambled"):  # the others are made of the other trials
            assert_close(xs.make_baseline(x[:1], kind, seed=seed), found[:1])
        made = {
            "zero": 0 * amplitude,
            "trial_mean": amplitude * (np.arange(amplitude.shape[2]) == 0),
            "phase_scrambled": amplitude,
            "mean_amplitude": np.broadcast_to(amplitude.mean(0), amplitude.shape),
        }
        if kind in made:
            assert_close(np.abs(np.fft.rfft(found)).astype(dtype), made[kind].astype(dtype), size=n_times)
        else:
            assert all(
                any((row == other).all() for other in x[label != k]) for row, k in zip(found, label, strict=True)
            )


# --- what the recording shows -----------------------------------------------------------------------------------------


@of("band_power", "event_related_desynchronisation", "erds_map", "filter_bank_csp", "FilterBankCSP")
@settings(max_examples=3)
@given(n_channels=channels, n_classes=st.sampled_from((3, 2, 4)), unit=units, seed=seeds)
def test_measured_power_is_quadratic_in_the_unit_and_ratios_have_none(n_channels, n_classes, unit, seed):
    rng = np.random.default_rng(seed)
    trials = recording(rng, 16, n_channels, n_classes=n_classes, tmin=-1.0)
    by_channel, order = rng.permutation(n_channels), rng.permutation(16)
    other = louder(moved(trials, order, by_channel), unit)
    close = partial(assert_close, dtype="float32")  # as which trials are stored

    power, again = (xs.band_power(each, BANDS, segment=0.5) for each in (trials, other))
    assert power.shape == (16, n_channels, 3) and (power > 0).all()
    close(again / unit**2, power[order][:, by_channel])
    interval = {"reference": (-1.0, 0.0), "active": (0.0, 1.5), "segment": 0.5}
    change, again = (xs.event_related_desynchronisation(each, BANDS, **interval) for each in (trials, other))
    assert change.shape == (n_classes, n_channels, 3) and (change > -100).all()
    close(again, change[:, by_channel], size=100)
    stft = ShortTimeFFT(hann(16, sym=False), 8, SFREQ)
    change, again = (xs.erds_map(each, stft, reference=(-1.0, 0.0)) for each in (trials, other))
    assert change.shape[:3] == (n_classes, n_channels, stft.f_pts) and not (change < -100).any()
    close(again, change[:, by_channel], size=100)
    csp, again = (xs.filter_bank_csp(each, BANDS, n_components=2, segment=0.5) for each in (trials, other))
    assert csp.patterns.shape == (n_classes, 3, 2, n_channels) and ((0 < csp.eigenvalues) & (csp.eigenvalues < 1)).all()
    assert_close(again.eigenvalues, csp.eigenvalues, "float32")
    assert_close(again.contrast, csp.contrast[:, by_channel], "float32", size=10)
    assert_close(np.abs(again.patterns) / unit, np.abs(csp.patterns)[..., by_channel], "float32", size=10)


# --- components -------------------------------------------------------------------------------------------------------


@of("fit_ica", "component_relevance", "remove_components", "label_components", "attribute")
@settings(max_examples=1)
@given(unit=units, seed=seeds)
def test_components_have_no_unit_and_share_out_the_map(unit, seed):
    rng = np.random.default_rng(seed)
    signal = rng.laplace(size=(4, 8, 400)) * np.arange(1, 9)[:, None]
    trials = trials_of(signal.astype("float32"), np.arange(4) % 2, 2, sfreq=200.0).rereference()
    with trials.info._unlock():
        trials.info["highpass"], trials.info["lowpass"] = 1.0, 100.0
    ica, scaled = (xs.fit_ica(each, n_components=2) for each in (trials, louder(trials, unit)))
    kinds = xs.label_components(ica, trials)
    assert len(kinds) == 2 and np.allclose(kinds.iloc[:, 3:].sum(axis=1), 1, atol=1e-5)
    assert (kinds["probability"] == kinds.iloc[:, 3:].max(axis=1)).all()

    model = Net(8, 400, 2)
    model.sfreq = 200.0
    maps = xs.attribute(model, trials, trials.label, "deep_lift")
    found, again = (xs.component_relevance(maps, trials, each) for each in (ica, scaled))
    size = np.abs(maps.values).sum((1, 2)).max()
    assert found.shape == (4, 3) and found.dtype == np.float32
    assert_close(found.sum(1), maps.values.sum((1, 2)), size=size)
    assert_close(again, found, size=10 * size)  # infomax stops where its steps are small, not at a fixed point
    cleaned = xs.remove_components(trials, ica, [0])
    assert_close(xs.remove_components(louder(trials, unit), ica, [0]).signal / unit, cleaned.signal)
    assert_close(xs.remove_components(cleaned, ica, [0]).signal, cleaned.signal)
    zeroed = xs.attribute(model, cleaned, trials.label, "input_x_gradient")
    assert_close(xs.component_relevance(zeroed, cleaned, ica)[:, 0], 0 * found[:, 0], size=size)


# --- networks and decoders --------------------------------------------------------------------------------------------


@of("simplify", "adapted", "frozen", "save", "load", "predict")
@given(task=tasks(), seed=seeds)
def test_the_same_network_in_another_form_says_the_same(task, seed):
    model, x = task.model.train(), torch.as_tensor(task.x)
    modes = [each.training for each in model.modules()]
    expected = xs.predict(model, task.x)
    with xs.frozen(model), torch.no_grad():
        np.testing.assert_array_equal(model(x).numpy(), expected)
        assert not any(p.requires_grad for p in model.parameters())
        faster = xs.simplify(model, x)
        assert_close(faster(x).numpy(), expected)
    assert [each.training for each in model.modules()] == modes and all(p.requires_grad for p in model.parameters())
    halves = xs.adapted(model, input=lambda x: x[:, :, : x.shape[2] // 2].repeat(1, 1, 2), output=lambda z: z.flip(1))
    folded = np.concatenate([task.x[:, :, : task.x.shape[2] // 2]] * 2, axis=2)
    if folded.shape == task.x.shape:
        assert_close(xs.predict(halves, task.x), xs.predict(model, folded)[:, ::-1])
    with tempfile.TemporaryDirectory() as folder:
        xs.save(model, Path(folder) / "weights.safetensors", seed=seed)
        other = Net(model.n_chans, model.n_times, task.n_classes, seed + 2).to(x.dtype)
        other.active = model.active
        np.testing.assert_array_equal(
            xs.predict(xs.load(other, Path(folder) / "weights.safetensors"), task.x), expected
        )


@of("build_decoder", "recipe", "InterpretableCNN", "RECIPES", "train", "Training", "TrainingRecord", "predict")
@settings(max_examples=2)
@given(n_channels=channels, n_classes=st.sampled_from((3, 2, 4)), sfreq=st.sampled_from((64.0, 100.0)), seed=seeds)
def test_decoders_fit_their_trials_and_training_depends_on_the_seed_alone(n_channels, n_classes, sfreq, seed):
    rng, seed = np.random.default_rng(seed), seed % 2**31
    trials = recording(rng, 12, n_channels, 80, n_classes, sfreq=sfreq)
    for name in xs.RECIPES:
        lengths, slower = xs.recipe(name, sfreq), xs.recipe(name, sfreq / 2)
        assert lengths.keys() == slower.keys()
        for key, value in lengths.items():
            assert value == slower[key] or abs(value - 2 * slower[key]) <= 1
    options = xs.recipe("InterpretableCNN", sfreq)
    trained = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        state = torch.get_rng_state()
        model = xs.build_decoder("InterpretableCNN", trials, seed=seed, **options)
        assert xs.predict(model, trials).shape == (12, n_classes)
        history = xs.train(model, trials, epochs=2, seed=seed, batch_size=5).history
        assert torch.equal(torch.get_rng_state(), state)
        assert model.training_record.n_trials == tuple(np.bincount(trials.label, minlength=n_classes))
        trained.append((model, history))
    (one, history), (other, again) = trained
    pd.testing.assert_frame_equal(history, again)
    assert all(torch.equal(*each) for each in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@of("cross_validate", "csp_lda", "decoder_fit")
@settings(max_examples=2)
@given(n_channels=channels, n_classes=st.sampled_from((2, 3)), unit=units, seed=seeds)
def test_what_is_predicted_is_a_class_and_has_no_unit(n_channels, n_classes, unit, seed):
    rng = np.random.default_rng(seed)
    trials = recording(rng, 24, n_channels, 64, n_classes)
    folds = partial(xs.cross_validate, xs.csp_lda(2))
    found = folds(trials)
    assert sorted(found["label"]) == sorted(trials.label) and found["predicted"].isin(range(n_classes)).all()
    assert list(folds(louder(trials, unit))["predicted"]) == list(found["predicted"])
    assert list(folds(trials.pick(trials.info.ch_names[::-1]))["predicted"]) == list(found["predicted"])
    network = xs.decoder_fit(Small, epochs=1, n_times=32, seed=1, batch_size=12)
    one, other = (xs.cross_validate(network, trials, tested=trials.metadata["run"] == 0) for _ in range(2))
    assert len(one) == 12 and one["predicted"].isin(range(n_classes)).all()
    pd.testing.assert_frame_equal(one, other)


def Small(n_chans, n_times, n_outputs):
    return Net(n_chans, n_times, n_outputs, 1)


levels = st.sampled_from((0, -10, 10))


@of("add_shortcut")
@given(kind=st.sampled_from(sorted(SHORTCUTS)), n=st.integers(4, 9), strength=st.floats(0.1, 3), seed=seeds)
def test_what_a_shortcut_adds_is_blind_to_what_was_there(kind, n, strength, seed):
    names = "Fpz F7 F8 C3 T7 T8 Oz".split()
    rng, label = np.random.default_rng(seed), np.arange(n) % 2
    about = {"sfreq": 128.0, "ch_names": names, "label": label, "unit": "uV", "event_id": {"a": 0, "b": 1}}
    made = [xs.from_array(scale * rng.standard_normal((n, 7, 64)), **about) for scale in (10.0, 30.0)]
    one, other = (xs.add_shortcut(each, kind, strength=strength, seed=seed).signal - each.signal for each in made)
    size = max(np.abs(each.signal).max() for each in made) + np.abs(one).max()
    assert one.dtype == np.float32 and np.isfinite(one).all()
    assert_close(one, other, size=size)
    assert_close(
        xs.add_shortcut(made[0], kind, seed=seed).signal - made[0].signal, one / strength, size=size / strength
    )


@of("simulate", "SimulatedTrials")
@given(regime=st.sampled_from(("temporal", "spectral", "spatial")), n=st.integers(4, 9), snr_db=levels, seed=seeds)
def test_simulated_trials_are_those_of_the_seed_at_the_ratio_asked_for(regime, n, snr_db, seed):
    names = "Fz C3 Cz C4 Pz POz Oz".split()
    make = partial(xs.simulate, regime, n_trials=n, seed=seed, sfreq=100.0, duration=0.5, ch_names=names)
    trials, again, weaker = make(snr_db=snr_db), make(snr_db=snr_db), make(snr_db=snr_db - 20)
    assert trials.signal.shape == trials.truth.shape == (n, 7, 50) and np.isfinite(trials.signal).all()
    assert trials.label.max() < trials.n_classes and trials.truth.any((1, 2)).all()
    same_trials(again, trials)
    noise = trials.signal - trials.truth
    assert_close(weaker.truth * 10, trials.truth)
    assert_close(weaker.signal - weaker.truth, noise, size=np.abs(trials.truth).max())
    inside = np.abs(trials.truth) >= 0.05 * np.abs(trials.truth).max((1, 2), keepdims=True)
    assert np.isclose(10 * np.log10((trials.truth[inside] ** 2).mean() / (noise[inside] ** 2).mean()), snr_db, atol=1.5)
