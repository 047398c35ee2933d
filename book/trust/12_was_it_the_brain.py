# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["remove-cell"]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/eegxai--home/eegxai/blob/main/book/trust/12_was_it_the_brain.ipynb)

# %% [markdown]
# # Was it the brain? A decoder that reads the eyes
#
# A network is trained on some people and tells left from right fist, imagined, in people it has never seen. Four trials of five
# are right. Did it read the brain? In this recording the target appears at the left or the right of the screen
# {footcite:p}`schalk2004bci2000,goldberger2000physiobank`, and eyes follow targets. An eye is a battery that turns: each glance
# moves the potential of the whole scalp {footcite:p}`lins1993ocular`. Such a shortcut, right for the wrong reason, does well on
# every test set that shares it {footcite:p}`lapuschkin2019unmasking,geirhos2020shortcut`. In this chapter we behave like
# somebody who does not know, ask every tool of the book, and note which of them would have told us.
#
# :::{admonition} By the end you can
# - share a map out among independent components, by hand and with the package, and call them by their labels;
# - read a share of relevance against what an untrained network puts in the same place;
# - say which tools expose an eye movement, which hide it, and why;
# - test a suspicion by intervention, with a control that removes as many parts, in the test and in training;
# - explain why leaving out frontal channels is neither a remedy nor a test.
# :::
#
# **Before you start:** [maps for one trial](../attribution/04_maps_for_one_trial.ipynb),
# [relevance and concepts](../attribution/06_relevance_and_concepts.ipynb).
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
# We simulate a background without any class, and blinks at random. Then we plant a glance: 0.35 s after the start the eyes
# turn to one side and, some time later, back. The side is the class, and *nothing else* tells the classes apart. The field of
# the glance is that of two dipoles behind AF7 and AF8 with opposite signs; it is zero on the midline and positive on the side the eyes
# turn to. Blinks come from the eyes too, but alike in both classes: a good explanation
# has to keep the two apart.

# %%
import warnings
from dataclasses import replace

import mne
import numpy as np
import pandas as pd

import eegxai_support as xs
from eegxai_support.simulate import dipole_topography

warnings.simplefilter("ignore", xs.BaselineWarning)  # a network may lean to one side at zero; here it does not matter

# %% tags=["hide-input"]
options = {"snr_db": -60, "frequencies": (10.0, 20.0), "sfreq": 100, "duration": 2, "blink_rate": 0.3, "seed": SEED}
background = xs.simulate("spectral", n_trials=100 if FAST else 120, **options)  # at -60 dB there is no class
names = tuple(background.info.ch_names)
right, left = (dipole_topography(name, "radial", names, lowered=20.0) for name in ("AF8", "AF7"))
field = (right - left) / np.abs(right - left).max()

rng, n_trials = np.random.default_rng(SEED), len(background)
start = rng.normal(0.35, 0.05, (n_trials, 1))
end = start + rng.uniform(0.3, 0.9, (n_trials, 1))
time = np.arange(background.signal.shape[2]) / background.sfreq
gaze = (np.tanh((time - start) / 0.03) - np.tanh((time - end) / 0.03)) / 2
gaze *= 40 * rng.lognormal(0, 0.3, (n_trials, 1)) * np.where(background.label == 1, 1, -1)[:, None]  # µV
planted = (field[:, None] * gaze[:, None]).astype(np.float32)

# %%
known = replace(background, signal=background.signal + planted, truth=planted, class_names=("left", "right"))
tested = (known.metadata["run"] == 4).to_numpy()


def fit(trials, epochs, lr=1e-3):
    """Return an EEGNet; without epochs an untrained one."""
    model = xs.build_decoder("EEGNet", trials, seed=SEED, **xs.RECIPES["EEGNet"]).to(xs.best_device(DEVICE))
    if epochs:
        xs.train(model, trials, epochs=epochs, lr=lr, seed=SEED, cache=True, device=DEVICE)
    return model


def rate(model, signal, label):
    return xs.accuracy(label, xs.predict(model, signal).argmax(axis=1))


# %%
network, untrained = (fit(known.subset(~tested), epochs, lr=1e-2) for epochs in (8, 0))
left_out = known.subset(tested)
print("run 4:", rate(network, left_out.signal, left_out.label))

