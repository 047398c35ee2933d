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
# it answers is how it *weighs* them, and a weight is not yet a sign of where the brain signal is. The second half of
# the chapter turns weights into patterns.
#
# :::{admonition} By the end you can
# - differentiate a network by the amplitude of one frequency in one channel, with the phase kept;
# - say why such a gradient must not depend on the other trials of a batch, and catch a library where it does;
# - turn weights into Haufe patterns, without a covariance matrix that fills the memory;
# - read the sign of a pattern of motor imagery, and say what it does not show.
# :::
#
# **Before you start:** [training a decoder](../foundations/02_training_a_decoder.ipynb) and the Fourier transform.
# **Time:** 30 minutes, a laptop without a graphics card.

# %% tags=["setup", "hide-input"]
# Setup: does nothing where the package is installed.
import importlib.util

if importlib.util.find_spec("eegxai_support") is None:
    raise ModuleNotFoundError(
        "eegxai has no public home yet, so there is nothing to install from. Upload your copy of the repository"
        " next to this notebook, run `%pip install ./eegxai` and run this cell again."
    )

# %% tags=["parameters"]
FAST = False  # True runs the same code on less data
SEED = 0

# %% [markdown]
# ## The known answer first
#
# Three classes of simulated trials differ in nothing but the frequency of a burst under C3: 6, 10 or 22 Hz. The phase
# is random. A right explanation of the class "10 Hz" names C3 and 10 Hz. We train a small network, leave one run
# out, and explain the trials of that run.

# %%
import numpy as np
import torch

import eegxai_support as xs

simulated = xs.simulate("spectral", n_trials=120 if FAST else 240, snr_db=-5, sfreq=80, duration=2, seed=SEED)
held_out = (simulated.metadata["run"] == 4).to_numpy()
network = xs.build_decoder("ShallowFBCSPNet", simulated, seed=SEED, **xs.RECIPES["ShallowFBCSPNet"])
xs.train(network, simulated.subset(~held_out), epochs=10 if FAST else 20, seed=SEED, cache=True)
known = simulated.subset(held_out)
accuracy = (xs.predict(network, known.signal).argmax(1) == known.label).mean()
print(f"Accuracy on the run left out: {accuracy:.2f} (chance 0.33)")

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
# With automatic differentiation it takes four lines. The sum over trials is safe because, in eval mode, no trial
# reaches another one's output.

# %%
x = torch.tensor(known.signal)  # (trial, channel, time)
spectrum = torch.fft.rfft(x)
amplitude = spectrum.abs().requires_grad_()
rebuilt = torch.fft.irfft(torch.polar(amplitude, spectrum.angle()), n=x.shape[2])
outputs = network(rebuilt).sum(0)
by_hand = torch.stack([torch.autograd.grad(output, amplitude, retain_graph=True)[0] for output in outputs])

# %% [markdown]
# The package does the same from one input gradient per class and one Fourier transform, in batches. The result has the
# shape (class, trial, channel, frequency), in logits per unit of amplitude.

# %%
gradients = xs.amplitude_gradients(network, known.signal)
assert gradients.shape == by_hand.shape
assert np.allclose(by_hand, gradients, rtol=0, atol=1e-4 * np.abs(gradients).max())

# %% [markdown]
# ### A trial is a trial in any company
#
# The gradient of one trial is a fact about that trial. It may not change with the number of trials that are computed
# beside it. braindecode has a function of the same name; it differentiates the *mean* of the outputs over the batch.
# We give it one trial, alone and in company.

# %%
from braindecode.visualization import amplitude_gradients as theirs

for name, function in {"braindecode": theirs, "package": xs.amplitude_gradients}.items():
    alone, in_company = function(network, x[:1]), function(network, x[:16])
    ratio = np.linalg.norm(alone[:, 0]) / np.linalg.norm(in_company[:, 0])
    print(f"{name:12s} norm for the first trial, alone / among 16: {ratio:.1f}")

# %% [markdown]
# A factor common to all trials would do no harm. But a data set is rarely a multiple of the batch size, and then the
# trials of the last, smaller batch weigh more than the others in every average. The topomaps look as good as before.
#
# ## A weight is not a pattern
#
# Suppose that channel 1 records source and noise, and channel 2 the noise alone. To read the source, subtract: the
# weights are +1 and −1, so channel 2 matters as much as channel 1, and it contains no source at all. It is a
# *suppressor*. A filter says how to read the data. A *pattern* says where the signal is, and for linear outputs
# Haufe et al. {footcite:p}`haufe2014interpretation` derived how to get it: multiply by the covariance of the features,

