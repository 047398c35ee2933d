"""Study of the shortcut: who is left out, what the controls remove, and what every share and net is of."""

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_studies import (
    CHANNELS,
    FRONTAL,
    POSTERIOR,
    by_crops,
    gradients,
    logits,
    number,
    rotated_ica,
    tiny_recordings,
)

import eegxai_support as xs
from studies import shortcut

SUBJECTS = (1, 2, 3, 4, 5)
ROTATION = rotated_ica(CHANNELS)[1]
LABELS = {7: [1, 3], 42: [0, 4, 5], 1: [0], 2: [2, 9], 3: [], 4: [8], 5: [0, 1]}  # eye components of each subject
KINDS = ["brain", "muscle artifact", "eye blink", "heart beat", "line noise", "channel noise", "other"]
WINDOWS = {"across": (0.0, 3.0, 0.5, 38.0), "late": (1.0, 4.0, 7.0, 38.0)}


class Components:
    """What replaces the independent components: a rotation of the channels, some of them eyes."""

    def __init__(self):
        self.fitted, self.labelled = [], []

    def fit_ica(self, trials, *, n_components):
        assert n_components == 30
        ica, _ = rotated_ica(trials.info.ch_names)
        ica.subject = trials.metadata["subject"].unique().item()
        self.fitted.append((ica.subject, trials))
        return ica

    def label_components(self, ica, trials):
        assert trials.metadata["subject"].unique() == [ica.subject]
        label = ["eye blink" if c in LABELS[ica.subject] else KINDS[c % 2] for c in range(len(ROTATION))]
        table = pd.DataFrame({"component": range(len(ROTATION)), "label": label, "probability": 1.0})
        return table.join(pd.DataFrame({kind: (table["label"] == kind) * 1.0 for kind in KINDS}))


def tiny_components(patch) -> Components:
    tiny = Components()
    for name in ("fit_ica", "label_components"):
        patch.setattr(xs, name, getattr(tiny, name))
    patch.setattr(shortcut, "SUBJECTS", SUBJECTS)
    return tiny


@pytest.fixture
def components(recordings, monkeypatch):
    return tiny_components(monkeypatch)


@pytest.fixture(scope="module")
def maps():
    """The table of maps by three methods and two seeds, once for all tests of it."""
    with tiny_recordings() as (_, patch):
        tiny_components(patch)
        patch.setattr(shortcut, "METHODS", ("saliency", "input_x_gradient", "random"))
        patch.setattr(shortcut, "rounded", lambda table, _: table)
        return shortcut.shortcut_maps(seeds=(0, 2))


def eyes(subject: int) -> list[int]:
    return LABELS[subject]


def others(subject: int) -> list[int]:
    """Return as many other components, those that come first."""
    return [c for c in range(len(ROTATION)) if c not in LABELS[subject]][: len(LABELS[subject])]


def without(x, channels: list[int]):
    """Put channels to zero and take the mean of the others for reference."""
    x = x.astype(float)
    rest = [c for c in range(x.shape[1]) if c not in channels]
    x[:, rest] -= x[:, rest].mean(1, keepdims=True)
    x[:, channels] = 0
    return x


def cleaned(x, components: list[int]):
    """Take away what components put on the scalp, one by one."""
    return x.astype(float) - sum(np.outer(r, r) @ x for r in ROTATION[components])


def at(names) -> list[int]:
    return [CHANNELS.index(name) for name in names]


def removals(subject: int):
    """Return what every name of the column `removed` stands for."""
    return {
        "nothing": lambda x: x,
        "frontal channels": lambda x: without(x, at(FRONTAL)),
        "posterior channels": lambda x: without(x, at(POSTERIOR)),
        "eye components": lambda x: cleaned(x, eyes(subject)),
        "as many other components": lambda x: cleaned(x, others(subject)),
    }


def test_controls_are_as_many_as_what_they_stand_against_and_others():
    assert (
        len(shortcut.FRONTAL) == len(set(shortcut.FRONTAL)) == len(shortcut.POSTERIOR) == len(set(shortcut.POSTERIOR))
    )
    assert not set(shortcut.FRONTAL) & set(shortcut.POSTERIOR)
    assert set(FRONTAL) <= set(shortcut.FRONTAL) and set(POSTERIOR) <= set(shortcut.POSTERIOR)
    assert not {"C3", "C4", "Cz", "T7"} & {*shortcut.FRONTAL, *shortcut.POSTERIOR}


