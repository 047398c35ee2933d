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
# numbers made it say so? The package has 21 methods that answer with a map of the same shape as the trial. This
# chapter builds three of them by hand, runs them all, asks each for its receipt, and looks where they agree.
#
# :::{admonition} By the end you can
# - compute saliency, integrated gradients and DeepLIFT by hand and say what question each of them answers;
# - check conservation, trial by trial: that the values of a map add up to a difference of the output;
# - recognise a DeepLIFT that is only input × gradient;
# - choose a method that fits the network, a baseline and a target, and say what they do to the map;
# - measure how far methods agree, against controls that know nothing of the network.
# :::
#
# **Before you start:** [training a decoder](../foundations/02_training_a_decoder.ipynb) and the chain rule.
# **Time:** 40 minutes, a laptop without a graphics card.

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
# The class of our simulated trials is the frequency of a burst under C3, in the middle of the trial. The noise-free
# burst on the scalp is kept as `truth`. A small network learns to tell the three frequencies apart. It is the shallow
# ConvNet of Schirrmeister et al. {footcite:p}`schirrmeister2017deep`: linear filters, then square, mean over time,
# logarithm and a linear layer. We explain trials of a run that it never saw, and only those it gets right, because
# the map of a wrong decision has no known answer.

# %%
import warnings

import numpy as np
import pandas as pd
import torch

import eegxai_support as xs

warnings.simplefilter("ignore", xs.BaselineWarning)  # shown on purpose under "No baseline is neutral"
simulated = xs.simulate("spectral", n_trials=120 if FAST else 160, snr_db=-5, sfreq=80, duration=2, seed=SEED)
held_out = (simulated.metadata["run"] == 4).to_numpy()
recipe, device = xs.RECIPES["ShallowFBCSPNet"], xs.best_device(DEVICE)
network = xs.build_decoder("ShallowFBCSPNet", simulated, seed=SEED, **recipe).to(device)
xs.train(network, simulated.subset(~held_out), epochs=10, seed=SEED, cache=True, device=device)
unseen = simulated.subset(held_out)
predicted = xs.predict(network, unseen.signal).argmax(1)
known = unseen.subset(np.flatnonzero(predicted == unseen.label)[: 4 if FAST else 12])
print("run left out:", xs.accuracy(unseen.label, predicted))

# %% [markdown]
# ## Saliency: how steep is the output?
#
# The oldest map is a derivative {footcite:p}`simonyan2014deep`: how much does the logit of the class move when one
# sample moves a little? The network is in eval mode, so that dropout is off and batch norm does not mix trials. The
# sum over trials may be differentiated at once: each trial's gradient reaches only its own input.

# %%
x = torch.tensor(known.signal, device=device, requires_grad=True)  # (trial, channel, time)
(gradient,) = torch.autograd.grad(network(x)[range(len(known)), known.label].sum(), x)

# %% [markdown]
# The package does the same in one call. `"gradient"` keeps the sign and `"saliency"` is its absolute value. The
# target is a class per trial, here the true one, and the logit is explained, not the probability after the softmax,
# which mixes all classes.

# %%
assert np.allclose(gradient.abs().cpu(), xs.attribute(network, known.signal, known.label, "saliency").values, atol=1e-5)

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
(node, weight), mean_gradient = np.polynomial.legendre.leggauss(16), 0
for alpha, share in zip((node + 1) / 2, weight / 2, strict=True):
    point = (alpha * x.detach()).float().requires_grad_()
    score = network(point)[range(len(known)), known.label].sum()
    mean_gradient += share * torch.autograd.grad(score, point)[0]

coarse = xs.attribute(network, known.signal, known.label, "integrated_gradients", tol=np.inf)  # 16 positions
assert np.allclose(mean_gradient.cpu(), coarse.multiplier, atol=1e-4 * np.abs(coarse.multiplier).max())

# %% [markdown]
# Here is the first receipt: the sum of each map over the change of the output. Near an empty input a log-power network is
# very steep, and 16 evenly spread positions miss some of that. Left to itself the package doubles them, crowded towards the
# baseline where that helps, until sum and map move by less than 1 %: in a sum alone errors of both signs cancel. If the sum
# still misses more with 512 positions, it warns.

