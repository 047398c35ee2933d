# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["remove-cell"]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/eegxai--home/eegxai/blob/main/book/frequency/07_amplitude_perturbation.ipynb)

# %% [markdown]
# # Amplitude perturbation: what if a rhythm in one channel grew a little?
#
# A decoder of motor imagery should listen to the mu rhythm over the hand areas. Does it? The direct way to know is to
# try: make the rhythms of a trial a little stronger or weaker at random, one channel and one frequency as
# independent of the others as can be, and watch the output. Schirrmeister et al. {footcite:p}`schirrmeister2017deep`
# did so, and braindecode had the method until its rewriting. This chapter brings it back with what it lacked: a null,
# an interval, a rule for when to stop. And it shows the map that all these perturbations converge to, which takes
# no noise at all.
#
# :::{admonition} By the end you can
# - perturb amplitudes and correlate the change of the output with the change of the input;
# - say what its p-value tests, what its interval covers, and how many iterations a map needs;
# - compute the limit of infinitely many iterations from one gradient per class;
# - say what the sign of such a correlation means, and what it does not.
# :::
#
# **Before you start:** [training a decoder](../foundations/02_training_a_decoder.ipynb) and the Fourier transform.
# **Time:** 35 minutes, a laptop without a graphics card.

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
# Three classes of simulated trials differ in nothing but the frequency of a burst under C3: 6, 10 or 22 Hz. The
# network should react to the amplitudes of these frequencies at C3. We explain the trials of a run it never saw.

# %%
import time

import mne
import numpy as np
import pandas as pd
import torch
from scipy.stats import norm, permutation_test

import eegxai_support as xs

simulated = xs.simulate("spectral", n_trials=120 if FAST else 240, snr_db=-5, sfreq=80, duration=2, seed=SEED)
held_out = (simulated.metadata["run"] == 4).to_numpy()
recipe, device = xs.RECIPES["ShallowFBCSPNet"], xs.best_device(DEVICE)
network = xs.build_decoder("ShallowFBCSPNet", simulated, seed=SEED, **recipe).to(device)
xs.train(network, simulated.subset(~held_out), epochs=10 if FAST else 20, seed=SEED, cache=True, device=device)
known = simulated.subset(held_out)
print("run left out:", xs.accuracy(known.label, xs.predict(network, known.signal).argmax(1)))

# %% [markdown]
# ## The algorithm of 2018, by hand
#
# One iteration transforms every trial, adds normal noise to its amplitudes, keeps the phases, transforms back and asks
# the network again. The noise has a standard deviation of 1, in units of `numpy.fft.rfft` of the signal. An amplitude cannot
# be negative, so the noise stops at zero, and the perturbation is the change that is left. Where an amplitude is small the stop
# pushes it up on average, and trials with small amplitudes may differ in other ways too. So we subtract the expected change, which
# the code of 2018 did not.

# %%
x = torch.tensor(known.signal)  # (trial, channel, time), in microvolts
spectrum = torch.fft.rfft(x)
amplitude, phase = spectrum.abs(), spectrum.angle()
expected = torch.tensor(norm.pdf(amplitude) - amplitude.numpy() * norm.sf(amplitude))


@torch.no_grad()
def iterate(seeds):
    """Return what changed in the amplitudes and in the outputs; one seed for each trial."""
    noise = [torch.randn(amplitude.shape[1:], generator=torch.Generator().manual_seed(int(seed))) for seed in seeds]
    changed = (amplitude + torch.stack(noise)).clamp(min=0)
    rebuilt = torch.fft.irfft(torch.polar(changed, phase), n=x.shape[2])
    response = network(rebuilt.to(device)) - network(x.to(device))
    return changed - amplitude - expected, response.cpu()


# %% [markdown]
# After some iterations we correlate the change of each amplitude with the change of each output, over all trials and
# iterations. That is one matrix product of standardised values.

# %%
seeds = [np.random.SeedSequence((SEED, i)).generate_state(len(x), np.uint64) for i in range(10)]
changes = [torch.cat(parts).flatten(1).double() for parts in zip(*map(iterate, seeds), strict=True)]
noise, response = ((values - values.mean(0)) / values.std(0, correction=0) for values in changes)
by_hand = (noise.T @ response / len(noise)).reshape(*amplitude.shape[1:], -1)  # (channel, freq, output)

