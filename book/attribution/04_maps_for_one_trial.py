# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["remove-cell"]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/eegxai--home/eegxai/blob/main/book/attribution/04_maps_for_one_trial.ipynb)

# %% [markdown]
# # Maps for one trial: which samples moved this one decision?
#
# A decoder says "right fist" for one trial of two seconds, 64 channels, 160 samples each. Which of these 10 240
# numbers made it say so? Saliency, integrated gradients and DeepLIFT each answer with a map of the same shape as the
# trial. This chapter computes all three, asks each for its receipt, and looks where they agree and where they do not.
#
# :::{admonition} By the end you can
# - compute the three maps by hand and say what question each of them answers;
# - check conservation: that the values of a map add up to a difference of the output;
# - show that a DeepLIFT without rules for square and logarithm is only input × gradient;
# - choose a baseline and a target, and say what they do to the map;
# - measure how far methods agree, against controls that know nothing of the network.
# :::
#
# **Before you start:** [training a decoder](../foundations/02_training_a_decoder.ipynb) and the chain rule.
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
# The class of our simulated trials is the frequency of a burst under C3, in the middle of the trial. The noise-free
# burst on the scalp is kept as `truth`. A small network learns to tell the three frequencies apart. It is the shallow
# ConvNet of Schirrmeister et al. {footcite:p}`schirrmeister2017deep`: linear filters, then square, mean over time,
# logarithm and a linear layer. We explain trials of a run that it never saw, and only those it gets right, because
# the map of a wrong decision has no known answer.

# %%
import numpy as np
import torch

import eegxai_support as xs

simulated = xs.simulate("spectral", n_trials=120 if FAST else 240, snr_db=-5, sfreq=80, duration=2, seed=SEED)
held_out = (simulated.metadata["run"] == 4).to_numpy()
network = xs.build_decoder("ShallowFBCSPNet", simulated, seed=SEED, **xs.RECIPES["ShallowFBCSPNet"])
xs.train(network, simulated.subset(~held_out), epochs=10 if FAST else 20, seed=SEED, cache=True)
correct = xs.predict(network, simulated.signal).argmax(1) == simulated.label
print(f"Accuracy on the run left out: {correct[held_out].mean():.2f} (chance 0.33)")
known = simulated.subset(np.flatnonzero(held_out & correct)[: 6 if FAST else 16])

# %% [markdown]
# ## Saliency: how steep is the output?
#
# The oldest map is a derivative {footcite:p}`simonyan2014deep`: how much does the logit of the class move when one
# sample moves a little? The network is in eval mode, so that dropout is off and batch norm does not mix trials. The
# sum over trials may be differentiated at once: each trial's gradient reaches only its own input.

# %%
x = torch.tensor(known.signal, requires_grad=True)  # (trial, channel, time)
score = network(x)[range(len(known)), known.label].sum()
(gradient,) = torch.autograd.grad(score, x)

# %% [markdown]
# The package does the same in one call. `"gradient"` keeps the sign and `"saliency"` is its absolute value. The
# target is a class per trial, here the true one, and the logit is explained, not the probability after the softmax,
# which mixes all classes.


# %%
def same(a, b):
    """Say that two maps agree to single precision of their largest value."""
    return np.allclose(a, b, rtol=0, atol=1e-4 * np.abs(b).max())


assert same(gradient.abs().numpy(), xs.attribute(network, x, known.label, "saliency").values)

# %% [markdown]
# ## Integrated gradients: what did the whole way contribute?
#
# A gradient tells of small steps from the trial. The question was about all of it: what made the output differ from
# that of an empty input? Integrated gradients {footcite:p}`sundararajan2017axiomatic` walk in a straight line from a
# baseline $\mathbf{x}'$ to the trial, average the gradient on the way, and multiply by the distance:
#
# $$
# \mathbf{R} = (\mathbf{x} - \mathbf{x}') \odot \int_0^1 \nabla f_k\bigl(\mathbf{x}' + \alpha (\mathbf{x} - \mathbf{x}')\bigr)\, d\alpha .
# $$
#
# By the fundamental theorem of calculus the values add up to $f_k(\mathbf{x}) - f_k(\mathbf{x}')$. The integral is a
# sum over a few positions, and Gauss and Legendre say which ones to take.