# %% [markdown]
# ## Relevance per component, by hand
#
# Independent component analysis finds a mixing $\mathbf{A}$, whose columns are topographies, and an unmixing $\mathbf{W}$, so that the
# sources $\mathbf{s} = \mathbf{W}\mathbf{x}$ depend on each other as little as possible. We take extended infomax
# {footcite:p}`lee1999independent`, because ICLabel {footcite:p}`pion2019iclabel` was made for it. A map of the form multiplier
# times input, $\mathbf{m} \odot \mathbf{x}$, can be pulled back through the mixing as through a first layer of
# the network {footcite:p}`vielhaben2024explainable`: component $j$ carries
#
# $$
# R_j = \sum_t s_{jt}\,\bigl(\mathbf{A}^\top \mathbf{m}\bigr)_{jt},
# $$
#
# what the source puts on the scalp, times what the network makes of it. What the principal components dropped is the rest, and with it
# the sum is that of the map. DeepLIFT of *right minus left* sums to the difference of the logits, so the components
# share out the decision itself.

# %%
ica = xs.fit_ica(known, n_components=12)
labels = xs.label_components(ica, known)
attribution = xs.attribute(network, left_out.signal, (1, 0), "deep_lift")

# %%
unmixing = ica.unmixing_matrix_ @ ica.pca_components_[: ica.n_components_] / ica.pre_whitener_.T
mixing = ica.pre_whitener_ * ica.get_components()  # the inverse on the components that were kept
by_hand = ((unmixing @ left_out.signal) * (mixing.T @ attribution.multiplier)).sum(axis=2)  # (trial, component)

# %%
relevance = xs.component_relevance(attribution, left_out.signal, ica)
total = attribution.values.sum(axis=(1, 2))
np.testing.assert_allclose(by_hand, relevance[:, :-1], atol=1e-4 * np.abs(total).max())
np.testing.assert_allclose(relevance.sum(axis=1), total, atol=1e-4 * np.abs(total).max())

# %% [markdown]
# Two numbers sum it up. The *share* is the absolute relevance of a component over the sum of absolute values, mean over
# trials. The *evidence* keeps the sign: relevance counts as positive where it speaks for the true class, mean over trials, in
# logits. The table is what a reader has who knows nothing of the glance; the last column we can add because we planted it.


# %%
def share(values, chosen=slice(None)):
    """Share of columns in the absolute values of a row, mean over rows."""
    values = np.abs(values)
    return (values[:, chosen] / values.sum(axis=1, keepdims=True)).mean(axis=0)


def evidence(values, label):
    """Mean over trials of what speaks for the true class, where values are of class 1 minus class 0."""
    return (np.where(label == 1, 1, -1)[:, None] * values).mean(axis=0)


# %%
table = labels[["label", "probability"]].assign(share=share(relevance)[:-1])
table["evidence"] = evidence(relevance, left_out.label)[:-1]
table["|r| with the glance"] = np.abs(np.corrcoef(field, ica.get_components().T)[0, 1:])
first = table["share"].idxmax()
assert first == table["|r| with the glance"].idxmax() == table["evidence"].idxmax()
assert table["label"][first] == "eye blink"
table.sort_values("share", ascending=False).head(5).round(2)

# %% [markdown]
# The planted component is first, by far, and is called by its label. (ICLabel has one class for the eyes, "eye blink", which
# stands for glances too.) The blinks have the same label and hardly any relevance: the label says what a source is,
# the relevance whether the network uses it. {numref}`fig-12-components` shows the topographies.

# %% tags=["hide-input"]
top = table["share"].nlargest(4).index
titles = [f"{table['label'][c]}\nshare {table['share'][c]:.2f}" for c in top]
topographies = (mixing / np.abs(mixing).max(axis=0)).T[top]

# %% mystnb={"figure": {"caption": "Simulated trials: the four components with the largest share of the relevance, their label and share. Topographies are scaled to a largest value of 1; their sign is arbitrary.", "name": "fig-12-components"}, "image": {"alt": "Four heads. The first is antisymmetric, red at one temple and blue at the other, and labelled eye blink with most of the relevance; the others have small shares."}}
xs.viz.plot_channel_topomaps(topographies, known.info, titles, label="topography")

# %% [markdown]
# ## Which tools would have told us?
#
# Most of us look at maps, filters and spectra, and would say: much of it is frontal, suspicious. How much is
# much? Large signals make large maps, whatever a network knows, and eyes make the largest signals. So every share
# is compared with that of an *untrained* network on the same trials. By
# channels alone, 19 frontal ones of 64, it would be 0.30.

# %%
import re

frontal = np.array([bool(re.match(r"(Fp|AF|FT|F)[z\d]", name)) for name in names])