# %%
rng = np.random.default_rng(SEED)
source, noise = rng.standard_normal((2, 2000))
features = np.stack([source + noise, noise], axis=1)  # (trial, feature)
filters = np.array([[1.0, -1.0]])  # (output, feature)
patterns = filters @ np.cov(features.T)
print(f"filter {filters[0].round(2)}, pattern {patterns[0].round(2)}")
assert np.allclose(patterns, xs.haufe_patterns(filters, features))

# %% [markdown]
# The pattern is near zero where there is no source. The package gives the same numbers without `np.cov`. With centred
# features $\mathbf{F}$ of shape (trial, feature), the product may be read from the left: first the outputs of all
# trials, $\mathbf{W}\mathbf{F}^\top$, then their covariance with each feature. That is also what a pattern means.

# %%
centred = features - features.mean(0)
outputs = filters @ centred.T  # (output, trial)
assert np.allclose(outputs @ centred / (len(features) - 1), patterns)

n_features = known.signal.shape[1] * gradients.shape[-1]
print(f"{n_features} features: their covariance matrix would take {8 * n_features**2 / 1e9:.2f} GB in float64,")
print(f"the amplitudes of these {len(known)} trials take {8 * n_features * len(known) / 1e9:.3f} GB.")

# %% [markdown]
# ### Does the pattern find the source?
#
# A network is not linear, so we take its mean gradient over trials as the weights of a linear stand-in. We also centre:
# from each class's gradient we subtract the mean over classes. A softmax does not see what all
# logits share, and what is left says what speaks for this class *rather than the others*. The features are the
# amplitudes of the same trials. A last line makes classes comparable: filter times pattern, summed, is the variance of
# the output, so its root brings every pattern to "amplitude per standard deviation of the output".


# %%
def gradients_and_patterns(model, signal):
    """Return class-centred mean amplitude gradients and their scaled patterns, each (class, channel, freq)."""
    filters = xs.amplitude_gradients(model, signal).mean(axis=1)
    filters -= filters.mean(axis=0)
    patterns = xs.haufe_patterns(filters, np.abs(np.fft.rfft(signal)))
    return filters, patterns / np.sqrt((filters * patterns).sum((1, 2), keepdims=True))


freqs = np.fft.rfftfreq(known.signal.shape[2], 1 / known.sfreq)
gradient, pattern = gradients_and_patterns(network, known.signal)

# %% [markdown]
# For each class we look for the largest absolute value over all channels and frequencies, sign attached. And we
# compare the topography at the frequency of the class with that of the true burst.

# %%
import pandas as pd

topography = np.sqrt((known.truth**2).mean(axis=(0, 2)))
rows = []
for (kind, values), k in ((item, k) for item in {"gradient": gradient, "pattern": pattern}.items() for k in range(3)):
    channel, freq = np.unravel_index(np.abs(values[k]).argmax(), values[k].shape)
    bin_of_class = np.abs(freqs - float(known.class_names[k].split()[0])).argmin()
    r = np.corrcoef(np.abs(values[k, :, bin_of_class]), topography)[0, 1]
    sign = "+" if values[k, channel, freq] > 0 else "−"
    rows.append([kind, known.class_names[k], known.info.ch_names[channel], f"{sign} {freqs[freq]:g} Hz", r])
found = pd.DataFrame(rows, columns=["kind", "class", "channel", "largest", "r with the true topography"])
found.style.format(precision=2).hide()

# %% [markdown]
# The patterns name the right channel and the right frequency in every class, which the next cell asserts. A gradient
# may have its largest value at another class's frequency, with a minus sign: "less of 6 Hz" is a fine argument against
# that class, and no sign of where this one's signal is. {numref}`fig-08-known` has the patterns as spectra.

# %%
right = found[found["kind"] == "pattern"]
assert (right["channel"] == "C3").all() and (right["largest"] == "+ " + right["class"]).all()

# %% mystnb={"figure": {"caption": "Known answer: patterns of the three classes at three channels. Each class has its peak at C3 and at its own frequency.", "name": "fig-08-known"}, "image": {"alt": "Three panels, C3, Cz and C4, with one line per class over frequency. At C3 the lines peak at 6, 10 and 22 Hz, each class at its own; at C4 they are nearly flat."}}
xs.viz.plot_spectra_of_patterns(pattern, freqs, known.info, known.class_names, label="amplitude / SD of output")

