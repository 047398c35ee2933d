# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["remove-cell"]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/eegxai--home/eegxai/blob/main/book/foundations/03_inside_the_network.ipynb)

# %% [markdown]
# # Inside the network: what do its filters look for?
#
# The first layers of a compact EEG network are filters over time and filters over electrodes. They can be read from the
# weights, and the papers that introduced such networks did so {footcite:p}`lawhern2018eegnet`. Their readers asked:
# from which layers do the kernels come? Do the topographies belong to a time stamp? How do I get the spatially filtered
# data? This chapter answers each, and adds the question that decides what may be concluded: is a topography of weights
# the topography of a source? (It is not.)
#
# :::{admonition} By the end you can
# - read kernels and spatial filters from a network's weights, and tell the package where yours keeps them;
# - turn a spatial filter into its pattern, and say which of the two shows where a signal appears;
# - compute spatially filtered signals, average them per class, and map their power over time and frequency;
# - match patterns with common spatial patterns, against the match that chance gives;
# - ask which filters the accuracy needs, and say why an answer of "none" can be wrong.
# :::
#
# **Before you start:** [training a decoder](02_training_a_decoder.ipynb). **Time:** 45 minutes, a laptop without a
# graphics card.

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

# %% tags=["parameters"]
FAST = False  # True runs the same code on fewer trials and epochs
SEED = 0
DEVICE = None  # "cpu", "cuda" …; None takes the accelerator where there is one

# %% [markdown]
# ## The known answer first
#
# Two classes, one source under C3: it bursts at 10 Hz in one class and at 22 Hz in the other. Place and time are
# the same. So a good filter over time passes 10 or 22 Hz, and a good filter over space extracts C3's source. The network
# is EEGNet with four kernels and one spatial filter for each, trained on three runs of four.

# %%
import mne
import numpy as np
import pandas as pd
import torch
from scipy.signal import correlate
from torch import nn

import eegxai_support as xs

device = xs.best_device(DEVICE)
SMALL = {"F1": 4, "D": 1, "F2": 4, "kernel_length": 32, "drop_prob": 0.25, "batch_norm_momentum": 0.1}


def trained(trials, epochs):
    """Return an EEGNet trained on runs 1 to 3, those runs, and run 4."""
    left_out = (trials.metadata["run"] == 4).to_numpy()
    seen, unseen = trials.subset(~left_out), trials.subset(left_out)
    model = xs.build_decoder("EEGNet", trials, seed=SEED, **SMALL).to(device)
    return xs.train(model, seen, epochs=epochs, lr=3e-3, seed=SEED, device=device).model, seen, unseen


# %%
n_trials, epochs = (120, 15) if FAST else (240, 10)
rhythms = xs.simulate("spectral", frequencies=(10, 22), n_trials=n_trials, sfreq=80, seed=SEED)
decoder, seen, unseen = trained(rhythms, epochs)
print("left-out run:", xs.accuracy(unseen.label, xs.predict(decoder, unseen.signal).argmax(1)))

# %% [markdown]
# ## The weights by hand
#
# EEGNet first filters in time: `conv_temporal` holds kernels $h_k$, shared by all electrodes. A batch norm scales each
# kernel's output. Then `conv_spatial` weighs the electrodes: each unit $u$ reads one kernel and has one weight per electrode. Both are
# linear, so the unit at time $t$ is
#
# $$
# u(t) = \sum_c w_{uc} \sum_j h_{kj} \, x_{c,\,t+j} + \text{constant} .
# $$
#
# Nothing in it but $x$ depends on $t$. **Does the topography of a spatial filter belong to a time stamp? No.** The
# same weights apply at all times; only the signal that they extract has a time course.
#
# What rhythm does a kernel pass? Multiply: a sinusoid of frequency $f$ comes out with its amplitude times
# $|H_k(f)| = |\sum_j h_{kj} \, e^{-2\pi i f j / f_s}|$, the Fourier transform of the taps, padded with zeros for a
# smooth curve.