# %% [markdown]
# The package does the same in batches, without keeping the noise. Each trial has its own seed in each iteration, so
# the batch size does not change the result. With the same seeds it is the same map.

# %%
ours = xs.amplitude_perturbation(network, known.signal, n_iterations=10, seed=SEED)
assert np.allclose(ours.correlation, by_hand, rtol=0, atol=1e-4)

# %% [markdown]
# ## How many iterations?
#
# The 2018 tutorial took 12, the paper 400. The noise on thousands of amplitudes moves the output at once, so each
# correlation is small, while chance correlations are of size $1/\sqrt{nN}$ for $n$ trials and $N$ iterations. We run
# more and more.

# %%
counts = (10, 30, 90) if FAST else (10, 40, 160, 640)
effects, seconds = {}, {}
for count in counts:
    start = time.perf_counter()
    effects[count] = xs.amplitude_perturbation(network, known.signal, n_iterations=count, label=known.label, seed=SEED)
    seconds[count] = time.perf_counter() - start
    print(f"{count:5d} iterations, {seconds[count]:5.1f} s: reliability {effects[count].reliability.round(2)}")

# %% [markdown]
# *Reliability* is the correlation that two independent maps of so many iterations would have. It comes from the two
# halves of the iterations, corrected for their length. A map with a reliability of 0.1 is mostly noise, however smooth
# its topomap looks. Where the halves disagree it is zero.
#
# ## What the receipts say
#
# First: was the noise small enough? A trial that changes its class is no longer the trial that we ask about. The paper
# required that accuracy on perturbed trials stays above 99.5 % of what it was. The receipt is a coarse one, since only trials near the
# border of two classes can lose it. A finer one follows below: does the map agree with its limit for vanishing noise?

# %%
print(f"median amplitude: {amplitude.median():.0f}")
for scale in (1, 50):
    kept = xs.amplitude_perturbation(network, known.signal, n_iterations=10, scale=scale, label=known.label)
    print(f"noise of {scale:2d}: {kept.accuracy_kept:.1%} of the accuracy is kept")

# %% [markdown]
# Second: `p_value`. Its null pairs the noise of an iteration with the responses of the same trials in *earlier*
# iterations, which it cannot have caused. It asks whether the network reacts to this amplitude *in these trials*. With
# enough iterations it will find any reaction, however small: significant here means measured, not important. There is a
# p-value for each channel, frequency and class, so we control the false discovery rate
# {footcite:p}`benjamini1995controlling` at 5 %. The null pools five earlier iterations, all channels and all frequencies;
# no p-value falls below one over their number, and a few correlations among thousands may not pass.
#
# Third: `low` and `high`, a 95 % interval over trials. It says how far the correlation would move with other trials
# like these *and other noise*. The p-value and the interval answer two questions, and the figures of 2018 had neither.

# %%
freqs = np.fft.rfftfreq(known.signal.shape[2], 1 / known.sfreq)
c3, c4 = (known.info.ch_names.index(name) for name in ("C3", "C4"))
effect = effects[counts[-1]]
found, _ = mne.stats.fdr_correction(effect.p_value)
print(f"found: {found.sum()} of {found.size} correlations, {found[c3].sum()} of them at C3")
bins = [np.abs(freqs - frequency).argmin() for frequency in (6, 10, 22)]
own = {name: getattr(effect, name)[c3, bins, range(3)] for name in ("correlation", "low", "high", "p_value")}
pd.DataFrame(own, index=pd.Index(known.class_names, name="C3, own frequency")).map("{:.2g}".format)

