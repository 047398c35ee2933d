# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["remove-cell"]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/eegxai--home/eegxai/blob/main/book/trust/09_sanity_checks.ipynb)

# %% [markdown]
# # Sanity checks: would the map change if the network had learned nothing?
#
# A map is coloured, smooth and strongest over the sensorimotor cortex. It would look just as good if it did not depend
# on the class at all, or if the network had never been trained. Two checks ask exactly this: explain another class, and
# explain the same network with other weights {footcite:p}`adebayo2018sanity`. A map that stays as it was does not
# explain the decision.
#
# :::{admonition} By the end you can
# - run label randomisation and cascading weight randomisation on any decoder, and state what each one rules out;
# - tell a reset that really destroys the weights from one that leaves them as they were trained;
# - read the correlation that is left together with its interval and with two controls;
# - say why these checks degenerate with two classes.
# :::
#
# **Before you start:** [maps for one trial](../attribution/04_maps_for_one_trial.ipynb), [notation](../notation.md).
# **Time:** 25 minutes, a laptop without a graphics card.

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
METHODS = ("saliency", "integrated_gradients", "deep_lift")

# %% [markdown]
# ## The known answer first
#
# In the simulated trials a burst under C3 has one frequency per class; place, time and power (that of the background,
# 0 dB) are the same in every class. EEGNet {footcite:p}`lawhern2018eegnet` learns three runs. We explain trials of the
# fourth, and only those that it classifies correctly, each for its true class. This is the protocol of the study that
# brought these checks to EEG {footcite:p}`sujatharavindran2023empirical`: where the network is wrong, a wrong map and
# the right map of a wrong decision cannot be told apart.

# %%
import warnings

import numpy as np

import eegxai_support as xs

warnings.simplefilter("ignore", xs.BaselineWarning)  # zeros are not neutral either; chapter 4 shows it


# %%
def simulated_decoder(frequencies):
    """Return a trained EEGNet and the left-out trials that it classifies correctly."""
    options = {"frequencies": frequencies, "sfreq": 80, "duration": 2, "seed": SEED}
    trials = xs.simulate("spectral", n_trials=120 if FAST else 240, **options)
    left_out = trials.metadata["run"].to_numpy() == 4
    decoder = xs.build_decoder("EEGNet", trials, seed=SEED, **xs.RECIPES["EEGNet"])
    xs.train(decoder, trials.subset(~left_out), epochs=10 if FAST else 20, lr=1e-2, seed=SEED, cache=True)
    tested = trials.subset(left_out)
    right = xs.predict(decoder, tested.signal).argmax(axis=1) == tested.label
    print(f"{trials.n_classes} classes: {right.mean():.2f} of the left-out trials are right")
    return decoder, tested.subset(np.flatnonzero(right)[: 4 if FAST else 10])


decoder, explained = simulated_decoder((10.0, 14.0, 22.0))

# %% [markdown]
# Every check needs a function that explains a model: `explain(model, x, target)` returns one map per trial. For
# integrated gradients the number of steps is fixed, so that random weights cost no more than trained ones. The noise
# control has a new seed at every call.

# %%
import itertools

draw = itertools.count(SEED)


def explainer(method):
    def explain(model, x, target):
        options = {"integrated_gradients": {"n_steps": 16, "tol": np.inf}, "random": {"seed": next(draw)}}
        return xs.attribute(model, x, target, method, **options.get(method, {})).values

    return explain


# %% [markdown]
# ## Label randomisation by hand
#
# Draw a wrong class for each trial, explain the trial for it, and correlate both maps. With $\mathbf{R}^{(k)}$ the map
# of one trial for class $k$, $y$ its true class and $y' \neq y$ the wrong one,
#
# $$
# r = \operatorname{corr}_{c,t}\bigl(R^{(y')}_{ct},\, R^{(y)}_{ct}\bigr).
# $$
#
# The package repeats this for *every* wrong class instead of one draw, which costs little and leaves nothing to luck.

# %%
explain, x, y = explainer("deep_lift"), explained.signal, explained.label
wrong = xs.random_target(y, explained.n_classes, SEED)
maps, others = explain(decoder, x, y), explain(decoder, x, wrong)
r = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(maps, others, strict=True)]

