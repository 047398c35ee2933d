# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["remove-cell"]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/eegxai--home/eegxai/blob/main/book/attribution/05_seven_techniques.ipynb)

# %% [markdown]
# # Seven techniques: which of them explain a drowsy driver?
#
# Cui et al. compared seven ways to explain a decoder, trial by trial {footcite:p}`cui2023towards`. They removed pieces
# of a trial and asked whether the map had foreseen what the output lost. Input × gradient, DeepLIFT, LRP and integrated
# gradients came out alike, and better than saliency, deconvolution and guided backpropagation. This chapter runs their
# tests, puts six details right, each with a number, and says which of the conclusions hold on all trials and subjects.
#
# :::{admonition} By the end you can
# - run a sensitivity test and a deletion test by hand, and read both against chance;
# - process a map for display and say what each step hides;
# - name six details that change a map or its score without anyone noticing;
# - draw a single trial with the numbers that belong to its map;
# - compare techniques by paired differences over subjects.
# :::
#
# **Before you start:** [maps for one trial](04_maps_for_one_trial.ipynb).
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
# ## Drivers, real or simulated
#
# Eleven people drove a simulated car at night, which now and then drifted out of its lane. The trials are the three
# seconds before a drift {footcite:p}`cao2019multi`, of which this page takes the middle two, to be quick; who then
# steered back late was drowsy {footcite:p}`cui2023eeg`. The line under the cell says whether these recordings could be
# loaded. If not, simulated trials of the same shape take their place, whose frontal midline is fast where alert and slow
# where drowsy. Everything below runs on either.

# %%
import copy
import warnings

import numpy as np
import pandas as pd
import torch

import eegxai_support as xs

device = xs.best_device(DEVICE)
warnings.simplefilter("ignore", xs.BaselineWarning)  # zeros are not neutral (chapter 4), but these tests use them

# %%
trials = xs.load_drowsiness().crop(0.5, 2.5)

# %% [markdown]
# ## The known answer first
#
# A simulation tells us where the difference between the classes is. The same electrodes, a burst under Fz, at
# 20 Hz in one class and at 5 Hz in the other, weak and in strong noise. The network is the authors'
# InterpretableCNN {footcite:p}`cui2023eeg`: spatial filters, temporal filters, ReLU, batch norm, the mean over time and
# a linear layer.

# %%
electrodes = {"source": "Fz", "ch_names": trials.info.ch_names, "sfreq": 128, "duration": 2}
simulated = xs.simulate("spectral", n_trials=480, frequencies=(20, 5), snr_db=-14, seed=SEED, **electrodes)
left_out = simulated.metadata["run"].to_numpy() == 4
network = xs.build_decoder("InterpretableCNN", simulated, seed=SEED).to(device)
xs.train(network, simulated.subset(~left_out), epochs=5 if FAST else 8, lr=1e-2, seed=SEED, cache=True, device=device)

known = simulated.subset(left_out)
logits = xs.predict(network, known.signal)
predicted = logits.argmax(axis=1)
print("run left out:", xs.accuracy(known.label, predicted))

# %% [markdown]
# Let $z_c(\mathbf{x})$ be the logit of the predicted class, $\mathbf{g} = \partial z_c / \partial \mathbf{x}$, and
# $\mathbf{x}_0 = \mathbf{0}$. The seven techniques are
#
# | technique | map |
# |---|---|
# | gradient, "saliency" with its sign {footcite:p}`simonyan2014deep` | $\mathbf{g}$ |
# | deconvolution {footcite:p}`zeiler2014visualizing` | $\mathbf{g}$, rectifiers let only positive gradients pass |
# | guided backpropagation {footcite:p}`springenberg2015striving` | the same, and only through units that are active |
# | input × gradient {footcite:p}`shrikumar2017learning` | $\mathbf{x} \cdot \mathbf{g}$ |
# | LRP-ε {footcite:p}`bach2015pixel` | $\mathbf{x} \cdot \mathbf{g}$, a rectifier's slope is output over input |
# | DeepLIFT {footcite:p}`shrikumar2017learning` | $\mathbf{x} \cdot \mathbf{g}$, slope from $\mathbf{x}_0$ to $\mathbf{x}$ |
# | integrated gradients {footcite:p}`sundararajan2017axiomatic` | $\mathbf{x} \cdot {}$ mean of $\mathbf{g}$ on the way there |
#
# and an eighth draws random numbers. The first three do not look at the trial's size, the last four multiply by it.
# The package calls the technique by the names below; {numref}`fig-05-processing` shows one of the maps.