# %%
empty = xs.predict(network, np.zeros_like(known.signal))


def change(outputs):
    return (xs.predict(network, known.signal) - outputs)[range(len(known)), known.label]


fine = xs.attribute(network, known.signal, known.label, "integrated_gradients")
for name, maps in {"16 positions": coarse.values, "as many as needed": fine.values}.items():
    print(f"{name:18} misses at most {np.abs(maps.sum((1, 2)) / change(empty) - 1).max():.1%} of the change")

# %% [markdown]
# ## DeepLIFT: differences instead of derivatives
#
# DeepLIFT {footcite:p}`shrikumar2017learning` needs one pass. It replaces the derivative of every nonlinearity $h$ by
# the slope between trial and baseline, $\bigl(h(z) - h(z')\bigr) / (z - z')$. This is the rescale rule. Slopes multiply
# along the network as derivatives do, and they conserve exactly. For the smallest log-power readout, $f(\mathbf{x}) =
# \log \frac{1}{T} \sum_t v_t^2$ with $v_t = \mathbf{w}^\top \mathbf{x}_t$, they can be written down: the square has
# slope $v_t + v'_t$, and the logarithm has slope $(\log p - \log p') / (p - p')$.

# %%
one, other = known.signal[:2].astype(float)  # a trial, and another one as its baseline
conv = torch.nn.Conv1d(64, 1, 1, bias=False, dtype=torch.float64)
w = conv.weight.detach().cpu().numpy()[0, :, 0]
v, v0 = w @ one, w @ other
p, p0 = np.mean(v**2), np.mean(v0**2)
multiplier = np.outer(w, v + v0) / 160 * (np.log(p) - np.log(p0)) / (p - p0)

# %% [markdown]
# The package applies the rule to each function that torch runs, whatever layer class calls it. So the square may be
# spelled as a module, a function, an operator or a product. The map is always the one that we found by hand.

# %%
from braindecode.modules import Expression, SafeLog, Square


def readout(square):
    return torch.nn.Sequential(conv, square, torch.nn.AvgPool1d(160), SafeLog(), torch.nn.Flatten())


for square in (Square(), Expression(torch.square), Expression(lambda v: v**2), Expression(lambda v: v * v)):
    ours = xs.attribute(readout(square), one[None], 0, "deep_lift", baseline=other)
    assert np.allclose(ours.multiplier, multiplier) and np.isclose(ours.values.sum(), np.log(p) - np.log(p0))

# %% [markdown]
# A function without a rule is refused by its name. A map that nobody can vouch for is not drawn.

# %%
try:
    xs.attribute(readout(Expression(lambda v: v.sort().values)), one[None], 0, "deep_lift", baseline=other)
except xs.UnsupportedOperation as error:
    print(error)

# %% [markdown]
# ### The same name, another map
#
# captum {footcite:p}`kokhlikyan2020captum` applies the rule to module classes. It knows ReLU, ELU and a few more, and
# passes what it does not know by the ordinary derivative, without a word. Square and `SafeLog` are not on its list,
# and braindecode calls captum. So on this network their DeepLIFT uses no slope anywhere: what is left is the
# difference times the gradient. We run it and ours from zeros and from trials of another class, and correlate the sizes
# of the two maps.

# %%
from captum.attr import DeepLift


def captum_deep_lift(model, x, baseline, target):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum announces its hooks
        maps = DeepLift(model).attribute(*(torch.tensor(each, device=device) for each in (x, baseline, target)))
    return maps.detach().cpu().numpy()


def pearson(a, b):
    return np.array([np.corrcoef(np.abs(pair).reshape(2, -1))[0, 1] for pair in zip(a, b, strict=True)])