every_class = xs.label_randomisation_test(explain, decoder, x, y, explained.n_classes)
drawn = every_class.set_index(["trial", "other"])["pearson"].loc[list(enumerate(wrong))]
np.testing.assert_allclose(r, drawn, atol=1e-5)
print(f"DeepLIFT, one wrong class per trial: mean r = {np.mean(r):.2f}; all: {every_class['pearson'].mean():.2f}")

# %% [markdown]
# ## Weight randomisation by hand
#
# Now the class stays and the weights go. The *cascade* starts at the output: the last layer is redrawn first, then the
# one before it is redrawn as well, until nothing is left of what was learned. We redraw each tensor from the normal
# distribution with the mean and the standard deviation of its trained values, so that the signal keeps its scale on the
# way through the network and only what was learned is lost. Here is the first level, with the same random numbers as
# the package.

# %%
from copy import deepcopy

import torch

generator, drawn = torch.Generator().manual_seed(SEED), {}
for name, p in decoder.named_parameters():
    noise = torch.randn(p.shape, generator=generator)
    drawn[name] = p.detach().mean() + p.detach().std(correction=0) * noise

by_hand = deepcopy(decoder)
last = {name: value for name, value in drawn.items() if name.startswith("final_layer")}
by_hand.load_state_dict(last, strict=False)
r = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(maps, explain(by_hand, x, y), strict=True)]
cascade = xs.weight_randomisation_test(explain, decoder, x, y, seeds=[SEED])
np.testing.assert_allclose(r, cascade.query("level == 1")["pearson"], atol=1e-5)

# %% [markdown]
# ## A reset that resets
#
# Most tools call `reset_parameters()` on every module that has it. In EEGNet the spatial filters are *parametrised*: a
# norm constraint computes the weight from an original tensor in a child module. The method then writes into the
# computed weight, which is thrown away, and the trained filters survive. The check reports a map that is insensitive to
# the weights where in truth the weights were never touched. So we count the values that change.

# %%
import pandas as pd

reset = deepcopy(decoder)
torch.manual_seed(SEED + 1)
for module in reset.modules():
    if hasattr(module, "reset_parameters"):
        module.reset_parameters()
*_, (_, randomised) = xs.randomize(decoder, SEED)


def changed(model):
    return {name: (p != decoder.get_parameter(name)).float().mean().item() for name, p in model.named_parameters()}


share = pd.DataFrame({"reset_parameters()": changed(reset), "xs.randomize": changed(randomised)})
share.round(2)

# %%
spatial = "conv_spatial.parametrizations.weight.original"
print(f"spatial filters that keep their trained values: {(1 - share.loc[spatial]).to_dict()}")
assert share.loc[spatial, "reset_parameters()"] == 0 and share["xs.randomize"].min() == 1

# %% [markdown]
# Three details decide whether a cascade is one. *Order*: from the output to the input in the order in which the modules
# run, not in the order in which the code registers them; a network that defines a layer early and uses it late would
# otherwise be taken apart in the wrong sequence. Below a network registers its first layer last, and the order stays
# that of execution. *Fresh copies*: each level is a model of its own, so that a list of levels does not hold the same
# destroyed network many times. *Several draws*: one draw of random weights may by chance resemble the trained ones.

# %%
reordered = xs.build_decoder("InterpretableCNN", explained, seed=SEED)
reordered._modules["conv_spatial"] = reordered._modules.pop("conv_spatial")
levels = dict(xs.randomize(reordered, SEED))
assert list(reordered._modules)[-1] == "conv_spatial" == list(levels)[-1]
assert len({id(model) for model in levels.values()}) == len(levels)
print(" → ".join(levels))

# %% [markdown]
# ## Both checks, three methods, one control
#
# The control draws new noise for every map. It knows neither class nor weights, and yet its correlation is zero: it
# passes both checks. That is the most important thing to know about them. They can reject a map; they cannot
# accept one.

# %%
N_DRAWS = 2 if FAST else 4


def sanity_checks(model, trials):
    """Return the tables of label and of weight randomisation, all methods below each other."""
    x, y, label, weights = trials.signal, trials.label, [], []
    for method in (*METHODS, "random"):
        explain = explainer(method)
        table = xs.label_randomisation_test(explain, model, x, y, trials.n_classes)
        label.append(table.assign(method=method))
        table = xs.weight_randomisation_test(explain, model, x, y, range(SEED, SEED + N_DRAWS))
        weights.append(table.assign(method=method, layer=table["layer"].str.split(".").str[-1]))
    return pd.concat(label), pd.concat(weights)