# %%
def tools(model, trials):
    """Return one value per trial (or unit) and channel for each tool; all explain right minus left."""
    x = trials.signal
    for method in ("saliency", "guided_backprop", "input_x_gradient", "deep_lift", "lrp_epsilon"):
        yield method, xs.attribute(model, x, (1, 0), method).values.sum(axis=2)
    yield "grad_cam", xs.attribute(model, x, (1, 0), "grad_cam", relu=False).values.sum(axis=2)
    left, right = xs.amplitude_gradients(model, x)
    gradient, amplitude = right - left, np.abs(np.fft.rfft(x))
    mean = gradient.mean(axis=0, keepdims=True)
    yield "amplitude gradient x amplitude", np.abs(gradient * amplitude).sum(axis=2)
    yield "mean amplitude gradient", np.abs(mean).sum(axis=2)
    yield "Haufe pattern of the amplitudes", np.abs(xs.haufe_patterns(mean, amplitude)).sum(axis=2)
    yield "spatial filters", xs.read_filters(model).unit_filters
    yield "patterns of the filters", xs.filter_patterns(xs.read_filters(model), trials)
    yield "power of the trials", np.square(x).sum(axis=2)


# %%
models = {"trained": network, "untrained": untrained}
rows = {name: {tool: share(v, frontal).sum() for tool, v in tools(m, left_out)} for name, m in models.items()}
shares = pd.DataFrame(rows).assign(excess=lambda it: it["trained"] - it["untrained"])
np.testing.assert_allclose(shares.loc["grad_cam"], [19 / 64, 19 / 64, 0], atol=1e-6)
times_trial = ["input_x_gradient", "deep_lift", "lrp_epsilon", "amplitude gradient x amplitude"]
assert shares.loc[times_trial, "excess"].min() > shares["excess"].drop(times_trial).max()
shares.sort_values("excess", ascending=False).round(2)

# %% [markdown]
# Maps that multiply by the trial come first: they ask what the glance *did*, trial by trial. In the lower half are tools that would
# have told us little or nothing.
#
# - **Grad-CAM** behind the spatial filters has no channels left. The package spreads it evenly over them, so its
#   frontal share is that of the channels, 19/64, asserted above, for every network, whatever it does.
# - **Spatial filters** have weights against noise as well as for signal, and those need not lie where the signal is. Their
#   patterns {footcite:p}`haufe2014interpretation` are large where the trials are large, trained or not.
# - **Averaged amplitude gradients and their Haufe patterns** ask whether *more amplitude* speaks for right. Glances to the right and
#   to the left have the same amplitude and opposite sign. More of either makes the network surer of *its own* side,
#   and over trials of both classes that cancels. What differs in phase and not in amplitude, such tools cannot see.
#
# The last point can be checked: average amplitude gradient times amplitude for the trials of each class by itself.

# %%
left, right = xs.amplitude_gradients(network, left_out.signal)
slow = np.fft.rfftfreq(left_out.signal.shape[2], 1 / left_out.sfreq) < 6
effect = ((right - left) * np.abs(np.fft.rfft(left_out.signal)))[:, frontal][..., slow].sum(axis=(1, 2))
of_class = [effect[left_out.label == k].mean() for k in (0, 1)]
print(f"frontal, below 6 Hz: left {of_class[0]:+.1f}, right {of_class[1]:+.1f} logits; all {effect.mean():+.1f}")
assert of_class[0] < 0 < of_class[1] and abs(effect.mean()) < min(np.abs(of_class))

# %% [markdown]
# ## What the network needs
#
# A map says where a network looks. What it *needs* is told by taking it away, with a control that takes away as many parts: for the eye
# components as many others, those with most variance; for the 19 frontal channels 19 at the back. A network may also fail because its
# input suddenly looks like nothing it knows. So in the second column it learns again, with the part removed from the
# training trials too; channels that are left out are out of the reference as well.


# %%
def without_channels(trials, channels):
    """Leave channels out and reference the others to their average."""
    kept = mne.pick_info(trials.info, np.flatnonzero(~channels))
    signal = trials.signal[:, ~channels]
    return replace(trials, signal=signal - signal.mean(axis=1, keepdims=True), info=kept, truth=None)


# %%
is_eye = (labels["label"] == "eye blink").to_numpy()
eyes, others = np.flatnonzero(is_eye), np.flatnonzero(~is_eye)[: is_eye.sum()]
back = np.isin(names, "P7 P5 P3 P1 Pz P2 P4 P6 P8 PO7 PO3 POz PO4 PO8 O1 Oz O2 TP7 TP8".split())

