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
# explain the decision. A third asks what a network shows that has learned labels without meaning.
#
# :::{admonition} By the end you can
# - run label randomisation and cascading weight randomisation on any decoder, and state what each one rules out;
# - tell a reset that really destroys the weights from one that leaves them as they were trained;
# - read the correlation that is left together with its interval and with two controls;
# - say what the efficient and the smooth variant of the weight test repair, and what they leave open;
# - train a decoder on permuted labels and compare its maps with those of a decoder trained twice;
# - say why these checks degenerate with two classes.
# :::
#
# **Before you start:** [maps for one trial](../attribution/04_maps_for_one_trial.ipynb), [notation](../notation.md).
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

device = xs.best_device(DEVICE)
warnings.simplefilter("ignore", xs.BaselineWarning)  # zeros are not neutral either; chapter 4 shows it


# %%
def fit(trials, seed):
    """Return a trained EEGNet."""
    model = xs.build_decoder("EEGNet", trials, seed=seed, **xs.RECIPES["EEGNet"]).to(device)
    return xs.train(model, trials, epochs=10 if FAST else 20, lr=1e-2, seed=seed, cache=True, device=device).model


def simulated_decoder(frequencies):
    """Return a trained EEGNet, its training trials and the left-out trials that it classifies correctly."""
    options = {"frequencies": frequencies, "sfreq": 80, "duration": 1, "seed": SEED}
    trials = xs.simulate("spectral", n_trials=120 if FAST else 160, **options)
    left_out = trials.metadata["run"].to_numpy() == 4
    decoder, tested = fit(trials.subset(~left_out), SEED), trials.subset(left_out)
    predicted = xs.predict(decoder, tested.signal).argmax(axis=1)
    print(f"{trials.n_classes} classes, run left out:", xs.accuracy(tested.label, predicted))
    right = np.flatnonzero(predicted == tested.label)
    return decoder, trials.subset(~left_out), tested.subset(right[: 4 if FAST else 10])


decoder, seen, explained = simulated_decoder((10.0, 14.0, 22.0))

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

generator, by_hand = torch.Generator().manual_seed(SEED), deepcopy(decoder)
for name, p in by_hand.named_parameters():
    noise = torch.randn(p.shape, generator=generator).to(device)
    if name.startswith("final_layer"):
        p.data = p.data.mean() + p.data.std(correction=0) * noise

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
assert share.filter(like="conv_spatial", axis=0)["reset_parameters()"].max() == 0 and share["xs.randomize"].min() == 1

# %% [markdown]
# Three details decide whether a cascade is one. *Order*: from the output to the input in the order in which the modules
# run, not in the order in which the code registers them; a network that defines a layer early and uses it late would
# otherwise be taken apart in the wrong sequence. Below a network registers its first layer last, and the order stays
# that of execution. *Fresh copies*: each level is a model of its own, so that a list of levels does not hold the same
# destroyed network many times. *Several draws*: one draw of random weights may by chance resemble the trained ones.

# %%
reordered = xs.build_decoder("InterpretableCNN", explained, seed=SEED).to(device)
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
DRAWS = range(SEED, SEED + (2 if FAST else 4))  # seeds of the random weights


def all_methods(test, *arguments, **options):
    """Return the tables of a test for each method and for the control, below each other."""
    return pd.concat(test(explainer(m), *arguments, **options).assign(method=m) for m in (*METHODS, "random"))


def sanity_checks(model, trials):
    """Return the tables of label and of weight randomisation."""
    label = all_methods(xs.label_randomisation_test, model, trials.signal, trials.label, trials.n_classes)
    weights = all_methods(xs.weight_randomisation_test, model, trials.signal, trials.label, DRAWS)
    return label, weights.assign(layer=weights["layer"].str.split(".").str[-1])


label, weights = sanity_checks(decoder, explained)

# %% mystnb={"figure": {"caption": "Simulated trials, EEGNet. Left: correlation with the original map when the label, or all weights, are replaced; a dot is a trial. Right: the cascade from the output to the input. Bars and bands: 95 % intervals (Student's t) over trials, for these draws of weights.", "name": "fig-sanity-simulated"}, "image": {"alt": "Left panel: strips of dots per method, integrated gradients, DeepLIFT and random noise scatter around or below zero; for other labels saliency lies above them. Right panel: one line per method over the layers reset."}}
xs.viz.plot_randomisation(label, weights, title="Known answer: three classes")

