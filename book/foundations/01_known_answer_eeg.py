# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["remove-cell"]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/eegxai--home/eegxai/blob/main/book/foundations/01_known_answer_eeg.ipynb)

# %% [markdown]
# # Known-answer EEG: what would a correct explanation look like?
#
# A map of a decoder lights up over the left hand area. Is the map right? On a recording nobody can say: we do not know
# what was in the brain, and we do not know what the network took from it. So we build trials in which we do know:
# sources whose place, time and frequency we choose ourselves, under noise that behaves like EEG.
#
# :::{admonition} By the end you can
# - write a trial as source × topography + background, and compute each part;
# - name four ways in which classes can differ, and draw the ideal map of each;
# - compute a signal-to-noise ratio and the accuracy of the best possible decoder;
# - tell how much a decoder could know from how much it has learned;
# - keep two questions apart: what does the decoder use, and where is the signal?
# :::
#
# **Before you start:** [notation](../notation.md). **Time:** 30 minutes, a laptop without a graphics card.

# %% tags=["setup", "hide-input"]
# Setup: installs nothing where the package is there. One thread: threads that wait for each other are slow beside other
# programs.
import importlib.util
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
if importlib.util.find_spec("eegxai_support") is None:
    from importlib.metadata import version

    there = filter(importlib.util.find_spec, ("matplotlib", "numpy", "pandas", "scipy", "torch", "torchaudio"))
    pins = [f"{name}=={version(name)}" for name in there]  # what the session may have loaded stays as it is
    raise ModuleNotFoundError(
        "eegxai has no public home yet, so there is nothing to install from. Upload your copy of the repository"
        f" next to this notebook, run `%pip install -q {' '.join(pins)} './eegxai[all]'` and run this cell again."
    )

# %% tags=["parameters", "hide-input"]
FAST = False  # True runs the same code on fewer trials
SEED = 0
DEVICE = None  # "cpu", "cuda" …; None takes the accelerator where there is one

# %% [markdown]
# ## A trial by hand
#
# A current dipole in the cortex is seen by all electrodes at once, by each with its own weight. These weights are a
# column of the *lead field*, the *topography* $\mathbf{a}$. Let the dipole have the time course $q_n(t)$ in trial $n$,
# and let the rest of the brain contribute a background $\mathbf{b}$. Then electrode $c$ records
#
# $$
# x_{nc}(t) = a_c \, q_n(t) + b_{nc}(t) .
# $$
#
# The first term is the *truth*: all that tells the classes apart. We need the lead field first. MNE
# {footcite:p}`gramfort2013meg` computes it for a head of three concentric spheres, brain, skull and scalp, with the
# classical radii and conductivities {footcite:p}`rush1968current`. Its formula holds on the surface, so the 64
# electrodes are moved along their radii until they lie on it.

# %%
import mne
import numpy as np
import pandas as pd

import eegxai_support as xs
from eegxai_support.simulate import EEGBCI_CHANNELS, REGIMES

info = mne.create_info(list(EEGBCI_CHANNELS), 100, "eeg").set_montage("colin27_1005")
shells = {"relative_radii": (0.87, 0.924, 1), "sigmas": (0.33, 0.0042, 0.33)}
head = mne.make_sphere_model("auto", "auto", info, **shells, verbose=False)
for channel in info["chs"]:
    radius = channel["loc"][:3] - head["r0"]
    channel["loc"][:3] = head["r0"] + head.radius * radius / np.linalg.norm(radius)

# %% [markdown]
# Dipoles sit in the cortex, at 0.8 of the head's radius. The function returns their potential at each electrode, for
# dipoles along $x$, $y$ and $z$, against the average of all electrodes. This choice of reference is part of the answer,
# as we shall see.