# %%
cuts = {}  # part: (signal of the test trials, trials to learn from again)
for part, components in {"eye components": eyes, "as many other components": others}.items():
    cleaned = xs.remove_components(known, ica, components)
    cuts[part] = cleaned.signal[tested], cleaned
for part, channels in {"frontal channels": frontal, "posterior channels": back}.items():
    cuts[part] = left_out.signal * ~channels[:, None], without_channels(known, channels)

# %%
accuracies = pd.DataFrame(index=["nothing", *cuts], columns=["test", "training too"], dtype=float)
accuracies.loc["nothing"] = rate(network, left_out.signal, left_out.label).accuracy
for part, (signal, trials) in cuts.items():
    new, test = fit(trials.subset(~tested), 8, lr=1e-2), trials.subset(tested)
    accuracies.loc[part] = rate(network, signal, test.label).accuracy, rate(new, test.signal, test.label).accuracy
assert accuracies.loc["eye components"].max() + 0.1 < accuracies["training too"].drop("eye components").min()

# %%
accuracies.rename_axis("removed in …", axis=1).round(2)

# %% [markdown]
# Without eye components the network loses most of what it had, and does not get it back by training. Without frontal
# channels it learns the glance all the same, from what reaches the back. *Leaving out frontal channels neither removes the eyes nor tests
# for them*: an accuracy that stays clears nobody. A field of dipoles at the forehead ends nowhere
# {footcite:p}`lins1993ocular`; it only gets smaller.
#
# ## The real recording
#
# Now the same code on trials whose answer we do not know. EEGNet {footcite:p}`lawhern2018eegnet` learns some subjects, three
# seconds from the cue on, 0.5 to 38 Hz, and is tested on one it has never seen. The components are fitted to this subject's
# trials, broadband and four seconds long, since a narrow band leaves neither eyes nor muscles their looks. The first printed
# line says whether the trials are real. With simulated ones there are no eyes in the trials.

# %%
*SEEN, UNSEEN = (3, 7) if FAST else (1, 2, 3, 4, 5, 6, 7)
from_the_cue = {"tmin": 0.0, "tmax": 3.0, "l_freq": 0.5, "h_freq": 38.0, "sfreq": 80}
trials = xs.load_motor_imagery(subjects=(*SEEN, UNSEEN), **from_the_cue)
unseen = (trials.metadata["subject"] == UNSEEN).to_numpy()
decoder, explained = fit(trials.subset(~unseen), epochs=8 if FAST else 15), trials.subset(unseen & (trials.label < 2))
print("unseen subject:", rate(decoder, explained.signal, explained.label))

# %%
broadband = xs.load_motor_imagery(subjects=UNSEEN, tmin=0.0, tmax=4.0, l_freq=1.0, h_freq=79.0)
ica_of_unseen = xs.fit_ica(broadband, n_components=10 if FAST else 30)
labels_of_unseen = xs.label_components(ica_of_unseen, broadband)


# %%
def by_label(model):
    """Return share and evidence of all components of each label, and of what they leave."""
    attribution = xs.attribute(model, explained.signal, (1, 0), "deep_lift")
    relevance = xs.component_relevance(attribution, explained.signal, ica_of_unseen)
    columns = {"share": share(relevance), "evidence": evidence(relevance, explained.label)}
    return pd.DataFrame(columns).groupby([*labels_of_unseen["label"], "left by the components"]).sum()


# %%
decoders = {"trained": decoder, "untrained": fit(trials, epochs=0)}
of_label = pd.concat({name: by_label(model) for name, model in decoders.items()}, axis=1)
of_label.insert(0, ("", "components"), labels_of_unseen["label"].value_counts())
of_label.round(2)

# %% [markdown]
# One subject is an anecdote. Compare the two shares of the eyes, then the two columns of evidence: an untrained network has no
# evidence to speak of, and large signals get it a share all the same.
#
# ## Recorded: 21 subjects
#
# **Recorded** beforehand: 21 of the 109 subjects, decoders trained on three quarters of them and tested
# on the others. "broadband" is the network above, trained longer. "late" sees 7 to 38 Hz from 1 s to 4 s: after
# the first glance and without its frequencies. "within" are the decoders of earlier chapters, each within one
# subject, S007 or S042, at 7 to 38 Hz. Intervals are bootstraps over subjects and seeds.