# %% [markdown]
# Saliency is the one to watch in {numref}`fig-sanity-simulated`. It takes absolute values, so any two of its maps
# are positive everywhere and can share where they are large. Its correlation with a wrong class is positive although the
# network tells the classes apart, and that of the signed maps is negative; the next cell asserts both. A sentence like
# "it passes" needs a number and its interval. `xs.mean_and_interval` averages over draws within a trial and then over
# trials, and it draws *both* with replacement {footcite:p}`owen2007pigeonhole`: all trials of a draw share its random
# weights, so that an interval over trials alone would promise too much. The bars of the figure are such intervals: they
# hold for these draws of the weights, and the table below is the one to quote.


# %%
def summary(label, weights):
    """Return mean and 95 % interval of both checks for each method; of the cascade its last level."""
    full = weights[weights["level"] == weights["level"].max()]
    both = pd.concat([label.assign(check="label"), full.assign(check="all weights")])
    return xs.mean_and_interval(both, ["check", "method"]).set_index(["check", "method"]).round(2)


mean_r = label.groupby("method")["pearson"].mean()
assert mean_r["saliency"] > 0.2 and mean_r[list(METHODS[1:])].max() < -0.2
summary(label, weights)

# %% [markdown]
# ## Two repairs: the efficient and the smooth variant
#
# Noise passes the weight test because noise has no correlation with anything. Two variants were made against this
# {footcite:p}`hedstrom2024fresh`; one of them closes the door, as the noise control will tell. The *efficient* one, eMPRT, compares no two maps. It asks whether a map becomes
# more *complex* when all weights are redrawn. Complexity $\xi$ is the entropy of the histogram of a map's values, in
# 100 bins of equal width from the lowest to the highest,
#
# $$
# \xi(\mathbf{R}) = -\sum_b p_b \ln p_b, \qquad
# \text{rise} = \frac{\xi(\hat{\mathbf{R}}) - \xi(\mathbf{R})}{\xi(\mathbf{R})},
# $$
#
# with $p_b$ the share of points in bin $b$ and $\hat{\mathbf{R}}$ the map of the random network. A map with a few
# strong points and much silence has low entropy. We compute it by hand once and ask the package for the rise.

# %%
from scipy.stats import entropy

by_hand = [entropy(np.histogram(one_map, bins=100)[0]) for one_map in maps.astype(float)]  # of DeepLIFT, from above
rises = all_methods(xs.efficient_mprt, decoder, x, y, DRAWS)
package = rises.query("method == 'deep_lift'").drop_duplicates("trial")["entropy"]
np.testing.assert_allclose(by_hand, package, rtol=1e-6)

# %%
rise = xs.mean_and_interval(rises, ["method"], "rise").set_index("method")
assert rise.loc["random", "high"] < 0.05 < rise.loc["deep_lift", "mean"]
rise.round(2)

# %% [markdown]
# The noise control that passed both checks now fails: its maps are as complex before as after. Mind what the number
# does not see. A histogram has no places, so a map whose values are shuffled over the scalp scores the same, and a
# method whose maps are compact from the start has more room to rise.
#
# The *smooth* variant, sMPRT, keeps the correlation and removes noise from the maps first, as SmoothGrad does: each map
# is the mean over copies of the trial with noise added, the same noise for every network. If a method passes the plain
# test only because its maps are noisy, its smooth correlation is clearly higher than the plain one above. Pure noise has no
# stable map beneath it: its mean over copies is noise again. The next cell redraws all weights at once, which is the
# last level of the cascade.

# %%
smooth = all_methods(xs.smooth_mprt, decoder, x, y, DRAWS, order="at_once", n_samples=5 if FAST else 10)
smooth = summary(label, smooth).loc["all weights"]
assert abs(smooth.loc["random", "mean"]) < 0.1
smooth

# %% [markdown]
# The noise control still passes. The efficient variant closes the door to it; smoothing only uncovers a stable map
# beneath noise.
#
# The authors compare ranks of absolute maps and reset weights to their initial distribution; here maps keep their sign,
# are compared by Pearson correlation as everywhere in this chapter, and weights keep their trained moments. Before the
# last level the layers next to the input are still the trained ones, and a map that passes through them may well keep
# their mark.
#
# ## Labels without meaning
#
# A network with enough parameters learns any labels by heart. So permute the labels of the training trials *within*
# each run, train again, and explain: what is left of the map cannot come from the relation between trials and labels
# {footcite:p}`adebayo2018sanity`. The accuracy on its own training trials says whether the network did learn them.
#
# One thing is easily forgotten. Two networks trained on the *true* labels from different initial weights do not give
# the same map either. That correlation is the ceiling, and the permuted one has to be read against it, so
# `xs.data_randomisation_test` trains both for every seed. The seed of the decoder is left out: it would give the
# decoder back.

# %%
retrained = all_methods(xs.data_randomisation_test, decoder, x, y, fit, seen, DRAWS[1:])
retrained.groupby("labels")[["accuracy"]].mean().round(2)