# %%
for kind in ("zero", "other_class"):
    baseline = xs.make_baseline(known.signal, kind, label=known.label, seed=SEED)
    captum = captum_deep_lift(network, known.signal, baseline, known.label)
    right = xs.attribute(network, known.signal, known.label, "deep_lift", baseline=baseline).values
    assert np.allclose(captum, (known.signal - baseline) * gradient.cpu().numpy(), atol=1e-5)
    missing = [np.median(np.abs(m.sum((1, 2)) / change(xs.predict(network, baseline)) - 1)) for m in (captum, right)]
    print(f"{kind}: captum misses {missing[0]:.0%}, ours {missing[1]:.0e}; r = {pearson(captum, right).mean():.2f}")

# %% [markdown]
# From zeros both maps have nearly the same shape, and only the sum betrays captum. From another trial the shape
# itself is wrong: at the trial the gradient knows nothing of where the way began. {numref}`fig-04-wrong` draws the trial in
# which the two differ most, with the sum of each map.

# %% mystnb={"figure": {"caption": "DeepLIFT from a trial of another class, summed over time, by captum and by the package, with the sum over the head. The source is under C3.", "name": "fig-04-wrong"}, "image": {"alt": "Two heads on one scale, with different sums above them. The package's map has its strongest spot at C3, where the source is; captum's has another shape."}}
worst = pearson(captum, right).argmin()
heads = {f"{name}, sum {m[worst].sum():.1f}": m[worst].sum(1) for name, m in {"captum": captum, "ours": right}.items()}
xs.viz.plot_channel_topomaps(list(heads.values()), known.info, list(heads), label="logit")

# %% [markdown]
# It is not this network alone. Recorded: what both tools return on 55 untrained decoders of braindecode.

# %% tags=["hide-input"]
decoders = xs.recorded("decoders").fillna({"baseline": ""})
meaning = {"runs|conserves|differs.*": "as promised", "does not.*|is the.*": "wrong", ".*Error": "fails"}
decoders["outcome"] = decoders["outcome"].replace(meaning | {"Unsup.*": "refused"}, regex=True)
decoders.value_counts(["method", "baseline", "tool", "outcome"]).unstack(fill_value=0).rename_axis(columns=None)

# %% [markdown]
# ## Every map, with its receipt
#
# An attribution prints as its receipt, here for all trials of the run left out, right or wrong.

# %%
print(xs.attribute(network, unseen, unseen.label, "deep_lift"))

# %% [markdown]
# Now all methods that have a meaning for this network, which `applies_to` says, on the same trials as before. Two of them
# compare with many baselines; they get training trials.

# %%
pool, maps = simulated.signal[~held_out][: 8 if FAST else 24], {}
for name, method in xs.METHODS.items():
    if method.applies_to(network):
        against = pool if method.many_baselines else None
        maps[name] = xs.attribute(network, known.signal, known.label, name, baseline=against)

# %% [markdown]
# What should each map add up to? With one baseline to $f_k(\mathbf{x}) - f_k(\mathbf{x}')$. With many, to the
# difference from the mean of $f_k(\mathbf{x}')$. Layer-wise relevance propagation compares with nothing: relevance that reaches
# the input and relevance that stays in biases are together $f_k(\mathbf{x})$ itself.

# %%
lrp, many = ["lrp_epsilon", "lrp_z_plus"], ["expected_gradients", "deep_lift_shap"]
sums = {name: found.values.sum((1, 2)) for name, found in maps.items()}
sums["captum's DeepLIFT"] = captum_deep_lift(network, known.signal, 0 * known.signal, known.label).sum((1, 2))
sums |= {name: sums[name] + maps[name].kept for name in lrp}
changes = dict.fromkeys(sums, change(empty)) | dict.fromkeys(lrp, change(0))
changes |= dict.fromkeys(many, change(xs.predict(network, pool).mean(0)))
promised = [name for name in maps if xs.METHODS[name].conserves] + lrp
assert all(np.allclose(sums[m], changes[m], rtol=0.01) for m in promised if m != "expected_gradients")

# %% mystnb={"figure": {"caption": "Receipts. A dot is a trial; on the line a map adds up to what it should. Input × gradient promises no sum, captum's DeepLIFT breaks its promise. Bars: 95 % interval of a sum over random draws.", "name": "fig-04-receipts"}, "image": {"alt": "Nine panels of the sum of the map against the change of the output. For input times gradient and captum's DeepLIFT the dots lie far below the line of equality, in the same places. For DeepLIFT, DeepLIFT-SHAP, integrated gradients, expected gradients, KernelSHAP and two kinds of LRP they lie on the line."}}
shown = {name: sums[name] for name in ("input_x_gradient", "captum's DeepLIFT", *promised)}
xs.viz.plot_conservation(shown, changes, errors={"expected_gradients": maps["expected_gradients"].standard_error})