label, weights = sanity_checks(decoder, explained)

# %% mystnb={"figure": {"caption": "Simulated trials, EEGNet. Left: correlation with the original map when the label, or all weights, are replaced; a dot is a trial. Right: the cascade from the output to the input.", "name": "fig-sanity-simulated"}, "image": {"alt": "Left panel: strips of dots per method, integrated gradients, DeepLIFT and random noise scatter around or below zero; for other labels saliency lies above them. Right panel: one line per method over the layers reset."}}
xs.viz.plot_randomisation(label, weights, title="Known answer: three classes")

# %% [markdown]
# Saliency is the one to watch in {numref}`fig-sanity-simulated`. It takes absolute values, so any two of its maps
# are positive everywhere and can share where they are large. Its correlation with a wrong class is positive although the
# network tells the classes apart, and that of the signed maps is negative; the next cell asserts both. A sentence like
# "it passes" needs a number and its interval: we average over draws within a trial, then draw trials with replacement.

# %%
rng = np.random.default_rng(SEED)


def mean_and_interval(table):
    r = table.groupby("trial")["pearson"].mean().dropna()
    means = rng.choice(r, (2000, len(r))).mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return f"{r.mean():.2f} [{low:.2f}, {high:.2f}]"


def summary(label, weights):
    """Return mean and 95 % interval of both checks for each method; of the cascade its last level."""
    full = weights[weights["level"] == weights["level"].max()]
    checks = {"label": label, "all weights": full}
    return pd.DataFrame({name: {m: mean_and_interval(t) for m, t in c.groupby("method")} for name, c in checks.items()})


mean_r = label.groupby("method")["pearson"].mean()
assert mean_r["saliency"] > 0.2 and mean_r[list(METHODS[1:])].max() < -0.2
summary(label, weights)

# %% [markdown]
# ## Two classes are not enough
#
# Why is the correlation of signed maps *negative* above, and not zero? Adding the same function to every logit changes
# no decision, so training fixes only their differences, and the maps of all $K$ classes tend to cancel:
# $\sum_k \mathbf{R}^{(k)} \approx 0$. Maps of equal norm that cancel have, on average over pairs,
#
# $$
# \bar r = -\frac{1}{K - 1}.
# $$
#
# With two classes this is $-1$: the other class has the same map with the opposite sign, and an absolute map is simply
# the same map. Neither says anything about the method. The same network, trained on two frequencies:

# %%
decoder_2, explained_2 = simulated_decoder((10.0, 22.0))
for method in METHODS:
    table = xs.label_randomisation_test(explainer(method), decoder_2, explained_2.signal, explained_2.label, 2)
    print(f"{method:22s} r = {mean_and_interval(table)}")

# %% [markdown]
# A strong negative correlation is a flip of sign, not a failure, and a strong positive one of saliency is no proof
# that it ignores the class. Use three classes or more, or explain the difference of two logits.
#
# ## The real recording
#
# Subject 42 imagines left fist, right fist, both fists and both feet. The decoder is the one of the
# [previous chapter](../frequency/08_amplitude_gradients_and_haufe_patterns.ipynb): ShallowFBCSPNet
# {footcite:p}`schirrmeister2017deep`, trained on runs 4 to 10. The maps explain the two seconds from 1.5 to
# 3.5 s of trials in runs 12 and 14, which it has never seen. The first printed line says whether
# these trials are real.

# %%
trials = xs.load_motor_imagery(subjects=42, runs=(4, 6, 8, 10, 12, 14), sfreq=80)
left_out = trials.metadata["run"].isin((12, 14)).to_numpy()
decoder = xs.build_decoder("ShallowFBCSPNet", trials, n_times=160, seed=SEED, **xs.RECIPES["ShallowFBCSPNet"])
xs.train(decoder, trials.subset(~left_out), epochs=20 if FAST else 80, seed=SEED, cache=True)

tested = trials.subset(left_out).crop(1.5, 3.5)
right = xs.predict(decoder, tested.signal).argmax(axis=1) == tested.label
explained = tested.subset(np.flatnonzero(right)[:: 4 if FAST else 1])
label, weights = sanity_checks(decoder, explained)
print(f"{right.sum()} of {len(tested)} left-out trials are right; {len(explained)} are explained")