# %%
r = xs.mean_and_interval(retrained, ["labels", "method"]).set_index(["labels", "method"])
assert (r.loc["permuted", "high"] < r.loc["true", "low"])[list(METHODS)].all() and r.loc["true", "high"].max() < 1
r.round(2)

# %% [markdown]
# All three methods show another map for permuted labels than for true ones, and none of them reaches 1 for the true
# ones. The noise control has no ceiling: it agrees with nothing, itself included. Here at last is a check that noise
# cannot pass, because it demands agreement in one row and its absence in the other.
#
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
decoder_2, _, two = simulated_decoder((10.0, 22.0))
table = all_methods(xs.label_randomisation_test, decoder_2, two.signal, two.label, 2)
xs.mean_and_interval(table, ["method"]).set_index("method").round(2)

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
recipe = xs.RECIPES["ShallowFBCSPNet"]
decoder = xs.build_decoder("ShallowFBCSPNet", trials, n_times=160, seed=SEED, **recipe).to(device)
xs.train(decoder, trials.subset(~left_out), epochs=8 if FAST else 80, seed=SEED, cache=True, device=device)

tested = trials.subset(np.flatnonzero(left_out)[:: 3 if FAST else 1]).crop(1.5, 3.5)
predicted = xs.predict(decoder, tested.signal).argmax(axis=1)
print("runs left out:", xs.accuracy(tested.label, predicted, tested.n_classes))
checked, right = sanity_checks(decoder, tested), predicted == tested.label
of_right = [table[right[table["trial"]]] for table in checked]  # a trial's maps do not depend on the others

# %% mystnb={"figure": {"caption": "The four-class decoder of the loaded trials. Left: label and full weight randomisation; right: the cascade. Bars and bands: 95 % intervals (Student's t) over trials, for these draws of weights.", "name": "fig-sanity-loaded"}, "image": {"alt": "Left panel: strips of dots per method, three methods and random noise, for label and weight randomisation. Right panel: one line per method over four layers reset from the classifier to the temporal filters."}}
xs.viz.plot_randomisation(*of_right, title=f"{right.sum()} correctly classified left-out trials")

# %% [markdown]
# The dotted line at 0.5 is a rule of thumb of the papers and tutorials, not a test: nothing says that 0.49 is
# specific and 0.51 is not. Judge by two comparisons instead. The first is the control: does the interval of a method
# reach down to that of noise? The second is the choice of trials. The protocol keeps correctly classified ones; here is
# what changes when all left-out trials are explained for their true class.

# %%
tables = {"right trials": summary(*of_right), "all trials": summary(*checked)}
pd.concat(tables, axis=1).drop(columns="n_draws", level=1)

# %% [markdown]
# ## Recorded: three seeds, three folds
#
# One training and two left-out runs are a small basis. The table below was computed beforehand on the real recording of
# subject 42, for three seeds times three folds, so that every run is left out once. It is **recorded**: the page
# shows it whether or not the recording is at hand. The interval is a bootstrap over trials and over draws of
# the weights, not over the three trainings. Saliency alone keeps a
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
# - **Ranking methods by the rise in entropy**, which knows values and no places.
# - **Permuted labels that were not learned.** A network that fails on them has nothing to explain; print its accuracy.
# - **Permuting across runs**, which also breaks what runs differ in, so that two things change at once.
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
# - A rise in entropy rejects noise; smoothing uncovers a stable map beneath noise, and pure noise still passes.
# - Retrain on permuted labels, and on the true ones: only the difference between the two counts.
# - Check the check: print the share of weights that a reset has changed.
# - Redraw in the order of execution, on fresh copies, several times, and give the interval over trials and draws.
# - Two classes make label randomisation meaningless.
#
# ## Questions
#
# 1. Input × gradient shares the factor $\mathbf{x}$ with every map of the same trial. Why does the correlation
#    still fall to about zero when the weights go?
# 2. A method's correlation is 0.9 after the last layer is redrawn and 0 after all are. What has it read?
# 3. Which maps of a linear decoder with two outputs would you compare?
# 4. Two trainings on the true labels give maps that correlate at 0.6. Which of the two maps would you publish?
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


x, y = tested.signal, tested.label
for_labels = xs.label_randomisation_test(explain_by_input, decoder, x, y, tested.n_classes)
for_weights = xs.weight_randomisation_test(explain_by_input, decoder, x, y, [SEED])
np.testing.assert_allclose(for_labels["pearson"], 1, atol=1e-6)
np.testing.assert_allclose(for_weights["pearson"], 1, atol=1e-6)

# %% [markdown]
# ## References
#
# :::{footbibliography}
# :::
