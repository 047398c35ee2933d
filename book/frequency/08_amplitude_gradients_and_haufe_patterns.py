# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["remove-cell"]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/eegxai--home/eegxai/blob/main/book/frequency/08_amplitude_gradients_and_haufe_patterns.ipynb)

# %% [markdown]
# # Amplitude gradients and Haufe patterns: which rhythms, where, for which class?
#
# Motor imagery shows in rhythms: the amplitude at some frequency, over some part of the head, goes down or up. A map
# over samples hides that, since a rhythm has another phase in every trial. So we ask the network about amplitudes. What
# it answers is how it *weighs* them, and a weight is not yet a sign of where the brain signal is. We turn weights
# into patterns, single trials into relevance per frequency, and lay both beside what the recording itself shows.
#
# :::{admonition} By the end you can
# - differentiate a network by the amplitude of one frequency in one channel, with the phase kept;
# - turn weights into Haufe patterns, with an interval over trials and a test over subjects;
# - say how much each frequency of one trial adds to its logit, without dividing by the trial;
# - hold a network's map against the measured desynchronisation, with a chance level.
# :::
#
# **Before you start:** [training a decoder](../foundations/02_training_a_decoder.ipynb),
# [maps for one trial](../attribution/04_maps_for_one_trial.ipynb) and the Fourier transform.
# **Time:** 45 minutes, a laptop without a graphics card.

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
FAST = False  # True runs the same code on less data
SEED = 0
DEVICE = None  # "cpu", "cuda" …; None takes the accelerator where there is one

# %% [markdown]
# ## The known answer first
#
# Three classes of simulated trials differ in nothing but the frequency of a burst under C3: 6, 10 or 22 Hz. The phase
# is random. A right explanation of the class "10 Hz" names C3 and 10 Hz. We train a small network, leave one run out,
# and explain its trials.

# %%
import numpy as np
import pandas as pd
import torch

import eegxai_support as xs

device = xs.best_device(DEVICE)
simulated = xs.simulate("spectral", n_trials=120 if FAST else 240, snr_db=-5, sfreq=80, duration=2, seed=SEED)
held_out = (simulated.metadata["run"] == 4).to_numpy()
network = xs.build_decoder("ShallowFBCSPNet", simulated, seed=SEED, **xs.RECIPES["ShallowFBCSPNet"]).to(device)
xs.train(network, simulated.subset(~held_out), epochs=10 if FAST else 20, seed=SEED, cache=True, device=device)
known = simulated.subset(held_out)
print("run left out:", xs.accuracy(known.label, xs.predict(network, known.signal).argmax(1)))

# %% [markdown]
# ## The gradient by an amplitude
#
# A Fourier transform writes each channel as amplitudes $A$ and phases $\varphi$. We keep the phases, make the
# amplitudes the variables, build the trial again from both and let the network see it
# {footcite:p}`schirrmeister2017deep,hartmann2018hierarchical`:
#
# $$
# \mathbf{x}(A) = \mathrm{irfft}\bigl(A\, e^{i\varphi}\bigr), \qquad
# \frac{\partial f_k}{\partial A(\omega)} = \sum_t \frac{\partial f_k}{\partial x(t)} \, \frac{\partial x(t)}{\partial A(\omega)} .
# $$
#
# The sum over trials below is safe because, in eval mode, no trial reaches another one's output. The package does the
# same from one input gradient per class and one Fourier transform.

# %%
x = torch.tensor(known.signal, device=device)  # (trial, channel, time)
spectrum = torch.fft.rfft(x)
amplitude = spectrum.abs().requires_grad_()
outputs = network(torch.fft.irfft(torch.polar(amplitude, spectrum.angle()), n=x.shape[2])).sum(0)
by_hand = torch.stack([torch.autograd.grad(output, amplitude, retain_graph=True)[0] for output in outputs]).cpu()

gradients = xs.amplitude_gradients(network, known.signal)  # (class, trial, channel, freq), in logits per amplitude
assert np.allclose(by_hand, gradients, rtol=0, atol=1e-4 * np.abs(gradients).max())

# %% [markdown]
# Two other variables are at hand: `quantity="power"`, which is the same divided by twice the amplitude, and
# `quantity="phase"`, in logits per radian, for decoders that read *when* a wave peaks, as in evoked potentials.
#
# ### A trial is a trial in any company
#
# The gradient of one trial is a fact about that trial. It may not change with the number of trials that are computed
# beside it. braindecode has a function of the same name; it differentiates the *mean* of the outputs over the batch.
# We give it one trial, alone and in company.