# %% tags=["hide-input"]
recorded = xs.recorded("shortcut_accuracy")
FULL = {"broadband": "broadband", "late": "late", "S007": "within", "S042": "within"}
whole = recorded[recorded["decoder"].isin(FULL)].assign(decoder=lambda it: it["decoder"].map(FULL))
accuracy_of = xs.mean_and_interval(whole, ["decoder", "removed"], "accuracy", unit="subject")
accuracy_of[accuracy_of["removed"] == "nothing"].drop(columns="removed").set_index("decoder").round(2)

# %% tags=["hide-input"]
retrained = recorded[recorded["decoder"].str.startswith("no ")]
part = retrained["decoder"].str.removeprefix("no ").replace("other components", "as many other components")
retrained = retrained.assign(removed=part, decoder="broadband", when="in training too")
both = pd.concat([whole.assign(when="in the test only"), retrained])
both = xs.mean_and_interval(both, ["when", "removed", "decoder"], "accuracy", unit="subject")

# %% mystnb={"figure": {"caption": "Recorded: accuracy on subjects (within: on runs) that were not trained on, with parts removed from the test trials only, or from training trials too. Bars: 95 % intervals over subjects and seeds; with the two subjects of within they are too narrow to mean much. Dotted: chance.", "name": "fig-12-interventions"}, "image": {"alt": "Two panels of dots with bars, a row for each removed part. Left: the broadband decoder is well above the late one and falls when eye components are removed. Right: retrained without frontal channels it keeps its accuracy, without eye components it does not."}}
xs.viz.plot_intervals(both, "removed", "decoder", panel="when", reference=0.5, label="accuracy")

# %% tags=["hide-input"]
wide = recorded.pivot(index=["subject", "seed"], columns=["decoder", "removed"], values="accuracy")
intact = wide["broadband", "nothing"]
differences = {("broadband − late", ""): intact - wide["late", "nothing"]}
for name in ("frontal channels", "posterior channels", "eye components", "as many other components"):
    again = "no " + name.removeprefix("as many ")
    differences[f"lost without {name}", "in the test only"] = intact - wide["broadband", name]
    differences[f"lost without {name}", "in training too"] = intact - wide[again, "nothing"]
differences = pd.DataFrame(differences).melt(ignore_index=False, var_name=["difference", "when"]).dropna()
lost = xs.mean_and_interval(differences.reset_index(), ["difference", "when"], "value", unit="subject")
lost = lost.set_index(["difference", "when"])[["mean", "low", "high"]]
lost["share of the advantage"] = lost["mean"] / lost["mean"].iloc[0]
lost.round(2)

# %% tags=["hide-input"]
eyes_cost, others_cost = (lost.loc[f"lost without {part} components"] for part in ("eye", "as many other"))
assert (
    eyes_cost["low"].min() > others_cost["high"].max() and eyes_cost["share of the advantage"].between(0.6, 0.75).all()
)
again = lost.loc["lost without frontal channels", "in training too"]
assert again["low"] < 0 < again["high"] and lost.loc["lost without frontal channels", "in the test only"]["low"] > 0
means = accuracy_of.set_index(["decoder", "removed"])["mean"]
assert (
    means["within", "eye components"] >= means["within", "nothing"] > means["within", "as many other components"] + 0.2
)
assert 0.78 < means["broadband", "nothing"] < 0.84 and means["broadband", "eye components"] > 0.6

# %% [markdown]
# The broadband network is a quarter of all trials better than the late one, which barely exceeds chance. Two thirds of this advantage go with the eye
# components, in the test as in training; with as many others goes next to nothing. Frontal channels set to zero
# in the test cost something, as they should if the eyes matter. But trained without them the network is *as good as before*.
# Within S007 and S042 it is the other way round: without the eyes nothing is lost, without as many other components most.
#
# What is left without eye components is above chance, and these numbers do not say what it is: eye movement that stayed in
# other components, the response of the visual cortex, which the target reaches on one side, or motor imagery.
#
# ## Which tools pointed there?
#
# First the shares, of the intact networks, as one would read them off a map. "untrained" is the broadband network before training.

# %% tags=["hide-input"]
maps = xs.recorded("shortcut_maps").query("method != 'grad_cam'")
maps = maps.assign(decoder=maps["decoder"].replace(FULL))
PANELS = {"frontal channels": "frontal channels", "eye blink": "eye components", "below 6 Hz": "below 6 Hz"}
shown = maps[maps["quantity"].isin(PANELS)].assign(panel=lambda it: it["quantity"].map(PANELS))
shares = xs.mean_and_interval(shown, ["panel", "method", "decoder"], "share", unit="subject")
CHANCE = {"frontal channels": 19 / 64}