# %% [markdown]
# ## The limit without noise
#
# Let $g_i$ be the amplitude gradient of a trial: how much the output moves per unit of amplitude $i$, a channel at a
# frequency. For small noise $\eta$ the output moves by $\sum_j g_j \eta_j$. Over noise and trials
#
# - its covariance with $\eta_i$ is $\sigma^2 \langle g_i \rangle$, since the noise of two amplitudes is independent;
# - its variance is $\sigma^2 \langle \sum_j g_j^2 \rangle$, and the variance of $\eta_i$ is $\sigma^2$.
#
# Here $\langle\cdot\rangle$ is the mean over trials. The correlation is the first over the square root of the product of
# the two variances, and the size of the noise cancels:
#
# $$
# \rho_i = \frac{\langle g_i \rangle}{\sqrt{\langle \sum_j g_j^2 \rangle}} .
# $$
#
# So all perturbations together estimate one mean gradient, scaled. [Chapter 8](08_amplitude_gradients_and_haufe_patterns.ipynb)
# derives the gradient; one per class is enough, and `method="first_order"` does it.

# %%
gradient = xs.amplitude_gradients(network, known.signal)  # (output, trial, channel, freq)
limit = gradient.mean(1) / np.sqrt((gradient**2).sum((2, 3)).mean(1))[:, None, None]
start = time.perf_counter()
first = xs.amplitude_perturbation(network, known.signal, method="first_order")
print(f"first order: {time.perf_counter() - start:.2f} s; {counts[-1]} iterations: {seconds[counts[-1]]:.1f} s")
assert np.allclose(first.correlation, np.moveaxis(limit, 0, 2), rtol=0, atol=1e-5)

# %% [markdown]
# Does the noise get there? Chance adds the variance $1/(nN)$ to every correlation, and the limit has a variance $v$ of its own
# over channels and frequencies. So a map of $N$ iterations should have the reliability $q = v / (v + 1/(nN))$, and correlate
# with the limit by $\sqrt{q}$. {numref}`fig-07-convergence` has the class "10 Hz" at its frequency, and that correlation over all
# channels and frequencies.

# %% tags=["hide-input"]
variance = first.correlation.var((0, 1))
rows = []
for (count, noisy), k in ((item, k) for item in effects.items() for k in range(3)):
    r = np.corrcoef(noisy.correlation[..., k].ravel(), first.correlation[..., k].ravel())[0, 1]
    predicted = np.sqrt(variance[k] / (variance[k] + 1 / (len(known) * count)))
    rows.append([known.class_names[k], count, r, predicted])
table = pd.DataFrame(rows, columns=["output", "iterations", "r", "predicted"])
print(f"measured and predicted differ by {(table['r'] - table['predicted']).abs().max():.2f} at most")
heads = {f"{count} iterations": effects[count].correlation[:, bins[1], 1] for count in counts[-3:]}
heads |= {"first order": first.correlation[:, bins[1], 1]}

# %% mystnb={"figure": {"caption": "From noise to the limit. Above: the class \"10 Hz\" at 10 Hz, by number of iterations and in first order. Below: correlation of the whole map with the first-order map, and what its reliability predicts.", "name": "fig-07-convergence"}, "image": {"alt": "A row of heads: spots all over the head with few iterations, one spot at C3 with many and in first order. Under it, dots that rise with the iterations along dashed lines, one per class."}}
xs.viz.plot_convergence(heads, table, known.info, label="correlation")

# %% [markdown]
# What separates the two maps is noise, and how much can be said in advance: a reliability $q$ takes
# $N = q / (1 - q) / (n v)$ iterations. `target_reliability` looks while it runs and stops as soon as all maps have it.

# %%
target = 0.05 if FAST else 0.3
for wanted in (target, 0.9):
    needed = wanted / (1 - wanted) / (len(known) * variance.min())
    print(f"predicted for a reliability of {wanted}: {needed:.0f} iterations")
stopped = xs.amplitude_perturbation(network, known.signal, n_iterations=2000, target_reliability=target, seed=SEED)
print(f"a reliability of {target} was reached after {stopped.n_iterations}")

# %% [markdown]
# Since the limit has no noise, its p-value tests something else: Student's t over groups of trials, for a mean gradient
# of zero *over trials*. And does the map know the answer? In the table every class has its largest value at
# its own frequency, and it is positive. Read rows, not columns: a network may let one frequency speak for two classes
# and tell these apart by another one.

