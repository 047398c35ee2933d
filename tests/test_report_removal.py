"""Removed parts: pieces that sum to the trials, controls of exactly their power, answers whose truth is known."""

import re
from collections import namedtuple
from dataclasses import replace
from functools import cache

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import eegxai_support as xs
from eegxai_support.montages import electrode_info
from eegxai_support.report.components import Components, fit_components
from eegxai_support.report.needed import above_chance, costs_more, interventions
from eegxai_support.report.pieces import channel_pieces, component_pieces, frequency_pieces, line_frequency, time_pieces
from eegxai_support.report.removal import remove_parts

Fit = namedtuple("Fit", "model untrained index group seed")
NAMES = tuple("Fp1 Fp2 F7 F8 C3 C4 Pz O1 O2 T7".split())
LABELS = [
    "eye blink",
    "brain",
    "brain",
    "brain",
    "muscle artifact",
    "other",
    "brain",
    "other",
    "brain",
    "channel noise",
]
SFREQ, N_TIMES, N_TRIALS = 200.0, 200, 60
TIMES = np.arange(N_TIMES) / SFREQ


class Reads(nn.Module):
    """A linear network: logits are minus and plus what the weights find."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(torch.as_tensor(weight, dtype=torch.float32))

    def forward(self, x):
        score = (x * self.weight).sum((1, 2))
        return torch.stack([-score, score], 1)


def trials_of(signal, label=None, ch_names=NAMES, sfreq=SFREQ, runs=4, subject=1):
    n = len(signal)
    label = np.arange(n) % 2 if label is None else label
    metadata = pd.DataFrame({"subject": subject, "session": 1, "run": np.arange(n) * runs // n + 1}, index=range(n))
    return xs.Trials(signal, "uV", label, electrode_info(ch_names, sfreq), ("left", "right"), metadata)


def ica_of(mixing):
    """Return an ICA whose topographies are the columns of `mixing`, of all channels."""
    noise = np.random.default_rng(0).standard_normal((2, len(mixing), 60))
    info = electrode_info(NAMES[: len(mixing)], SFREQ)
    ica = mne.preprocessing.ICA(len(mixing), method="infomax", max_iter=1, random_state=0, verbose="ERROR")
    ica.fit(mne.EpochsArray(noise, info, verbose=False), verbose="ERROR")
    ica.unmixing_matrix_ = np.linalg.inv(mixing) * ica.pre_whitener_.T @ ica.pca_components_.T
    ica.mixing_matrix_ = np.linalg.inv(ica.unmixing_matrix_)
    return ica


def components_of(mixing, labels=tuple(LABELS), subjects=(1,)):
    rows = [(s, c, label, 0.9, "fitted") for s in subjects for c, label in enumerate(labels)]
    table = pd.DataFrame(rows, columns=["subject", "component", "label", "probability", "origin"])
    return Components(dict.fromkeys(subjects, ica_of(mixing)), table)


def bump(middle, width=0.08):
    return np.exp(-(((TIMES - middle) / width) ** 2))


CARRIERS = {  # what the label changes: (spatial pattern, or the component that has it, time course)
    "eyes": (0, bump(0.5)),
    "muscle": (4, np.sin(2 * np.pi * 35 * TIMES) * bump(0.5)),
    "brain": (2, np.sin(2 * np.pi * 11 * TIMES) * bump(0.5, 0.2)),
    "line": ("all", np.sin(2 * np.pi * 50 * TIMES)),
    "drift": ("all", TIMES - 0.5),
    "edge": ("all", bump(0.02, 0.02)),
    "channel": ("O2", np.sin(2 * np.pi * 8 * TIMES) * bump(0.5)),
}


def recorded(carrier, seed=0, n_trials=N_TRIALS, size=1.6):
    """Return trials whose label `carrier` carries, their components, and networks that have learnt it, and noise."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((10, 10))
    # Few strong sources, so that channels predict each other as they do on a head.
    sources = rng.laplace(size=(n_trials, 10, N_TIMES)) * np.array([1, 1, 1, 1, 1, 1, 0.3, 0.3, 0.3, 0.3])[:, None]
    where, course = CARRIERS[carrier]
    label = np.arange(n_trials) // 2 % 2
    pattern = mixing[:, where] if isinstance(where, int) else rng.standard_normal(10)
    if where in NAMES:
        pattern = 3.0 * (np.array(NAMES) == where)
    course = size * course / np.abs(course).max()
    signal = mixing @ sources + (2 * label - 1)[:, None, None] * np.outer(pattern, course)
    white = np.linalg.inv(mixing @ mixing.T)
    learnt = np.outer(white @ pattern, course)
    trials = trials_of(signal, label)
    fits = []
    for run in range(1, 5):
        for model_seed in (0, 1):
            noise = rng.standard_normal(learnt.shape) * np.sqrt(np.square(learnt).mean()) * 0.3
            index = np.flatnonzero(trials.metadata["run"] == run)
            fits.append(Fit(Reads(0.05 * (learnt + noise)), None, index, run, model_seed))
    return trials, components_of(mixing), fits