# %% mystnb={"figure": {"caption": "Recorded: share of each map on the 19 frontal channels, on the eye components (maps that can be pulled back through the mixing) and on frequencies below 6 Hz. Bars: 95 % intervals over subjects and seeds. Dotted: the share of the channels, 19/64.", "name": "fig-12-shares"}, "image": {"alt": "Three panels of dots with bars, a row per method, four markers. On frontal channels and eye components broadband and untrained lie together, the late and within decoders lower; below 6 Hz broadband lies highest and late and within near zero."}}
xs.viz.plot_intervals(shares, "method", "decoder", panel="panel", reference=CHANCE, label="share")

# %% tags=["hide-input"]
wide = maps.pivot_table("share", ["quantity", "method", "subject", "seed"], "decoder", sort=False)
excess = (wide["broadband"] - wide["untrained"]).dropna().rename("excess").reset_index()
excess = xs.mean_and_interval(excess[excess["quantity"].isin(PANELS)], ["quantity", "method"], "excess", unit="subject")
assert (excess.loc[excess["quantity"] != "below 6 Hz", "low"] < 0.001).all()  # no share of place exposes it
multiplied = ["input_x_gradient", "integrated_gradients", "deep_lift", "lrp_epsilon", "lrp_gamma"]
assert (excess.query("quantity == 'below 6 Hz' and method in @multiplied")["low"] > 0.05).all()
excess = excess.set_index(["quantity", "method"])
excess["mean [low, high]"] = [
    f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]" for mean, low, high in excess[["mean", "low", "high"]].to_numpy()
]
excess["mean [low, high]"].unstack("quantity", sort=False)[list(PANELS)].rename(columns=PANELS).fillna("")

# %% [markdown]
# A reader of {numref}`fig-12-shares` who compares the broadband network with the late one, or with the share of the channels,
# cries "eyes!" at most maps. The conclusion is right, and the argument is not: the *untrained* network has
# as much on frontal channels or more. The table gives the difference, broadband less untrained. No share on frontal channels or eye components measurably rises
# with training; by saliency, filters and amplitude gradients one would even acquit. In our simulation the
# maps that multiply by the trial did rise. Real eyes blink and wander in either class; that puts large relevance of either sign on
# the front, in any network, and a share adds up absolute values. Only the spectrum says that training moved the network: to
# below 6 Hz. The Haufe pattern of the amplitudes misses even that.
#
# So keep the sign. Wandering eyes speak for the true class as often as against it, and cancel over trials. What does not cancel is
# the evidence.

# %% tags=["hide-input"]
from scipy.stats import bootstrap

signed = maps.dropna(subset="net")


def share_of_evidence(part):
    """Evidence of a part over that of the whole map, with a bootstrap over subjects of both together."""
    by_subject = part.groupby("subject")[["net", "net_total"]].mean().to_numpy().T
    drawn = bootstrap(
        by_subject,
        lambda net, total, axis: net.mean(axis) / total.mean(axis),
        paired=True,
        method="percentile",
        rng=SEED,
    )
    net, total = by_subject.mean(axis=1)
    return pd.Series({"mean": net / total, **dict(zip(("low", "high"), drawn.confidence_interval, strict=True))})


# %% tags=["hide-input"]
by_label = signed[(signed["method"] == "deep_lift") & ~signed["quantity"].isin(["frontal channels", "below 6 Hz"])]
by_label = by_label[by_label["decoder"].isin(["broadband", "within"])].groupby(["quantity", "decoder"], sort=False)
of_component = by_label.apply(share_of_evidence).fillna(0).reset_index()  # 0: no component has that label
kinds = of_component.set_index(["decoder", "quantity"])
assert kinds.loc[("broadband", "eye blink"), "low"] > kinds.loc[("broadband", "brain"), "high"]
assert kinds.loc[("within", "brain"), "low"] > 0.5 > 0.05 > kinds.loc[("within", "eye blink"), "high"]

# %% mystnb={"figure": {"caption": "Recorded: evidence for the true class by the label of the components (DeepLIFT of right minus left), as a share of that of the whole map, mean over trials. Bars: 95 % intervals over subjects; within are two subjects.", "name": "fig-12-evidence"}, "image": {"alt": "Dots with bars, a row per label of components. Broadband: about three quarters on eye blink, the rest on brain. Within one subject: about three quarters on brain, none on eye blink."}}
xs.viz.plot_intervals(of_component, "quantity", "decoder", reference=0, label="share of the evidence")