# %%
def lead_field(direction):
    """Potential of cortical dipoles (channel, 3 · place) in the directions (place, 3) from the centre."""
    places = {"rr": head["r0"] + 0.8 * head.radius * direction, "nn": direction}
    space = mne.setup_volume_source_space(pos=places, sphere=head, mindist=0.0, verbose=False)
    gain = mne.make_forward_solution(info, None, space, head, meg=False, verbose=False)["sol"]["data"]
    return gain - gain.mean(axis=0)


# %% [markdown]
# Our source lies under C3, over the hand area of the left hemisphere, and points outwards. Its topography is scaled to
# 1 at the strongest electrode.

# %%
outwards = info["chs"][info.ch_names.index("C3")]["loc"][:3] - head["r0"]
outwards /= np.linalg.norm(outwards)
topography = lead_field(outwards[None]) @ outwards
topography /= np.abs(topography).max()

# %% [markdown]
# The source oscillates at 10 Hz for a moment in the middle of one second. The background comes from several hundred
# dipoles all over the cortex, each an independent noise whose power falls as $1/f$, and measures 10 µV on average, as
# EEG at rest does. Source plus background is a trial.

# %%
rng = np.random.default_rng(SEED)
times, freqs = np.arange(100) / 100, np.fft.rfftfreq(100, 1 / 100)
course = np.exp(-4 * np.log(2) * ((times - 0.5) / 0.4) ** 2) * np.cos(2 * np.pi * 10 * times)

directions = rng.standard_normal((500, 3))
directions /= np.linalg.norm(directions, axis=1, keepdims=True)
gain = lead_field(directions[directions[:, 2] > -0.3])  # below are face and neck
spectrum = rng.standard_normal((2, gain.shape[1], len(freqs))) / np.sqrt(np.maximum(freqs, 1))
background = gain @ np.fft.irfft(spectrum[0] + 1j * spectrum[1], len(times))
background *= 10 / background.std()
by_hand = 20 * np.outer(topography, course) + background
print(f"{by_hand.shape[0]} channels × {by_hand.shape[1]} samples, {by_hand.std():.0f} µV")

# %% [markdown]
# ## The same from the package
#
# `xs.simulate("spectral")` does this for many trials. Three classes differ in one thing only, the frequency of the
# burst: 6, 10 or 22 Hz. Its phase is random in every trial, so that no average over trials shows the classes, and its
# strength follows from the signal-to-noise ratio that we ask for. White noise of the amplifiers, 1 µV, comes on top.
# Other regimes change something else; we draw all four, as a published benchmark did for three of them
# {footcite:p}`sujatharavindran2023empirical`.

# %%
ASKED = {"n_trials": 120 if FAST else 400, "sfreq": 100, "seed": SEED}
regimes = {regime: xs.simulate(regime, snr_db=-5, **ASKED) for regime in REGIMES}
trials = regimes["spectral"]

# %% [markdown]
# Is it what we did by hand? Three checks. The truth of a trial has rank one: topography times time course, so its
# second singular value is zero. Its topography is ours, but for the three terms with which MNE stands in for the series
# that the package sums; an optimiser chooses them, on every processor a little differently. And the background has the
# covariance that our dipoles give; the package draws from that covariance at once instead of adding up dipoles, which
# is the same distribution and far cheaper.

# %%
left, singular, _ = np.linalg.svd(trials.truth[0].astype(float))
assert singular[1] < 1e-5 * singular[0]
assert np.isclose(abs(left[:, 0] @ topography), np.linalg.norm(topography), rtol=1e-3)

noise_covariance = np.cov((trials.signal - trials.truth).transpose(1, 0, 2).reshape(64, -1))
agreement = np.corrcoef((gain @ gain.T).ravel(), noise_covariance.ravel())[0, 1]
assert agreement > 0.95

# %% [markdown]
# ## Look before you decode
#
# {numref}`fig-known-answer-trial` has one trial. At C3 one may guess the burst; at the neighbours it drowns, although
# the truth is there too.