# %%
from braindecode.visualization import amplitude_gradients as theirs

for name, function in {"braindecode": theirs, "package": xs.amplitude_gradients}.items():
    alone, in_company = (np.linalg.norm(function(network, x[:n])[:, 0]) for n in (1, 16))
    print(f"{name:12s} norm for the first trial, alone / among 16: {alone / in_company:.1f}")

# %% [markdown]
# A data set is rarely a multiple of the batch size, and then the trials of the last, smaller batch weigh more than the
# others in every average. The topomaps look as good as before.
#
# ## A weight is not a pattern
#
# Arousal makes a 10 Hz rhythm at C3 and Oz stronger or weaker, from trial to trial; at Fz it is constant. Class 1 takes a
# little off it at C3. At Oz the rhythm mirrors arousal and nothing else. A good decoder of the class subtracts: what C3 has less
# than Oz. So Oz gets a large weight and holds no class signal at all; it is a *suppressor*. We build such
# trials and train the best linear readout of their amplitudes, linear discriminant analysis.

# %% tags=["hide-input"]
rng = np.random.default_rng(SEED)
label, arousal = rng.integers(2, size=2000), rng.uniform(1, 3, size=2000)
size = np.stack([arousal - 0.5 * label, arousal, np.full(2000, 2.0)], axis=1)  # of 10 Hz at C3, Oz and Fz
turn = 2 * np.pi * (10 * np.arange(160) / 80 + rng.uniform(size=(2000, 3, 1)))
signal = size[..., None] * np.cos(turn) + 0.5 * rng.standard_normal(turn.shape)  # (trial, channel, time), 80 Hz

# %%
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

features = np.abs(np.fft.rfft(signal))  # (trial, channel, freq)
lda = LinearDiscriminantAnalysis().fit(features.reshape(2000, -1), label)


class Readout(torch.nn.Module):
    def forward(self, x):
        return torch.fft.rfft(x).abs().flatten(1) @ torch.tensor(lda.coef_.T, dtype=x.dtype)


filters = xs.amplitude_gradients(Readout(), signal).mean(axis=1)  # (output, channel, freq)

# %% [markdown]
# The amplitude gradient of the readout is its filter $\mathbf{W}$: how it reads. A *pattern* says where the signal is.
# For linear outputs Haufe et al. {footcite:p}`haufe2014interpretation` derived it: multiply the filter by the covariance
# of the features. That matrix would have (channels × frequencies)² entries, and nobody needs it. With centred
# features $\mathbf{F}$ of shape (trial, feature), read the product from the left: first the outputs,
# $\mathbf{W}\mathbf{F}^\top$, then their covariance with each feature. That is also what a pattern means.

# %%
centred = (features - features.mean(0)).reshape(2000, -1)
pattern = (filters.reshape(1, -1) @ centred.T) @ centred / 1999
assert np.allclose(pattern, xs.haufe_patterns(filters, features).reshape(1, -1))

# %% [markdown]
# Three variants, at 10 Hz and with the largest value set to 1. The covariance *within* the classes asks what goes with
# the output among trials of one class. Shrinkage mixes the covariance with a multiple of the identity.

# %%
options = {"pattern": {}, "within classes": {"label": label}, "shrunk all the way": {"shrinkage": 1.0}}
variants = {name: xs.haufe_patterns(filters, features, **each) for name, each in options.items()}
for name, values in ({"gradient": filters} | variants).items():
    print(f"{name:20s} C3 {{:+.2f}}, Oz {{:+.2f}}, Fz {{:+.2f}}".format(*values[0, :, 20] / np.abs(values).max()))
low, high = (end[0, :, 20] for end in xs.pattern_interval(filters, features, n=300, seed=SEED))
print(f"pattern, 95 % interval: C3 {low[0]:.0f} to {high[0]:.0f}, Oz {low[1]:.0f} to {high[1]:.0f}")
assert filters[0, 1, 20] > 0.8 * np.abs(filters).max() and low[1] < 0 < high[1] and high[0] < 0

