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
# one source, whose place, time and frequency we choose ourselves, under noise that behaves like EEG.
#
# :::{admonition} By the end you can
# - write a trial as source × topography + background, and compute each part;
# - say what an ideal map is, and which score a map without any knowledge gets;
# - compute a signal-to-noise ratio, and name three definitions that give three numbers for the same data;
# - tell how much a decoder could know from how much it has learned.
# :::
#
# **Before you start:** [notation](../notation.md). **Time:** 20 minutes, a laptop without a graphics card.

# %% tags=["setup", "hide-input"]
# Setup: does nothing where the package is installed.
import importlib.util

if importlib.util.find_spec("eegxai_support") is None:
    raise ModuleNotFoundError(
        "eegxai has no public home yet, so there is nothing to install from. Upload your copy of the repository"
        " next to this notebook, run `%pip install ./eegxai` and run this cell again."
    )

# %% tags=["parameters"]
FAST = False  # True runs the same code on fewer trials
SEED = 0

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
# {footcite:p}`gramfort2013meg` computes it for a head of four concentric spheres: brain, fluid, skull and
# scalp. Its formula holds on the surface, so the 64 electrodes are moved along their radii until they lie on it.

# %%
import mne
import numpy as np
import pandas as pd

import eegxai_support as xs
from eegxai_support.simulate import EEGBCI_CHANNELS

info = mne.create_info(list(EEGBCI_CHANNELS), 100, "eeg")
info.set_montage("colin27_1005")
head = mne.make_sphere_model("auto", "auto", info, verbose=False)
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
# dipoles all over the cortex, each an independent noise whose power falls as $1/f$, and measures 10 µV on average, as EEG
# at rest does. Source plus background is a trial.

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
# burst: 6, 10 or 22 Hz. Its phase is random in every trial, so that no average over trials shows the classes, and
# its strength follows from the signal-to-noise ratio that we ask for. The design is that of a published benchmark
# {footcite:p}`sujatharavindran2023empirical`.

# %%
N_TRIALS = 200 if FAST else 400
trials = xs.simulate("spectral", n_trials=N_TRIALS, snr_db=-5, sfreq=100, seed=SEED)
signal, truth = trials.signal.astype(float), trials.truth.astype(float)
noise = signal - truth
print(trials)

# %% [markdown]
# Is it what we did by hand? Three checks. The truth of a trial has rank one: topography times time course, so its second
# singular value is zero. Its topography is ours. And the background has the covariance that our dipoles give; the
# package draws from that covariance at once instead of adding up dipoles, which is the same distribution and far cheaper.

# %%
left, singular, _ = np.linalg.svd(truth[0])
assert singular[1] < 1e-5 * singular[0]
assert np.isclose(abs(left[:, 0] @ topography), np.linalg.norm(topography), rtol=1e-5)

noise_covariance = np.cov(noise.transpose(1, 0, 2).reshape(64, -1))
agreement = np.corrcoef((gain @ gain.T).ravel(), noise_covariance.ravel())[0, 1]
print(f"Covariance of the background, by hand and from the package: r = {agreement:.2f}")
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
# The spectrum of the truth alone says which band belongs to which class. Trials last one second, so frequency bins are
# 1 Hz apart.

# %%
power = {name: np.abs(np.fft.rfft(part)) ** 2 for name, part in (("truth", truth), ("noise", noise))}
peak = [freqs[power["truth"][trials.label == k].mean(axis=(0, 1)).argmax()] for k in range(3)]
assert peak == [6, 10, 22]

# %% [markdown]
# ## The ideal map
#
# The maps of this book give a number to each channel and sample. Which numbers would be perfect? We take $|s|$, the
# absolute truth: a decoder of power needs the troughs of a wave as much as its crests. The channels and samples
# where $|s|$ is at least 5 % of its maximum are the *support* of the trial.
#
# A simple score is the share of a map that lies on the support. Even the ideal map stays below 1, since the truth is
# small outside its support but not zero. A map that knows nothing gets the share of the support itself; this is the
# *chance level*. And what does the trial get, used as its own map?