@pytest.mark.parametrize("name", ["broadband", "late", "untrained"])
def test_decoders_across_subjects_are_trained_on_the_other_subjects(components, recordings, name):
    tested = []
    for model, trials in shortcut.across(name, seed=3):
        left_out = set(trials.metadata["subject"])
        assert 1 <= len(left_out) <= 2  # a quarter of five
        assert set(trials.metadata["number"]) == set().union(*(number(s, (4, 8, 12)) for s in left_out))
        if name == "untrained":
            assert not hasattr(model, "numbers")
        else:
            seen = [s for s in SUBJECTS if s not in left_out]
            assert model.numbers == set().union(*(number(s, (4, 8, 12)) for s in seen))
            assert model.options == {"epochs": 25, "seed": 3, "cache": True}
        tested += sorted(left_out)
    assert sorted(tested) == [*SUBJECTS]
    assert len(recordings.trained) == (0 if name == "untrained" else 4)
    window = WINDOWS["late" if name == "late" else "across"]
    expected = dict(zip(("tmin", "tmax", "l_freq", "h_freq"), window, strict=True)) | {"sfreq": 80}
    assert recordings.loaded == [{"subjects": SUBJECTS, "runs": (4, 8, 12), **expected}]


def test_an_untrained_decoder_is_the_trained_one_before_training(components):
    trained, untrained = ([m for m, _ in shortcut.across(name, seed=2)] for name in ("broadband", "untrained"))
    other = [m for m, _ in shortcut.across("untrained", seed=0)]
    for a, b, c in zip(trained, untrained, other, strict=True):  # training leaves the weights as they are, here
        assert torch.equal(a.conv_spatial.weight, b.conv_spatial.weight)
        assert not torch.equal(b.conv_spatial.weight, c.conv_spatial.weight)


@pytest.mark.parametrize("subject", [7, 42])
def test_decoders_within_a_subject_leave_out_one_imagined_run(components, recordings, subject):
    fits = list(shortcut.within(f"S{subject:03d}", seed=1))
    for run, (model, trials) in zip((4, 8, 12), fits, strict=True):
        assert set(trials.metadata["number"]) == number(subject, [run])
        assert model.numbers == number(subject, {3, 7, 11, 4, 8, 12} - {run})
        assert model.options == {"epochs": 60, "seed": 1, "cache": True}
        np.testing.assert_allclose(trials.times[[0, -1]], [1.5, 3.5 - 1 / 80])
        assert model.shape[2] == 240 and model.n_times == 160


@pytest.mark.parametrize(
    ("name", "removed"),
    [
        ("no frontal channels", FRONTAL),
        ("no posterior channels", POSTERIOR),
        ("no eye components", eyes),
        ("no other components", others),
    ],
)
def test_a_decoder_without_a_part_is_trained_and_tested_without_it(components, recordings, name, removed, monkeypatch):
    seen = []

    def train(model, trials, **options):
        seen.append(trials)
        return recordings.train(model, trials, **options)

    monkeypatch.setattr(xs, "train", train)
    tested = [trials for _, trials in shortcut.across(name, seed=0)]
    whole = recordings.load_eegbci(SUBJECTS, tmin=0.0, tmax=3.0, sfreq=80)
    whole = dict(zip(whole.metadata["number"], whole.signal, strict=True))
    for trials in [*seen, *tested]:
        for n, subject, found in zip(trials.metadata["number"], trials.metadata["subject"], trials.signal, strict=True):
            if callable(removed):
                expected = cleaned(whole[n][None], removed(subject))[0]
                assert trials.info.ch_names == [*CHANNELS]
            else:
                expected = np.delete(without(whole[n][None], at(removed))[0], at(removed), axis=0)
                assert trials.info.ch_names == [c for c in CHANNELS if c not in removed]
            np.testing.assert_allclose(found, expected, atol=1e-5)
    assert [len(t) for t in seen] == [len(whole) - len(t) for t in tested]


def check_that_components_are_fitted_to_the_broadband_trials_of_a_subject(fitted, loaded):
    assert sorted(subject for subject, _ in fitted) == [*SUBJECTS, 7, 42]  # once each
    for subject, trials in fitted:
        assert set(trials.metadata["number"]) == number(subject, (4, 8, 12))
        np.testing.assert_allclose(trials.times[[0, -1]], [0, 4 - 1 / 160])
    asked = [call for call in loaded if call["h_freq"] == 79.0]
    assert all(call["l_freq"] == 1.0 and call["sfreq"] is None for call in asked) and len(asked) == 7