# %%
kernels = decoder.conv_temporal.weight.detach().cpu().numpy()[:, 0, 0]  # (kernel, tap)
norm = decoder.bnorm_temporal
scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach().cpu().numpy()
spatial = decoder.conv_spatial.weight.detach().cpu().numpy()[:, 0, :, 0] * scale[:, None]  # (unit, channel)
gain = np.abs(np.fft.rfft(kernels, 512))

filters = xs.read_filters(decoder)
assert np.array_equal(filters.kernels, kernels) and np.allclose(filters.frequency_response()[1], gain)
assert np.allclose(filters.spatial[range(4), range(4)], spatial, atol=1e-6)

# %% [markdown]
# `xs.read_filters` does the same, and more carefully: it compares what it has read with the gradients of the units, so that
# a nonlinearity or a batch norm that it overlooked raises an error instead of a wrong figure.
#
# ## A filter is not a pattern
#
# A spatial filter has two tasks. It must pass the source, and it must cancel everything else that the electrodes
# record. The second task shapes the weights as much as the first. Where the source *appears* is its pattern: how each
# electrode varies with the output of the filter {footcite:p}`haufe2014interpretation`. With $\Sigma_k$ the covariance of
# the electrodes behind the kernel,
#
# $$
# \mathbf{a}_u = \frac{\Sigma_k \mathbf{w}_u}{\mathbf{w}_u^\top \Sigma_k \mathbf{w}_u} .
# $$


# %%
def pattern(kernel, weights, signal):
    behind = correlate(signal, kernel[None, None], mode="valid")  # networks correlate: no tap is reversed
    covariance = np.cov(np.hstack(behind))
    return covariance @ weights / (weights @ covariance @ weights)


patterns = xs.filter_patterns(filters, seen)
by_hand = pattern(filters.unit_kernels[0], filters.unit_filters[0], seen.signal)
assert np.allclose(by_hand, patterns[0], rtol=0, atol=1e-3 * np.abs(by_hand).max())

# %% mystnb={"figure": {"caption": "Known answer: each unit's kernel, its frequency response, its spatial filter and its pattern. The source lies under C3. All curves and heads relative to their largest value.", "name": "fig-03-known"}, "image": {"alt": "Four rows, one per unit: a wave over 0.4 s, a curve with one peak, a head of scattered spots, and a head with one smooth spot around C3."}}
xs.viz.plot_filters(filters.unit_kernels, filters.unit_filters, patterns, rhythms.info)

# %% [markdown]
# Each row of {numref}`fig-03-known` is a unit. We know where the source appears: `truth` is its topography times its
# course. So we can say how much each head resembles it. As a control, the same network before training: a random
# filter has a pattern too.

# %%
source = np.linalg.svd(rhythms.truth[0])[0][:, 0]  # topography of the planted source
untrained = xs.read_filters(xs.build_decoder("EEGNet", rhythms, seed=SEED, **SMALL).to(device))


def likeness(maps):
    return np.abs([np.corrcoef(each, source)[0, 1] for each in maps])


def peaks_of(filters):
    gain = np.abs(np.fft.rfft(filters.unit_kernels, 512))
    return np.fft.rfftfreq(512, 1 / filters.sfreq)[gain.argmax(axis=1)]


table = pd.DataFrame({"peak (Hz)": peaks_of(filters)})
table["filter like source"], table["pattern like source"] = likeness(filters.unit_filters), likeness(patterns)
table["pattern, untrained"] = likeness(xs.filter_patterns(untrained, seen))
table.rename_axis("unit").round(2)

# %% tags=["hide-input"]
best = table.loc[table["pattern like source"].idxmax()]
assert best["pattern like source"] > 0.95 and best["filter like source"] < 0.6
assert min(abs(best["peak (Hz)"] - 10), abs(best["peak (Hz)"] - 22)) < 2
assert best["pattern like source"] > table["pattern, untrained"].max()

# %% [markdown]
# The kernel passes a planted frequency, and the pattern is the source's topography. The spatial filter is not: most
# of its spots cancel noise. Who reads the filter as a map of the brain sees activity where there is none. And a network
# takes what suffices: to tell 10 from 22 Hz it is enough to watch one of the two. **Filters show what a network uses, not
# all that differs between the classes.**
#
# ## Which filters matter?
#
# Hold a unit at its mean and count how many of the left-out trials are still right. At zero, rather than the mean, the
# unit might say something that it never says on a trial.