# %%
TECHNIQUES = ["gradient", "deconvolution", "guided_backprop"]
TECHNIQUES += ["input_x_gradient", "lrp_epsilon", "deep_lift", "integrated_gradients", "random"]
n = 4 if FAST else 12
x, target = known.signal[:n], predicted[:n]


# %%
def maps_of(model, x, target):
    options = {"integrated_gradients": {"n_steps": 32, "tol": np.inf}}
    return {m: xs.attribute(model, x, target, m, **options.get(m, {})).values for m in TECHNIQUES}


maps = maps_of(network, x, target)

# %% [markdown]
# ## By hand: what does the logit lose?
#
# The sensitivity test takes a piece of the trial away, sets it to zero, and compares what the logit loses with what the
# map holds in that piece. Over many pieces this is a correlation. With the 30 channels as pieces, for the first trial:

# %%
without_one = np.where(np.eye(x.shape[1], dtype=bool)[..., None], 0, x[0])  # (channel taken away, channel, time)
loss = logits[0, target[0]] - xs.predict(network, without_one)[:, target[0]]
r = np.corrcoef(maps["deep_lift"][0].sum(axis=1), loss)[0, 1]

sensitivity = xs.sensitivity_test(xs.simplify(network), x, target, maps, seed=SEED)
same = sensitivity.query("method == 'deep_lift' and map == 'own' and share == 1 and trial == 0")
np.testing.assert_allclose(r, same["correlation"].item(), atol=1e-4)
print(f"DeepLIFT, trial 0: r = {r:.3f} over channels")

# %% [markdown]
# The package also takes patches of 10 to 50 % of the trial's length from random channels, a hundred of each, the same
# ones for every technique. Beside the own map it tests a *surrogate*, the map's values in other places with its
# smoothness, which says what chance reaches.
#
# Here the truth is known, so the second question can be asked of the same maps: do they lie where the burst is? The
# folded cell lays out both, with the score of the surrogates.

# %% tags=["hide-input"]
rows = {}
for method, values in maps.items():
    truth = xs.score_maps(values, known.truth[:n], n_null=10, seed=SEED)
    chance = truth.attrs["chance"]["surrogate"]["Pearson_absnorm"]["high"]
    rows[method] = {"truth: r": truth["Pearson_absnorm"].mean(), "truth: chance up to": chance}
mean = sensitivity.groupby(["method", "map", "share"])["correlation"].mean().unstack(["map", "share"])
for share in (0.1, 1.0):
    rows = {m: row | {f"test: {share:.0%}": mean["own"][share][m]} for m, row in rows.items()}
scores, by_slope, by_size = pd.DataFrame(rows).T, TECHNIQUES[:3], TECHNIQUES[3:7]
assert scores.loc["deep_lift", "truth: r"] > scores.loc["deep_lift", "truth: chance up to"]
assert scores.loc[by_size, "test: 10%"].min() > scores.loc[by_slope, "test: 10%"].max()
scores.round(2)

# %% [markdown]
# The columns are the correlation of $|\text{map}|$ with $|\text{truth}|$, what chance reaches there, and the sensitivity
# test with short patches and with whole channels. The test asks what the *network* uses; the truth is where the
# *signal* is. A map may pass the one and miss the other, and the test alone cannot tell.
#
# ## What the display hides
#
# A raw map is mostly small values of both signs. Three steps make it readable: the z-score over the trial, a
# threshold (two standard deviations are subtracted, values below −1 raised to it), and a moving average over ten
# samples. `process_maps` takes the steps by name, so that each can be seen.