# %% [markdown]
# The decoder weighs C3 and Oz alike, with opposite signs; the pattern is at C3 alone, and its interval at Oz holds zero.
# The interval keeps the filter as it is: it says what other trials would change, and not what another training would.
# Which covariance? The plain one makes any feature that differs between the classes go with any output that decodes
# them, read or not. Within the classes that share is gone; take it when you ask what the decoder follows from trial to
# trial. Shrinkage steadies a covariance of many features from few trials, at a price: all the way, the pattern is
# the filter again, and the suppressor is back. These patterns only need the covariance with the outputs, so
# start without.
#
# ### Does the pattern find the source?
#
# A network is not linear, so we take its mean gradient over trials as the weights of a linear stand-in. From each
# class's gradient we subtract the mean over classes: a softmax does not see what all logits share, and what is left
# speaks for this class *rather than the others*. A last line makes classes comparable: filter times pattern, summed, is
# the variance of the output, so its root brings every pattern to "amplitude per standard deviation of the output".


# %%
def gradients_and_patterns(model, signal):
    """Return class-centred mean amplitude gradients and their scaled patterns, each (class, channel, freq)."""
    filters = xs.amplitude_gradients(model, signal).mean(axis=1)
    filters -= filters.mean(axis=0)
    patterns = xs.haufe_patterns(filters, np.abs(np.fft.rfft(signal)))
    return filters, patterns / np.sqrt((filters * patterns).sum((1, 2), keepdims=True))


freqs = np.fft.rfftfreq(160, 1 / 80)
gradient, pattern = gradients_and_patterns(network, known.signal)

# %% [markdown]
# For each class we look for the largest absolute value over all channels and frequencies, sign attached.

# %%
for kind, maps in {"gradient": gradient, "pattern": pattern}.items():
    channel, freq = np.divmod(np.abs(maps).reshape(3, -1).argmax(1), len(freqs))
    names, sign = np.take(known.info.ch_names, channel), np.where(maps[range(3), channel, freq] > 0, "+", "−")
    print(f"{kind:8s}", ", ".join(f"{s} {f:g} Hz at {c}" for s, f, c in zip(sign, freqs[freq], names, strict=True)))
assert (sign == "+").all() and (freqs[freq] == (6, 10, 22)).all() and (names == "C3").all()

# %% mystnb={"figure": {"caption": "Known answer: patterns of the three classes at three channels. Each class has its peak at C3 and at its own frequency.", "name": "fig-08-known"}, "image": {"alt": "Three panels, C3, Cz and C4, with one line per class over frequency. At C3 the lines peak at 6, 10 and 22 Hz, each class at its own; at C4 they are nearly flat."}}
xs.viz.plot_spectra_of_patterns(pattern, freqs, known.info, known.class_names, label="amplitude / SD of output")

# %% [markdown]
# The cell asserts that every pattern names C3 and the frequency of its class, as in {numref}`fig-08-known`. A gradient
# may have its largest value at another class's frequency, with a minus sign: "less of 6 Hz" is a fine argument against
# that class, and no sign of where this one's signal is.
#
# ### Over subjects
#
# One subject's trials say nothing about the next subject. Over subjects, a cluster test {footcite:p}`maris2007nonparametric`
# flips the sign of whole patterns and asks how often chance makes as large a cluster of neighbouring channels and
# frequencies. Eight simulated "subjects" with little signal, one decoder:

# %%
several = [xs.simulate("spectral", n_trials=12, snr_db=-12, sfreq=80, duration=2, seed=100 + n) for n in range(8)]
of_10_hz = [gradients_and_patterns(network, each.signal)[1][1] for each in several]
test = xs.pattern_cluster_test(np.stack(of_10_hz), known.info)  # of (subject, channel, freq)
found = (test.p_value < 0.05) & (test.t > 0)
assert found[known.info.ch_names.index("C3"), 20]
print(f"p = {test.p_value[found].min():.4f}, smallest possible {test.smallest_p_value:.4f}, {freqs[found.any(0)]} Hz")

# %% [markdown]
# The smallest p-value possible is a limit of design: $n$ subjects allow $2^{n-1}$ different sign flips. With five, no
# effect, however large, gets below $p = 1/16$. And the test says *that* there is an effect; the edge of a cluster is no border of anything.
#
# ## What each frequency of one trial adds
#
# Gradients and patterns are means over trials. For one trial, *relevance per frequency* says how much of the change of
# a logit each Fourier coefficient makes. First, a change from what? Here from the same trial, phases kept, with the
# mean amplitudes of all trials: what do *this* trial's amplitudes add? Integrated gradients
# {footcite:p}`sundararajan2017axiomatic` follow the straight line from there to the trial. A Fourier transform is linear,
# so a straight line over time is a straight line over frequency, and integrated gradients of the coefficients
# {footcite:p}`kechris2025time` need no new method. By hand, for the first trial:

# %%
baseline = xs.make_baseline(known.signal, "mean_amplitude")
spectrum, start = (torch.fft.rfft(torch.tensor(part[:1], device=device)) for part in (known.signal, baseline))
path = (start + (torch.arange(200, device=device)[:, None, None] + 0.5) / 200 * (spectrum - start)).requires_grad_()
network(torch.fft.irfft(path, n=x.shape[2]).float())[:, known.label[0]].sum().backward()
by_hand = ((spectrum - start) * path.grad.mean(0).conj()).real[0].cpu()

# %% [markdown]
# The package takes the map over time, $\mathbf{R} = \mathbf{M} \odot (\mathbf{x} - \mathbf{x}')$, and transforms both
# factors {footcite:p}`vielhaben2024explainable`. With $D$ and $M$ their Fourier coefficients, over $T$ samples,
#
# $$
# R(\omega) = \frac{w_\omega}{T}\, \mathrm{Re}\bigl( D(\omega)\, \overline{M(\omega)} \bigr),
# $$
#
# where $w_\omega$ is 2, and 1 at zero frequency and at the last. The cell asserts three things: both ways agree, the
# frequencies of a trial sum to the sum of its map (conservation), and that is the change of the logit (completeness).

# %%
attribution = xs.attribute(network, known.signal, known.label, "integrated_gradients", baseline=baseline)
relevance = xs.frequency_relevance(attribution, known.signal)  # (trial, channel, freq), in logits
total, gross = attribution.values.sum((1, 2)), np.abs(attribution.values).sum((1, 2)).max()
assert np.allclose(by_hand, relevance[0], rtol=0, atol=1e-2 * np.abs(relevance[0]).max())
assert np.allclose(relevance.sum((1, 2)), total, rtol=0, atol=1e-6 * gross)
assert np.abs(attribution.delta).max() < 1e-2 * np.abs(total).max()

# %% [markdown]
# ### Never divide by the trial
#
# The published recipe starts from the map alone and gets its second factor as $\mathbf{R} / \mathbf{x}$. A trial crosses
# zero many times a second, and there the quotient explodes. Both, with and without 1 % of noise:


# %% tags=["hide-input"]
def both_ways(signal):
    """Return the relevance from the multiplier and that from the quotient of map and trial."""
    closed = xs.attribute(network, signal, known.label, "integrated_gradients", baseline=baseline)
    quotient = closed.values / signal
    divided = xs.Attribution(quotient * signal, quotient, np.zeros_like(signal))
    return np.stack([xs.frequency_relevance(each, signal) for each in (closed, divided)])


shaken = known.signal + 0.01 * known.signal.std() * rng.standard_normal(x.shape, dtype=np.float32)

# %%
clean, noisy = both_ways(known.signal), both_ways(shaken)  # (way, trial, channel, freq)
sums, sizes = clean.sum((2, 3)), np.abs(clean).sum((2, 3))
changed = np.sqrt(((noisy - clean) ** 2).sum((1, 2, 3)) / (clean**2).sum((1, 2, 3)))
assert changed[0] < 0.1 and changed[1] > 0.5
columns = {"ΣR / change of logit": np.median(sums / total, 1), "Σ|R| / |ΣR|": np.median(sizes / np.abs(sums), 1)}
pd.DataFrame(columns | {"changed by noise": changed}, ["multiplier", "division"]).round(3)

# %% [markdown]
# Both sum to the change of the logit, so conservation does not tell them apart. But the divided relevance is large, of
# both signs, and another one after a little noise. A map that has no multiplier, such as that of saliency, is refused:

# %%
try:
    xs.frequency_relevance(xs.attribute(network, known.signal[:1], 0, "saliency"), known.signal[:1])
except ValueError as error:
    print(str(error).split(". ")[0])

# %% [markdown]
# ## The real recording: four classes
#
# Subject 42 of the PhysioNet recordings {footcite:p}`schalk2004bci2000,goldberger2000physiobank` imagines left fist,
# right fist, both fists or both feet. With two classes, centring leaves plus and minus one and the same map; with four,
# each map is a statement of its own. Runs 12 and 14 are left out, and everything below comes from them: two seconds, from
# 1.5 to 3.5 s after the cue, right and wrong decisions alike. The measured maps need the 2 s before the cue. This decoder is one of the nine recorded further down.