# %%
ablation = xs.ablate_units(decoder, unseen, filters.layer)

# %% mystnb={"figure": {"caption": "Known answer: accuracy lost on the left-out run when one unit is held at its mean, with the 95 % interval over trials.", "name": "fig-03-ablation"}, "image": {"alt": "One dot with an interval for each of the four units, around a line at zero."}}
xs.viz.plot_ablation(ablation)

# %% [markdown]
# A drop of zero in {numref}`fig-03-ablation` does not say that a unit is idle. Where several units extract the same source,
# as here, each can stand in for another: none is needed *alone*. An ablation of single units finds those without a
# substitute. The exercise at the end holds several together.

# %% [markdown]
# ## Your architecture: where are the filters?
#
# **From which layers do the kernels come?** From the convolution over time, and from the convolution over electrodes next
# to it. The package has to be told their names. It knows four networks; from the shapes of their weights it follows which
# layer runs first, and which unit reads which kernel.

# %%
motor = xs.load_motor_imagery(subjects=42, runs=(3, 7, 11, 4, 8, 12), sfreq=80)
rows, options = {}, {"Deep4Net": {"pool_time_length": 2, "pool_time_stride": 2}}  # its own are for longer trials
for name, where in xs.FILTER_LAYERS.items():
    read = xs.read_filters(xs.build_decoder(name, motor, **options.get(name, {})).to(device), sfreq=80)
    rows[name] = {"temporal": where.temporal, "spatial": where.spatial, "output": read.layer}
    rows[name] |= {"kernels": len(read.kernels), "units": len(read.spatial), "rank one": read.share.mean()}
pd.DataFrame(rows).T

# %% [markdown]
# In EEGNet and InterpretableCNN {footcite:p}`cui2023eeg` a unit has one kernel and one spatial filter. In
# ShallowFBCSPNet and Deep4Net {footcite:p}`schirrmeister2017deep` a unit mixes all kernels, each through weights of its
# own: it has no single kernel and no single topography. The package then gives the best product of one kernel and one
# filter, and the column `rank one` says how much of the unit it holds, on average; look at it before you look at a figure.
#
# A new architecture states the same two names. This one filters in space first.


# %%
class LogPower(nn.Module):
    def __init__(self, n_chans, n_outputs):
        super().__init__()
        self.space = nn.Conv1d(n_chans, 4, 1)
        self.time = nn.Conv1d(4, 4, 25, groups=4)
        self.readout = nn.Linear(4, n_outputs)

    def forward(self, x):
        return self.readout(self.time(self.space(x)).square().mean(-1).log())


mine = xs.read_filters(LogPower(64, 2), xs.FilterLayers(temporal="time", spatial="space"), sfreq=80)
assert mine.layer == "time" and mine.unit_filters.shape == (4, 64) and np.allclose(mine.share, 1)

# %% [markdown]
# ## Spatially filtered data
#
# **How do I get them?** They are the output of the spatial convolution, one signal per unit, read with a hook while the
# network runs; or, without any network, the product of filter and trial, `unit_filters @ signal`. The second works on trials of any
# length and leaves the rhythm untouched by the kernel.
#
# If the classes differ in a potential, average the signals per class. We plant one again: a peak under Pz, 0.3 s
# after the cue in one class and 0.5 s in the other.

# %%
latencies = (0.3, 0.5)
peaks = xs.simulate("temporal", latencies=latencies, n_trials=n_trials, sfreq=80, seed=SEED)
erp_decoder, erp_seen, erp_unseen = trained(peaks, 2 * epochs)
erp_filters = xs.read_filters(erp_decoder)
activations, centre = xs.unit_activations(erp_decoder, erp_unseen.signal, erp_filters.layer)
times = peaks.tmin + centre / peaks.sfreq  # middle of what each value has seen

# %% mystnb={"figure": {"caption": "Known answer: spatially filtered signals of each unit on the left-out run, mean per class with its 95 % interval.", "name": "fig-03-averages"}, "image": {"alt": "Four panels, one per unit, with two curves each and a band around them. At least one unit answers around 0.3 s in one class and around 0.5 s in the other."}}
xs.viz.plot_unit_averages(activations, erp_unseen.label, times, peaks.class_names)