# %% [markdown]
# In {numref}`fig-04-receipts` the first two panels are the same panel. All others keep their promise, expected gradients
# up to chance, which its standard error states. Conservation says that a map keeps its books, not that it is right.
# Here we know what is right: below is the correlation of the size of each map with the size of the true burst, trial
# by trial. Random numbers are one control. The trial itself is the other, which knows where the signal is large and
# nothing of the network.

# %%
r = pd.Series({name: pearson(found.values, known.truth).mean() for name, found in maps.items()})
table = pd.DataFrame({name: vars(method) for name, method in xs.METHODS.items()}).T.assign(r=r)
table = table[["r", "needs_baseline", "conserves", "reference"]].replace({True: "yes", False: ""})
table.replace(",.*", "", regex=True).style.format({"r": "{:.2f}"}, na_rep="")

# %%
print(f"The trial itself: r = {pearson(known.signal, known.truth).mean():.2f}")

# %% [markdown]
# None comes near 1: a network reads its evidence where it suffices, not wherever it is.
# [Chapter 10](../trust/10_twelve_metrics.ipynb) scores maps with twelve metrics. The table names these families:
#
# - **Gradients.** The gradient, its absolute value, its mean over noisy copies of the trial (SmoothGrad
#   {footcite:p}`smilkov2017smoothgrad`) and its product with the input. They tell of sensitivity and promise no sum.
# - **Paths.** Integrated gradients, and expected gradients {footcite:p}`erion2021improving`, also known as GradientSHAP,
#   which draw baseline and position at random.
# - **DeepLIFT**, against one baseline or as the mean over many (DeepLIFT-SHAP {footcite:p}`lundberg2017unified`).
# - **Relevance propagation.** LRP {footcite:p}`bach2015pixel` hands the output down layer by layer, to each unit its share.
#   The rules differ in what they do with terms that speak against the sum {footcite:p}`montavon2019layer`.
# - **Guided backpropagation** {footcite:p}`springenberg2015striving` **and deconvolution** {footcite:p}`zeiler2014visualizing`
#   are gradients from which rectifiers (ReLU, ELU and their kind) remove what is negative. They promise no sum, and without a
#   rectifier they would be the plain gradient, so they are refused.
# - **Grad-CAM** {footcite:p}`selvaraju2017grad` weighs what a convolution found by its mean gradient. The package finds the
#   axis of the layer that is time, and puts each position at the centre of its receptive field. A learned kernel
#   may still have its weight before or behind that centre, and this delay remains in the map. After the spatial filters
#   there are no channels left, so all carry the same map. No sum is promised. In this network the convolution is followed
#   by a square, to which the mean gradient of an oscillation says next to nothing, and its r shows it.
# - **Perturbation.** Replace a piece by the baseline and see what the output loses: a window that slides over one channel
#   (occlusion), a whole channel, or a stretch of time. The pieces act together, so their effects do not add up. KernelSHAP
#   divides the change fairly among the channels {footcite:p}`lundberg2017unified,covert2021improving`, so its values do.
# - **Random** numbers, the control.
#
# ### Which method for which network?
#
# A method is refused where it has no meaning or no rule. We ask five untrained networks of different kinds: the
# log-power network, EEGNet, Deep4Net, the EEG Conformer {footcite:p}`song2023eeg` and DeepSleepNet
# {footcite:p}`supratak2017deepsleepnet`, which ends in an LSTM. Methods that apply to all five are left out.