# %%
at_c3 = pd.DataFrame(first.correlation[c3, bins].T, known.class_names, ["6 Hz", "10 Hz", "22 Hz"])
assert (at_c3.to_numpy().argmax(1) == range(3)).all() and (np.diag(at_c3) > 0).all()
at_c3.rename_axis("correlation at C3").map("{:+.3f}".format)

# %% [markdown]
# ## Other questions: factors, phases, layers
#
# *Additive* noise asks for the effect of one unit of amplitude, which is a lot at 30 Hz and little at 5 Hz. *Multiplicative*
# noise asks for the effect of a per cent; in the limit $g_i A_i$ takes the place of $g_i$. Where the network listens to
# what is large anyway, the source stands out: the largest correlation of each class is the true one.

# %%
factors = {"kind": "multiplicative", "method": "first_order"}
percent = xs.amplitude_perturbation(network, known.signal, **factors).correlation
for k, name in enumerate(known.class_names):
    channel, freq = np.unravel_index(percent[..., k].argmax(), percent.shape[:2])
    print(f"class {name}: {known.info.ch_names[channel]}, {freqs[freq]:g} Hz, r = {percent[channel, freq, k]:.2f}")
    assert channel == c3 and freq == bins[k]

# %% [markdown]
# Shifting *phases*, alike in all channels, asks whether timing matters. What is correlated is the size of the shift, so there
# is no first-order version. `layer` asks the units of a layer instead of the output. The third layer from the end holds
# the log power behind each of the network's filters. Hartmann et al. {footcite:p}`hartmann2018hierarchical` went through all
# layers and found phase to matter early and amplitude late. Random phases cost our network little: it reads amplitudes.

# %%
shifted = xs.amplitude_perturbation(network, known.signal, kind="phase", n_iterations=20, label=known.label, seed=SEED)
print(f"phases: {mne.stats.fdr_correction(shifted.p_value[0])[0].sum()} correlations found;", end=" ")
print(f"all phases random: {shifted.accuracy_kept:.0%} of the accuracy kept")
assert shifted.accuracy_kept > 0.6  # at chance a third would be left
units = xs.amplitude_perturbation(network, known.signal, layer="pool_nonlin_exp", **factors).correlation
print("strongest frequency of each filter:", *sorted(freqs[np.abs(units).max(0).argmax(0)]))

# %% [markdown]
# ## The real recording
#
# Three decoders of single subjects of the PhysioNet recordings {footcite:p}`schalk2004bci2000,goldberger2000physiobank`:
# left or right fist for subjects 7 and 42, and four classes for subject 42, each tested on runs that are left out. A softmax does not
# see what all logits share, so a last layer subtracts their mean. With two classes the two maps are then mirror images.
# (Simulated trials have three or four classes, and a subject is then only a name.) Loading and training are as in chapters 4
# and 8; the accuracy is that of logits averaged over windows from 1 to 4 s.

# %% tags=["hide-input"]
IMAGERY = {  # subject, runs, runs left out, epochs
    "S007": (7, (3, 7, 11, 4, 8, 12), (12,), 60),
    "S042": (42, (3, 7, 11, 4, 8, 12), (12,), 60),
    "S042, four": (42, (4, 8, 12, 6, 10, 14), (12, 14), 80),
}


def decoder_and_trials(subject, runs, left_out, epochs):
    """Return a model of the logits less their mean, and 2 s of the trials that it has not seen."""
    trials = xs.load_motor_imagery(subjects=subject, runs=runs, sfreq=80)
    out = trials.metadata["run"].isin(left_out).to_numpy()
    decoder = xs.build_decoder("ShallowFBCSPNet", trials, n_times=160, seed=SEED, **recipe).to(device)
    xs.train(decoder, trials.subset(~out), epochs=8 if FAST else epochs, seed=SEED, cache=True, device=device)
    predicted = xs.predict(decoder, trials.signal[out], stride=20).argmax(1)
    print("  left out:", xs.accuracy(trials.label[out], predicted, trials.n_classes))
    centre = torch.nn.Linear(trials.n_classes, trials.n_classes, bias=False)
    centre.weight.data = torch.eye(trials.n_classes) - 1 / trials.n_classes
    return torch.nn.Sequential(decoder, centre.to(device)), trials.subset(out).crop(1.5, 3.5)