# %%
node, weight = np.polynomial.legendre.leggauss(32)
mean_gradient = 0
for alpha, share in zip((node + 1) / 2, weight / 2, strict=True):
    point = (alpha * x.detach()).float().requires_grad_()
    score = network(point)[range(len(known)), known.label].sum()
    mean_gradient += share * torch.autograd.grad(score, point)[0]
by_hand = (mean_gradient * x).detach().numpy()

coarse = xs.attribute(network, x, known.label, "integrated_gradients", tol=np.inf)  # 32 positions, never more
assert same(by_hand, coarse.values)

# %% [markdown]
# Here is the first receipt. The difference between the sum of a map and what it should be is called $\delta$, and
# `attribute` returns it with every map that promises conservation. We report it as a share of the change of the
# output. Near an empty input a log-power network is very steep, so 32 evenly spread positions can miss the steep
# part. Without `tol=np.inf` the package looks at each trial's $\delta$ and takes more positions, crowded towards the
# baseline, until it is below 1 % or 512 positions are reached.

# %%
logit = xs.predict(network, known.signal)[range(len(known)), known.label]
empty = xs.predict(network, np.zeros_like(known.signal))[range(len(known)), known.label]


def missing(values, change):
    """Return the share of the change of the output that each map misses."""
    return np.abs(values.sum((1, 2)) - change) / np.abs(change)


fine = xs.attribute(network, x, known.label, "integrated_gradients")
for name, attribution in {"32 positions": coarse, "as many as needed": fine}.items():
    share = missing(attribution.values, logit - empty)
    print(f"{name:18s} misses {np.median(share):7.3%} (median), {share.max():7.3%} (worst trial)")

# %% [markdown]
# ## DeepLIFT: differences instead of derivatives
#
# DeepLIFT {footcite:p}`shrikumar2017learning` needs one pass. It replaces the derivative of every nonlinearity $h$ by
# the slope between trial and baseline, $\bigl(h(z) - h(z')\bigr) / (z - z')$. This is the rescale rule. Slopes multiply
# along the network as derivatives do, and they conserve exactly. For the smallest log-power readout, $f(\mathbf{x}) =
# \log \frac{1}{T} \sum_t v_t^2$ with $v_t = \mathbf{w}^\top \mathbf{x}_t$, they can be written down: the square has
# slope $v_t + v'_t$, and the logarithm has slope $(\log p - \log p') / (p - p')$.

# %%
from braindecode.modules import SafeLog, Square

readout = torch.nn.Sequential(torch.nn.Conv1d(64, 1, 1, bias=False), Square(), torch.nn.AvgPool1d(160), SafeLog())
readout = readout.append(torch.nn.Flatten()).double()
w = readout[0].weight.detach().numpy()[0, :, 0]
one, other = known.signal[:2].astype(float)  # a trial, and another one as its baseline
v, v0 = w @ one, w @ other
p, p0 = np.mean(v**2), np.mean(v0**2)
multiplier = np.outer(w, v + v0) / 160 * (np.log(p) - np.log(p0)) / (p - p0)

ours = xs.attribute(readout, one[None], 0, "deep_lift", baseline=other)
assert np.allclose(multiplier * (one - other), ours.values[0])
assert np.isclose(ours.values.sum(), np.log(p) - np.log(p0))

# %% [markdown]
# ### The same name, another map
#
# A library can apply the rule only to operations that it knows. captum {footcite:p}`kokhlikyan2020captum` knows ReLU,
# ELU and a few more, and passes what it does not know by the ordinary derivative, without a word. Square and `SafeLog`
# are not on its list, and braindecode calls captum. So on this network their DeepLIFT uses no slope anywhere: what is
# left is the gradient times the input. We run it and look, then run ours.

# %%
import warnings

from captum.attr import DeepLift

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # captum announces its hooks
    captum_map = DeepLift(network).attribute(x, target=torch.tensor(known.label)).detach().numpy()

deep_lift = xs.attribute(network, x, known.label, "deep_lift")
print(f"captum's DeepLIFT minus input x gradient: {np.abs(captum_map - (x * gradient).detach().numpy()).max():.1g}")
for name, values in {"captum": captum_map, "package": deep_lift.values}.items():
    print(f"{name:8s} misses {np.median(missing(values, logit - empty)):.3%} of the change of the output (median)")