# %% tags=["hide-input"]
logits = xs.mean_and_interval(
    signed.query("quantity == 'frontal channels'"), ["decoder", "method"], "net_total", unit="subject"
)
logits = logits.query("method == 'deep_lift'").set_index("decoder")[["mean", "low", "high"]]
assert logits.loc["broadband", "low"] > 100 * logits.loc["untrained", "high"]
logits.rename_axis("logits of evidence, DeepLIFT").round(3)

# %% [markdown]
# {numref}`fig-12-evidence` is the answer in words: what lets the broadband network be right comes mostly from the eyes, what lets the decoders of S007 and
# S042 be right comes mostly from the brain, and none of it from the eyes. The table gives the total in logits. The late network has little and the untrained one none, so
# both are left out of the figure: a share of next to nothing can be anything. (The few thousandths of a logit of the untrained
# network come from the eyes, since little else tells the classes apart for random filters either.) Evidence has to be read
# with its amount.

# %% tags=["hide-input"]
frontal_part = signed[(signed["quantity"] == "frontal channels") & (signed["decoder"] == "broadband")]
frontal_part = frontal_part.groupby("method", sort=False).apply(share_of_evidence)
frontal_part["more than 19/64"] = frontal_part["low"] > 19 / 64
assert frontal_part.loc[[*multiplied, "channel_ablation"], "more than 19/64"].all()
assert (frontal_part["high"] - frontal_part["low"]).idxmax() == "guided_backprop"
frontal_part[["mean", "low", "high", "more than 19/64"]].round(2)

# %% [markdown]
# By channels it works too, for maps that add up to something: the table has the share of the evidence on frontal channels.
# Guided backpropagation has by far the widest interval. Saliency, filters, patterns and amplitude gradients have no sign for a
# trial and cannot be asked.
#
# Shape says more than share ({numref}`fig-12-topographies`). LRP of the untrained network covers the forehead, where blinks are
# largest; after training it has retreated to the temples, where a glance is largest. And the averaged amplitude
# gradient of this network, which lives by the eyes, is largest around Cz. Published by itself it would be called motor cortex.

# %% tags=["hide-input"]
topographies = xs.recorded("shortcut_topographies").set_index(["decoder", "method", "channel"])["value"].unstack()
HEADS = {"saliency": "saliency", "lrp_epsilon": "LRP", "mean amplitude gradient": "amplitude\ngradient"}
HEADS["power of the trials"] = "power of\nthe trials"
heads = [(decoder, method) for decoder in ("broadband", "untrained") for method in HEADS]
values = 100 * topographies.loc[heads, list(names)].to_numpy()
largest = {head: topographies.loc[head].nlargest(4).index for head in heads}
assert set(largest["broadband", "lrp_epsilon"]) == {"F7", "AF7", "FT7", "F8"}
assert {"Fp1", "Fpz", "Fp2"} < set(largest["untrained", "lrp_epsilon"])
assert largest["broadband", "mean amplitude gradient"].str.fullmatch(r"F?C[z12]").all()
titles = [f"{decoder}\n{HEADS[method]}" for decoder, method in heads]

# %% mystnb={"figure": {"caption": "Recorded: share of each channel in maps of right minus left, mean over trials and subjects, in per cent; one seed, four networks. The power is the same for both.", "name": "fig-12-topographies"}, "image": {"alt": "Two rows of four heads. Broadband: saliency and amplitude gradient are darkest around Cz, LRP at both temples. Untrained: saliency and amplitude gradient are scattered, LRP is dark over the whole forehead, as is the power of the trials."}}
xs.viz.plot_channel_topomaps(values, known.info, titles, label="share (%)")

# %% [markdown]
# How much of the recording are the eyes, and their controls? Below is the share of the power of a subject's trials, as the two
# decoders see them, and the number of components. In the broadband trials as many others hold less power than the eyes: that
# control is one for the number of components, not for their power. In the late trials they hold more.

# %% tags=["hide-input"]
components = xs.recorded("eye_components")
is_eye = components["label"] == "eye blink"
groups = [components["decoder"], components["subject"]]
control = ~is_eye & ((~is_eye).groupby(groups).cumsum() <= is_eye.groupby(groups).transform("sum"))
kind = np.select([is_eye, control], ["eyes", "as many others"], "rest")
per_subject = components.assign(kind=kind).groupby(["decoder", "kind", "subject"])["power"].agg(["sum", "size"])
held = per_subject.groupby(["decoder", "kind"]).mean().set_axis(["power", "components"], axis=1)
assert held["power"]["broadband", "as many others"] < held["power"]["broadband", "eyes"]
assert held["power"]["late", "as many others"] > held["power"]["late", "eyes"]
held.round(2)