# %%
decoders = {name: decoder_and_trials(*what) for name, what in IMAGERY.items()}
alpha = (freqs >= 7) & (freqs <= 14)  # the band of 2018
maps = {}
for name, (model, trials) in decoders.items():
    band = xs.amplitude_perturbation(model, trials.signal, method="first_order").correlation[:, alpha].mean(1)
    maps |= {f"{name}\n{label}": head for label, head in zip(trials.class_names, band.T, strict=True)}

# %% mystnb={"figure": {"caption": "Live: first-order amplitude correlations, mean over 7 to 14 Hz, trials left out.", "name": "fig-07-live"}, "image": {"alt": "Heads in red and blue, one per subject and class, on one scale, with C3, Cz and C4 named on the first."}}
xs.viz.plot_channel_topomaps(list(maps.values()), simulated.info, list(maps), label="correlation")

# %% [markdown]
# ### Is it lateralised?
#
# Imagining a movement of one hand weakens the mu rhythm over the opposite hemisphere {footcite:p}`pfurtscheller1999event`.
# A decoder that uses this lets the right fist's logit, less the left one's, fall with the amplitude at C3 and rise with that at C4: C3
# minus C4 should be negative. (Simulated trials have no fists, and nothing is predicted for them.) What each trial adds to the
# map is its gradient, so we flip signs over trials.


# %%
def lateral(model, trials):
    """Test C3 minus C4 between 7 and 14 Hz, second class minus first, by flipping the signs of trials."""
    gradient = xs.amplitude_gradients(model, trials.signal)[..., alpha].mean(3)
    side = gradient[:, :, c3] - gradient[:, :, c4]  # (output, trial)
    return permutation_test((side[1] - side[0],), np.mean, permutation_type="samples", rng=SEED)


for name, test in {name: lateral(*what) for name, what in decoders.items()}.items():
    print(f"{name}: {test.statistic:+.1e} logits per unit of amplitude, p = {test.pvalue:.1g}")

# %% [markdown]
# Before we rejoice: the gradients of one network resemble each other from trial to trial, because its weights are
# the same. The next cell asks networks that nobody has trained.

# %%
trials = decoders["S007"][1]
draws = range(4 if FAST else 12)
untrained = [xs.build_decoder("ShallowFBCSPNet", trials, seed=seed, **recipe).to(device) for seed in draws]
print("p of untrained networks:", *sorted(f"{lateral(model, trials).pvalue:.4f}" for model in untrained))

# %% [markdown]
# Where such a p-value is small, it says that *this* network leans to one side, which random weights do too. So a map needs more
# than one network and a second test that involves the recording: does the output follow the log alpha power at C3 minus C4 of the trials,
# against permutations within runs? Recorded: three seeds and three folds for each data set. `output` is that correlation,
# and `recording` is the same for the label instead of the output; `first_order` is a difference of two correlations.

# %% tags=["hide-input"]
recorded = xs.recorded("lateralisation")
single = recorded[(recorded["seed"] != "all") & (recorded["fold"] != "all")]
whole = recorded[(recorded["seed"] == "all") & (recorded["fold"] == "all")]
assert (single.loc[single["quantity"].isin(["first_order", "output"]), "value"] < 0).all()
assert (whole["value"] < 0).all() and (whole["p_value"] < 0.01).all()
print(f"{single.groupby(['seed', 'fold']).ngroups} decoders for each data set, all with the predicted sign")
shown = whole[whole["quantity"] != "pattern"].set_index(["data_set", "quantity"])[["value", "p_value"]]
shown.unstack("quantity").map("{:.2g}".format)

# %% [markdown]
# Yes: on the real recordings the maps are lateralised as predicted, in every fit, and the outputs follow the rhythm. That
# holds for these two subjects, who were chosen because they can be decoded. {numref}`fig-07-recorded` has the maps.