# %%
trials = xs.load_motor_imagery(subjects=42, runs=(4, 8, 12, 6, 10, 14), tmin=-2, sfreq=80)
left_out = trials.metadata["run"].isin((12, 14)).to_numpy()
seen, tested = trials.subset(~left_out).crop(1, 4), trials.subset(left_out)
decoder = xs.build_decoder("ShallowFBCSPNet", seen, n_times=160, seed=SEED, **xs.RECIPES["ShallowFBCSPNet"]).to(device)
xs.train(decoder, seen, epochs=8 if FAST else 80, seed=SEED, cache=True, device=device)

explained = tested.crop(1.5, 3.5)
logit = xs.predict(decoder, explained.signal)
print("runs left out:", xs.accuracy(explained.label, logit.argmax(1), seen.n_classes))

# %% [markdown]
# ### One trial over frequency and time
#
# The same closed form holds for every linear transform, such as a short-time Fourier transform. We take the
# trial of the first class whose logit exceeds that of the second class most, explain the difference of the two, and lay
# beside it the event-related desynchronisation {footcite:p}`pfurtscheller1999event` of all left-out trials of that class.

# %%
from scipy.signal import ShortTimeFFT

one = [np.where(explained.label == 0, logit[:, 0] - logit[:, 1], -np.inf).argmax()]
baseline = xs.make_baseline(explained.signal, "mean_amplitude")[one]
trial_map = xs.attribute(decoder, explained.signal[one], (0, 1), "integrated_gradients", baseline=baseline)
stft = ShortTimeFFT.from_window("hann", fs=80, nperseg=48, noverlap=44, mfft=160)  # windows of 0.6 s
relevance = xs.time_frequency_relevance(trial_map, explained.signal[one], stft)[0]  # (channel, freq, time)
change = 10 * np.log10(1 + xs.erds_map(tested, stft)[0] / 100)  # the first class, in decibel

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Above: what each frequency and moment of one trial adds to the logit of its class over that of the second class. Below: change of power from before the cue, mean over the trials of the class. Each value is spread over a window of 0.6 s. The dashed line is the cue; grey: not computed.", "name": "fig-08-time-frequency"}, "image": {"alt": "Four panels over time and frequency, C3 on the left and C4 on the right. Above, patches of positive and negative relevance within the two seconds explained. Below, change of power from before the cue to four seconds after it."}}
hands = [explained.info.ch_names.index(name) for name in ("C3", "C4")]
panels = {"one trial": relevance[hands], "ERD / ERS": change[hands]}
times = {"one trial": explained.tmin + stft.t(160), "ERD / ERS": tested.tmin + stft.t(tested.signal.shape[2])}
units = {"one trial": "relevance (logit)", "ERD / ERS": "change of power (dB)"}
units |= {"gradient": "logit / amplitude", "pattern": "amplitude / SD", "ERD": "% points", "FBCSP": "share of power"}
xs.viz.plot_time_frequency(panels, stft.f, times, ("C3", "C4"), labels=units, band=(8, 30))

# %% [markdown]
# Relevance in {numref}`fig-08-time-frequency` is not power. Red says that the amplitude there, being above *or* below
# the mean of all trials, moved the logit towards this class. With the real recording, a left fist should show less power
# at C4 below, and red at C4 above.
#
# ### Beside what the recording shows
#
# Four maps of the same trials, each of a class against the others: the decoder's gradient, its pattern, the
# measured ERD, and the common spatial patterns of a filter bank {footcite:p}`ang2008filter`, which learn from the labels
# and know no network.

# %%
gradient, pattern = gradients_and_patterns(decoder, explained.signal)
mu = (freqs >= 7) & (freqs <= 13)
erd = xs.event_related_desynchronisation(tested, {"mu": (7, 13)}, active=(1.5, 3.5))[..., 0]  # (class, channel)
fbcsp = xs.filter_bank_csp(explained, {"mu": (7, 13)}).contrast[..., 0]
in_mu = gradient[..., mu].mean(2), pattern[..., mu].mean(2), erd - (erd.sum(0) - erd) / 3, fbcsp
live = dict(zip(("gradient", "pattern", "ERD", "FBCSP"), in_mu, strict=True))