# %% tags=["hide-input"]
kinds = {"log-power": "ShallowFBCSPNet", "ELU": "EEGNet", "max pool": "Deep4Net", "attention": "EEGConformer"}
sample = xs.simulate("spectral", ch_names=("C3", "Cz", "C4"), n_trials=4, sfreq=100, duration=2, seed=SEED)
applies = pd.DataFrame()
for kind, name in (kinds | {"LSTM": "DeepSleepNet"}).items():
    model = xs.build_decoder(name, sample, seed=SEED).to(device)
    applies[kind] = pd.Series({name: method.applies_to(model) for name, method in xs.METHODS.items()})
applies[~applies.all(axis=1)].replace({True: "yes", False: "–"})

# %% [markdown]
# An LSTM has no rule in DeepLIFT, and attention multiplies activations, for which LRP has none. There, integrated
# gradients are the first choice: they need a gradient and no rule.
#
# LRP keeps books for every layer. In each row the relevance that arrives at a layer's output splits into what goes on to
# its input, what stays in its bias, and what is lost. The first trial's:

# %%
maps["lrp_epsilon"].report.query("trial == 0").set_index("layer").iloc[:, 3:].style.format(precision=3)

# %% [markdown]
# ## No baseline is neutral
#
# Zeros look like "no signal". To the network they are an input like any other, and it has an opinion about them. The
# explanation is then of the distance to that opinion. The receipt states how firm it is, and `attribute` warns where
# another baseline has less of one. We have silenced that warning so far.

# %%
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", xs.BaselineWarning)
    from_zeros = xs.attribute(network, known.signal, known.label, "deep_lift")
print(f"at zeros one class has a probability of {from_zeros.at_baseline:.3f}", *(w.message for w in caught), sep="\n")

# %% [markdown]
# `make_baseline` has three others. The mean of each channel over the trial; the trial with its phases scrambled, which
# has the same spectra and correlations between channels, but no burst at any time
# {footcite:p}`prichard1994generating`; or a trial of another class, which occurs in real life: why this output and not
# the one for that trial?

# %%
rows = {}
for kind in ("zero", "trial_mean", "phase_scrambled", "other_class"):
    baseline = xs.make_baseline(known.signal, kind, label=known.label, seed=SEED)
    found = xs.attribute(network, known.signal, known.label, "deep_lift", baseline=baseline).values
    p = torch.tensor(xs.predict(network, baseline)).softmax(1).numpy()[range(len(known)), known.label]
    rows[kind] = {"p(own class)": p.mean(), "r with zeros": pearson(found, maps["deep_lift"].values).mean()}
pd.DataFrame(rows).T.round(2)

# %% [markdown]
# The first column is the mean probability of the trial's own class at the baseline, the second the correlation
# with DeepLIFT from zeros. Scrambled phases keep the spectrum, and the class is a frequency: the network
# still leans to the right class, and the map explains the little that is left. A baseline must differ in what the
# question is about.
#
# ## The real recording
#
# Subject 7 of the PhysioNet recordings {footcite:p}`schalk2004bci2000,goldberger2000physiobank` opened and closed the
# left or the right fist, or imagined it. Run 12 is left out, all other fist runs train the network on random crops of
# two seconds. We explain the window from 1.5 to 3.5 s after the cue of the trials of run 12 that are classified
# correctly in this window. The first line says whether the trials are real; otherwise simulated ones take their place.

# %%
trials = xs.load_motor_imagery(subjects=7, runs=(3, 7, 11, 4, 8, 12), sfreq=80)
left_out = (trials.metadata["run"] == 12).to_numpy()
decoder = xs.build_decoder("ShallowFBCSPNet", trials, n_times=160, seed=SEED, **recipe).to(device)
xs.train(decoder, trials.subset(~left_out), epochs=8 if FAST else 20, seed=SEED, cache=True, device=device)

window = trials.subset(left_out & (trials.label < 2)).crop(1.5, 3.5)
explained = window.subset(xs.predict(decoder, window.signal).argmax(1) == window.label)
print(f"{len(explained)} of {len(window)} trials of the run left out are classified correctly in the window.")

# %% [markdown]
# With two classes only the difference of the two logits decides; a constant added to both changes nothing. So the
# difference is what we explain: `target=(1, 0)`, the second class minus the first. Positive values speak for the second
# class, the right fist in the real trials. The baseline is a trial of the other class.