def of_trials(trials, group="run"):
    return pd.DataFrame(
        {"trial": np.arange(len(trials)), "group": trials.metadata[group].to_numpy(), "label": trials.label}
    )


@cache
def judged(carrier):
    trials, components, fits = recorded(carrier)
    removals = remove_parts(fits, trials, components, channels=["O2"], n_controls=8)
    return interventions(removals, of_trials(trials), n_channels=10).set_index("part")


@pytest.mark.parametrize("make", ["components", "components of few", "frequency", "time", "channel"])
def test_pieces_have_the_power_that_they_say(make):
    rng = np.random.default_rng(1)
    signal = rng.standard_normal((6, 10, 50)) + np.linspace(0, 3, 50)
    if make == "channel":
        pieces = channel_pieces(signal, 4)
    elif make.startswith("components"):
        mixing = rng.standard_normal((10, 10))
        ica = ica_of(mixing)
        if make.endswith("few"):
            ica.n_components_ = 6
            ica.unmixing_matrix_ = rng.standard_normal((6, 6))
            ica.mixing_matrix_ = np.linalg.inv(ica.unmixing_matrix_)
        pieces = component_pieces(signal, ica)
        np.testing.assert_allclose(pieces.combined(np.ones(len(pieces.inner))), signal, atol=1e-9)
        first = signal - xs.remove_components(trials_of(signal), ica, [0]).signal
        expected = pieces.combined(np.eye(len(pieces.inner))[0])
        if not make.endswith("few"):  # else the mean that the source explains is added to its topography
            np.testing.assert_allclose(first, expected, atol=1e-5)
    else:
        pieces = {"frequency": frequency_pieces, "time": time_pieces}[make](signal)
        whole = signal if make == "frequency" else signal - signal.mean(2, keepdims=True)
        np.testing.assert_allclose(pieces.combined(np.ones(len(pieces.inner))), whole, atol=1e-9)
    for weights in (np.eye(len(pieces.inner))[1], rng.random(len(pieces.inner))):
        np.testing.assert_allclose(np.square(pieces.combined(weights)).sum(), pieces.power(weights), rtol=1e-9)