# %% [markdown]
# Not every unit in {numref}`fig-03-averages` has to answer to the peak. Those that do answer with the shape of their kernel:
# a unit's time course is the source *after* the kernel. When does the decoder's output depend on the trial? We attribute the difference of
# the logits, which [chapter 4](../attribution/04_maps_for_one_trial.ipynb) explains, with integrated gradients
# {footcite:p}`sundararajan2017axiomatic`, and average over the trials of the first class.

# %%
first = erp_unseen.subset(erp_unseen.label == 0)
relevance = xs.attribute(erp_decoder, first.signal, (0, 1), "integrated_gradients").values.mean(axis=0)
peak = first.times[relevance.sum(axis=0).argmax()]
channel = peaks.info.ch_names[relevance.sum(axis=1).argmax()]
assert min(abs(peak - latency) for latency in latencies) < 0.08
print(
    f"relevance is largest at {peak:.2f} s and at {channel}; planted {latencies[0]} s"
    f" (the other class {latencies[1]} s), Pz"
)

# %% [markdown]
# ## Motor imagery
#
# Now {numref}`fig-03-motor` for left or right fist, subject 42 of EEGBCI
# {footcite:p}`schalk2004bci2000,goldberger2000physiobank`, or the simulated trials that stand in (the line above says
# which). EEGNet with four kernels and two spatial filters for each is trained on five runs; the last imagined run is left
# out.

# %%
left_out = (motor.metadata["run"] == 12).to_numpy()
fists_seen, fists_unseen = motor.subset(~left_out), motor.subset(left_out)
shape = xs.RECIPES["EEGNet"] | {"F1": 4, "D": 2, "F2": 8}
fist_net = xs.build_decoder("EEGNet", motor, n_times=160, seed=SEED, **shape).to(device)
xs.train(fist_net, fists_seen, epochs=10 if FAST else 30, seed=SEED, cache=True, device=device)
print("left-out run:", xs.accuracy(fists_unseen.label, xs.predict(fist_net, fists_unseen.signal, stride=20).argmax(1)))

# %%
filters = xs.read_filters(fist_net)
patterns = xs.filter_patterns(filters, fists_seen)
frequency = peaks_of(filters)

# %% mystnb={"figure": {"caption": "Live: the units of an EEGNet for left or right fist. Units 0 and 1 share a kernel, 2 and 3, and so on.", "name": "fig-03-motor"}, "image": {"alt": "Eight rows, one per unit: kernel, frequency response, spatial filter and pattern. The patterns are smoother than the filters."}}
xs.viz.plot_filters(filters.unit_kernels, filters.unit_filters, patterns, motor.info)

# %% [markdown]
# Count the cycles of a kernel in {numref}`fig-03-motor` and divide by its 0.4 s: that is the frequency that its response
# names, as finely as 0.4 s can tell. Most kernels are ragged and have side peaks: random initial weights stay where no trial
# pushes them away, above all at frequencies that the recording does not contain. One number then says little.
#
# ### Rhythms do not survive an average
#
# Bursts have another phase in each trial. Their average is nearly zero, so it is their power that must be averaged. Morlet
# wavelets give the power of each spatially filtered signal over time and frequency. We draw the two units that are
# needed most, as the ratio of the class means.

# %%
ablation = xs.ablate_units(fist_net, fists_unseen.crop(1.5, 3.5), filters.layer)
shown = ablation[1:].nlargest(2, "drop")["unit"].to_numpy()
filtered = np.einsum("uc,nct->nut", filters.unit_filters[shown], motor.signal)
wavelet_freqs = np.arange(7, 35.0)
power = mne.time_frequency.tfr_array_morlet(
    filtered, motor.sfreq, wavelet_freqs, n_cycles=wavelet_freqs / 2, output="power", verbose=False
)[..., 24:-24]  # (trial, unit, freq, time); wavelets at the ends reach beyond the trial
ratio = 10 * np.log10(power[motor.label == 1].mean(axis=0) / power[motor.label == 0].mean(axis=0))

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Live: power of two spatially filtered signals, second class over first, all trials.", "name": "fig-03-morlet"}, "image": {"alt": "Two panels, one per unit, of frequency against time in red and blue."}}
names, title = tuple(f"unit {unit}" for unit in shown), f"{motor.class_names[1]} / {motor.class_names[0]}"
xs.viz.plot_time_frequency({title: ratio}, wavelet_freqs, {title: motor.times[24:-24]}, names, labels={title: "dB"})