# %% mystnb={"figure": {"caption": "One simulated trial, the truth that is in it at the six strongest channels, and the truth on the head. It is strongest at C3, above the source.", "name": "fig-known-answer-trial"}, "image": {"alt": "Left, six noisy traces. Middle, the truth in the same channels: a short burst in the middle of the second, largest at C3. Right, a head with one spot at C3."}}
xs.viz.plot_known_answer(trials, trial=0)

# %% [markdown]
# {numref}`fig-known-answer-classes` has all trials. Spectra are averaged over trials after squaring, so that random
# phases do not cancel. On the heads, between 9 and 11 Hz, the 10 Hz class stands out at C3 and the two others fall
# short of the mean. A wrong reading is near: their 10 Hz rhythm is not *suppressed*, they have none.

# %% mystnb={"figure": {"caption": "Mean spectra of the three classes, and their power between 9 and 11 Hz (grey band) on the head.", "name": "fig-known-answer-classes"}, "image": {"alt": "Three spectra per channel that fall with frequency. At C3 each class has a peak at its frequency. The head of the 10 Hz class is positive around C3, the two others are negative there."}}
xs.viz.plot_trials(trials, band=(9, 11))

# %% [markdown]
# ## Four regimes and their ideal maps
#
# The maps of this book give a number to each channel and sample. Which numbers would be perfect? We take $|s|$, the
# absolute truth: a decoder of power needs the troughs of a wave as much as its crests. {numref}`fig-known-answer-ideal`
# has this *ideal map* for every class. Ask of each row what tells its classes apart:
#
# - **temporal**: the latency of a peak at Pz. The heads are the same.
# - **spectral**: the frequency of a burst at C3. Place and time are the same, and so is the power.
# - **spatial**: the place of the source. The time courses are the same, so a map must be judged on the head: the
#   benchmark averages it over time before it compares.
# - **suppressor**: the latency of a peak at Cz, as in the first row. But Iz, at the back of the head, carries only
#   noise, and the same noise covers the peak. The ideal map is exactly zero at Iz.
#
# The far side of each head is not white. The potential is measured against the average of all electrodes, so what is
# positive under the source must be negative elsewhere, and $|s|$ shows it.

# %% mystnb={"figure": {"caption": "Ideal maps. Left, one trial of each class over time, at its strongest channel. Right, the mean over time and trials on the head, with the strongest channel named; at Iz there is no signal at all.", "name": "fig-known-answer-ideal"}, "image": {"alt": "Four rows. Temporal: peaks at four times, the same spot at Pz on four heads. Spectral: bursts of three frequencies, the same spot at C3. Spatial: four equal peaks, spots at C3, C4, Fz and POz. Suppressor: peaks at three times, the same spot at Cz."}}
xs.viz.plot_ideal_maps(regimes)

# %% [markdown]
# The channels and samples where $|s|$ is at least 5 % of its maximum are the *support* of the trial. A simple score is
# the share of a map that lies on it. Even the ideal map stays below 1, since the truth is small outside its
# support but not zero. A map that knows nothing gets the share of the support itself; this is the *chance level*. And
# what does the trial get, used as its own map?

# %%
support, share = {}, {}
for regime, data in regimes.items():
    ideal = data.ideal_map.astype(float)
    support[regime] = ideal >= 0.05 * ideal.max(axis=(1, 2), keepdims=True)
    maps = {"ideal": ideal, "the trial itself": np.abs(data.signal), "flat": np.ones_like(ideal)}
    share[regime] = {name: m[support[regime]].sum() / m.sum() for name, m in maps.items()}
share = pd.DataFrame(share).T
assert (share.diff(axis=1).iloc[:, 1:] < 0).all(axis=None)
share.round(2)

# %% [markdown]
# A score means nothing before it is compared with that of the flat map. Chapter 10 has twelve scores and their
# chance levels.
#
# ## Signal and noise
#
# `snr_db` is the mean power of the truth over that of the background, both over the support, in decibels. As long as
# the other options of a regime stay as they are, it alone decides how hard the task is, so we compute it ourselves.
# Other definitions are as common: over all channels and samples, or from the peak of the truth.