# %% [markdown]
# ### Which map is nearest to the truth?
#
# Conservation says that a map keeps its books, not that it is right. Here we know what is right, so we correlate the
# size of each map with the size of the true burst, trial by trial, over channels and samples. Two controls belong in
# the table: random numbers, and the trial itself, which knows where the signal is large and nothing of the network.

# %%
import pandas as pd
from scipy.stats import zscore


def pearson(a, b):
    """Return the correlation of the absolute values of two sets of maps, trial by trial."""
    a, b = (zscore(np.abs(maps).reshape(len(maps), -1), axis=1) for maps in (a, b))
    return (a * b).mean(axis=1)


methods = ["saliency", "integrated_gradients", "deep_lift", "random"]
maps = {method: xs.attribute(network, x, known.label, method).values for method in methods} | {
    "the trial": known.signal
}
r = pd.Series({name: pearson(values, known.truth).mean() for name, values in maps.items()})
r.round(2).to_frame("r with the truth").T

# %% [markdown]
# All three maps know more than the controls. None comes near 1: a network reads its evidence where it suffices,
# not wherever it is. [Chapter 10](../trust/10_twelve_metrics.ipynb) scores maps with twelve metrics; this one number
# is enough to go on.

# %%
assert abs(r["random"]) < 0.05 and r["the trial"] < r[methods[:3]].min()

# %% [markdown]
# ### No baseline is neutral
#
# Zeros look like "no signal". To the network they are an input like any other, and it has an opinion about them. The
# explanation is then of the distance to that opinion. A baseline that occurs in real life is another trial, here the
# one before. The map then answers "why this output and not the one for that trial?"

# %%
opinion = torch.tensor(xs.predict(network, np.zeros_like(known.signal[:1]))).softmax(1)[0].tolist()
print("softmax of f(0):", ", ".join(f"{name} {p:.3f}" for name, p in zip(known.class_names, opinion, strict=True)))
by_trial = xs.attribute(network, x, known.label, "deep_lift", baseline=np.roll(known.signal, 1, axis=0))
print(f"DeepLIFT with zeros and with a trial as baseline: r = {pearson(deep_lift.values, by_trial.values).mean():.2f}")

# %% [markdown]
# ## The real recording
#
# Subject 7 of the PhysioNet recordings {footcite:p}`schalk2004bci2000,goldberger2000physiobank` opened and closed the
# left or the right fist, or imagined it. Run 12 is left out, all other fist runs train the network on random crops of
# two seconds. We explain the window from 1.5 to 3.5 s after the cue of the trials of run 12 that are classified
# correctly in this window. The first line says whether the trials are real; simulated ones take their place otherwise,
# with their own classes.

# %%
trials = xs.load_motor_imagery(subjects=7, runs=(3, 7, 11, 4, 8, 12), sfreq=80)
left_out = (trials.metadata["run"] == 12).to_numpy()
decoder = xs.build_decoder("ShallowFBCSPNet", trials, n_times=160, seed=SEED, **xs.RECIPES["ShallowFBCSPNet"])
xs.train(decoder, trials.subset(~left_out), epochs=20 if FAST else 60, seed=SEED, cache=True)

window = trials.subset(left_out & (trials.label < 2)).crop(1.5, 3.5)
right = xs.predict(decoder, window.signal).argmax(1) == window.label
explained = window.subset(right)
print(f"{right.sum()} of {len(right)} trials of the run left out are classified correctly in the window.")

# %% [markdown]
# With two classes only the difference of the two logits decides; a constant added to both changes nothing. So the
# difference is what we explain: `target=(1, 0)`, the second class minus the first. Positive values speak for the second
# class, the right fist in the real trials. One logit alone could rise in both classes and tell nothing.

# %%
target = (1, 0)
methods = ["saliency", "input_x_gradient", "integrated_gradients", "deep_lift", "random"]
real = {method: xs.attribute(decoder, explained.signal, target, method) for method in methods}