# %% [markdown]
# Blue in {numref}`fig-03-morlet` means: less power in the second class. Training trials are among them, so the figure
# describes what the units extract; it is no test.
#
# ### Beside common spatial patterns
#
# Filter-bank CSP {footcite:p}`ang2008filter` finds, band by band, the filters whose power differs most between the classes,
# without a network. Does the network find the same? We pair the patterns one to one so that the sum of $|r|$ is
# largest. The pairs are *chosen* to be alike, and volume conduction makes all scalp maps alike. So chance is not zero: it
# is the match that random filters reach on the same trials.


# %%
def band_matches(band):
    """Match the units that peak in a band with its common spatial patterns, class 1 against the rest."""
    reference = xs.filter_bank_csp(fists_seen, {"band": band}).patterns[1, 0]
    signal = mne.filter.filter_data(fists_seen.signal.astype(float), motor.sfreq, *band, verbose="ERROR")
    units = np.flatnonzero((frequency >= band[0]) & (frequency < band[1]))
    return units, reference, xs.match_patterns(patterns[units], reference, np.cov(np.hstack(signal)), seed=SEED)


mu_units = ((frequency >= 7) & (frequency < 13)).sum()
band = (7, 13) if mu_units >= (frequency >= 13).sum() else (13, 38)  # where most units peak
units, reference, match = band_matches(band)
print(
    f"{band[0]}-{band[1]} Hz, {len(match)} pairs: |r| = {match.attrs['correlation']:.2f}, random filters"
    f" {match.attrs['chance']:.2f}, p = {match.attrs['p_value']:.3f}"
)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Live: patterns of the network's units above the common spatial patterns that they are paired with.", "name": "fig-03-csp"}, "image": {"alt": "Two rows of heads: the network's patterns, and below each the common spatial pattern that it is paired with."}}
pairs = patterns[units[match["unit"]]], reference[match["reference"]]
sign = np.sign((pairs[0] * pairs[1]).sum(axis=1, keepdims=True))
maps = {"network": pairs[0] / np.ptp(pairs[0], axis=1, keepdims=True), "CSP": sign * pairs[1]}
columns = [f"|r| = {r:.2f}" for r in match["correlation"]]
xs.viz.plot_map_comparison(maps, motor.info, columns, labels={"network": "share of range", "CSP": "signal / SD"})

# %% [markdown]
# ## Recorded results
#
# One network of one subject, live, is an example. Recorded with `make results`: subjects 7 and 42, four architectures,
# three seeds each, the first imagined run left out. First the match with CSP, by the band in which a unit's kernel peaks;
# `beyond chance` counts networks with $p < 0.05$, uncorrected.

# %% tags=["hide-input"]
found = xs.recorded("filter_matches").dropna(subset="correlation")
beyond = found["p_value"].lt(0.05)
by_band = found.assign(networks=1, beyond=beyond).groupby(["decoder", "band"])
by_decoder = found.assign(beyond=beyond).groupby("decoder")["beyond"].mean()
assert found["chance"].mean() > 0.7 and by_decoder["EEGNet"] < 0.2 < 0.5 < by_decoder["ShallowFBCSPNet"]
by_band.agg({"share": "mean", "correlation": "mean", "chance": "mean", "beyond": "sum", "networks": "sum"}).round(2)

# %% [markdown]
# The column `chance` is the lesson: on these trials random filters reach 0.7 to 0.85, and a match of 0.8 is
# nothing by itself. EEGNet's patterns are hardly closer to CSP's than that. ShallowFBCSPNet, which was modelled on
# filter-bank CSP, is in beta; its kernels of 0.16 s are too short to single out mu.
#
# Then the ablation of each unit. With 15 trials left out per network, an interval is some 0.3 wide, and only large drops show.