def test_accuracy_is_of_unseen_trials_with_one_part_removed(components, recordings):
    table = shortcut.shortcut_accuracy(seeds=(0, 1), seeds_without=(1,))
    check_that_components_are_fitted_to_the_broadband_trials_of_a_subject(components.fitted, recordings.loaded)
    names = ["broadband", "untrained", "late", "S007", "S042"]
    assert {*zip(table["decoder"], table["seed"], strict=True)} == {(n, s) for n in names for s in (0, 1)} | {
        (n, 1) for n in ("no frontal channels", "no posterior channels", "no eye components", "no other components")
    }
    assert not table.duplicated(["decoder", "seed", "subject", "removed"]).any()
    assert len(table) == 2 * (3 * 5 + 2) * 5 + 4 * 5
    for name in ("broadband", "S042", "no frontal channels"):
        expected = {}
        for model, trials in (shortcut.across if name in shortcut.ACROSS else shortcut.within)(name, seed=1):
            for subject in trials.metadata["subject"].unique():
                own = (trials.metadata["subject"] == subject).to_numpy()
                for removed, change in removals(subject).items() if not name.startswith("no ") else [("nothing", None)]:
                    x = change(trials.signal[own]) if change else trials.signal[own]
                    right = by_crops(model, x).argmax(1) == trials.label[own]
                    n, n_right = expected.get((subject, removed), (0, 0))
                    expected[subject, removed] = n + len(right), n_right + right.sum()
        found = table.query("decoder == @name and seed == 1").set_index(["subject", "removed"])
        assert {*zip(found["n_trials"], strict=True)} == {(12,)}
        assert found["n_right"].to_dict() == {key: n_right for key, (_, n_right) in expected.items()}
        assert found["accuracy"].to_dict() == pytest.approx({k: r / n for k, (n, r) in expected.items()})


def test_as_many_other_components_as_eyes_are_chosen(components):
    for subject in LABELS:
        chosen = {kind: [*shortcut._chosen(subject, kind)] for kind in (shortcut.EYES, shortcut.OTHERS)}
        assert chosen[shortcut.EYES] == sorted(LABELS[subject])
        assert chosen[shortcut.OTHERS] == others(subject)
        assert len(chosen[shortcut.EYES]) == len(chosen[shortcut.OTHERS])
        assert not {*chosen[shortcut.EYES]} & {*chosen[shortcut.OTHERS]}


def test_power_of_a_component_is_what_it_puts_on_the_scalp(components, recordings):
    table = shortcut.eye_components(subjects=(2, 5))
    assert [*table.groupby(["subject", "decoder"], sort=False).groups] == [
        (s, n) for s in (2, 5) for n in ("broadband", "late")
    ]
    for (subject, name), of in table.groupby(["subject", "decoder"]):
        low, high = WINDOWS["late" if name == "late" else "across"][:2]
        x = recordings.load_eegbci(subject, tmin=low, tmax=high, sfreq=80).signal.astype(float)
        share = [((np.outer(r, r) @ x) ** 2).sum() / (x**2).sum() for r in ROTATION]
        assert of.set_index("component")["power"].to_dict() == pytest.approx(dict(enumerate(share)), rel=1e-5)
        assert set(of.loc[of["label"] == "eye blink", "component"]) == set(LABELS[subject])


def share(values, chosen) -> float:
    """Mean over rows of what some columns hold of the absolute values."""
    return np.mean([np.abs(row[chosen]).sum() / np.abs(row).sum() for row in values])


def expected_shares(model, trials, subject: int) -> dict[tuple[str, str], tuple]:
    """Return share, net and net_total of the maps that are worked out by hand, by method and quantity."""
    x, own = trials.signal.astype(float), np.where(trials.label == 1, 1, -1)
    left, right = gradients(model, x)
    gradient, n_times = right - left, x.shape[2]
    map_ = gradient * x
    freqs = np.fft.rfftfreq(n_times, 1 / 80)
    pairs = np.where((freqs == 0) | (freqs == 40), 1, 2) / n_times
    by_freq = (pairs * np.real(np.fft.rfft(x) * np.conj(np.fft.rfft(gradient)))).sum(1)
    frontal, below, found = at(FRONTAL), np.flatnonzero(freqs < 6), {}
    for method, by_channel in {"saliency": np.abs(gradient).sum(2), "input_x_gradient": map_.sum(2)}.items():
        found[method, "frontal channels"] = share(by_channel, frontal), by_channel[:, frontal].sum(1), by_channel.sum(1)
    found["input_x_gradient", "below 6 Hz"] = share(by_freq, below), by_freq[:, below].sum(1), by_freq.sum(1)
    by_component = np.stack([((r @ x) * (r @ gradient)).sum(1) for r in ROTATION], axis=1)
    for kind in KINDS:
        chosen = [c for c in range(10) if (c in LABELS[subject]) == (kind == "eye blink")
                  and (kind == "eye blink" or KINDS[c % 2] == kind)]  # fmt: skip
        found["input_x_gradient", kind] = share(by_component, chosen), by_component[:, chosen].sum(1), map_.sum((1, 2))
    found["input_x_gradient", "left by the components"] = 0.0, 0 * own, map_.sum((1, 2))
    found = {key: (s, (own * net).mean(), (own * total).mean()) for key, (s, net, total) in found.items()}
    spectrum = np.fft.rfft(x)
    along = pairs * np.real(np.exp(-1j * np.angle(spectrum)) * np.fft.rfft(gradient))  # by the amplitude
    mean = along.mean(0)
    centred = np.abs(spectrum) - np.abs(spectrum).mean(0)
    output = (mean * centred).sum((1, 2))
    pattern = np.einsum("t, tcf -> cf", output, centred) / (len(x) - 1)
    weight = model.conv_spatial.weight.detach().numpy().astype(float).squeeze(-1)[:, 0]
    for method, by in {
        "amplitude gradient x amplitude": along * np.abs(spectrum),
        "mean amplitude gradient": mean[None],
        "Haufe pattern of the amplitudes": pattern[None],
        "power of the trials": (x**2).sum(2),
        "spatial filters": weight,
    }.items():
        by_channel = np.abs(by).sum(2) if by.ndim == 3 else by
        found[method, "frontal channels"] = share(by_channel, frontal), np.nan, np.nan
        if by.ndim == 3:
            found[method, "below 6 Hz"] = share(np.abs(by).sum(1), below), np.nan, np.nan
    power = (np.abs(spectrum) ** 2).sum(1)
    return found | {("power of the trials", "below 6 Hz"): (share(power, below), np.nan, np.nan)}