# %%
steps = ["z_score", "threshold", "smooth"]
shown, trial = maps["integrated_gradients"], int(np.argmax(target == known.label[:n]))
stages = {f"{' → '.join(steps[:k]) or 'raw map (logit)'}": xs.process_maps(shown, steps[:k])[0] for k in range(4)}
print({name: f"{np.mean(values > -1):.1%} of the points above −1" for name, values in list(stages.items())[2:]})

# %% mystnb={"figure": {"caption": "Six traces of a simulated trial in the colours of its map: raw, and after each step of the processing for display.", "name": "fig-05-processing"}, "image": {"alt": "Four panels with the traces of F3, Fz, F4, FCz, Cz and Oz. In the raw map and its z-score red and blue stretches alternate. After the threshold a few stretches are left, and smoothing makes them wider."}}
drawn = {name: values[trial] for name, values in stages.items()}
around = ("F3", "Fz", "F4", "FCz", "Cz", "Oz")
xs.viz.plot_processing(x[trial], drawn, known.info, known.times, channels=around)

# %% [markdown]
# The z-score loses the unit: after it nobody can see whether a map added up to eight logits or to nothing, and noise
# has peaks too. The threshold hides everything that speaks against the class. Smoothing makes stretches out of points,
# so most of what is coloured at the end has not crossed the threshold itself. So compute every number from the raw map,
# and process for the eye alone.
#
# With one exception, which is the authors' *deletion test*: the points that the processed map colours are set to zero,
# and so are the channels that stand out, and the network is asked again. How much is deleted differs from map to map,
# so that each is compared with a surrogate of its own.

# %%
deletion = xs.deletion_test(xs.simplify(network), x, target, maps, seed=SEED)
drops = deletion.groupby(["method", "part", "map"], sort=False)["logit_drop"].mean().unstack(["part", "map"])
drops.drop(columns="random", level="map").round(2)

# %% [markdown]
# ## Six details
#
# ### 1. The company of a trial
#
# The published code takes mean and variance of batch norm from all test trials of a subject. A trial is then explained
# differently when other trials are beside it. We put the first trial into other companies: the two halves of the test
# set, and the trials of one class or the other. The last line is ours, alone and among the trials above.


# %%
def as_published(model, company):
    """Give batch norm the mean and variance of these trials."""
    changed = copy.deepcopy(model).train()
    changed.bnorm.momentum = 1.0  # of these trials alone
    with torch.no_grad():
        changed(torch.tensor(company, device=device))
    return changed.eval()


def first_map(model):
    return xs.attribute(model, x[:1], target[:1], "deep_lift").values


# %%
def moved(one, other):
    return f"{abs(one - other).sum() / abs(one).sum():.1%}"


for name, of in {"halves of the test set": np.arange(len(known)) % 2, "one class each": known.label}.items():
    companies = [np.concatenate([x[:1], known.signal[of == k]]) for k in (0, 1)]
    print(f"{name}: {moved(*(first_map(as_published(network, c)) for c in companies))} of the map changes")
print(f"here: {moved(first_map(network), maps['deep_lift'][:1])}")
np.testing.assert_allclose(first_map(network), maps["deep_lift"][:1], atol=1e-6)

# %% [markdown]
# ### 2. The logit, not its softmax
#
# The published maps explain the logarithm of a softmax. For two classes its gradient is
# $(1 - p_c)\,\partial (z_c - z_\text{other}) / \partial \mathbf{x}$: the surer the network, the smaller the map.


# %%
def log_probability(outputs):
    return outputs.log_softmax(1).amax(1)  # of the predicted class


def difference(outputs):
    return outputs.amax(1) - outputs.amin(1)  # the predicted class less the other


of_log, of_logits = (xs.attribute(network, x, f, "gradient").values for f in (log_probability, difference))
p = torch.tensor(logits[:n]).softmax(1).amax(1).numpy()
np.testing.assert_allclose(of_log, (1 - p)[:, None, None] * of_logits, atol=1e-3 * abs(of_logits).max())
print(f"the map of the surest trial (p = {p.max():.4f}) shrinks to {1 - p.max():.2%}")