# %% mystnb={"figure": {"caption": "Live: mu (7-13 Hz), 1.5 to 3.5 s, runs left out. Gradient and pattern: logit less the mean over the classes. ERD: change of power less that in the other classes. FBCSP: share of power, class against the rest.", "name": "fig-08-live"}, "image": {"alt": "Four rows of heads, gradient, pattern, ERD and FBCSP, with a column for each of the four classes, in red and blue."}}
xs.viz.plot_map_comparison(live, explained.info, explained.class_names, labels=units)

# %% [markdown]
# Blue at C4 for the left fist means: less mu there goes with "left fist". How alike are the rows of {numref}`fig-08-live`, and
# is it more than chance? We correlate the network's maps with the ERD over class, channel and seven bands of 4 Hz. The
# interval draws trials anew, the decoder held. The chance level permutes the labels within runs before the ERD is taken:
# what a network's map has in common with *any* division of these trials.

# %% tags=["hide-input"]
from scipy.stats import PermutationMethod, pearsonr

bank = {f"{low}-{low + 4} Hz": (low, low + 4) for low in range(8, 36, 4)}
active, before = (xs.band_power(tested.crop(*span), bank) for span in ((1.5, 3.5), (-2, 0)))


def in_bank(values):
    """Average the last axis, frequency, over each band."""
    return np.stack([values[..., (freqs >= low) & (freqs <= high)].mean(-1) for low, high in bank.values()], axis=-1)


# %% tags=["hide-input"]
weights = in_bank(xs.amplitude_gradients(decoder, explained.signal))  # (class, trial, channel, band)
weights -= weights.mean(0)
amplitude = np.abs(np.fft.rfft(explained.signal))
output = np.einsum("kcf,tcf->tk", gradient, amplitude)
amplitude = in_bank(amplitude)


def agreement(rows, label):
    """Correlate the decoder's gradient and pattern of some trials with their ERD, over class, channel and band."""
    erd = np.stack([active[rows[label == k]].mean(0) / before[rows[label == k]].mean(0) for k in range(4)])
    centred = output[rows] - output[rows].mean(0)
    pattern = np.einsum("tk,tcb->kcb", centred / centred.std(0), amplitude[rows])
    maps = weights[:, rows].mean(1), pattern
    return [np.corrcoef(values.ravel(), (erd - erd.mean(0)).ravel())[0, 1] for values in maps]


# %% tags=["hide-input"]
label, run, everything = explained.label, explained.metadata["run"], np.arange(len(explained))
columns = ["r with ERD", "low", "high", "chance, low", "chance, high"]


def resampled():
    """Draw as many trials of each class as there are, with replacement."""
    return np.concatenate([rng.choice(np.flatnonzero(label == k), (label == k).sum()) for k in range(4)])


def permuted():
    """Permute the labels within runs."""
    return pd.Series(label).groupby(run).transform(rng.permutation).to_numpy()


# %%
r = np.array(agreement(everything, label))
error = 1.96 * np.std([agreement(rows, label[rows]) for rows in (resampled() for _ in range(200))], axis=0)
chance = np.percentile([agreement(everything, permuted()) for _ in range(200)], (2.5, 97.5), axis=0)
pd.DataFrame(np.transpose([r, r - error, r + error, *chance]), ["gradient", "pattern"], columns).round(2)

# %% [markdown]
# Two traps are avoided here. The interval is $r \pm 1.96$ standard errors, because a bootstrap sample adds noise to
# maps that are noisy already, and its percentiles would lie too low. And the common spatial patterns are no second
# witness: they saw the same trials as the ERD.
#
# ### Recorded: three sets of trials
#
# One decoder and one fold can be lucky or not. The recorded maps are means over three seeds and three folds, for left or
# right fist of subjects 7 and 42 and for the four classes. They are what readers without the recordings should look at,
# since a simulated trial has no fists.


# %% tags=["hide-input"]
def recorded_maps(data_set, band):
    """Return the class names and the recorded maps of a set of trials, (class, channel) for each kind."""
    table = xs.recorded("frequency_maps").query("data_set == @data_set and band == @band")
    wide = table.pivot(index=["kind", "class_name"], columns="channel", values="value")[simulated.info.ch_names]
    names = table["class_name"].unique()
    kinds = {"gradient": "gradient", "pattern": "pattern", "erd_contrast": "ERD", "fbcsp": "FBCSP"}
    return names, {name: wide.loc[kind].loc[names].to_numpy() for kind, name in kinds.items()}