@pytest.mark.parametrize("name", ["broadband", "S042"])
def test_shares_and_nets_are_those_of_unseen_trials(components, maps, name):
    table = maps.query("decoder == @name and seed == 2")
    expected = []
    for model, trials in (shortcut.across if name in shortcut.ACROSS else shortcut.within)(name, seed=2):
        for subject, part in trials.split("subject").items():
            for key, values in expected_shares(model, part, subject).items():
                expected.append((subject, *key, *values))
    columns = ["subject", "method", "quantity", "share", "net", "net_total"]
    expected = pd.DataFrame(expected, columns=columns).groupby(columns[:3], as_index=False).mean()
    both = expected.merge(table, on=columns[:3], suffixes=("", "_found"), validate="one_to_one")
    assert len(both) == len(expected)
    known = set(expected["method"]) | {"random", "patterns of the spatial filters"}
    assert set(table["method"]) == known and len(table) == len(expected) + 2 * table["subject"].nunique()
    for column in columns[3:]:
        signed = both["method"] != "saliency"  # whose values have no sign
        values = both[column].where(signed | (column == "share"))
        np.testing.assert_allclose(both[f"{column}_found"], values, rtol=1e-3, atol=2e-5, err_msg=column)


def test_maps_are_of_every_decoder_seed_and_subject(maps):
    keys = {(d, seed, s) for d in ("broadband", "untrained", "late") for seed in (0, 2) for s in SUBJECTS}
    keys |= {(d, seed, s) for d, s in (("S007", 7), ("S042", 42)) for seed in (0, 2)}
    assert {*maps[["decoder", "seed", "subject"]].itertuples(index=False, name=None)} == keys


def test_a_random_map_is_drawn_anew_for_every_decoder_and_subject(maps):
    """One draw for all subjects would be one control, and its distance from chance would stay in every mean."""
    random = maps.query("method == 'random'")["share"]
    assert random.nunique() == len(random) == 2 * (3 * 5 + 2)


def test_topographies_are_shares_of_channels_in_unseen_trials(components, monkeypatch):
    monkeypatch.setattr(shortcut, "METHODS", ("input_x_gradient",))
    table = shortcut.shortcut_topographies(seeds=(0,))
    for name in ("untrained", "S007"):
        rows = []
        for model, trials in (shortcut.across if name in shortcut.ACROSS else shortcut.within)(name, seed=0):
            for part in trials.split("subject").values():
                left, right = gradients(model, part.signal)
                size = np.abs(((right - left) * part.signal).sum(2))
                rows.append(np.mean([trial / trial.sum() for trial in size], axis=0))
        found = table.query("decoder == @name and method == 'input_x_gradient'").set_index("channel")["value"]
        assert found.to_dict() == pytest.approx(dict(zip(CHANNELS, np.mean(rows, axis=0), strict=True)), rel=1e-3)
        assert found.sum() == pytest.approx(1)


def test_the_last_layer_of_logits_is_left_then_right(recordings):
    trials = recordings.load_eegbci(7, (4,), sfreq=80)
    assert trials.class_names == ("left fist", "right fist") and [*trials.label] == [0, 1, 0, 1]
    assert logits(xs.build_decoder("EEGNet", trials, n_times=240), trials.signal).shape == (4, 2)