# %% [markdown]
# ### 3. One class throughout
#
# In the published deletion test the map explains the predicted class, and the probability that should fall is that of
# the labelled one. Where the decoder is wrong these are different classes, and whatever the map deserves, it gets the
# contrary. Bursts weaker than those of the training trials make the decoder err.

# %%
weak = xs.simulate("spectral", n_trials=60, n_runs=1, frequencies=(20, 5), snr_db=-24, seed=SEED + 1, **electrodes)
given = xs.predict(network, weak.signal).argmax(axis=1)
wrong = given != weak.label
of_wrong = xs.attribute(network, weak.signal[wrong], difference, "deep_lift").values
for name, asked in (("predicted", given), ("labelled", weak.label)):
    table = xs.deletion_test(network, weak.signal[wrong], asked[wrong], of_wrong)
    fall = table.query("part == 'points' and map == 'own'")["probability_drop"].mean()
    print(f"{wrong.sum()} wrong trials: the probability of the {name} class falls by {fall:+.2f}")

# %% [markdown]
# ### 4. The same patches twice
#
# Patches were drawn anew at each call, so that techniques were tested on different ones. Here the patches of a trial
# depend on the seed and its place alone.


# %%
def of_one_gradient(seed):
    tested = xs.sensitivity_test(network, x[:1], target[:1], maps["gradient"][:1], shares=[0.1], seed=seed)
    return tested.query("map == 'own' and share < 1")["correlation"].item()


draws = [of_one_gradient(seed) for seed in range(10)]
assert of_one_gradient(0) == draws[0]
print(f"r of one map, ten draws of 100 patches: {min(draws):.2f} to {max(draws):.2f}")

# %% [markdown]
# ### 5. A mean that includes both ends
#
# The published integrated gradients average the gradient over 100 points from 0 to 1, both ends included, and divide by
# 100, which counts each end twice as much as it should. The receipt shows it: the map should add up to
# $z_c(\mathbf{x}) - z_c(\mathbf{0})$.

# %%
share = np.linspace(0, 1, 100, dtype="float32")[:, None, None]
pairs = zip(x, target, strict=True)
line = [xs.attribute(network, share * one, int(c), "gradient").values.mean(axis=0) for one, c in pairs]
rectangle = np.stack(line) * x
should = (logits[:n] - xs.predict(network, 0 * x))[range(len(x)), target]
package = xs.attribute(network, x, target, "integrated_gradients").values
for name, values in {"both ends": rectangle, "package": package}.items():
    print(f"{name}: misses {np.median(abs(values.sum((1, 2)) - should) / abs(should)):.2%} of the change")

# %% [markdown]
# ### 6. One trial is a sample of one
#
# Even where one technique is better on average, a single trial may say the opposite. How often does the plain gradient
# beat DeepLIFT on single trials and short patches?

# %%
own = sensitivity.query("map == 'own' and share == 0.1").pivot(index="trial", columns="method", values="correlation")
n_better = (own[by_slope].max(axis=1) > own["deep_lift"]).sum()
print(f"in {n_better} of {len(own)} trials a technique of the first three beats DeepLIFT")
print(f"DeepLIFT in single trials: r from {own['deep_lift'].min():.2f} to {own['deep_lift'].max():.2f}")

# %% [markdown]
# ## A driver whom the network has not seen
#
# Subject 9 is left out, and both networks of the study learn from the others: InterpretableCNN and EEGNet
# {footcite:p}`lawhern2018eegnet`, the latter with the book's recipe.