# %% tags=["hide-input"]
in_mu = xs.recorded("frequency_maps").query("band == 'mu'")
columns = ["data_set", "class_name", "kind"]
wide = in_mu.pivot(index="channel", columns=columns, values="value").loc[simulated.info.ch_names]
kinds = ("first_order", "erd_contrast", "perturbation")
network_map, measured, noisy = (wide.xs(kind, axis=1, level="kind") for kind in kinds)
print(f"100 iterations correlate with the first order by {network_map.corrwith(noisy).min():.2f} at least")
titles = [f"{data_set.replace(' classes', '').replace(' fists', '')}\n{name}" for data_set, name in network_map]

# %% mystnb={"figure": {"caption": "Recorded: first-order amplitude correlations, mean over the mu band (7 to 13 Hz), three seeds and three folds.", "name": "fig-07-recorded"}, "image": {"alt": "Eight heads in red and blue. Subjects 7 and 42, two classes: the left fist is red at or behind C3 and blue around C4, the right fist the reverse. Four classes: weaker and more scattered, both feet red at C3 and C4, both fists blue there."}}
xs.viz.plot_channel_topomaps(network_map.to_numpy().T, simulated.info, titles, label="correlation")

# %% [markdown]
# ## What a sign does not mean
#
# The output of the tiny network below is the log power of C3 less that of C4: one electrode *normalises* the other. In the
# data, imagery of the left hand weakens a 10 Hz rhythm at C4 and does nothing at C3. Alertness strengthens both, in either class
# alike.


# %%
class Normalised(torch.nn.Module):
    """Logits of the left and the right hand from the channels C3 and C4."""

    def forward(self, x):
        power = x.var(dim=2).log()
        return torch.stack([power[:, 0] - power[:, 1], power[:, 1] - power[:, 0]], dim=1)


rng = np.random.default_rng(SEED)
left = np.arange(400) % 2 == 0
alertness = np.exp(0.5 * rng.standard_normal(200)).repeat(2)  # each value once in each class
size = np.stack([alertness, alertness * np.where(left, 0.6, 1)], axis=1)[..., None]
wave = np.sin(2 * np.pi * (10 * np.arange(160) / 80 + rng.uniform(size=(400, 2, 1))))
rhythm = size * wave + 0.1 * rng.standard_normal((400, 2, 160))

# %%
ten = np.log(np.abs(np.fft.rfft(rhythm))[..., 20])  # (trial, channel), at 10 Hz
logits = xs.predict(Normalised(), rhythm)
for name, decided in {"both": logits[:, 0] > np.log(1 / 0.6), "C4 alone": ten[:, 1] < np.median(ten[:, 1])}.items():
    print(f"right decisions from {name}: {(decided == left).mean():.2f}")
sign = xs.amplitude_perturbation(Normalised(), rhythm, method="first_order").correlation[:, 20, 0]
contrast = ten[left].mean(0) - ten[~left].mean(0)
pattern = np.corrcoef(logits[:, 0], ten.T)[0, 1:]
assert sign[0] > 0.3 and abs(contrast[0]) < 0.05 * abs(contrast[1])
pd.DataFrame({"correlation of effect": sign, "left − right": contrast, "pattern": pattern}, ["C3", "C4"]).round(2)

# %% [markdown]
# The left hand's logit rises with the amplitude at C3, strongly and truly. Yet the rhythm at C3 is the same in both classes. The
# network needs C3 to know how large C4 should be; from C4 alone it decides worse. So a positive correlation at C3 does *not* say that
# the rhythm rises there when the left hand is imagined. Schirrmeister et al. {footcite:p}`schirrmeister2017deep` warn of this
# reading of their Result 12. A correlation of effect is a weight; the last column, the correlation of the logit with the
# log amplitude, is a pattern {footcite:p}`haufe2014interpretation`, and [chapter 8](08_amplitude_gradients_and_haufe_patterns.ipynb) is
# about the two.
#
# And the recordings? We compare the sign of the map with the sign of what the trials show: the change of mu power after
# the cue in a class, less that in the others, in the same left-out trials.