# %% mystnb={"figure": {"caption": "The four-class decoder of the loaded trials. Left: label and full weight randomisation; right: the cascade. Bars and bands are 95 % intervals over trials.", "name": "fig-sanity-loaded"}, "image": {"alt": "Left panel: strips of dots per method, three methods and random noise, for label and weight randomisation. Right panel: one line per method over four layers reset from the classifier to the temporal filters."}}
xs.viz.plot_randomisation(label, weights, title=f"{len(explained)} correctly classified left-out trials")

# %% [markdown]
# The dotted line at 0.5 is a rule of thumb of the papers and tutorials, not a test: nothing says that 0.49 is
# specific and 0.51 is not. Judge by two comparisons instead. The first is the control: does the interval of a method
# reach down to that of noise? The second is the choice of trials. The protocol keeps correctly classified ones; here is
# what changes when all left-out trials are explained for their true class.

# %%
everything = tested.subset(np.arange(len(tested))[:: 5 if FAST else 1])
tables = {"right trials": summary(label, weights), "all trials": summary(*sanity_checks(decoder, everything))}
pd.concat(tables, axis=1)

# %% [markdown]
# ## Recorded: three seeds, three folds
#
# One training and two left-out runs are a small basis. The table below was computed beforehand on the real recording of
# subject 42, for three seeds times three folds, so that every run is left out once. It is **recorded**: the page
# shows it whether or not the recording is at hand. The interval is a bootstrap over trials. Saliency alone keeps a
# correlation above that of noise, in both checks.

# %%
recorded = xs.recorded("randomisation")
last = recorded[(recorded["check"] == "label") | (recorded["level"] == recorded["level"].max())]
assert last.loc[last["method"] == "saliency", "low"].min() > last.loc[last["method"] != "saliency", "high"].max()
last.set_index(["check", "method"])[["pearson", "low", "high", "n_trials", "n_draws"]].round(2)

# %% [markdown]
# ## What can go wrong
#
# - **Passing is not being right.** Noise passes. A method that changes with the weights may still point at the wrong
#   place; [the next chapter](10_twelve_metrics.ipynb) scores maps against a known answer.
# - **Ranking methods by this check.** The similarity left after randomisation depends on the noise of a method and on
#   what the architecture passes on, so that a lower correlation is not a better explanation
#   {footcite:p}`binder2023shortcomings,hedstrom2023sanity`.
# - **A reset that leaves weights alone**, as above; bare parameters and attention projections are missed likewise.
# - **Training mode.** With dropout active the map changes from call to call, and the check measures the dropout. The
#   package explains in eval mode, whatever the state of the model.
# - **Signed against absolute.** Maps that are multiplied by the input share $|\mathbf{x}|$, so that $|\mathbf{R}|$
#   stays similar where $\mathbf{R}$ does not. Say which of them was correlated.
#
# ## Take-aways
#
# - A map that does not change with the class or with the weights explains neither.
# - The checks reject; they never accept: report them beside the noise control.
# - Check the check: print the share of weights that a reset has changed.
# - Redraw in the order of execution, on fresh copies, several times, and give the interval over trials.
# - Two classes make label randomisation meaningless.
#
# ## Questions
#
# 1. Input × gradient shares the factor $\mathbf{x}$ with every map of the same trial. Why does the correlation
#    still fall to about zero when the weights go?
# 2. A method's correlation is 0.9 after the last layer is redrawn and 0 after all are. What has it read?
# 3. Which maps of a linear decoder with two outputs would you compare?
#
# ## Exercise: a map that cannot fail to look good
#
# Write an `explain` that returns the trial itself, $\mathbf{R} = \mathbf{x}$: it peaks where the EEG peaks and looks
# convincing. What do both checks say? Predict the two numbers before you unfold the solution.
#
# :::{dropdown} Solution
# Both correlations are exactly 1. The map ignores target and model, and both checks reject it. The folded cell below
# asserts so.
# :::


# %% tags=["hide-cell"]
def explain_by_input(model, x, target):
    return x


x, y = explained.signal, explained.label
for_labels = xs.label_randomisation_test(explain_by_input, decoder, x, y, explained.n_classes)
for_weights = xs.weight_randomisation_test(explain_by_input, decoder, x, y, [SEED])
np.testing.assert_allclose(for_labels["pearson"], 1, atol=1e-6)
np.testing.assert_allclose(for_weights["pearson"], 1, atol=1e-6)

# %% [markdown]
# ## References
#
# :::{footbibliography}
# :::