logits = xs.predict(decoder, np.stack([*explained.signal, np.zeros_like(explained.signal[0])]))
evidence = logits[:, 1] - logits[:, 0]
change = evidence[:-1] - evidence[-1]
receipts = pd.DataFrame({m: missing(real[m].values, change) for m in methods[1:4]}).agg(["median", "max"]).T
receipts.map("{:.2g}".format)

# %% [markdown]
# The table gives the share of the change that each map misses. {numref}`fig-04-trial` draws the trial with the most
# evidence for the second class. Each map carries its receipt: what it adds up to and what it should add up to.
# Saliency promises no sum, so its receipt says that. A sum can be negative even for this trial: then the baseline of
# zeros speaks for the second class still more.

# %%
shown = ["saliency", "integrated_gradients", "deep_lift"]
best = int(change.argmax())
receipt = {m: f"sum    {real[m].values[best].sum():7.2f}\nshould {change[best]:7.2f}" for m in shown}
receipt["saliency"] = "no sum promised"

# %% mystnb={"figure": {"caption": "One trial of the run left out and three maps of the difference of its logits, with their receipts. Top: channels by time. Below: sum over time on the head.", "name": "fig-04-trial"}, "image": {"alt": "Four columns: the trial, saliency, integrated gradients and DeepLIFT. Each has an image of channels by time, a head, and, for the maps, a receipt with the sum of the map and the change of the output."}}
xs.viz.plot_trial_maps(
    explained.signal[best],
    {m: real[m].values[best] for m in shown},
    receipt,
    explained.info,
    explained.times,
    signal_label="SD",
    labels=dict.fromkeys(shown, "logit") | {"saliency": "logit/SD"},
)

# %% [markdown]
# ### Where they agree
#
# We correlate absolute values, since saliency has no sign, over channels and samples of each trial, and average over
# trials. The controls are random numbers and the trial itself.

# %%
sizes = {method: real[method].values for method in methods} | {"the trial": explained.signal}
agreement = np.array([[pearson(a, b).mean() for b in sizes.values()] for a in sizes.values()])
assert agreement[1:4, 1:4].min() > 0.8 and np.abs(np.delete(agreement[4], 4)).max() < 0.1

# %% mystnb={"figure": {"caption": "Live: mean correlation over the explained trials between the absolute values of the maps, and of the two controls.", "name": "fig-04-agreement"}, "image": {"alt": "A matrix of correlations between saliency, input times gradient, integrated gradients, DeepLIFT, random numbers and the trial itself. The three methods that multiply by the input form a block of high values; random numbers correlate with nothing."}}
xs.viz.plot_agreement(agreement, list(sizes))

# %% [markdown]
# In {numref}`fig-04-agreement` three methods form a block. They share a factor, the trial itself, and for a zero
# baseline and a log-power network they differ in little but scale. That is agreement by construction, not three
# witnesses. The last row shows how much of it a map gets from the factor alone. With another trial as baseline the
# factor is another one, and the block has to hold without it.

# %%
before = np.roll(explained.signal, 1, axis=0)
pair = [xs.attribute(decoder, explained.signal, target, method, baseline=before).values for method in shown[1:]]
times_gradient = real["input_x_gradient"].multiplier * (explained.signal - before)
print(f"Another trial as baseline: integrated gradients and DeepLIFT r = {pearson(*pair).mean():.2f},")
print(f"DeepLIFT and difference x gradient, which is captum's, r = {pearson(pair[1], times_gradient).mean():.2f}")

# %% [markdown]
# Over channels alone the answer can be different. A tutorial of braindecode {footcite:p}`braindecode2026interpretability`
# averages the size of each map over trials and time, and its figure has the title "All three methods agree the network
# attends to motor cortex". In the version that we read, it printed a correlation of −0.047 between saliency and
# DeepLIFT. Ours, on real trials and on right DeepLIFT maps, is recorded: below are the maps of
# subject 7 over all three folds, and the correlations between them.

# %%
channel_maps = xs.recorded("trial_channel_maps").pivot(index="method", columns="channel", values="value")
channel_maps = channel_maps.loc[shown, list(simulated.info.ch_names)]
print("size at O1:", ", ".join(f"{method} {value:.2f}" for method, value in channel_maps["O1"].items()))
channel_maps.T.corr().round(2).rename_axis(None).rename_axis(None, axis=1)