# %%
ideal = np.abs(truth)
support = ideal >= 0.05 * ideal.max(axis=(1, 2), keepdims=True)
maps = {"ideal": ideal, "flat": np.ones_like(ideal), "the trial itself": np.abs(signal)}
share = pd.Series({name: (m * support).sum() / m.sum() for name, m in maps.items()})
assert share["ideal"] > share["the trial itself"] > share["flat"]
share.round(2).to_frame("share on the support")

# %% [markdown]
# A score means nothing before it is compared with that of the flat map. Chapter 10 has twelve scores and their
# chance levels.

# %% [markdown]
# ## Signal and noise, by hand
#
# `snr_db` is the mean power of the truth over that of the background, both over the support, in decibels. Nothing else
# in the chapter decides how hard the task is, so we compute it ourselves. With a few hundred trials it comes out within a
# few tenths of what we asked for.

# %%
snr = 10 * np.log10(np.mean(truth[support] ** 2) / np.mean(noise[support] ** 2))
print(f"asked for -5 dB, by hand {snr:.2f} dB")
assert abs(snr + 5) < 0.3

# %% [markdown]
# Other definitions are as common. Over all channels and samples the ratio is lower, because the truth is zero in most of
# them. At the frequency of the class alone it is higher, and it differs between the classes: the background falls as
# $1/f$, so the fastest burst has the least noise to compete with. One data set, and three answers.

# %%
rows = {}
for k, name in enumerate(trials.class_names):
    of_class, f = trials.label == k, int(peak[k])
    s, n, inside = truth[of_class], noise[of_class], support[of_class]
    bins = [power[part][of_class, :, f] for part in ("truth", "noise")]
    pairs = {"support": (s[inside] ** 2, n[inside] ** 2), "everywhere": (s**2, n**2), "own frequency": bins}
    rows[name] = {where: 10 * np.log10(np.mean(a) / np.mean(b)) for where, (a, b) in pairs.items()}
by_definition = pd.DataFrame(rows).T
assert by_definition["own frequency"].is_monotonic_increasing
by_definition.round(1).rename_axis(columns="SNR (dB)")

# %% [markdown]
# ## What a decoder could use
#
# Suppose that a decoder is told everything: the topography $\mathbf{a}$, the covariance $\boldsymbol\Sigma$ of the
# background and the three frequencies. The best linear reading of the source is $\mathbf{w} \propto
# \boldsymbol\Sigma^{-1} \mathbf{a}$. Multiplying by $\boldsymbol\Sigma$ gives the topography back
# {footcite:p}`haufe2014interpretation`.

# %%
w = np.linalg.pinv(noise_covariance) @ topography
w /= np.abs(w).max()
pattern = noise_covariance @ w
assert np.allclose(pattern / np.abs(pattern).max(), topography)

around = [info.ch_names.index(name) for name in ("C3", "C1", "CP3", "FC3")]
pd.DataFrame({"truth": topography, "filter": w}, info.ch_names).iloc[around].round(2).T

# %% [markdown]
# Look at the neighbours of C3. They carry the source with a plus sign, and the filter gives them a minus sign: it uses
# them to subtract background. {numref}`fig-known-answer-filter` has both on the head. So even the best decoder does
# not weigh the channels as the truth does, and a correct map of its *weights* would not look like the ideal map. Keep
# this in mind before you call a map wrong; chapter 8 returns to it.

# %% mystnb={"figure": {"caption": "Where the source is (left) and how the best linear decoder reads it (right).", "name": "fig-known-answer-filter"}, "image": {"alt": "Two heads. Left, one positive spot around C3. Right, a positive C3 surrounded by negative weights."}}
xs.viz.plot_channel_topomaps([topography, w], trials.info, ["truth", "best filter"], label="largest value = 1")

# %% [markdown]
# ## What a decoder has learned
#
# We now compare two decoders on a run that neither has seen. The first is *told*: it reads the source with $\mathbf{w}$,
# takes the log power at the three frequencies, and learns from the other runs only how to weigh these three numbers.


# %%
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis


def told(trials, test):
    """Accuracy of a linear decoder of the three powers of the source."""
    source = np.einsum("c,nct->nt", w, trials.signal)
    log_power = np.log(np.abs(np.fft.rfft(source)[:, [6, 10, 22]]) ** 2)
    lda = LinearDiscriminantAnalysis().fit(log_power[~test], trials.label[~test])
    return lda.score(log_power[test], trials.label[test])