# %% tags=["hide-input"]
ablations = xs.recorded("filter_ablation")
units_only = ablations[ablations["unit"] >= 0].assign(needed=lambda t: t["drop_low"] > 0)
by_kind = units_only.groupby(["subject", "decoder"])["needed"].mean()
assert by_kind.idxmax() == (7, "ShallowFBCSPNet") and by_kind.drop((7, "ShallowFBCSPNet")).max() < 0.05
by_network = units_only.groupby(["subject", "decoder", "seed"])
pd.DataFrame({
    "units": by_network.size(), "largest drop": by_network["drop"].max(), "needed": by_network["needed"].sum()
}).groupby(["subject", "decoder"]).mean().round(2)  # fmt: skip

# %% [markdown]
# `needed` is the number of units per network whose interval lies above zero; one unit in forty gets there by chance. Only
# subject 7's ShallowFBCSPNet has more. The others spread what they know over units that replace each other, or lose too
# little for 15 trials to show.
#
# ## A potential in a recording: the P300
#
# In a P300 speller, rows and columns of a matrix of letters flash, and those with the letter that the user attends to evoke a
# potential some 300 ms later. `xs.load_p300` reads data set IIb of BCI Competition II {footcite:p}`blankertz2004bci`.
# Its files may not be passed on, so what follows is recorded: EEGNet-4,1 trained on session 10, explained on session 11,
# which it never saw. Relevance is for the logit of target minus that of non-target, integrated gradients, mean over the
# target trials and three seeds.
#
# The textbook leads us to expect relevance between 250 and 600 ms over centro-parietal electrodes. Does the network agree?

# %% tags=["hide-input"]
p300 = xs.recorded("p300_relevance").groupby(["channel", "time"])[["relevance", "pattern", "effect"]].mean()
grids = {name: p300[name].unstack("time").loc[motor.info.ch_names] for name in p300}
course = grids["relevance"].sum()
inside = course[(course.index > 0.25) & (course.index < 0.6)]
assert course.idxmax() == inside.idxmax()
print(
    f"relevance is largest at {1000 * course.idxmax():.0f} ms, at {grids['relevance'].max(axis=1).idxmax()};"
    f" the pattern at {grids['pattern'].max(axis=1).idxmax()}"
)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Recorded: P300, held-out session, windows of 50 ms. Effect: targets less non-targets. Pattern: what goes with the network's output. Relevance: what the output rests on.", "name": "fig-03-p300"}, "image": {"alt": "Three rows of heads over six windows. The effect is positive around the vertex and negative at parieto-occipital electrodes of both sides near 300 ms, and the pattern resembles it. Relevance is near zero except from 250 to 350 ms, where it is largest at parieto-occipital electrodes."}}
windows = [time for time in course.index if 0.15 < time < 0.45]
maps = {name: grids[name][windows].T.to_numpy() for name in ("effect", "pattern", "relevance")}
columns = [f"{1000 * time:.0f} ms" for time in windows]
labels = {"effect": "SD", "pattern": "SD per SD", "relevance": "logit"}
xs.viz.plot_map_comparison(maps, motor.info, columns, labels=labels)

# %% [markdown]
# In time it agrees. In space {numref}`fig-03-p300` does not: relevance is largest over parieto-occipital electrodes,
# where targets evoke a negative potential while the vertex is positive. (With the average reference, some of each is the
# other end of the same field.) A map alone could mislead, so we intervene. Set all electrodes of a region to zero, or all
# others:

# %% tags=["hide-input"]
by_region = xs.recorded("p300_regions").set_index("region")
auc = by_region[["auc_without_mean", "auc_alone_mean"]]
assert auc["auc_without_mean"].idxmin() == "parieto-occipital"
assert by_region["relevance"].drop("all").idxmax() == "parieto-occipital"
lead = (auc - 0.5) / (auc.loc["all", "auc_alone_mean"] - 0.5)
assert lead.loc["parieto-occipital", "auc_without_mean"] < 0.5 < 0.7 < lead.loc["centro-parietal", "auc_without_mean"]
assert lead.loc["centro-parietal", "auc_alone_mean"] > 0.5
by_region[["relevance", "low", "high", "auc_without_mean", "auc_alone_mean"]].round(2)