# %%
subject = trials.metadata["subject"].to_numpy()
used = (subject > 7) & (np.arange(len(trials)) % 4 == 0) if FAST else subject > 0
driver, others = trials.subset(used & (subject == 9)), trials.subset(used & (subject != 9))
decoders = {}
for name, options in {"InterpretableCNN": {}, "EEGNet": xs.RECIPES["EEGNet"] | {"kernel_length": 51}}.items():
    decoders[name] = xs.build_decoder(name, others, seed=SEED, **options).to(device)
    xs.train(
        decoders[name], others, epochs=8 if FAST else 2, batch_size=8, lr=1e-2, seed=SEED, cache=True, device=device
    )
    print(f"{name}, subject 9:", xs.accuracy(driver.label, xs.predict(decoders[name], driver.signal).argmax(axis=1)))

# %%
driver = driver.subset(np.arange(0, len(driver), 12))
x = driver.signal
results = {}
for name, model in decoders.items():
    target = xs.predict(model, x).argmax(axis=1)
    of_driver = maps_of(model, x, target)
    results[name] = xs.sensitivity_test(xs.simplify(model), x, target, of_driver, seed=SEED)
tested = pd.concat(results, names=["network"]).reset_index(0)
live = xs.mean_and_interval(tested, ["network", "map", "method", "share"], "correlation")

# %% tags=["hide-input"]
live = live.assign(text=live.apply("{0[mean]:.2f} [{0[low]:.2f}, {0[high]:.2f}]".format, axis=1))
own = live.query("map == 'own' and share in (0.1, 1)")
own.pivot(index="method", columns=["network", "share"], values="text").loc[TECHNIQUES]

# %% [markdown]
# Mean and 95 % interval over the trials of one driver. {numref}`fig-05-trial` is the single-trial figure, with all that
# the tests say of it. The traces carry the colours of the processed map; the head shows its mean over time, and where it
# is red, a channel stands out. It is the trial that EEGNet is surest of; another may look different, and have other
# numbers. The folded cell only collects them.

# %% tags=["hide-input"]
chosen, method = int(np.ptp(xs.predict(model, x), axis=1).argmax()), "integrated_gradients"
values, one = of_driver[method][chosen : chosen + 1], x[chosen : chosen + 1]
points, channels = (part[0] for part in xs.process_maps(values))
r = results["EEGNet"].query("map == 'own' and method == @method and trial == @chosen").set_index("share")["correlation"]
deleted = xs.deletion_test(model, one, target[chosen : chosen + 1], values).query("map == 'own'").set_index("part")
before = deleted["probability"] + deleted["probability_drop"]
numbers = {"network": "EEGNet", "technique": "integrated gradients"}
numbers["predicted"] = f"{driver.class_names[target[chosen]]}, p = {before['points']:.2f}"
numbers |= {f"r, {'whole channels' if share == 1 else f'patches of {share:.0%}'}": f"{v:.2f}" for share, v in r.items()}
for part in ("points", "channels"):
    numbers[f"{part} deleted"] = f"{deleted['deleted'][part]:.1%}"
    numbers[f"p without {part}"] = f"{deleted['probability'][part]:.2f}"
numbers["top channels"] = ", ".join(np.array(driver.info.ch_names)[np.argsort(-channels[:, 0])[:3]])

# %% mystnb={"figure": {"caption": "One trial of a driver whom EEGNet has not seen: traces in the colours of the processed map, the map of its channels, and the numbers of the tests, from the raw map.", "name": "fig-05-trial"}, "image": {"alt": "Thirty traces below each other, grey with coloured stretches where the map stands out; beside them a head with the map averaged over time and a list of numbers: network, technique, prediction, correlations for five patch lengths and for channels, results of deletion, and the three channels that stand out most."}}
title = f"Subject 9, labelled {driver.class_names[driver.label[chosen]]}"
xs.viz.plot_single_trial(one[0], points, channels[:, 0], driver.info, driver.times, numbers, title=title)

# %% [markdown]
# ## Recorded: all subjects, two networks, two data sets
#
# One driver is a sample of one, too. The tables below are **recorded**: every driver left out in turn, and, since the
# drivers were simulated where the tables were made, real recordings as well. There the networks tell the left from the
# right fist in 21 people {footcite:p}`schalk2004bci2000`, a quarter of whom are left out at a time, from the cue on.
# [Chapter 12](../trust/12_was_it_the_brain.ipynb) shows that much of this is read from the eyes; the tests here ask what
# the network uses, whatever that is. A dozen trials of each subject are explained.