names, maps = recorded_maps("S042 four classes", "mu")

# %% mystnb={"figure": {"caption": "Recorded: subject 42, four classes, mu; mean over three seeds and the trials of three folds. Contrasts as in the figure before.", "name": "fig-08-recorded"}, "image": {"alt": "Four rows of heads with a column each for left fist, right fist, both fists and both feet. The gradients have spots over the hand areas: blue at C4 for the left fist, blue at C3 and red at C4 for the right fist, blue at both for both fists, red at both for both feet. The other rows share the spots of both fists and both feet, around a large spot at the back of the head, red for both fists and blue for both feet; for single fists they are paler."}}
xs.viz.plot_map_comparison(maps, simulated.info, names, labels=units)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Recorded: right fist against left fist, subjects 7 and 42, in mu and in beta (14-30 Hz). The map of the left fist is its mirror image. Gradient and pattern: of half the difference of the logits.", "name": "fig-08-fists"}, "image": {"alt": "Four rows of heads, gradient, pattern, ERD and FBCSP, with columns for subject 7 in mu and beta and subject 42 in mu and beta. Gradient and FBCSP have a blue spot at C3 and a red one at C4 in mu, for both subjects. ERD is red around and behind C4. The pattern of subject 7 is red nearly everywhere, most of all at the back of the head; that of subject 42 is blue behind C3 and red behind C4."}}
sets = {f"{subject} {band}": (f"{subject} fists", band) for subject in ("S007", "S042") for band in ("mu", "beta")}
fists = [recorded_maps(*each)[1] for each in sets.values()]
right = {kind: np.stack([each[kind][1] for each in fists]) for kind in maps}
xs.viz.plot_map_comparison(right, simulated.info, tuple(sets), labels=units)

# %% [markdown]
# Where is each map of {numref}`fig-08-recorded` largest?

# %%
places = {kind: np.take(simulated.info.ch_names, np.abs(values).argmax(1)) for kind, values in maps.items()}
largest = pd.DataFrame(places, names)
assert largest["pattern"].str.startswith("PO").all() and largest["gradient"].isin(["C3", "C4", "CP5"]).all()
largest

# %% [markdown]
# The decoder weighs electrodes over the hand areas; its patterns are largest at the back of the head, where the alpha
# rhythm is. Neither is an error. A pattern has the unit of the signal, so a rhythm that is large and varies with the output is
# large in it, whether the decoder reads it or not. A pattern says what goes with the output, not that it comes from the
# brain, nor that the decoder needs it. Neither map replaces the other.
#
# Recorded agreement over class, channel and the seven bands: `r` with its interval over all left-out trials (gradients
# of all decoders scaled to one size); `unseen` compares each fold's maps with that fold's recording alone; chance and
# p, from 99 permutations, belong to it.

# %% tags=["hide-input"]
table = xs.recorded("map_comparison").query("class_name == 'all'").replace({"first_order": "gradient"})
table["measured"] = table["measured"].map({"erd_contrast": "ERD", "fbcsp": "FBCSP"})
table = table.set_index(["data_set", "kind", "measured"])
p_value = table["p_value"].unstack(["kind", "measured"])
assert (p_value["gradient", "FBCSP"] < 0.05).all() and (p_value.loc["S007 fists", "pattern"] > 0.05).all()
assert (p_value.filter(like="S042", axis=0) < 0.05).all(axis=None)
ends = {"interval": ("low", "high"), "chance": ("chance_low", "chance_high")}
spans = {name: [f"{low:.2f} to {high:.2f}" for low, high in table[[*pair]].to_numpy()] for name, pair in ends.items()}
agreed = table[["r"]].assign(interval=spans["interval"], unseen=table["r_unseen"], chance=spans["chance"])

# %%
agreed.assign(p=table["p_value"]).round(2)

# %% [markdown]
# In subject 42 both maps agree with both measures beyond chance. In subject 7 the gradient agrees with FBCSP, with ERD not
# beyond doubt, and the pattern with neither ({numref}`fig-08-fists`): there the output goes with mu nearly all over the head, and
# the measured contrast does not. These are twelve p-values, uncorrected.
#
# ### Is it lateralised, and with the right sign?
#
# State the expected sign before looking. Imagining a movement of one hand weakens the mu rhythm over the opposite
# hemisphere {footcite:p}`pfurtscheller1999event`. A trial of the right fist has less mu at C3, so the logit of right fist minus
# left fist should *fall* as power at C3 minus C4 rises. First live, over the trials left out, each run's mean removed:

# %%
c3, c4 = np.log(xs.band_power(explained, {"alpha": (7, 14)}))[:, hands, 0].T
both = pd.DataFrame({"power": c3 - c4, "logit": logit[:, 1] - logit[:, 0]})
test = pearsonr(*(both - both.groupby(run).transform("mean")).to_numpy().T, method=PermutationMethod(rng=SEED))
print(f"live: r = {test.statistic:.2f}, p = {test.pvalue:.3f} over {len(explained)} trials")

# %% [markdown]
# Then from the record, over all imagined trials: the maps for right minus left fist, C3 minus C4 (mean over trials, sign
# flips), and the correlation of power with the output and, in the recording, with the label (permuted within runs).

# %%
lateral = xs.recorded("lateralisation").query("seed == 'all'").replace({"first_order": "first-order correlation"})
assert (lateral["value"] < 0).all() and (lateral["p_value"] < 0.001).all()
lateral.drop(columns=["seed", "fold"]).style.format(precision=4).hide()

# %% [markdown]
# All four have the expected sign in all three sets of trials; the cell asserts it. Lean on output and recording, which are
# correlations: flipping signs over trials says that these networks lean to one side, and
# [chapter 7](07_amplitude_perturbation.ipynb) shows that untrained ones can do so too. It holds for two subjects who were
# chosen because they can be decoded.
#
# ## What can go wrong
#
# - **Batch dependence.** Divide by the batch size, and unequal batches weigh trials unequally.
# - **Two classes.** Centred maps are mirror images; do not count them as two findings.
# - **Nonlinear networks.** The mean gradient is a linear stand-in. Where gradients differ in sign from trial to
#   trial, the mean hides it.
# - **A baseline of zeros.** Power of zero is far from any trial, and a network that takes logarithms can be sure of a
#   class there. `xs.attribute` warns; the trial at mean amplitude is a neutral start.
# - **The reference interval.** Cues mostly alternate, so the seconds before the cue may hold the rebound of the trial before.
# - **Circular evidence.** Decoder, ERD and FBCSP see the same trials. Only the permuted labels say what that alone gives.
# - **Zero amplitude** has no phase: its gradient is a convention, so look at frequencies inside the pass-band only.
#
# ## Take-aways
#
# - An amplitude gradient asks for rhythms and does not care about phase from trial to trial.
# - Weights say how to read; patterns say what goes with the output. Neither alone shows where the signal is from.
# - Relevance per frequency comes from the multiplier, and sums to the change of the logit. Never divide by the trial.
# - Beside a network's map belongs what the recording shows without it, with an interval and a chance level.
# - State the expected sign before looking.
#
# ## Questions
#
# 1. Why does an interior frequency of the one-sided spectrum count twice, and zero frequency once?
# 2. What would the pattern of the suppressor become if Oz had a little of the class signal?
# 3. Divided relevance conserves the sum as well. What else would you ask of a map?
# 4. A pattern is strong at POz. Name two reasons, only one of which involves the decoder.
# 5. You have four subjects. Which p-value can the cluster test reach at best, and what would you report instead?
#
# ## Exercise: two classes
#
# Keep only the first two outputs of the decoder, centre again, and compute the patterns. How are the two related?
# Then divide by the covariance of the outputs, `output_covariance=True`. What does the package say, and why?
#
# :::{dropdown} Solution
# They are mirror images: with two classes the centred gradients are $\pm\frac12(\mathbf{g}_1 - \mathbf{g}_2)$, and a
# pattern is linear in its filter. The two outputs are then linearly dependent, their covariance matrix has rank 1, and
# the package warns and returns the patterns of least norm. The cell below asserts both.
# :::

# %% tags=["hide-cell"]
import warnings

two = gradient[:2].astype(float)
two -= two.mean(axis=0)
amplitudes = np.abs(np.fft.rfft(explained.signal))
first, second = xs.haufe_patterns(two, amplitudes)
assert np.allclose(first, -second, rtol=0, atol=1e-5 * np.abs(first).max())

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    xs.haufe_patterns(two, amplitudes, output_covariance=True)
assert "linearly dependent" in str(caught[0].message)

# %% [markdown]
# ## References
#
# :::{footbibliography}
# :::