# %%
target, baseline = (1, 0), xs.make_baseline(explained.signal, "other_class", label=explained.label, seed=SEED)
methods = {"random": None, "saliency": None, "integrated_gradients": baseline, "deep_lift": baseline}
real = {m: xs.attribute(decoder, explained.signal, target, m, baseline=b).values for m, b in methods.items()}
real["captum's DeepLIFT"] = np.subtract(*(captum_deep_lift(decoder, explained.signal, baseline, k) for k in target))

# %% [markdown]
# {numref}`fig-04-trial` draws the trial that differs most from its baseline. Each map carries its receipt: what it adds
# up to and what it should add up to. Saliency promises no sum, so its receipt says that.

# %%
should = (xs.predict(decoder, explained.signal) - xs.predict(decoder, baseline))[:, target] @ (1, -1)
best, units = int(should.argmax()), {"saliency": "logit/SD", "captum's DeepLIFT": "logit", "deep_lift": "logit"}
receipts = {m: f"sum    {real[m][best].sum():7.2f}\nshould {should[best]:7.2f}" for m in units}
receipts["saliency"] = "no sum promised"

# %% mystnb={"figure": {"caption": "One trial of the run left out and three maps of the difference of its logits, with their receipts. Top: channels by time. Below: sum over time on the head.", "name": "fig-04-trial"}, "image": {"alt": "Four columns: the trial, saliency, captum's DeepLIFT and DeepLIFT. Each has an image of channels by time, a head, and, for the maps, a receipt with the sum of the map and the change of the output. The two DeepLIFT maps differ in size and in place."}}
drawn = {m: real[m][best] for m in units}, receipts, explained.info, explained.times
xs.viz.plot_trial_maps(explained.signal[best], *drawn, signal_label="SD", labels=units)

# %% [markdown]
# ### Where they agree
#
# We correlate absolute values, since saliency has no sign, over channels and samples of each trial, and average over
# trials. The controls are random numbers and the difference between trial and baseline itself.

# %%
sizes = real | {"the difference": explained.signal - baseline}
agreement = np.array([[pearson(a, b).mean() for b in sizes.values()] for a in sizes.values()])
assert agreement[2, 3] > 0.9 > agreement[2:4, 4].max() and np.abs(agreement[0, 1:]).max() < 0.1

# %% mystnb={"figure": {"caption": "Live: mean correlation over the explained trials between the absolute values of the maps, and of the two controls.", "name": "fig-04-agreement"}, "image": {"alt": "A matrix of correlations between random numbers, saliency, integrated gradients, DeepLIFT, captum's DeepLIFT and the difference between trial and baseline. Integrated gradients and DeepLIFT agree almost completely; captum's DeepLIFT agrees less with them; random numbers correlate with nothing."}}
xs.viz.plot_agreement(agreement, list(sizes))

# %% [markdown]
# In {numref}`fig-04-agreement` integrated gradients and DeepLIFT are almost one map, by two computations that share no
# step. Captum's DeepLIFT stands apart from both. All three have a factor in common, the difference between trial and
# baseline, and the last row shows how much agreement a map gets from this factor alone. Agreement without such a
# control is no evidence.
#
# Over channels alone the answer can be different. A tutorial of braindecode {footcite:p}`braindecode2026interpretability`
# averages the size of each map over trials and time, and its figure has the title "All three methods agree the network
# attends to motor cortex". In the version that we read, it printed a correlation of −0.047 between saliency and
# DeepLIFT. Ours, on real trials and on right DeepLIFT maps from zeros, is recorded: below are the maps of
# subject 7 over all three folds, and the correlations between them.

# %% tags=["hide-input"]
shown = ["saliency", "integrated_gradients", "deep_lift"]
channel_maps = xs.recorded("trial_channel_maps").pivot(index="method", columns="channel", values="value")
channel_maps = channel_maps.loc[shown, list(simulated.info.ch_names)]
print("size at O1:", ", ".join(f"{method} {value:.2f}" for method, value in channel_maps["O1"].items()))
channel_maps.T.corr().round(2).rename_axis(None).rename_axis(None, axis=1)