# %% [markdown]
# ## The real recording: four classes
#
# Subject 42 of the PhysioNet recordings {footcite:p}`schalk2004bci2000,goldberger2000physiobank` imagines left fist,
# right fist, both fists or both feet. Four classes matter here. With two, centring leaves plus and minus one and the
# same map, so the second class adds nothing; with four, each map is a statement of its own. Runs 12 and 14 are left
# out. Gradients and features both come from these left-out trials, from 1.5 to 3.5 s after the cue, right and wrong
# decisions alike.

# %%
trials = xs.load_motor_imagery(subjects=42, runs=(4, 6, 8, 10, 12, 14), sfreq=80)
left_out = trials.metadata["run"].isin((12, 14)).to_numpy()
decoder = xs.build_decoder("ShallowFBCSPNet", trials, n_times=160, seed=SEED, **xs.RECIPES["ShallowFBCSPNet"])
xs.train(decoder, trials.subset(~left_out), epochs=20 if FAST else 80, seed=SEED, cache=True)

tested = trials.subset(left_out)
accuracy = (xs.predict(decoder, tested.signal, stride=20).argmax(1) == tested.label).mean()
print(f"Accuracy on the {len(tested)} trials of the runs left out: {accuracy:.2f} (chance 0.25)")
explained = tested.crop(1.5, 3.5)
gradient, pattern = gradients_and_patterns(decoder, explained.signal)

# %% [markdown]
# {numref}`fig-08-gradients` shows what the decoder weighs: by how much a logit, relative to the mean of the logits,
# would rise per unit of amplitude. {numref}`fig-08-patterns` shows what goes with that in the data.

# %% mystnb={"figure": {"caption": "Live: class-centred amplitude gradients, mean over the trials left out.", "name": "fig-08-gradients"}, "image": {"alt": "Two rows of four heads, mu and beta by class, in red and blue, with C3, Cz and C4 named."}}
xs.viz.plot_band_topomaps(gradient, freqs, explained.info, explained.class_names, label="logit / amplitude")

# %% mystnb={"figure": {"caption": "Live: Haufe patterns of the same gradients, on the same trials.", "name": "fig-08-patterns"}, "image": {"alt": "Two rows of four heads, mu and beta by class, in red and blue, laid out as in the figure before."}}
xs.viz.plot_band_topomaps(pattern, freqs, explained.info, explained.class_names, label="amplitude / SD")

# %% mystnb={"figure": {"caption": "Live: the patterns over frequency at three electrodes.", "name": "fig-08-spectra"}, "image": {"alt": "Three panels, C3, Cz and C4, with one line per class over frequency from 0 to 40 Hz."}}
xs.viz.plot_spectra_of_patterns(pattern, freqs, explained.info, explained.class_names, label="amplitude / SD")

# %% [markdown]
# ### Which sign should it have?
#
# Imagining a movement of one hand weakens the mu rhythm over the opposite hemisphere
# {footcite:p}`pfurtscheller1999event`. A trial of the left fist has less mu at C4, so the left fist's logit should rise
# as the amplitude at C4 falls: negative at C4 compared with C3. C3 minus C4 should then be positive for the left fist
# and negative for the right fist. The prediction stands; here is the number.

# %%
c3, c4 = (explained.info.ch_names.index(name) for name in ("C3", "C4"))
mu = (freqs >= 7) & (freqs <= 13)
lateral = {kind: (v[:, c3] - v[:, c4])[:, mu].mean(1) for kind, v in {"gradient": gradient, "pattern": pattern}.items()}
pd.DataFrame(lateral, index=pd.Index(explained.class_names, name="C3 − C4, mu")).map("{:+.2g}".format)

# %% [markdown]
# One decoder and one fold can be lucky. The recorded result is the mean over three seeds and over three pairs of runs,
# each left out once. It is what readers without the recordings should look at, since a simulated trial has no fists.

# %%
recorded = xs.recorded("band_patterns")
names = ["left fist", "right fist", "both fists", "both feet"]
mu_rows = recorded[recorded["band"] == "mu"].pivot(index=["kind", "class_name"], columns="channel", values="value")
difference = (mu_rows["C3"] - mu_rows["C4"]).unstack("kind").loc[names]
difference.rename_axis("recorded, C3 − C4, mu").rename_axis(None, axis=1).map("{:+.2g}".format)

# %% [markdown]
# The signs of the two single fists are those of the prediction, in the gradient and in the pattern. The cell below
# asserts them, and that is all it asserts: nothing was predicted for the difference between C3 and C4 where both fists
# or both feet are imagined.

# %%
assert (difference.loc["left fist"] > 0).all() and (difference.loc["right fist"] < 0).all()


def recorded_maps(kind):
    """Return one recorded quantity as (class, channel, band)."""
    table = recorded[recorded["kind"] == kind].set_index(["class_name", "channel", "band"])["value"]
    return np.array([[[table[n, c, band] for band in ("mu", "beta")] for c in simulated.info.ch_names] for n in names])