# %% [markdown]
# ## What this means for published accuracies
#
# The same recording is a common benchmark. An EEGNet for small processors reaches 82.4 % left against right, across subjects, on three
# seconds of the signal from the cue on, without a high-pass {footcite:p}`wang2020accurate`, two points above the network it was
# compared with. Nothing is wrong with that number, and we have not run that decoder: it may have learned something
# else. But our network of the same kind, on the same three seconds, is about as good, and above is what it needs. A *comparison* of networks there is one of how
# well they read whatever tells the classes apart, eyes included. What such an accuracy does not show is that motor imagery
# was decoded. For that, a study on this recording would have to
#
# 1. start after the glance, or remove eye components from training and test, and report both accuracies;
# 2. show what the eyes alone achieve, such as F7 and F8 below 6 Hz;
# 3. say so. In a survey of brain-computer interfaces most papers did not say whether they had considered the eyes at
#    all {footcite:p}`fatourechi2007emg`.
#
# A new experiment can avoid all this: a cue at the fixation point, a sound, electrodes beside the eyes.
#
# ## What can go wrong
#
# - **Components from the narrow band.** Eyes and muscles have lost their looks there, and ICLabel was trained on 1 to 100 Hz.
#   Fit and label broadband, pull the map of any band back.
# - **Labels are opinions.** Here a component is what ICLabel finds most probable. Some eye activity ends in components of
#   another name, some brain activity in those of the eyes {footcite:p}`plochl2012combining`. So removing is no clean cut in either direction.
# - **Removal without a control.** Any removal costs accuracy. Remove as many other parts, and compare their power.
# - **Removal in the test only** shows the network trials of a kind it never saw. Train again as well.
# - **A share against zero.** Eyes have large signals, and large signals get large maps. Compare with an untrained network and
#   with the power of the trials.
# - **Evidence without its amount.** Shares of a sum near zero are shares of nothing, as for the untrained network.
# - **Too few components.** With ten instead of thirty the glance can stay mixed with brain activity and take its label.
# - **Late is not only late.** That control differs in time *and* band: both the glance and slow brain potentials are gone.
#
# ## Take-aways
#
# - High accuracy on unseen people says that something is shared by people. It need not be the brain.
# - No share of absolute relevance exposed the eyes in the real recording, on channels or on components: an untrained
#   network has the same. The spectrum did, and so did the *evidence*, relevance with the sign of the true class.
# - Relevance per component with labels says it in words. Saliency, averaged amplitude gradients, spatial filters and Grad-CAM
#   hide it.
# - The eyes' field is everywhere. Leaving out frontal channels neither removes it nor tests for it.
# - A map raises a suspicion. An intervention with a control, in training too, settles it.
#
# ## Questions
#
# 1. Why is the frontal share of Grad-CAM the same for every EEGNet?
# 2. A colleague leaves out all frontal channels, keeps the accuracy and concludes that the eyes play no part. What do you reply?
# 3. Which tools of this chapter would find a shortcut in muscle activity, which has a random phase in every trial?
# 4. Accuracy falls as much without eye components as without as many others. What have you learned?
#
# ## Exercise: no network needed
#
# Before any map: is there a glance in `known`? Compute the mean difference of the two classes from 0.5 to 0.7 s, compare it with
# `field`, and decide each trial by the sign of F8 minus F7 in that window.
#
# :::{dropdown} Solution
# The difference of the means is the topography of what differs, as it would be for any decoder worth its name. Two electrodes and one
# subtraction do the rest. The folded cell below asserts both. Look at the difference of the means first: it is the cheapest of
# all tools.
# :::

# %% tags=["hide-cell"]
window = known.signal[:, :, 50:70].mean(axis=2)  # 0.5 to 0.7 s at 100 Hz
difference = window[known.label == 1].mean(axis=0) - window[known.label == 0].mean(axis=0)
decided = window[:, names.index("F8")] > window[:, names.index("F7")]
print(f"r with the field: {np.corrcoef(difference, field)[0, 1]:.2f}, right: {(decided == known.label).mean():.2f}")
assert np.corrcoef(difference, field)[0, 1] > 0.95 and (decided == known.label).mean() > 0.85

# %% [markdown]
# ## References
#
# :::{footbibliography}
# :::