@pytest.mark.parametrize("make", [frequency_pieces, time_pieces, lambda x: channel_pieces(x, 4), "components"])
def test_controls_have_exactly_the_power_of_the_part_and_nothing_of_it(make):
    rng = np.random.default_rng(2)
    signal = rng.standard_normal((6, 10, 60))
    pieces = component_pieces(signal, ica_of(rng.standard_normal((10, 10)))) if make == "components" else make(signal)
    n = len(pieces.inner)
    several = 0
    for piece in np.argsort(np.diag(pieces.inner))[[n // 5, n // 2, -2]]:
        members = np.arange(n) == piece
        drawn = [pieces.as_powerful(members, np.random.default_rng(i)) for i in range(30)]
        drawn = [weights for weights in drawn if weights is not None]  # components may cancel each other
        for weights in drawn:
            np.testing.assert_allclose(pieces.power(weights), pieces.power(members.astype(float)), rtol=1e-9)
            assert (weights[members] == 0).all() and ((weights >= 0) & (weights <= 1)).all()
            assert ((weights > 0) & (weights < 1)).sum() <= 1
            several += (weights > 0).sum() > 1
        assert len(np.unique(np.round(drawn, 9), axis=0)) > 5
    assert several > 10


def test_without_as_much_power_there_is_no_control():
    signal = np.random.default_rng(3).standard_normal((6, 10, 60))
    signal[..., :] += 20  # all of it at zero frequency
    pieces = frequency_pieces(signal)
    assert pieces.as_powerful(np.arange(60) == 0, np.random.default_rng(0)) is None
    assert pieces.as_powerful(np.arange(60) == 5, np.random.default_rng(0)) is not None


def test_a_part_without_power_has_an_empty_control():
    pieces = time_pieces(np.random.default_rng(4).standard_normal((3, 4, 40)))
    assert not pieces.as_powerful(np.zeros(20, bool), np.random.default_rng(0)).any()


def test_frequencies_and_times_are_drawn_as_one_run():
    signal = np.random.default_rng(5).standard_normal((6, 10, 60))
    for pieces, members in ((frequency_pieces(signal), np.arange(60) < 9), (time_pieces(signal), np.arange(20) < 4)):
        for seed in range(20):
            others = pieces.as_powerful(members, np.random.default_rng(seed))[~members] > 0
            assert (np.diff(np.append(others, others[0])) != 0).sum() == 2  # from one on, and on from the lowest


def test_a_drift_is_in_the_lowest_frequencies_although_it_does_not_end_where_it_began():
    drift = np.tile(np.linspace(-1, 1, 200), (2, 3, 1)) * np.arange(1, 4)[:, None]
    pieces = frequency_pieces(drift)
    assert pieces.power((np.arange(200) < 4).astype(float)) > 0.99 * np.square(drift).sum()
    assert np.square(np.abs(np.fft.rfft(drift))[..., 4:]).sum() > 0.05 * np.square(np.abs(np.fft.rfft(drift))).sum()


@pytest.mark.parametrize("averaged", [True, False])
def test_what_a_channel_alone_records_is_found_behind_the_reference(averaged):
    """What the head sees comes back from the other channels; what is at one electrode goes, also from the average."""
    rng = np.random.default_rng(6)
    seen = rng.standard_normal((12, 3)) @ rng.standard_normal((20, 3, 100)) + 0.02 * rng.standard_normal((20, 12, 100))
    alone = 2 * rng.standard_normal((20, 100))
    signal = seen.copy()
    signal[:, 4] += alone
    if averaged:
        signal, seen = (each - each.mean(1, keepdims=True) for each in (signal, seen))
    pieces = channel_pieces(signal, 4)
    removed = pieces.combined((np.arange(12) == 0).astype(float))
    expected = ((np.arange(12) == 4) - averaged / 12)[:, None] * alone[:, None]
    assert np.linalg.norm(removed - expected) < 0.06 * np.linalg.norm(expected)
    assert np.linalg.norm(signal - removed - seen) < 0.06 * np.linalg.norm(expected)
    if averaged:
        np.testing.assert_allclose((signal - removed).mean(1), 0, atol=1e-9)
    # Without the signal of the first other channel.
    without = signal - pieces.combined((np.arange(12) == 1).astype(float))
    expected = np.where(np.arange(12)[:, None] == 0, 0, signal)
    np.testing.assert_allclose(without, expected - averaged * expected.mean(1, keepdims=True), atol=1e-9)


def test_what_eyes_put_on_the_reference_goes_with_them():
    """Trials against one electrode hold a source at all channels; its ICA, in average reference, does not say so."""
    rng = np.random.default_rng(7)
    mixing = rng.standard_normal((10, 10))
    sources = rng.laplace(size=(20, 10, 100))
    against = mixing - mixing[4]  # the fifth electrode is the reference, and is left in as zeros less a small noise
    signal = against @ sources
    averaged = mixing - mixing.mean(0)
    ica = ica_of(mixing)
    unmixing = np.linalg.pinv(averaged)
    ica.n_components_ = 9
    pca = np.linalg.svd(averaged, full_matrices=False)[0][:, :9]
    ica.pca_components_ = pca.T
    ica.pre_whitener_[:] = 1
    rotation = (unmixing @ pca)[:9]
    ica.unmixing_matrix_, ica.mixing_matrix_ = rotation, np.linalg.inv(rotation)
    pieces = component_pieces(signal, ica)
    assert np.ptp((pieces.combined(np.eye(10)[0])).mean(1)) > 0.1  # the mean over channels has a part of the source
    np.testing.assert_allclose(pieces.combined(np.ones(10)), signal, atol=1e-8)


@pytest.mark.parametrize("carrier", CARRIERS)
def test_the_part_that_carries_the_label_costs_more_than_as_powerful_ones(carrier):
    part = {"eyes": "eye blink", "muscle": "muscle artifact", "line": "line, 50 Hz", "drift": "below 0.5 Hz",
            "edge": "first 10 %", "channel": "O2 alone"}.get(carrier, carrier)  # fmt: skip
    made = judged(carrier)
    if carrier == "brain":  # most of the power: no control
        assert np.isnan(made.loc[part, "p"]) or made.loc[part, "p_holm"] < 0.05
    else:
        assert made.loc[part, "p_holm"] < 0.05
        assert made.loc[part, "drop_low"] > 0.1 and made.loc[part, "control"] > made.loc[part, "accuracy"]
    assert made.loc[part, "only_p"] < 0.05
    assert made.loc[part, "accuracy"] < 0.75 and made.loc[part, "only"] > 0.75
    unrelated = "last 10 %"
    assert made.loc[unrelated, "p_holm"] > 0.05 and made.loc[unrelated, "accuracy"] > 0.85


def test_every_fit_predicts_its_own_trials_at_their_scale():
    """An oracle by hand: one part, one network a run, standardised by the whole trial and not by what is left."""
    trials, _, fits = recorded("eyes")
    spread = trials.signal.std(axis=(1, 2), keepdims=True)

    def prepare(them):
        return replace(them, signal=them.signal / them.signal.std(axis=(1, 2), keepdims=True), unit="standardised")

    removals = remove_parts(fits[::2], trials, prepare=prepare, n_controls=0)
    removals = removals[(removals["part"] == "first 10 %") & ~removals["only"]]
    assert len(removals) == len(trials) and removals["trial"].is_unique
    without = trials.signal.copy()
    without[..., :20] = trials.signal.mean(2, keepdims=True)
    for fit in fits[::2]:
        rows = removals.set_index("trial").loc[fit.index]
        logits = xs.predict(fit.model, (without / spread)[fit.index].astype(np.float32))
        label = trials.label[fit.index]
        sign = 2 * label - 1
        np.testing.assert_allclose(rows["log_odds"], sign * (logits[:, 1] - logits[:, 0]), rtol=1e-4, atol=1e-4)
        assert (rows["predicted"] == logits.argmax(1)).all() and (rows["correct"] == (logits.argmax(1) == label)).all()
    share = np.square(trials.signal - without).sum() / np.square(trials.signal).sum()
    np.testing.assert_allclose(removals["power"], share, rtol=1e-4)


def test_a_preparation_that_is_no_scale_is_run_on_the_changed_trials():
    trials, _, fits = recorded("eyes")

    def prepare(them):
        return replace(them, signal=np.cumsum(them.signal, axis=2) / 10)

    removals = remove_parts(fits[:1], trials, prepare=prepare, n_controls=0)
    rows = removals[(removals["part"] == "first 10 %") & ~removals["only"]].set_index("trial").loc[fits[0].index]
    without = trials.signal.copy()
    without[..., :20] = trials.signal.mean(2, keepdims=True)
    logits = xs.predict(fits[0].model, (np.cumsum(without, axis=2) / 10)[fits[0].index])
    np.testing.assert_allclose(rows["log_odds"].abs(), np.abs(logits[:, 1] - logits[:, 0]), rtol=1e-3, atol=1e-3)


def test_controls_take_as_much_power_as_the_part_subject_by_subject():
    trials, _, fits = recorded("eyes")
    subject = 1 + np.arange(N_TRIALS) // 30
    signal = np.where((subject == 2)[:, None, None], 3 * trials.signal, trials.signal)
    trials = trials_of(signal, trials.label, subject=subject)
    components = components_of(np.random.default_rng(0).standard_normal((10, 10)), subjects=(1, 2))
    none = (components.table["subject"] == 2) & (components.table["label"] == "eye blink")
    components.table.loc[none, "label"] = "other"
    removals = remove_parts(fits, trials, components, n_controls=4)
    eyes = removals[(removals["part"] == "eye blink") & ~removals["only"]]
    by_draw = eyes.groupby("draw")["power"].first()
    assert len(by_draw) == 5 and np.ptp(by_draw) < 1e-5 * by_draw.max()
    # Of the subject without eyes nothing is removed, and nothing is left alone.
    odds = eyes[eyes["trial"] >= 30].pivot_table("log_odds", ["trial", "seed"], "draw")
    np.testing.assert_allclose(odds.sub(odds[-1], axis=0), 0, atol=1e-5)
    alone = removals[(removals["part"] == "eye blink") & removals["only"]]
    assert set(alone["trial"]) == set(range(30))


def test_subjects_without_components_keep_their_bands():
    trials, components, fits = recorded("eyes")
    trials = trials_of(trials.signal, trials.label, subject=1 + np.arange(N_TRIALS) // 30)
    removals = remove_parts(fits, trials, components, n_controls=2)
    counted = removals.groupby("kind")["trial"].agg(set)
    assert counted["components"] == set(range(30)) and counted["band"] == set(range(N_TRIALS))
    only_bands = remove_parts(fits, trials, Components(), n_controls=0)
    assert set(only_bands["kind"]) == {"band", "edge"}


def test_the_same_seed_draws_the_same_controls():
    trials, components, fits = recorded("drift", n_trials=16)
    first, again, other = (remove_parts(fits[:2], trials, components, n_controls=2, seed=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again)
    assert not np.allclose(first["log_odds"], other["log_odds"])


def test_mains_are_where_the_recording_says_or_the_peak_is():
    rng = np.random.default_rng(8)
    signal = 0.1 * rng.standard_normal((4, 3, 400)) + np.sin(2 * np.pi * 60 * np.arange(400) / 200)
    info = electrode_info(NAMES[:3], 200.0)
    assert line_frequency(signal, info) == 60.0
    with info._unlock():
        info["line_freq"] = 50.0
    assert line_frequency(signal, info) == 50.0
    with info._unlock():
        info["lowpass"] = 38.0
    assert line_frequency(signal, info) is None


def null_removals(rng, n_trials, n_draws, n_parts=1, effect=0.0):
    """Parts whose importance for each trial is drawn as that of their controls is: the null hypothesis."""
    base = rng.normal(1, 1, n_trials)
    rows = []
    for part in range(n_parts):
        for draw in range(-1, n_draws):
            cost = abs(rng.normal(0.3, 0.3)) + effect * (draw < 0)
            odds = base - cost + rng.normal(0, 0.5, n_trials)
            table = pd.DataFrame({"log_odds": odds, "trial": np.arange(n_trials)})
            rows.append(table.assign(part=f"part {part}", draw=draw))
    made = pd.concat(rows, ignore_index=True).assign(kind="band", source="", seed=0, power=0.1, only=False)
    return made.assign(correct=made["log_odds"] > 0, predicted=(made["log_odds"] > 0).astype(int))


def p_values(table):
    """Return `costs_more` of each part, trials being what varies."""
    table = table.assign(p_true=1 / (1 + np.exp(-table["log_odds"])))
    for _, part in table.groupby("part"):
        own, control = part[part["draw"] < 0], part[part["draw"] >= 0]
        mean = control.groupby("trial")["p_true"].mean()
        yield costs_more(own.assign(p_true_control=own["trial"].map(mean)), control, "trial")


def test_a_part_that_matters_no_more_than_others_is_rarely_called_needed():
    """200 trials, where a test of trials against the mean of the draws rejects far too often."""
    rng = np.random.default_rng(9)
    p = np.array(list(p_values(null_removals(rng, 200, 15, n_parts=60))))
    assert (p < 0.05).sum() <= 8  # 3 expected, more than 8 with a probability of 0.004
    p = np.array(list(p_values(null_removals(rng, 200, 15, n_parts=10, effect=2.0))))
    assert (p < 0.05).sum() >= 8


def test_with_five_groups_these_are_what_varies():
    rng = np.random.default_rng(10)
    table = null_removals(rng, 40, 8)
    group = np.arange(40) // 8
    table.loc[(table["draw"] < 0) & (table["trial"] < 8), "log_odds"] -= 8  # one group alone has the effect
    trials = pd.DataFrame({"trial": np.arange(40), "group": group, "label": 1})
    by_group = interventions(table, trials).iloc[0]
    by_trial = interventions(table, trials.assign(group=group % 4)).iloc[0]
    assert by_group["unit"] == "group" and by_trial["unit"] == "trial"
    assert by_group["p"] > 0.05 and by_group["p"] > 5 * by_trial["p"]


def test_p_values_are_corrected_by_holm_and_a_picked_channel_counts_for_all():
    table = null_removals(np.random.default_rng(11), 60, 10, n_parts=5, effect=1.0)
    trials = pd.DataFrame({"trial": np.arange(60), "group": 0, "label": 1})
    made = interventions(table, trials)
    # The smallest times five, the next times four, …, each at least what the smaller ones have.
    expected = [max(p * (made["p"] >= p).sum() for p in made["p"] if p <= each) for each in made["p"]]
    np.testing.assert_allclose(made["p_holm"], np.minimum(1, expected))
    picked = interventions(table.assign(kind="channel"), trials, n_channels=3)
    np.testing.assert_allclose(picked["p"], np.minimum(1, 3 * made["p"]))


def test_a_class_with_more_trials_counts_no_more_than_the_others():
    """Without the part the decoder answers the larger class: 0.8 of the answers are right, and nothing is known."""
    label = (np.arange(50) % 5 == 0).astype(int)
    trials = pd.DataFrame({"trial": np.arange(50), "group": np.arange(50) // 10, "label": label})
    rng, tables = np.random.default_rng(0), []
    for draw in range(-1, 8):
        odds = np.where(label, -2.0, 2.0) if draw < 0 else 2 + rng.normal(0, 0.3, 50)
        table = trials.assign(
            draw=draw, log_odds=odds, correct=odds > 0, predicted=np.where(odds > 0, label, 1 - label)
        )
        tables.append(table.drop(columns=["group", "label"]))
    removals = pd.concat(tables).assign(part="eyes", kind="components", source="eyes", seed=0, power=0.1, only=False)
    made = interventions(pd.concat([removals, removals[removals["draw"] < 0].assign(only=True)]), trials).iloc[0]
    assert made["accuracy"] == made["only"] == 0.5 and made["control"] == 1 and made["drop"] == 0.5
    assert made["left_p"] == made["only_p"] == 1
    for name, value in (
        ("accuracy", 0.5),
        ("control", 1.0),
        ("drop", 0.5),
    ):  # whatever is drawn: a class is all or none
        assert made[f"{name}_low"] == made[name] == made[f"{name}_high"] == value


def test_what_an_answer_is_does_not_depend_on_how_few_are_looked_at():
    """One output, of which those to nothing but a part of the signal all lie between 0 and 1: logits they stay."""
    trials, _, fits = recorded("eyes")
    models = [OneLogit(fit.model) for fit in fits]
    one = [fit._replace(model=model) for fit, model in zip(fits, models, strict=True)]
    columns = ["part", "draw", "trial", "seed", "only", "correct", "log_odds"]
    expected, found = (remove_parts(each, trials, n_controls=0)[columns] for each in (fits, one))
    pd.testing.assert_frame_equal(found, expected, rtol=1e-3, atol=1e-4)


class OneLogit(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        outputs = self.model(x)
        return outputs[:, 1:] - outputs[:, :1]


def test_chance_of_several_answers_is_that_of_one_where_they_agree():
    rng = np.random.default_rng(12)
    label, group = rng.integers(0, 3, 60), np.arange(60) // 20
    predicted = np.where(rng.random(60) < 0.4, label, rng.integers(0, 3, 60))
    table = pd.DataFrame({"trial": np.arange(60), "seed": 0, "group": group, "label": label, "predicted": predicted})
    twice = pd.concat([table, table.assign(seed=1)])
    expected = xs.permutation_p_value(label, predicted, group)
    assert above_chance(table) == pytest.approx(expected, abs=0.02)
    assert above_chance(twice) == above_chance(table)
    assert np.isnan(above_chance(table[:0]))


@pytest.mark.parametrize("balanced", [False, True])
def test_p_values_of_several_answers_are_those_of_a_loop(balanced):
    rng = np.random.default_rng(13)
    label, group = np.r_[np.zeros(14, int), np.ones(4, int), [5] * 6], np.arange(24) % 2
    answers = np.where(rng.random((24, 3)) < 0.1, label[:, None], rng.choice([0, 1, 5, 7], (24, 3)))
    n = 200

    def score(label):
        right = label[:, None] == answers
        return np.mean([right[label == c].mean() for c in (0, 1, 5)]) if balanced else right.mean()

    rng, permuted = np.random.default_rng(4), np.tile(label, (n, 1))
    for value in (0, 1):
        permuted[:, group == value] = rng.permuted(permuted[:, group == value], axis=1)
    expected = (1 + sum(score(each) >= score(label) - 1e-12 for each in permuted)) / (n + 1)
    found = xs.permutation_p_value(label, answers, group, balanced=balanced, n_permutations=n, seed=4)
    assert found == pytest.approx(expected) and 0.01 < found < 0.99


def head_of_sources(rng, n_trials=10):
    """Trials at 1-50 Hz of heavy-tailed sources, average reference, and the recording behind them."""
    signal = rng.standard_normal((10, 10)) @ rng.laplace(size=(n_trials, 10, 400))
    trials = trials_of(signal - signal.mean(1, keepdims=True))
    with trials.info._unlock():
        trials.info["highpass"], trials.info["lowpass"] = 7.0, 38.0
    info = mne.create_info([f"EEG {name}-Ref" for name in NAMES[::-1]], SFREQ, "eeg")
    raw = mne.io.RawArray(1e-6 * np.hstack(signal[:, ::-1]), info, verbose=False)
    return trials, raw


def test_components_are_of_the_trials_channels_however_the_recording_writes_them():
    pytest.importorskip("mne_icalabel")
    trials, raw = head_of_sources(np.random.default_rng(13), n_trials=12)
    made = fit_components(trials, raw, n_components=5)
    assert not made.skipped and made.ica[1].ch_names == list(NAMES)
    assert len(made.table) == 5 == len(made.labels(1)) and set(made.table["origin"]) == {"fitted"}
    assert np.isfinite(xs.remove_components(trials, made.ica[1], [0]).signal).all()
    again = fit_components(trials, [raw], n_components=5)
    np.testing.assert_array_equal(made.ica[1].unmixing_matrix_, again.ica[1].unmixing_matrix_)
    assert raw.ch_names[0] == "EEG T7-Ref"  # a copy has changed


def test_components_of_the_file_are_taken_as_they_are():
    rng = np.random.default_rng(14)
    trials, raw = head_of_sources(rng)
    ica = ica_of(rng.standard_normal((10, 10)))
    labels = pd.DataFrame({"component": range(10), "label": LABELS, "probability": 0.8})
    made = fit_components(trials, raw, own=(ica, labels))
    assert made.ica[1] is ica and list(made.labels(1)) == LABELS and set(made.table["origin"]) == {"file"}
    fewer = fit_components(trials, own=(ica, labels[:3]))
    assert "labels 3 components" in fewer.reason and not fewer.ica


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda trials, raw: (trials, None), r"7-38 Hz.*trials alone: give make_report the recording.*raw="),
        (
            lambda trials, raw: (trials_of(trials.signal, sfreq=80.0), None),
            r"rate is 80 Hz; ICLabel needs 100 Hz or more\. There are the trials",
        ),
        (lambda trials, raw: (trials.pick(NAMES[:6]), raw), "6 channels are too few"),
        (lambda trials, raw: (trials.pick(NAMES[:3]), raw), "expected at least 4"),
        (lambda trials, raw: (trials, raw.copy().drop_channels(["EEG C3-Ref"])), "lacks channels of the trials: C3"),
        (lambda trials, raw: (trials_of(trials.signal, subject=np.arange(10) % 2), raw), "is of one subject"),
        (
            lambda trials, raw: (trials, raw.copy().filter(None, 35, verbose=False)),
            r"-35 Hz, too narrow.*recording's own",
        ),
        (lambda trials, raw: (trials, raw.copy().crop(0, 2.3)), "460 samples give|400 samples give"),
        (
            lambda trials, raw: (trials, raw.copy().resample(90, verbose=False)),
            r"is 90 Hz.*needs 100 Hz.*neither --band nor --res",
        ),
        (lambda trials, raw: (trials, "raw.fif"), "."),
    ],
)
def test_what_has_no_components_says_why(change, said):
    trials, raw = change(*head_of_sources(np.random.default_rng(15)))
    made = fit_components(trials, raw)
    assert not made.ica and not len(made.table)
    assert set(made.skipped) == set(trials.metadata["subject"])
    assert re.search(said, made.reason), made.reason