# %%
rows = {}
for regime, data in regimes.items():
    s, n, inside = data.truth**2, (data.signal - data.truth) ** 2, support[regime]
    rows[regime] = {"support": s[inside].mean() / n[inside].mean(), "everywhere": s.mean() / n.mean()}
    rows[regime]["peak"] = s.max(axis=(1, 2)).mean() / n.mean()
by_definition = 10 * np.log10(pd.DataFrame(rows).T)
assert np.allclose(by_definition["support"], -5, atol=0.5)
by_definition.round(1).rename_axis(columns="SNR (dB)")

# %% [markdown]
# We asked for −5 dB and find it in the first column, up to the chance of a few hundred trials. Everywhere the ratio is
# lower, because the truth is zero at most moments; at its peak it is far higher. One data set, and three
# answers: "−5 dB" says nothing without its definition.
#
# ## The best possible decoder
#
# Suppose that a decoder is told everything: the truth $\mathbf{s}_k$ of each class and the law of the noise. The noise
# is Gaussian, so with all channels and samples of a trial in one vector its law is one covariance matrix $\mathbf{C}$,
# and the likelihood of class $k$ against noise alone has a closed form {footcite:p}`kay1998fundamentals`:
#
# $$
# \log \frac{p(\mathbf{x} \mid k)}{p(\mathbf{x} \mid 0)} =
# \mathbf{x}^\top \mathbf{C}^{-1} \mathbf{s}_k - \tfrac{1}{2} \mathbf{s}_k^\top \mathbf{C}^{-1} \mathbf{s}_k .
# $$
#
# The classes are equally frequent, so to take the one with the largest value is the *ideal decoder*: no other is right
# more often on average. The background, and the noise that a suppressor shares, have one covariance over channels and
# one correlation over time, that of a $1/f$ spectrum, so $\mathbf{C}$ is their Kronecker product; the white noise of
# the sensors comes on top. Nine channels keep the matrix small.

# %%
from scipy.linalg import circulant

lag = np.fft.irfft(1 / np.maximum(freqs, 1))  # as much at 0 Hz as at 1 Hz; circular, as drawn
lag = circulant(lag / lag[0])


def log_likelihood(trials, names):
    """Log-likelihood ratio (trial, class) of a decoder that has only the named channels."""
    keep = [trials.info.ch_names.index(name) for name in names]
    axes, variance = trials.scenario.noise.axes[keep], trials.scenario.noise.variance
    noise = np.kron(axes * variance @ axes.T, lag) + np.kron(axes @ axes.T, np.eye(len(lag)))
    s = trials.scenario.components[:, 0, keep].reshape(trials.n_classes, -1)
    w = np.linalg.solve(noise, s.T)
    return trials.signal[:, keep].reshape(len(trials), -1) @ w - np.sum(s.T * w, axis=0) / 2


# %% [markdown]
# Under the average reference the last channel is minus the sum of the others. It adds nothing, and would make
# $\mathbf{C}$ singular, so we leave one out. The package keeps them all and works along the principal axes
# of the noise, in Fourier space. The numbers are the same.

# %%
few = ("Cz", "Fz", "FC1", "FC2", "C3", "C4", "CP1", "CP2", "Pz")
small = xs.simulate("temporal", snr_db=-15, ch_names=few, source="Cz", **ASKED)
assert np.allclose(log_likelihood(small, few[1:]), small.ideal_log_likelihood(), atol=1e-3)

# %% [markdown]
# In the spectral regime the phase is unknown. There the package averages the likelihood over all phases, which makes
# the decoder a detector of energy at the frequency of each class.
#
# ## What could be known, and what is learned
#
# How far does a trained network stay behind? We take Cui's compact network {footcite:p}`cui2023eeg` in the spectral
# regime. It is told nothing: it has to find place and frequencies in three runs of noisy trials, and is tested on the
# fourth. `xs.decoder_fit` trains it, `xs.cross_validate` tests it; chapter 2 opens both. Trained weights are kept on
# disk, so a second reading of this page is quick.