centres = [10, 22]  # Hz, a frequency inside each band

# %% mystnb={"figure": {"caption": "Recorded: gradients of subject 42, mean over three seeds and three folds.", "name": "fig-08-recorded-gradients"}, "image": {"alt": "Two rows of four heads. In the mu row the left fist is negative around C4, the right fist negative around C3 and positive around C4, both fists negative at both, both feet positive at both."}}
xs.viz.plot_band_topomaps(recorded_maps("gradient"), centres, simulated.info, names, label="logit / amplitude")

# %% mystnb={"figure": {"caption": "Recorded: Haufe patterns of subject 42, mean over three seeds and three folds.", "name": "fig-08-recorded-patterns"}, "image": {"alt": "Two rows of four heads. In the mu row the left fist is weakly negative behind C4, the right fist weakly negative at C3 and positive behind C4; both fists are strongly positive and both feet strongly negative at the back of the head, with the opposite sign at C3 and C4. In the beta row electrodes at the front edge of the head have the largest values in three classes, and one behind C4 has it for the right fist."}}
xs.viz.plot_band_topomaps(recorded_maps("pattern"), centres, simulated.info, names, label="amplitude / SD")

# %% [markdown]
# Compare {numref}`fig-08-recorded-gradients` with {numref}`fig-08-recorded-patterns`. The table names the electrode
# with the largest absolute value.

# %%
wide = recorded.pivot(index="class_name", columns=["kind", "band", "channel"], values="value").loc[names].abs()
largest = wide.T.groupby(["kind", "band"]).idxmax().map(lambda place: place[-1]).T.rename_axis("recorded")
assert largest["pattern", "mu"].str.startswith("PO").all()
assert largest["pattern", "beta"].isin(["AF7", "F8"]).sum() == 3
largest

# %% [markdown]
# And how smooth are the maps? We correlate the values of neighbouring electrodes, over all pairs of neighbours.

# %%
import mne

with mne.use_log_level("error"):
    adjacency = mne.channels.find_ch_adjacency(simulated.info, "eeg")[0].toarray()
one, other = np.triu(adjacency, 1).nonzero()
smoothness = {}
for kind in ("gradient", "pattern"):
    maps = recorded_maps(kind).transpose(0, 2, 1).reshape(8, -1)  # (class and band, channel)
    smoothness[kind] = np.array([np.corrcoef(values[one], values[other])[0, 1] for values in maps])
    print(f"{kind:8s} r of neighbours: {smoothness[kind].min():.2f} to {smoothness[kind].max():.2f}")
assert (smoothness["pattern"] > smoothness["gradient"]).all()

# %% [markdown]
# In every class and band the pattern is smoother: the covariance spreads every weight over all channels and
# frequencies that vary together. A pattern is in units of the signal, so a rhythm that is large and varies with the
# output is large in it, whether the decoder reads it or not. In mu every class has its largest value at the back
# of the head, where the alpha rhythm is. In beta three of the four have it at the front edge (AF7 or F8), where eyes and
# muscles are recorded too. A pattern says what goes with the output, not that it comes from the brain.
# The two maps answer two questions, and neither replaces the other.
#
# ## What can go wrong
#
# - **Batch dependence.** Divide by the batch size, and unequal batches weigh trials unequally.
# - **Training mode.** Batch statistics let trials reach each other's outputs, and the sum over trials is no longer safe.
# - **Two classes.** Centred maps are mirror images; do not count them as two findings.
# - **Nonlinear networks.** The mean gradient is a linear stand-in. Where gradients differ in sign from trial to
#   trial, the mean hides it.
# - **Features of other trials.** A pattern depends on the covariance. Say which trials it came from.
# - **Zero amplitude** has no phase: its gradient is a convention, so look at frequencies inside the pass-band only.
#
# ## Take-aways
#
# - An amplitude gradient asks for rhythms and does not care about phase from trial to trial.
# - It belongs to one trial; the batch must not show.
# - Weights say how to read; patterns say what goes with the output in the data.
# - Patterns need no covariance matrix: outputs first, then their covariance with each feature.
# - State the expected sign before looking.
#
# ## Questions
#
# 1. Why does an interior frequency of the one-sided spectrum count twice, and zero frequency once?
# 2. What would the pattern of the suppressor become if channel 2 had a little of the source?
# 3. Why subtract the mean over classes from gradients of logits?
# 4. A pattern is strong at POz. Name two reasons, only one of which involves the decoder.
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