# %%
accuracy = xs.recorded("technique_accuracy")
print("drivers:", "simulated" if accuracy.query("data == 'drowsiness'")["simulated"].all() else "recorded")
accuracy.groupby(["data", "network"])["accuracy"].agg(["count", "mean", "min", "max"]).round(2)

# %% tags=["hide-input"]
order = [*TECHNIQUES, "deconvolution x input", "guided_backprop x input"]
recorded = xs.recorded("technique_sensitivity").query("map == 'own'")
recorded = recorded.sort_values("method", key=lambda names: names.map(order.index), kind="stable")
short = recorded[recorded["share"] == 0.1]
short = xs.mean_and_interval(short, ["data", "network", "method"], "correlation", unit="subject")

# %% mystnb={"figure": {"caption": "Recorded: sensitivity test with patches of 10 % of the trial, mean over subjects with its 95 % interval. The last two rows multiply the maps of two techniques by the input.", "name": "fig-05-recorded"}, "image": {"alt": "Two panels, drowsiness and fists, with a row for each technique and a dot with its interval for each of two networks. Input times gradient, DeepLIFT, LRP and integrated gradients lie near one; gradient, deconvolution and guided backpropagation near zero."}}
xs.viz.plot_intervals(short, "method", "network", panel="data", reference=0, label="r with the loss of the logit")

# %% [markdown]
# In {numref}`fig-05-recorded` four techniques foresee the losses and three do not. But look at the last two rows before
# you blame the rules for rectifiers. Guided backpropagation has no factor $\mathbf{x}$: it says how the logit would move
# with a point, not what the point contributed, and a sum of slopes cannot foresee a loss. Multiply its map by the input,
# and it foresees more of them, in both data sets and both networks. Part of what the study found between techniques is
# this factor.
#
# *Better than the other three?* The folded cell takes for every subject the worst of the four and the best of the three,
# so that the comparison is in favour of the latter, and averages the difference.

# %% tags=["hide-input"]
wide = recorded.pivot(index=["data", "network", "share", "subject"], columns="method", values="correlation")
gain = wide[by_size].min(axis=1) - wide[by_slope].max(axis=1)
gain = xs.mean_and_interval(gain.rename("gain").reset_index(), ["data", "network", "share"], "gain", unit="subject")
assert gain.query("data == 'fists'")["low"].min() > 0
mean = wide.xs(0.1, level="share").groupby(["data", "network"]).mean()
assert (mean["guided_backprop x input"] > mean["guided_backprop"] + 0.1).all()
gain["text"] = gain.apply("{0[mean]:.2f} [{0[low]:.2f}, {0[high]:.2f}]".format, axis=1)
gain.pivot(index="share", columns=["data", "network"], values="text")

# %% [markdown]
# Mean and 95 % interval over subjects, one row per length of the patches, the last for whole channels. In the real
# recordings every interval lies above zero: there the conclusion holds, for both networks and all lengths. In the other
# columns read it off: an interval that contains zero decides nothing.
#
# *Alike?* Equal scores do not make equal maps. {numref}`fig-05-agreement` correlates the maps themselves, over all points
# of a trial, and the line above it gives the lowest correlation between two of the four in any network and data set.

# %% tags=["hide-input"]
pairs = xs.recorded("technique_agreement").groupby(["data", "network", "method_a", "method_b"])["correlation"].mean()
alike = pairs["fists", "EEGNet"].unstack().loc[TECHNIQUES, TECHNIQUES]
lowest = pairs.loc[:, :, by_size, by_size].min()
assert lowest > 0.9
print(f"lowest mean correlation between two of the four: {lowest:.2f}")