# %%
from itertools import product

from scipy.stats import binomtest


def with_interval(right):
    """Accuracy with its 95 % Wilson interval, from one boolean per trial."""
    low, high = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
    return right.mean(), low, high


# %%
fit = xs.decoder_fit("InterpretableCNN", epochs=10, n_times=100, seed=SEED, lr=3e-3, cache=True, device=DEVICE)
rows = []
for regime, snr_db in product(REGIMES, range(-40, 1, 20 if FAST else 10)):
    data = xs.simulate(regime, snr_db=snr_db, **ASKED)
    ideal = data.ideal_log_likelihood().argmax(axis=1)
    rows.append((regime, "ideal", snr_db, *with_interval(ideal == data.label)))
    if regime == "spectral":
        table = xs.cross_validate(fit, data, tested=(data.metadata["run"] == 4).to_numpy())
        rows.append((regime, "InterpretableCNN", snr_db, *with_interval(table["label"] == table["predicted"])))
accuracy = pd.DataFrame(rows, columns=["regime", "decoder", "snr_db", "accuracy", "low", "high"])

# %% mystnb={"figure": {"caption": "Accuracy of the ideal decoder in the four regimes, with 95 % Wilson intervals, and of a trained network in one of them.", "name": "fig-known-answer-accuracy"}, "image": {"alt": "Four panels. The ideal decoder rises from near chance at -40 dB to 1. In the spectral panel the network rises too, but at a higher ratio."}}
xs.viz.plot_accuracy_over_snr(accuracy, {regime: 1 / data.n_classes for regime, data in regimes.items()})

# %% [markdown]
# On the left of each panel of {numref}`fig-known-answer-accuracy` not even the ideal decoder is always right: what it
# misses, nobody can find. One ratio is not equally hard in every regime: there are more classes or fewer, signals are
# longer or shorter, and noise that a decoder can cancel counts in the ratio as well. For the network there is a
# range in which the classes can be told apart, but not by what it has learned from so few trials. There an explanation
# that misses the source is not the fault of the method: the network does not use the source. So a method is
# tested against the truth only on a decoder that is accurate.

# %%
assert (accuracy.query("snr_db == -40")["accuracy"] < 1).all()
assert (accuracy.query("snr_db == 0")["accuracy"] > 0.8).all()  # where the methods of the later chapters are tested
at = accuracy.query("regime == 'spectral' and snr_db == -20").set_index("decoder")["accuracy"]
assert at["ideal"] > at["InterpretableCNN"] + 0.2  # it can be known, and is not learned

# %% [markdown]
# ## What the best decoder uses
#
# How does a decoder that knows everything weigh the channels? The best linear reading of a source with topography
# $\mathbf{a}$ under noise with covariance $\boldsymbol\Sigma$ is $\mathbf{w} \propto \boldsymbol\Sigma^{-1}
# \mathbf{a}$, its *filter*. Multiplying by $\boldsymbol\Sigma$ gives the topography back: this is the *pattern* of the
# filter {footcite:p}`haufe2014interpretation`.


# %%
def topography_filter_pattern(trials):
    """Topography of the truth, the best filter and its pattern, each (channel,) with a largest value of 1."""
    covariance = np.cov((trials.signal - trials.truth).transpose(1, 0, 2).reshape(64, -1))
    a = trials.truth[0][:, np.abs(trials.truth[0]).max(axis=0).argmax()].astype(float)
    w = np.linalg.pinv(covariance, rcond=1e-6, hermitian=True) @ a
    return [values / values[np.abs(values).argmax()] for values in (a, w, covariance @ w)]


weights = {regime: topography_filter_pattern(regimes[regime]) for regime in ("spectral", "suppressor")}
assert all(np.allclose(a, pattern, atol=1e-3) for a, _, pattern in weights.values())
heads = [values for a, w, _ in weights.values() for values in (a, w)]
titles = [f"{regime}:\n{part}" for regime in weights for part in ("truth", "best filter")]