# %% [markdown]
# Row `all` is the intact network; 0.5 is chance. The intervention confirms the map: without the parieto-occipital
# electrodes the networks lose more than half of their lead over chance, without the centro-parietal ones about a fifth. Yet
# the centro-parietal electrodes alone are well above chance: the P300 is read too, but it is the smaller part. The pattern
# peaks at the vertex all the same, because the P300 *goes with* the output: it comes with the same flashes. So "the network uses
# the P300" is less than half the truth here, and a figure of patterns alone would have said it. (Electrodes at zero are not
# trials either, one subject is no population, and one session is held out.)
#
# ## What can go wrong
#
# - **A filter drawn as a source.** Weights cancel noise. Draw the pattern beside them.
# - **Patterns of noise.** Every filter has a pattern, that of an untrained network too. A pattern shows what a unit
#   extracts, not that the decoder needs it.
# - **A unit that mixes kernels.** Below a rank-one share of about one half, kernel and topography describe a unit
#   that does not exist.
# - **Forgotten scales.** The batch norm between the two filters may turn a sign. `xs.read_filters` asks for it.
# - **The band.** Behind a kernel at 10 Hz, the covariance of the unfiltered signal is the wrong one for the pattern.
# - **Copies.** No drop for any single unit does not mean that no unit is used.
# - **Matches without a null.** Best pairs among smooth maps correlate by construction.
#
# ## Take-aways
#
# - Kernels and spatial filters are read from two convolutions. Their topographies hold for all times.
# - Spatially filtered data is the output of the spatial convolution, or filter times trial.
# - The filter says how the network reads the electrodes; the pattern says where what it reads appears.
# - Average potentials; average the *power* of rhythms.
# - Relevance, pattern and intervention answer three questions. For the P300 they do not name the same place.
#
# ## Questions
#
# 1. A spatial filter has its largest weight at Oz. Name a reason that involves no source under Oz.
# 2. Why is the frequency resolution of a 0.4 s kernel not improved by a longer Fourier transform?
# 3. In which network would you expect a rank-one share of 1, and why not in ShallowFBCSPNet?
# 4. All patterns of a network correlate with CSP patterns at 0.92, random filters at 0.93. What do you report?
# 5. Why is the average over trials of a spatially filtered rhythm nearly zero, and that of its power not?
#
# ## Exercise: the copies together
#
# Go back to the network of the known answer. Hold two, three, then all four units at their means, in every
# combination. How does the accuracy depend on the number of units that are left?
#
# :::{dropdown} Solution
# The cell below registers a hook on `filters.layer` that puts the mean in the place of the held units. With none left the
# network says the same about every trial, and is at chance. The table shows how it gets there: units that seemed
# superfluous one by one are not superfluous together. What fails first is often not the information. The layers behind
# were trained on the sum of all units, and with fewer of them the sum no longer reaches their threshold.
# :::

# %% tags=["hide-cell"]
from itertools import combinations

layer = xs.read_filters(decoder).layer
mean = torch.tensor(xs.unit_activations(decoder, unseen.signal, layer)[0].mean(axis=(0, 2)), device=device)


# %% tags=["hide-cell"]
def accuracy_with(units):
    def hold(_, __, output):
        held = mean.view(1, -1, 1, 1).repeat(len(output), 1, *output.shape[2:])
        held[:, units] = output[:, units]
        return held

    handle = decoder.get_submodule(layer).register_forward_hook(hold)
    right = xs.predict(decoder, unseen.signal).argmax(1) == unseen.label
    handle.remove()
    return right.mean()


left = {n: np.mean([accuracy_with(list(units)) for units in combinations(range(4), n)]) for n in range(5)}
assert abs(left[0] - 0.5) < 0.2 and left[0] < left[4]
pd.Series(left, name="accuracy").rename_axis("units left").round(2)

# %% [markdown]
# ## References
#
# :::{footbibliography}
# :::