# %% mystnb={"figure": {"caption": "Recorded: mean size of the maps on each channel, subject 7, three runs left out in turn, each map divided by its maximum.", "name": "fig-04-channels"}, "image": {"alt": "Three heads, for saliency, integrated gradients and DeepLIFT, with C3, Cz and C4 named. Integrated gradients and DeepLIFT have nearly the same head; saliency is largest near C4, the two others also at the back of the head."}}
xs.viz.plot_channel_topomaps(channel_maps.to_numpy(), simulated.info, shown, label="mean |map| / maximum")

# %% [markdown]
# Where a method multiplies by the trial, channels with a strong rhythm gain, whether or not the network is sensitive to
# them. O1, above the alpha rhythm at the back of the head, is such a channel. Saliency asks how sensitive the network
# is, the others ask what the trial contributed. Disagreement between them is no fault. Saying "the network attends to"
# without naming the question is.
#
# Two recorded tables close the section: the agreement of the methods per trial, with the interval that holds 95 % of
# the trials, and the receipts of two decoders, where `n_warned` counts trials that miss more than a method's tolerance.

# %%
pairs = xs.recorded("trial_map_agreement").query("method_a in @shown and method_b in @shown and method_a < method_b")
pairs.round(2).style.format(precision=2).hide()

# %%
xs.recorded("trial_map_receipts").style.format({"median_delta": "{:.1e}", "max_delta": "{:.1e}"}).hide()

# %% [markdown]
# ## What can go wrong
#
# - **Training mode.** Dropout and batch statistics make a map depend on chance and on the other trials. `attribute`
#   switches to eval mode and back; code of your own must do it.
# - **Silent fallbacks.** A method without a rule for an operation gives a map all the same. Only its sum tells.
# - **The softmax.** A confident trial has a flat probability, so its gradient vanishes: explain logits.
# - **Wrong decisions.** The map of a misclassified trial explains the mistake. Do not average it with the others.
# - **Agreement as proof.** Methods that share a factor agree by it. Ask what a control would have got.
#
# ## Take-aways
#
# - A gradient says what the network is sensitive to; integrated gradients and DeepLIFT say what this trial added,
#   compared with a baseline.
# - Conservation is a receipt that every such map can show. It is necessary, and it is not proof of truth.
# - DeepLIFT is right only where every nonlinearity has its rule.
# - A baseline is part of the question, and zeros are not neutral.
# - Agreement needs a control, like every other score.
#
# ## Questions
#
# 1. Why does the sum of a saliency map mean nothing?
# 2. When are DeepLIFT, integrated gradients and input × gradient the same map?
# 3. What does `target=(1, 0)` explain that `target=1` does not?
# 4. Which baseline would you take to ask why a trial is not like the average trial?
#
# ## Exercise: a network without a logarithm
#
# EEGNet {footcite:p}`lawhern2018eegnet` has ELU units, which captum knows. Train it on the simulated trials, and find
# out whether captum's DeepLIFT conserves there. What of input × gradient?
#
# :::{dropdown} Solution
# On EEGNet captum's map conserves to single precision, and input × gradient does not. So a test on EEGNet would never
# have found what happens on the shallow network. The cell below computes both and asserts it.
# :::

# %% tags=["hide-cell"]
eegnet = xs.build_decoder("EEGNet", simulated, seed=SEED, **xs.RECIPES["EEGNet"])
xs.train(eegnet, simulated.subset(~held_out), epochs=5, seed=SEED, cache=True)
end = xs.predict(eegnet, known.signal)[range(len(known)), known.label]
start = xs.predict(eegnet, np.zeros_like(known.signal))[range(len(known)), known.label]
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    captum_eegnet = DeepLift(eegnet).attribute(x, target=torch.tensor(known.label)).detach().numpy()
plain = xs.attribute(eegnet, x, known.label, "input_x_gradient").values
print(f"captum's DeepLIFT misses {np.median(missing(captum_eegnet, end - start)):.3%} on EEGNet")
print(f"input x gradient  misses {np.median(missing(plain, end - start)):.3%}")
assert np.median(missing(captum_eegnet, end - start)) < 1e-3 < np.median(missing(plain, end - start))

# %% [markdown]
# ## References
#
# :::{footbibliography}
# :::