# %% mystnb={"figure": {"caption": "Where the source is, and how the best linear decoder reads it, in two regimes. Iz is the lowest electrode, at the back.", "name": "fig-known-answer-filter"}, "image": {"alt": "Four heads. The truths have one positive spot, at C3 and at Cz. Both filters are positive there and negative around it; the second is negative at the back of the head too."}}
xs.viz.plot_channel_topomaps(heads, trials.info, titles, label="largest value = 1")

# %% [markdown]
# Look at the neighbours of C3 in {numref}`fig-known-answer-filter`. They carry the source with a plus sign, and the
# filter gives them a minus sign: it uses them to subtract background. In the suppressor regime it also reads Iz, where
# there is no signal at all, to subtract the noise that Iz shares with Cz.

# %%
table = pd.DataFrame(weights["suppressor"], ["truth", "best filter", "its pattern"], info.ch_names)[["Cz", "CPz", "Iz"]]
assert table.loc["truth", "Iz"] == 0 and abs(table.loc["best filter", "Iz"]) > 0.3
table.round(2) + 0.0  # turns -0.00 into 0.00

# %% [markdown]
# Does it need Iz? We have a decoder for any set of channels, and ask it three times.

# %%
hidden = xs.simulate("suppressor", snr_db=-15, ch_names=(*few, "Iz"), **ASKED)
asked = {"all channels": (*few[1:], "Iz"), "all but Iz": few[1:], "Iz alone": ("Iz",)}
best = {name: (log_likelihood(hidden, use).argmax(axis=1) == hidden.label).mean() for name, use in asked.items()}
assert best["all channels"] == hidden.ideal_accuracy > best["all but Iz"] + 0.2
pd.Series(best).round(2).to_frame("accuracy of the best decoder")

# %% [markdown]
# Alone, Iz is worth nothing: a decoder that sees no signal can only guess. Left out, it costs many right answers, and
# no training gets them back, since the second row is the best that can be done without it. So a map can be asked two
# questions, and they have two answers.
#
# - **What does the decoder use?** A decoder that beats the second row reads Iz, so its map *must* show Iz.
# - **Where is the signal?** A map that shows Iz is *wrong*; the ideal map and the pattern have nothing there.
#
# Before you call a map wrong, say which question it was to answer. Chapter 8 computes patterns for networks, and
# the scores of chapter 10 are held against the second question.
#
# ## Closer to a recording
#
# Blinks and muscle activity are options, as events per second. They are drawn last, so the same seed gives the same
# trials with and without them, and the difference is the artefact alone. `ideal_accuracy` refuses such trials: it does
# not know their law. `head="fsaverage"` replaces the spheres by a realistic head, where MNE's template is installed.

# %%
added = []
for option in ("blink_rate", "muscle_rate"):
    data = xs.simulate("temporal", snr_db=-5, **ASKED, **{option: 0.5})
    added.append((data.signal - regimes["temporal"].signal).std(axis=(0, 2)))

# %% mystnb={"figure": {"caption": "What blinks and muscle activity add to the trials: standard deviation over trials and samples.", "name": "fig-known-answer-artefacts"}, "image": {"alt": "Two heads. Blinks are strong at the forehead only. Muscle activity is strong at both temples."}}
xs.viz.plot_channel_topomaps(added, trials.info, ["blinks", "muscles"], label="standard deviation (µV)", shared=False)