# %% tags=["hide-input"]
agree = np.sign(network_map) == np.sign(measured)
assert agree.loc[["C3", "C4"]].all(axis=None)
assert (1 - agree.mean()).between(0.24, 0.45).all()
summary = pd.DataFrame({"C3 and C4": agree.loc[["C3", "C4"]].mean(), "all electrodes": agree.mean()})
summary["r over electrodes"] = network_map.corrwith(measured)
summary.rename_axis(index=["signs that agree", ""]).style.format("{:.2f}")

# %% [markdown]
# At C3 and C4 every sign is that of the recording. Over the head a quarter to nearly half of the signs differ: there the
# decoders weigh an amplitude for other reasons than its own contrast, or one of the two maps is noise.

# %% [markdown]
# ## The tutorial of 2018, again
#
# How would the figure of 2018 look today? (Its events were named hands and feet, its figure left and right hand; ours
# are left and right fist.) Recorded: nearly its set-up, Deep4Net on crops of 450 samples across subjects without a high-pass,
# with 16 subjects to train on and five unseen; the first-order map takes the place of 12 iterations. It was trained again
# at a lower learning rate, and with all frequencies below 7 Hz removed. `share` is the part of the output's variance that a
# band would cause, to first order, if every amplitude varied by the same factor. The map of 2018 is of the alpha band, 7 to 14 Hz.

# %% tags=["hide-input"]
tutorial = xs.recorded("tutorial_2018")
tutorial["high-pass"] = tutorial["l_freq"].map("{:g} Hz".format).where(tutorial["l_freq"].notna(), "none")
setting = ["high-pass", "lr"]
tutorial["lr"] = tutorial["lr"].map("{:g}".format)
values = ["accuracy", "p_value", "share", "accuracy_without_band"]
fits = tutorial.groupby([*setting, "seed", "subjects", "band"])[values].mean().reset_index()
fits = fits.pivot(index=[*setting, "seed"], columns=["subjects", "band"])
of_fit = pd.DataFrame({f"accuracy, {who}": fits["accuracy", who, "alpha"] for who in ("training", "unseen")})
of_fit["p, unseen"] = fits["p_value", "unseen", "alpha"]
of_fit["unseen, without 0-6 Hz"] = fits["accuracy_without_band", "unseen", "low"]
assert (of_fit.loc["none", "unseen, without 0-6 Hz"] < 0.52).all()
of_fit = of_fit.join(fits["share", "unseen"][["low", "alpha", "beta", "high"]].add_prefix("share, "))
assert (of_fit["p, unseen"] < 0.05).all() and (of_fit.loc["none", "share, low"] > 0.9).all()
of_fit.style.format("{:.2f}").format("{:.1g}", subset="p, unseen")

# %% tags=["hide-input"]
unseen = tutorial.query("band == 'alpha' and subjects == 'unseen' and lr == '0.01'")
means = unseen.groupby(["high-pass", "class_name", "channel"])["correlation"].mean().unstack("channel")
means = means.loc[["none", "7 Hz"], simulated.info.ch_names]
side = unseen.pivot_table(index=["high-pass", "seed", "class_name"], columns="channel", values="correlation")
assert ((side["C3"] > side["C4"]) == (side.index.get_level_values("class_name") == "left fist")).all()
titles = [f"{'no high-pass' if hp == 'none' else 'above 7 Hz'}\n{name}" for hp, name in means.index]

# %% mystnb={"figure": {"caption": "Recorded: the alpha-band maps of the 2018 set-up on unseen subjects, mean over two seeds, each on its own scale. Left: trained on all frequencies. Right: trained and tested above 7 Hz.", "name": "fig-07-tutorial"}, "image": {"alt": "Four heads, left and right fist twice, the right fist the reverse of the left. Without a high-pass the left fist is red behind C3 and at the right temple and faintly blue at C4; above 7 Hz it is blue behind C4 and weaker red behind C3, on a scale twice as wide."}}
xs.viz.plot_channel_topomaps(means.to_numpy(), simulated.info, titles, label="correlation", shared=False)