# %% mystnb={"figure": {"caption": "Recorded: correlation of the maps of two techniques over the points of a trial, EEGNet, left and right fist, mean over subjects.", "name": "fig-05-agreement"}, "image": {"alt": "A matrix of correlations of eight techniques. Input times gradient, LRP, DeepLIFT and integrated gradients form a block of correlations near one; the gradient and the two that change it form a second, weaker block; between the blocks there is nothing."}}
xs.viz.plot_agreement(alike.to_numpy(), TECHNIQUES)

# %% [markdown]
# That conclusion holds. It is less of a surprise than it sounds. Where rectifiers are ReLU, output over input *is* the
# slope, so that LRP-ε and input × gradient are one map but for ε; and both networks have one or two layers of
# rectifiers. Deeper networks, or squares and logarithms as in [chapter 4](04_maps_for_one_trial.ipynb), tell them apart.
#
# Last, deletion: how much more of the logit the coloured points take away than those of the map's own surrogate.

# %% tags=["hide-input"]
deletions = xs.recorded("technique_deletion").query("map != 'random' and part == 'points'")
pairs = deletions.pivot(index=["data", "network", "method", "subject"], columns="map", values="logit_drop")
above = pairs.eval("gain = own - surrogate").reset_index()
above = xs.mean_and_interval(above, ["method", "data", "network"], "gain", unit="subject")
for _, rows in above.query("data == 'fists'").set_index("method").groupby("network"):
    assert rows.loc[by_size, "low"].min() > rows.loc[by_slope, "high"].max() and rows.loc[by_slope, "low"].min() > 0
above["text"] = above.apply("{0[mean]:.2f} [{0[low]:.2f}, {0[high]:.2f}]".format, axis=1)
above.pivot(index="method", columns=["data", "network"], values="text").loc[TECHNIQUES]

# %% [markdown]
# In the recordings all seven are above chance here, the four well above the three: a gradient finds points that matter,
# though it cannot say how much. Two tests, two answers; report both, and the chance of each.
#
# ## What can go wrong
#
# - **A test that favours a kind of map.** The sensitivity test compares sums with losses. A gradient is not a share of
#   the output, so it cannot pass, however right it is about what the network is sensitive to.
# - **Holes.** A patch of zeros is unlike any trial that the network has seen, and an edge has all frequencies.
# - **A score as truth.** A map can foresee every loss of a network that reads the eyes.
# - **Processed numbers.** The z-score gives noise the same peaks as a finding.
# - **Statistics of the test set.** A network that normalises by its company explains the company as well.
#
# ## Take-aways
#
# - The test of a map needs its chance level, fixed patches, one class, and many trials of many subjects.
# - The four that multiply by the input are alike, and better in recordings; part of their lead is that factor alone.
# - Process for the eye, compute from the raw map.
# - A single trial can rank techniques in another order. Report means with intervals over subjects.
#
# ## Questions
#
# 1. Why can a random map score well in a single trial, and why not on average?
# 2. Why does the explanation of $\log p_c$ fade in the trials that the network is most sure of?
# 3. What would a sensitivity test on the labelled class say about a wrongly classified trial?
# 4. Which of the three steps of the processing changes which channel comes first?
#
# ## Exercise: give guided backpropagation the input
#
# Guided backpropagation and deconvolution end where input × gradient begins: they are not multiplied by the input. Do so
# for the trials of the driver, and repeat the sensitivity test. Is it the rule for the rectifier that fails the test, or
# the missing factor?
#
# :::{dropdown} Solution
# Most of the gap may close or little of it, which depends on the network and the trials; the cell prints your numbers.
# The gradient times the input is input × gradient, so its row is that of the four. For guided backpropagation the
# recorded figure shows the same step for all subjects. What is left of the gap is due to the rule.
# :::

# %% tags=["hide-cell"]
products = {f"{m} x input": of_driver[m] * x for m in by_slope}
with_factor = xs.sensitivity_test(xs.simplify(model), x, target, products, seed=SEED).query("map == 'own'")
print(with_factor.groupby(["method", "share"])["correlation"].mean().unstack().round(2))

# %% [markdown]
# ## References
#
# :::{footbibliography}
# :::