# %% [markdown]
# Closer still, plant the source in trials that were recorded: `xs.simulate("temporal", background=trials)`. Rate, window, electrodes and unit are
# theirs, the new labels have nothing to do with what happened in them, and the truth is known as before. Only the law of the
# noise is not, so no decoder is known to be the best; `estimated_log_likelihood()` takes it for Gaussian and stationary.
#
# ## What can go wrong
#
# - **The reference.** The truth is a potential *difference*. Another reference changes it in every channel, and no
#   decoder changes its mind (exercise 1). The suppressor is left out of the average, or signal would leak into it.
# - **The definition of the ratio.** "−5 dB" without its definition can mean a trivial task or an impossible one.
# - **A class that is easy for a wrong reason.** With equal power in µV², the fast burst stands out of $1/f$ noise and
#   the slow one does not. A network may learn "22 Hz, 10 Hz, or neither", and have nothing to show for 6 Hz.
# - **A decoder that does not use the truth.** It may be at chance, or use a part of the support only. Both
#   lower the score of a perfect explanation.
# - **A world that is too simple.** One source, Gaussian noise, few artefacts. A method that fails here
#   will fail on recordings; one that succeeds here may still fail there.
#
# ## Take-aways
#
# - A map can be called wrong only where the right map is known.
# - A trial is topography × time course + background; the ideal map is the absolute truth, and a flat map's score is the
#   chance level.
# - Classes can differ in time, in frequency or in place. Each asks for another view of the map.
# - The ideal decoder bounds what any network can learn. Score explanations on decoders that come near it.
# - The best decoder uses channels without signal. What is used and where the signal is are two questions.
#
# ## Questions
#
# 1. Why does the mean over trials not show the burst of the spectral regime, but the peak of the temporal one?
# 2. The best filter weighs CPz negatively. What would happen if the background were independent from channel to
#    channel?
# 3. The suppressor carries the shared noise and nothing else. What would the best filter do if it had cortical noise
#    too?
#
# ## Exercises
#
# **1.** Take C3 as the reference: subtract its signal from every channel. Where is the truth now? Does the network lose
# anything?
#
# :::{dropdown} Solution
# At C3 the truth is zero, and it appears in the far channels, where there was almost none: the strongest electrode is
# now far from the source. No information is lost, since subtracting C3's new mean over channels restores the old
# signal. Only the map moves. The folded cell below computes it.
# :::

# %% tags=["hide-cell"]
c3 = info.ch_names.index("C3")
referenced = topography - topography[c3]
assert referenced[c3] == 0 and np.argmin(np.abs(referenced)) == c3
assert np.allclose(referenced - referenced.mean(), topography)
print(f"strongest against C3: {info.ch_names[np.abs(referenced).argmax()]}")

# %% [markdown]
# **2.** Which class of the spectral regime does the ideal decoder find most often at −30 dB? Predict it from the
# spectrum of the background, then compute it.
#
# :::{dropdown} Solution
# The bursts have the same power, and the background falls as $1/f$. The fastest burst has the least noise to compete
# with at its own frequency, so its trials should be found most often. The folded cell draws many trials and prints how
# often each class is found.
# :::

# %% tags=["hide-cell"]
hard = xs.simulate("spectral", n_trials=1200, snr_db=-30, sfreq=100, seed=SEED + 1)
found = hard.ideal_log_likelihood().argmax(axis=1) == hard.label
rate = pd.Series({name: found[hard.label == k].mean() for k, name in enumerate(hard.class_names)})
print(rate.round(2).to_dict())
assert rate.idxmax() == "22 Hz"

# %% [markdown]
# **3.** What does the suppressor cost where there is less shared noise? Repeat the comparison with and without Iz for
# `shared_rms` of 3 µV.
#
# :::{dropdown} Solution
# The shared noise is now weaker than the cortical background, so little is lost without Iz. A suppressor is worth
# as much as the noise that it removes. The signal changes as well: `snr_db` is held fixed, and less noise means a
# weaker signal.
# :::

# %% tags=["hide-cell"]
weak = xs.simulate("suppressor", snr_db=-15, ch_names=(*few, "Iz"), shared_rms=3.0, **ASKED)
both = {name: (log_likelihood(weak, use).argmax(axis=1) == weak.label).mean() for name, use in asked.items()}
print({name: round(float(value), 2) for name, value in both.items()})
assert both["all channels"] - both["all but Iz"] < best["all channels"] - best["all but Iz"]

# %% [markdown]
# ## References
#
# :::{footbibliography}
# :::