# %% mystnb={"figure": {"caption": "Recorded: mean size of the maps on each channel, subject 7, three runs left out in turn, each map divided by its maximum.", "name": "fig-04-channels"}, "image": {"alt": "Three heads, for saliency, integrated gradients and DeepLIFT, with C3, Cz and C4 named on the first. Integrated gradients and DeepLIFT have nearly the same head; saliency is largest near C4, the two others also at the back of the head."}}
xs.viz.plot_channel_topomaps(channel_maps.to_numpy(), simulated.info, shown, label="mean |map| / maximum")

# %% [markdown]
# Where a method multiplies by the trial, channels with a strong rhythm gain, whether or not the network is sensitive to
# them. O1, above the alpha rhythm at the back of the head, is such a channel. Saliency asks how sensitive the network
# is, the others ask what the trial contributed. Disagreement between them is no fault. Saying "the network attends to"
# without naming the question is.
#
# Two recorded tables close the section, both with zeros as baseline: the agreement of the methods per trial, with the
# interval that holds 95 % of the trials, and the receipts of two decoders, where `n_warned` counts trials that miss
# more than a method's tolerance.

# %% tags=["hide-input"]
pairs = xs.recorded("trial_map_agreement").query("method_a in @shown and method_b in @shown and method_a < method_b")
pairs.round(2).style.format(precision=2).hide()

# %% tags=["hide-input"]
xs.recorded("trial_map_receipts").style.format({"median_delta": "{:.1e}", "max_delta": "{:.1e}"}).hide()

# %% [markdown]
# ## What can go wrong
#
# - **Training mode.** Dropout and batch statistics make a map depend on chance and on the other trials. `attribute`
#   switches to eval mode and back; code of your own must do it.
# - **Normalisation at zeros.** Layer norm divides by next to nothing there. Relevances are huge and cancel.
# - **A sum that is right by force.** Spreading what is missing over the map makes any map conserve. This package never
#   does.
# - **The softmax.** A confident trial has a flat probability, so its gradient vanishes: explain logits.
# - **Wrong decisions.** The map of a misclassified trial explains the mistake. Do not average it with the others.
# - **Agreement as proof.** Methods that share a factor agree by it. Ask what a control would have got.
#
# ## Take-aways
#
# - A gradient says what the network is sensitive to; integrated gradients and DeepLIFT say what this trial added,
#   compared with a baseline.
# - Conservation is a receipt that every such map can show. It is necessary, and it is not proof of truth.
# - DeepLIFT is right only where every nonlinearity has its rule. Two tools that share the name need not share the map.
# - Not every method has a meaning for every network; one that is refused would have been something else.
# - A baseline is part of the question, and zeros are not neutral.
# - Agreement needs a control, like every other score.
#
# ## Questions
#
# 1. Why does the sum of a saliency map mean nothing?
# 2. When are DeepLIFT, integrated gradients and input × gradient the same map?
# 3. What does `target=(1, 0)` explain that `target=1` does not?
# 4. Why do the maps of occlusion not add up, though each window's effect is a difference of the output?
# 5. Which baseline would you take to ask why a trial is not like the average trial?
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
eegnet = xs.build_decoder("EEGNet", simulated, seed=SEED, **xs.RECIPES["EEGNet"]).to(device)
xs.train(eegnet, simulated.subset(~held_out), epochs=5, seed=SEED, cache=True, device=device)
zeros = np.zeros_like(known.signal)
should = (xs.predict(eegnet, known.signal) - xs.predict(eegnet, zeros))[range(len(known)), known.label]
found = {
    "captum's DeepLIFT": captum_deep_lift(eegnet, known.signal, zeros, known.label),
    "input x gradient": xs.attribute(eegnet, known.signal, known.label, "input_x_gradient").values,
}
missing = {name: np.median(np.abs(values.sum((1, 2)) / should - 1)) for name, values in found.items()}
print(", ".join(f"{name} misses {share:.3%} on EEGNet" for name, share in missing.items()))
assert missing["captum's DeepLIFT"] < 1e-3 < missing["input x gradient"]

# %% [markdown]
# ## References
#
# :::{footbibliography}
# :::