# %% [markdown]
# The second is Cui's compact network {footcite:p}`cui2023eeg`, which is told nothing. It has to find place and
# frequencies in three runs of noisy trials. `xs.decoder_fit` trains it, `xs.cross_validate` tests it on the fourth run;
# chapter 2 opens both. Trained weights are kept on disk, so a second reading of this page is quick.

# %%
fit = xs.decoder_fit("InterpretableCNN", epochs=12 if FAST else 20, n_times=100, seed=SEED, lr=3e-3, cache=True)
rows = []
for snr_db in (-24, -12, 0) if FAST else (-30, -24, -18, -12, -6, 0):
    data = xs.simulate("spectral", n_trials=N_TRIALS, snr_db=snr_db, sfreq=100, seed=SEED)
    test = (data.metadata["run"] == 4).to_numpy()
    table = xs.cross_validate(fit, data, tested=test)
    rows.append(
        {"SNR (dB)": snr_db, "told": told(data, test), "learned": (table["label"] == table["predicted"]).mean()}
    )
accuracy = pd.DataFrame(rows).set_index("SNR (dB)")
accuracy.round(2)

# %% [markdown]
# Chance is one in three. At the bottom of the table both know enough; the further up, the less either knows. The network
# loses the classes first: there is a range in which they can be told apart, but not by what it has learned from
# so few trials. There an explanation that misses the source is not the fault of the method: the network does not use
# the source. So a method is tested against the truth only on a decoder that is accurate.

# %%
assert accuracy.loc[0].min() > 0.8  # where the methods of the later chapters are tested

# %% [markdown]
# ## What can go wrong
#
# - **The reference.** The truth is a potential *difference*. Another reference changes it in every channel, and no decoder
#   changes its mind (exercise 1).
# - **The definition of the ratio.** "−5 dB" without its definition can mean a trivial task or an impossible one.
# - **A class that is easy for a wrong reason.** With equal power in µV², the fast burst stands out of $1/f$ noise and
#   the slow one does not. A network may learn "22 Hz, 10 Hz, or neither", and have nothing to show for 6 Hz.
# - **A decoder that does not use the truth.** It may be at chance, or use a part of the support only. Both
#   lower the score of a perfect explanation.
# - **A world that is too simple.** One source, Gaussian noise, no artefacts. A method that fails here
#   will fail on recordings; one that succeeds here may still fail there.
#
# ## Take-aways
#
# - A map can be called wrong only where the right map is known.
# - A trial is topography × time course + background; the truth has rank one.
# - The ideal map is the absolute truth; a flat map's score is the chance level.
# - The best filter is not the topography: it also cancels background.
# - Score explanations on decoders that are accurate; the ratio and its definition say whether they can be.
#
# ## Questions
#
# 1. Why does the mean over trials not show the burst?
# 2. The best filter weighs CP3 negatively. What would happen if the background were independent from channel to channel?
# 3. With two classes instead of three, what would the difference of their ideal maps look like with its sign turned?
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
# **2.** Which class does the told decoder confuse most at −24 dB? Predict it from the table of ratios, then compute it.
#
# :::{dropdown} Solution
# The slowest burst has the lowest ratio at its own frequency, so its trials should be missed most often. The folded
# cell draws many trials at that ratio and prints how often each class is found.
# :::

# %% tags=["hide-cell"]
hard = xs.simulate("spectral", n_trials=1200, snr_db=-24, sfreq=100, seed=SEED + 1)
source = np.einsum("c,nct->nt", w, hard.signal)
log_power = np.log(np.abs(np.fft.rfft(source)[:, [6, 10, 22]]) ** 2)
found = LinearDiscriminantAnalysis().fit(log_power, hard.label).predict(log_power) == hard.label
print({name: float(found[hard.label == k].mean().round(2)) for k, name in enumerate(hard.class_names)})
assert found[hard.label == 0].mean() < found[hard.label == 2].mean()

# %% [markdown]
# ## References
#
# :::{footbibliography}
# :::