# %% [markdown]
# Every fit decodes unseen subjects better than chance, if not by much, and those maps that are drawn lie the expected way round in every
# fit ({numref}`fig-07-tutorial`): C3 above C4 for the left fist. So far the figure of 2018 stands. But trained on all frequencies this network hardly listens to alpha: more than nine
# tenths of what could move its output lies at 0 to 6 Hz, where eyes and slow potentials are, and with these set to zero it
# decides at chance. (A share is not a need: without the low band, alpha has most of it.) A map of the band that one
# expects shows that band, whatever the network reads. Look at all frequencies first.
#
# ## What can go wrong
#
# - **Noise too large.** Then trials are no longer themselves, amplitudes stop at zero, and the first order no longer holds.
#   `accuracy_kept` is the receipt.
# - **The wrong unit.** Noise of 1 is 1 in units of the Fourier sum: a sine of $2/T$ microvolts here, or $2/T$ standard
#   deviations of standardised trials. Look at the median amplitude, or choose factors. The package warns where the noise is larger.
# - **Out of the pass-band** a recording has no amplitude, and a network any weight: it never had to care. Maps from there are real
#   reactions to what never happens. Stay inside.
# - **Zero amplitude has no phase.** The noise then comes with phase 0. It matters at frequencies that a filter emptied.
# - **Common average reference.** Perturbing one channel makes trials that the reference forbids. The map then
#   also shows weights on what all channels share, which such data never taught.
# - **The wrong p-value.** `p_value` of the noise is about these trials; `low`, `high` and the p-value of the first order are about
#   trials like these; neither is about other networks or other subjects.
# - **Logits or differences.** What all logits share does not decide. Subtract their mean.
#
# ## Take-aways
#
# - Perturbation asks the network a causal question, and the answer is about the network.
# - All that noise estimates a mean gradient over its root mean square: compute it in one pass.
# - A map of noise needs its reliability; how many iterations that takes, $N = q / (1 - q) / (n v)$, can be computed in advance.
# - Significant means measured. Importance, trials, networks and subjects are four further questions.
# - The sign is that of a weight. Show the recording beside it.
#
# ## Questions
#
# 1. Why does $\sum_i \rho_i^2$ never exceed 1, and when does it reach 1?
# 2. Which of the three tests would notice that a decoder was trained on shuffled labels?
# 3. Why can the size of a phase shift have no first-order effect?
# 4. Which noise, additive or multiplicative, would you take for a decoder of high gamma?
#
# ## Exercise: one number for agreement over trials
#
# Compute $\sum_i \rho_i^2$ for each class of the simulation from the first-order map, and compare it with the same sum for a linear
# network, whose gradient by a *sample* is the same in every trial. Is it 1? Why not?
#
# :::{dropdown} Solution
# The sum is the squared length of the mean gradient over the mean squared length: the share of the gradient that all trials
# have in common. An amplitude gradient turns with the phase. A linear network weighs samples, so with phases at random it has no
# opinion about amplitudes, and its share is what chance leaves, about one over the number of trials. Log-power
# networks have a higher one. The cell below asserts both.
# :::

# %% tags=["hide-cell"]
torch.manual_seed(SEED)
share = (first.correlation**2).sum((0, 1))
linear = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(known.signal[0].size, 3)).to(device)
effect = xs.amplitude_perturbation(linear, known.signal, method="first_order")
share_of_linear = (effect.correlation**2).sum((0, 1))
print(share.round(3), share_of_linear.round(3))
assert (share <= 1).all() and (share_of_linear < 2 / len(known)).all() and (share > share_of_linear).all()

# %% [markdown]
# ## Exercise: factors by hand
#
# Compute the first-order map of multiplicative noise from `gradient` and `amplitude`.
#
# :::{dropdown} Solution
# By the chain rule the gradient by a factor is $g_i A_i$; the rest stays.
# :::

# %% tags=["hide-cell"]
by_factor = gradient * amplitude.numpy()
by_hand = by_factor.mean(1) / np.sqrt((by_factor**2).sum((2, 3)).mean(1))[:, None, None]
assert np.allclose(np.moveaxis(by_hand, 0, 2), percent, rtol=0, atol=1e-5)

# %% [markdown]
# ## References
#
# :::{footbibliography}
# :::
