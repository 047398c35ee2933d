# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["remove-cell"]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/eegxai--home/eegxai/blob/main/book/attribution/06_relevance_and_concepts.ipynb)

# %% [markdown]
# # Relevance and concepts: what does each filter stand for, and whose signal is it?
#
# A map says where in a trial the evidence lay. It does not say what the network made of it, nor whether a brain, an
# eye or a muscle put it there. Eilts et al. {footcite:p}`eilts2026explainable` asked both questions of EEGNet
# {footcite:p}`lawhern2018eegnet`: they followed relevance through single filters, grouped the filters of many networks,
# and looked at the independent components behind them. This chapter does the same with books that balance, on trials
# whose answer is known and then on recordings.
#
# :::{admonition} By the end you can
# - compute layer-wise relevance propagation through a whole EEGNet by hand, and check what arrives;
# - say how much relevance each filter has, in which trials, and what it sees there;
# - divide a decision among independent components, and these among brain, eyes and muscles;
# - group filters of many networks, and tell a group from an accident.
# :::
#
# **Before you start:** [maps for one trial](04_maps_for_one_trial.ipynb) and what an independent component is.
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
# One recording, two questions. A source under C3 or under C4 is active in each trial, and in about half of the trials
# the eyes blink, whichever source is active: `quiet` holds the same trials without blinks. The *brain* networks learn which
# source it was, the *eyes* networks whether there was a blink. Each kind is trained from several seeds. A tool that
# tells what a network uses must tell the two kinds apart, although they see the very same trials.

# %%
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

import eegxai_support as xs

device = xs.best_device(DEVICE)
names = "Fp1 Fpz Fp2 F7 F3 Fz F4 F8 FC5 FC1 FC2 FC6 T7 C3 Cz C4 T8 CP5 CP1 CP2 CP6 P7 P3 Pz P4 P8 O1 Oz O2".split()
options = {"n_trials": 120, "sources": ("C3", "C4"), "sfreq": 100, "duration": 1.6, "seed": SEED}
quiet = xs.simulate("spatial", ch_names=names, **options)
brain = xs.simulate("spatial", ch_names=names, blink_rate=np.log(2) / 1.6, **options)
blink = (brain.signal != quiet.signal).any((1, 2)).astype(int)
eyes = replace(brain, label=blink, class_names=("no blink", "blink"))
held_out = (brain.metadata["run"] == 4).to_numpy()

# %%
networks = {}
for name, trials in {"brain": brain, "eyes": eyes}.items():
    for seed in range(2 if FAST else 3):
        network = xs.build_decoder("EEGNet", trials, seed=seed, **xs.RECIPES["EEGNet"]).to(device)
        xs.train(network, trials.subset(~held_out), epochs=10, seed=seed, cache=True, device=device)
        test = trials.subset(held_out)
        networks[name, seed] = network, test
        print(name, seed, xs.accuracy(test.label, xs.predict(network, test.signal).argmax(1)))

# %% [markdown]
# ## Relevance, layer by layer
#
# Layer-wise relevance propagation, LRP {footcite:p}`bach2015pixel`, starts with the output. Each layer takes the
# relevance $R_j$ of its units and hands it to what the units were computed from, in proportion: if unit $j$ is
# $z_j = \sum_i a_i w_{ij} + b_j$, then input $i$ gets
#
# $$
# R_i = \sum_j \frac{a_i w_{ij}}{z_j + \varepsilon \operatorname{sign} z_j} R_j ,
# $$
#
# and the bias keeps its part $b_j R_j / z_j$. In a linear layer $\partial z_j / \partial a_i = w_{ij}$, so autograd does
# the sum over $j$. Functions of one number, such as ELU, pass relevance on unchanged. A batch norm is no layer of
# its own: with fixed statistics, convolution and norm together are one linear layer, and have to be treated as one.


# %%
def epsilon_rule(layer, a, relevance):
    a = a.requires_grad_()
    z = layer(a)
    (multiplier,) = torch.autograd.grad(z, a, relevance / (z + 1e-9 * (2 * (z >= 0) - 1)))
    return a.detach() * multiplier


# %%
def run_lrp(layers, rules, x, sign):
    activations = [x]
    for layer in layers:
        activations.append(layer(activations[-1]).detach())
    sign = torch.tensor(sign, device=device)  # of right minus left, say: minus one output, plus the other
    relevance = activations.pop() * sign
    for layer, rule, a in zip(layers[::-1], rules[::-1], activations[::-1], strict=True):
        relevance = rule(layer, a, relevance)
    return relevance


# %% [markdown]
# With two classes the difference of the outputs decides, so we explain it: `target=(1, 0)`. Nine steps take us
# through EEGNet, and our map is the package's.

# %%
network, test = networks["brain", 0]
convs = [network.conv_temporal, network.conv_spatial, network.conv_separable_depth, network.conv_separable_point]
temporal, spatial = (
    torch.nn.Sequential(*pair) for pair in ((convs[0], network.bnorm_temporal), (convs[1], network.bnorm_1))
)
point = torch.nn.Sequential(convs[3], network.bnorm_2)
first = [temporal, spatial, network.elu_1, network.pool_1]
layers = [*first, convs[2], point, network.elu_2, network.pool_2, network.final_layer]

# %%
rules = [(lambda layer, a, r: r) if isinstance(layer, torch.nn.ELU) else epsilon_rule for layer in layers]
with xs.frozen(network):
    by_hand = run_lrp(layers, rules, torch.tensor(test.signal, device=device)[:, None], (-1.0, 1.0))[:, 0].cpu()
lrp = xs.attribute(network, test.signal, (1, 0), "lrp_epsilon")
assert np.allclose(by_hand, lrp.values, atol=1e-4 * np.abs(lrp.values).max())

# %% [markdown]
# The receipt: what arrives at the trial and what stays in biases must add up to the output. The pipeline of the paper
# used the $\alpha\beta$ rule, with $\alpha = 2$, in its convolutions, and let relevance through batch norm as if it were a
# gradient. The same trials through that chain of rules, below, end with another amount than they began with: maps of
# trials cannot be compared, and a norm's scale has become evidence. The rule is not to blame: with
# the norms folded it conserves.


# %% tags=["hide-input"]
def alpha_beta_rule(conv, a, relevance):
    total, w = 0, conv.weight.detach()
    convolve = {"padding": conv.padding, "groups": conv.groups}
    for factor, sign in ((2, 1), (-1, -1)):  # twice the terms above zero, minus once those below
        a = a.detach().requires_grad_()
        z = sum(torch.conv2d((s * a).clamp(min=0), (sign * s * w).clamp(min=0), **convolve) for s in (1, -1))
        (multiplier,) = torch.autograd.grad(z, a, factor * relevance / (z + 1e-9))
        total = total + a.detach() * multiplier
    return total


def gradient_rule(norm, a, relevance):
    return torch.autograd.grad(norm(a.requires_grad_()), a, relevance)[0]


# %% tags=["hide-input"]
published = [layer for step in layers for layer in (step if isinstance(step, torch.nn.Sequential) else [step])]
published = [*published[:-3], network.final_layer]
kinds = {torch.nn.Conv2d: alpha_beta_rule, torch.nn.BatchNorm2d: gradient_rule, torch.nn.ELU: rules[2]}
chain = [next((rule for kind, rule in kinds.items() if isinstance(layer, kind)), epsilon_rule) for layer in published]
with xs.frozen(network):
    unfolded = run_lrp(published, chain, torch.tensor(test.signal, device=device)[:, None], (-1.0, 1.0))
unfolded = unfolded[:, 0].cpu().numpy()
folded = xs.attribute(network, test.signal, (1, 0), "lrp_alpha_beta")
output = xs.predict(network, test.signal) @ (-1, 1)
sums = {"published chain": unfolded.sum((1, 2))}
for rule, map_ in {"epsilon": lrp, "alpha-beta, folded": folded}.items():
    sums[rule] = map_.values.sum((1, 2)) + map_.report.groupby("trial")["to_bias"].sum()
    assert np.allclose(sums[rule], output, rtol=1e-3, atol=1e-3)
ratio = pd.DataFrame({rule: np.asarray(total) / output for rule, total in sums.items()})
ratio.describe().loc[["min", "50%", "max"]].rename_axis("sum / output").round(3)

# %% [markdown]
# ## The same relevance by frequency, and by source
#
# A map of the form $m \odot x$, a multiplier times the trial, may go through any linear transform as through one more
# layer {footcite:p}`vielhaben2024explainable`. `frequency_relevance` does so with the Fourier transform. Two slips of
# the paper's code show why receipts are needed there: its inverse transform had ones in place of $(-1)^t$ at the Nyquist
# frequency, and its power maps kept the real part of each coefficient and dropped the other.

# %%
by_frequency = xs.frequency_relevance(lrp, test.signal)
total = lrp.values.sum((1, 2))
assert np.allclose(by_frequency.sum((1, 2)), total, rtol=1e-6, atol=1e-6 * np.abs(lrp.values).sum((1, 2)).max())

# %% tags=["hide-input"]
spectrum, multiplier = np.fft.rfft(test.signal), np.fft.rfft(lrp.multiplier)
slip = (spectrum[..., -1] * multiplier[..., 0]).real / test.signal.shape[2] - by_frequency[..., -1]
wrong_by = np.median(np.abs(slip).sum(1) / np.abs(lrp.values.sum(2)).sum(1))
real_part = np.square(spectrum.real) / np.square(np.abs(spectrum))
print(f"ones at Nyquist: channels' sums are wrong by {wrong_by:.1%}")
print(
    f"|Re X|² / |X|²: from {np.quantile(real_part, 0.05):.3f} to {np.quantile(real_part, 0.95):.3f}, 90 % of the bins"
)

# %% [markdown]
# Independent components {footcite:p}`lee1999independent` are another linear transform. The trial is a sum of sources,
# $\mathbf{x} = \mathbf{A} \mathbf{s}$, and each column of $\mathbf{A}$ is the topography of one. What source $j$
# contributes is what it puts on the scalp times what the network makes of it, $R_j = \sum_t s_{jt} (\mathbf{A}^\top
# \mathbf{m})_{jt}$. The components must be found broadband, where eyes and muscles look like themselves; ICLabel
# {footcite:p}`pion2019iclabel` then says what each of them looks like.

# %%
ica = xs.fit_ica(brain, n_components=10, seed=SEED)
labels = xs.label_components(ica, brain)
by_source = xs.component_relevance(lrp, test.signal, ica)
mixing = ica.get_components()
sources = np.linalg.pinv(mixing) @ test.signal
by_hand = (sources * (mixing.T @ lrp.multiplier)).sum(2)
assert np.allclose(by_hand, by_source[:, :-1], atol=1e-4 * np.abs(by_source).max())
assert np.allclose(by_source.sum(1), total, atol=1e-5 * np.abs(by_source).sum(1).max())

# %% [markdown]
# The last column holds what ten components leave of the trials. Unmixing the *map*, as if relevance were a potential on the
# scalp, answers no question: in our tests that rule names the one source that a linear decoder reads about as
# often as guessing does, and the rule above names it every time.
#
# Which components should it be? We know the topographies that were planted: of the source under C3, of that under C4, and of the
# blink. The table has the component most like each, ICLabel's word for it, and its share of the absolute relevance of each
# kind of network, mean over seeds.

# %%
from eegxai_support.simulate import dipole_topography

planted = {place: dipole_topography(place, "radial", tuple(names)) for place in ("C3", "C4")}
planted["blink"] = dipole_topography("Fpz", "radial", tuple(names), lowered=20)
likeness = np.abs(np.corrcoef([*planted.values()], mixing.T)[:3, 3:])
found = likeness.argmax(1)

# %% tags=["hide-input"]
shares = {"brain": [], "eyes": []}
for (kind, _), (each, test) in networks.items():
    map_ = xs.attribute(each, test.signal, (1, 0), "lrp_epsilon")
    size = np.abs(xs.component_relevance(map_, test.signal, ica)).sum(0)
    shares[kind].append(size / size.sum())
mean_share = {kind: np.mean(rows, 0) for kind, rows in shares.items()}

# %%
table = pd.DataFrame({"component": found, "|r|": likeness.max(1), "label": labels["label"][found].to_list()}, planted)
for kind, share in mean_share.items():
    table[f"share, {kind}"] = share[found]
assert set(mean_share["brain"].argsort()[-2:]) == {*found[:2]} and mean_share["eyes"].argmax() == found[2]
assert table["label"].to_list() == ["brain", "brain", "eye blink"]
table.round(2)

# %% [markdown]
# The two sources come first in the *brain* networks and the blink in the *eyes* networks, and the blink is called by
# its name. What the blink has in the *brain* networks, where it says nothing about the class, and the sources in the
# *eyes* networks is the price of absolute values: they keep what cancels over trials. The next table has the mean with
# the sign of the trial's own class, and the test that no map replaces: the accuracy without the components.

# %% tags=["hide-input"]
rows = []
for (kind, _), (each, test) in networks.items():
    own = 2 * test.label - 1
    map_ = xs.attribute(each, test.signal, (1, 0), "lrp_epsilon")
    signed = (own[:, None] * xs.component_relevance(map_, test.signal, ica)).mean(0)
    row = {"network": kind, "C3 and C4": signed[found[:2]].sum(), "blink": signed[found[2]], "all": signed.sum()}
    for removed, chosen in {"nothing": [], "C3 and C4": found[:2], "blink": found[2:]}.items():
        cleaned = xs.remove_components(test, ica, chosen)
        row[f"without {removed}"] = (xs.predict(each, cleaned.signal).argmax(1) == test.label).mean()
    rows.append(row)
pd.DataFrame(rows).groupby("network").mean().round(2)

# %% [markdown]
# ## Filters as concepts
#
# Relevance on its way down passes the filters of each layer. Concept relevance propagation
# {footcite:p}`achtibat2023attribution` stops there and reads: how much arrives at each of the 16 spatial filters? With the
# biases above, they add up to the output. A filter's *reference trials* are the fewest that together hold more than 20 % of its absolute
# relevance. In them we let only this filter's part go on to the input, which shows what the filter sees there.

# %%
concepts = {
    key: xs.concept_relevance(each, test.signal, (1, 0), "conv_spatial") for key, (each, test) in networks.items()
}
concept = concepts["brain", 0]

# %%
size = np.abs(concept.relevance[:, 0])
order = size.argsort()[::-1]
n_kept = 1 + (size[order].cumsum() <= 0.2 * size.sum()).sum()
assert concept.reference[0].tolist() == order[:n_kept].tolist()
above = lrp.report[~lrp.report["layer"].str.startswith(("conv_temporal", "conv_spatial"))]
assert np.allclose(concept.relevance.sum(1) + above.groupby("trial")["to_bias"].sum(), output, atol=1e-3)

# %% [markdown]
# For each filter we keep its mean relevance for the trial's own class, so that filters can be ranked; in the code of the
# paper each filter's relevance was normalised to a sum of one, and all were equal. Its *features* describe what it sees: here
# the relevance of each component in its reference trials.

# %%
rows, features = [], []
for (kind, seed), (_, test) in networks.items():
    concept, own = concepts[kind, seed], 2 * test.label - 1
    share = np.abs(concept.relevance).sum(0) / np.abs(concept.relevance).sum()
    for f, trials in enumerate(concept.reference):
        by_source = xs.component_relevance(concept.maps[f], test.signal[trials], ica)
        features.append((own[trials, None] * by_source).mean(0))
        relevance = (own * concept.relevance[:, f]).mean()
        rows.append({"network": kind, "seed": seed, "filter": f, "relevance": relevance, "share": share[f]})
filters, features = pd.DataFrame(rows), np.array(features)

# %%
filters["component"] = np.abs(features).argmax(1)
best = filters.loc[filters.groupby(["network", "seed"])["relevance"].idxmax()]
assert best.loc[best["network"] == "eyes", "component"].eq(found[2]).all()
assert best.loc[best["network"] == "brain", "component"].isin(found[:2]).all()
best.round(2).style.format(precision=2).hide()

# %% [markdown]
# In every network the most relevant filter rests on what was planted for its question. {numref}`fig-06-patterns` shows
# the patterns {footcite:p}`haufe2014interpretation` of two of these filters beside the planted topographies. When one
# source is active the other is not, so a filter may weigh one against the other; its pattern then has both.

# %% tags=["hide-input"]
heads, titles = [], []
for _, row in best.groupby("network").head(1).iterrows():
    each, test = networks[row["network"], row["seed"]]
    pattern = xs.filter_patterns(xs.read_filters(each), test)[row["filter"]]
    place = list(planted)[found.tolist().index(row["component"])]
    r = np.corrcoef(pattern, planted[place])[0, 1]
    heads += [planted[place], np.sign(r) * pattern / np.abs(pattern).max()]
    titles += [f"planted: {place}", f"{row['network']}, filter {row['filter']}\n|r| = {abs(r):.2f}"]

# %% mystnb={"figure": {"caption": "Live: a planted topography and the pattern of the most relevant filter, for one network of each kind.", "name": "fig-06-patterns"}, "image": {"alt": "Four heads in two pairs. The first pair is positive under one of the electrodes C3 and C4, the second at the forehead; in each pair the pattern of the filter has the planted topography, that of the brain network perhaps together with the other source in blue."}}
xs.viz.plot_channel_topomaps(np.array(heads), brain.info, titles, label="", shared=False)

# %% [markdown]
# ## Filters of many networks
#
# Is this how such networks work, or how this one does? Filters have no names: filter 3 of one network may be filter 11 of
# the next. So we look for groups of filters with similar features, by HDBSCAN {footcite:p}`campello2013density` and the
# cosine distance, among filters that hold more than an equal share of their network's relevance. The features decide
# what "alike" means. The paper took the mean activation over the reference trials, a time course whose sign is arbitrary.

# %%
kept = (filters["share"] > 1 / 16).to_numpy()
chosen = filters[kept].assign(cluster=xs.cluster_filters(features[kept], min_cluster_size=4))
chosen[["x", "y"]] = xs.embed_filters(features[kept], n_neighbors=10, seed=SEED)
groups = xs.cluster_table(chosen["cluster"], chosen["relevance"], features[kept], chosen[["network", "seed"]])
means = pd.DataFrame(features[kept]).groupby(chosen["cluster"].to_numpy()).mean()
groups["component"] = means.abs().to_numpy().argmax(1)
known = dict(zip(found, planted, strict=True))
groups.assign(planted=groups["component"].map(known).fillna("")).style.format(precision=2).hide()

# %% mystnb={"figure": {"caption": "Live: filters of all networks in the plane of UMAP, one panel for each kind of network. Colour and shape: cluster; area: relevance.", "name": "fig-06-known"}, "image": {"alt": "Two panels of dots in the same plane, brain and eyes. Dots of one colour lie together, and most of the large dots of the two panels lie in different places."}}
xs.viz.plot_filter_map(chosen, by="network")

# %% [markdown]
# *Coherence* is the mean cosine similarity of two filters of a cluster. The plane of {numref}`fig-06-known` comes from UMAP
# {footcite:p}`mcinnes2018umap`, which pulls neighbours together, and is for looking only. The paper clustered *in* this plane,
# and measured coherence there. The first exercise shows what that makes of noise.
#
# *Stability* asks whether a network that is trained again learns the same filters. Each filter is matched with one of the other
# network by the best assignment {footcite:p}`li2016convergent`. The best of many matches is never zero, so the null is
# networks that answer the other question.

# %%
xs.stability(features, filters["network"], filters["seed"]).round(2).style.format(precision=2).hide()

# %% [markdown]
# ## Decoders of real recordings
#
# We take decoders above chance from the PhysioNet recordings {footcite:p}`schalk2004bci2000,goldberger2000physiobank`.
# S007 and S042 are decoders of one subject each, from 1 s after the cue, at 7 to 38 Hz, tested on runs left out. The *broadband*
# decoders work across subjects, from the cue on, at 0.5 to 38 Hz, tested on subjects left out. Here the eyes may follow the target.
# [Chapter 12](../trust/12_was_it_the_brain.ipynb) asks what they do; now we look with this chapter's tools. Recorded: three
# seeds, all folds. The features are the relevance of each channel and band in the reference trials, since components differ between
# subjects. A frontal share of 0.30 would be as large as the share of frontal electrodes.

# %% tags=["hide-input"]
recorded = xs.recorded("concept_filters")
clusters = xs.recorded("concept_clusters").round(2)
of_cluster = recorded.groupby(["decoder", "cluster"])[["delta", "frontal"]].mean().round(2).reset_index()
clusters = clusters.merge(of_cluster).set_index(["decoder", "cluster"])
by_decoder = recorded.groupby("decoder")[["delta", "frontal"]].mean()
assert by_decoder.loc["broadband", "delta"] > 0.9 > 0.1 > by_decoder.loc[["S007", "S042"], "delta"].max()
assert by_decoder.loc["broadband", "frontal"] > 0.35 and by_decoder.loc[["S007", "S042"], "frontal"].max() < 0.3
assert clusters.loc[("broadband", -1), "share"] > 0.5 and clusters.loc[("S007", 0), "coherence"] < 0.3
assert (clusters.loc["S042", "relevance"] < -0.1).any()
clusters.style.format(precision=2)

# %% mystnb={"figure": {"caption": "Recorded: filters with more than an equal share of their network's relevance, three seeds and all folds, a plane for each decoder. Colour and shape: cluster; area: relevance.", "name": "fig-06-recorded"}, "image": {"alt": "Three panels of dots, one for each decoder. Many dots of the broadband decoders are grey, of no cluster; most of the others are coloured. The clouds have gaps also where the colour does not change."}}
xs.viz.plot_filter_map(recorded, by="decoder", shared=False)

# %% [markdown]
# More than nine tenths of the broadband filters' relevance lie below 4 Hz, in every cluster, and frontal electrodes have more than
# their share. The filters of single subjects have nothing there, which is the band-pass and no
# finding; but their frontal share is below that of the electrodes. {numref}`fig-06-topographies` has the most
# relevant cluster of each decoder.

# %% tags=["hide-input"]
heads = xs.recorded("concept_topographies")
main = clusters.query("cluster >= 0").groupby("decoder", sort=False)["share"].idxmax()
bands, channels = heads["band"].unique(), list(dict.fromkeys(heads["channel"]))
info = xs.simulate("spatial", n_trials=4, sfreq=80, ch_names=channels).info
wide = heads.set_index(["quantity", "decoder", "cluster", "band", "channel"])["value"].unstack("channel")[channels]
maps = [[wide.loc[(q, *key)].loc[bands] for key in main] for q in ("relevance", "power")]
names_of_rows = [f"{decoder}, {cluster}" for decoder, cluster in main]

# %% mystnb={"figure": {"caption": "Recorded: relevance and power of the most relevant cluster of each decoder, in five bands, mean over its filters. Each row has its own scale.", "name": "fig-06-topographies"}, "image": {"alt": "Six rows of five heads. Broadband: relevance in delta alone, largest at the front and the temples, where power is large, too. S007 and S042: relevance in alpha and beta around C4, while alpha power is largest at the back of the head."}}
xs.viz.plot_cluster_topographies(*maps, info, names_of_rows, bands)

# %% [markdown]
# Whose signal is it? The components of each subject, found at 1 to 79 Hz and labelled by ICLabel, divide each decoder's
# relevance: of absolute values, and of the net relevance that speaks for the trials' own class, mean over trials,
# subjects and seeds. *Untrained* is the broadband network before training: what such a share shows of the trials
# alone.

# %% tags=["hide-input"]
kinds = ["eye blink", "brain", "muscle artifact", "heart beat", "line noise", "channel noise", "other"]
kinds += ["left by the components"]
decoders = ["broadband", "untrained", "S007", "S042"]
of_kind = xs.recorded("shortcut_maps").query("method == 'lrp_epsilon' and quantity in @kinds")
grouped = of_kind.groupby(["decoder", "quantity"])[["share", "net", "net_total"]].mean().fillna(0)
absolute, net, total = (grouped[name].unstack().loc[decoders, kinds] for name in grouped)
net = (net / total.max(axis=1).to_numpy()[:, None]).loc[["broadband", "S007", "S042"]]
eyes_before, eyes_after = absolute.loc[["untrained", "broadband"], "eye blink"]
print(f"share of |relevance| on eyes: {eyes_after:.2f}, before training {eyes_before:.2f}")
print(f"net relevance: {total.loc['broadband'].max():.2f} logits, before training {total.loc['untrained'].max():.3f}")

# %% mystnb={"figure": {"caption": "Recorded: share of each kind of component, of the absolute and of the net relevance. Eye movements count as eye blinks in ICLabel.", "name": "fig-06-shares"}, "image": {"alt": "Two tables of coloured numbers with a row per decoder and a column per kind of component. The broadband row has its largest net share on eye blinks, the rows of S007 and S042 on brain."}}
xs.viz.plot_component_shares(absolute.loc[net.index], net)

# %% [markdown]
# The two halves of {numref}`fig-06-shares` tell two stories. By absolute values the broadband decoders seem to listen to
# many things, and to the eyes little more than before they were trained. What counts, after all that cancels, is the eyes. The
# decoders of single subjects rest on brain components. Do not take labels too literally: subject 42 has a good part on "line
# noise", in trials that hold nothing above 38 Hz. A component that also picks up the mains is called by them, whatever else it
# carries.

# %% tags=["hide-input"]
assert net.loc["broadband"].idxmax() == "eye blink" and net.loc["broadband", "eye blink"] > 0.5
assert absolute.loc["broadband", "eye blink"] < net.loc["broadband", "eye blink"]
assert (net.loc[["S007", "S042"]].idxmax(axis=1) == "brain").all() and net.loc["S042", "line noise"] > 0.2

# %% [markdown]
# ### Regions and bands
#
# The paper also groups by function: relevance over regions of the scalp and bands. `region_relevance` keeps what speaks for
# the output apart from what speaks against it, and sums without loss where regions and bands leave nothing out.

# %%
bands = {"delta": (0, 4), "theta": (4, 8), "alpha": (8, 12), "beta": (12, 30), "gamma": (30, 51)}
freqs = np.fft.rfftfreq(brain.signal.shape[2], 1 / brain.sfreq)
regions = xs.region_relevance(by_frequency, brain.info, freqs, bands)
parts = regions.groupby("trial")[["positive", "negative"]].sum().sum(axis=1)
assert np.allclose(parts, lrp.values.sum((1, 2)), atol=1e-4)

# %% tags=["hide-input"]
recorded_regions = xs.recorded("concept_regions").query("decoder != 'untrained'")
recorded_regions["value"] = recorded_regions["positive"] + recorded_regions["negative"]

# %% mystnb={"figure": {"caption": "Recorded: net relevance for the trial's own class by region and band, mean over trials, one seed and all folds.", "name": "fig-06-regions"}, "image": {"alt": "Three tables of coloured numbers, regions by bands. Broadband: values in delta alone, largest in the frontal and temporal regions. S007 and S042: values in beta, largest in the right motor region."}}
xs.viz.plot_region_relevance(recorded_regions, by="decoder")

# %% [markdown]
# ### Does another training find the same filters?
#
# The recorded table has the mean correlation of matched filters: of networks that differ in the seed only, and of
# others, which are of the other subject, or of other folds. Among the others the same seed means the same initial
# weights, which makes the untrained networks alike without any learning.

# %% tags=["hide-input"]
stability = xs.recorded("concept_stability").groupby(["decoder", "pair"])["correlation"].mean().unstack()
gain = stability["same subject"] - stability["other subjects"]
assert gain.max() < 0.1
stability.round(2)

# %% [markdown]
# A network that is trained again does *not* learn these filters again in any strong sense: matched filters of the same
# subject are hardly more alike than those of others. What repeats is coarser: band, side, kind of component. So
# report such sums, and treat a single filter as one network's private way to get there.
#
# :::{admonition} More subjects
# :class: tip
# Cho2017 {footcite:p}`cho2017eeg`, one of the paper's data sets, has 52 subjects, left or right hand. With a network
# and `pip install moabb`, MOABB {footcite:p}`jayaram2018moabb` downloads a subject (about 200 MB) and this chapter
# runs on it:
#
# ```python
# from moabb.datasets import Cho2017
# from moabb.paradigms import LeftRightImagery
#
# paradigm = LeftRightImagery(fmin=1, fmax=79, tmin=0, tmax=3, resample=160)
# epochs, _, _ = paradigm.get_data(Cho2017(), subjects=[1], return_epochs=True)
# epochs.event_id = Cho2017().event_id  # names instead of codes
# trials = xs.from_epochs(epochs.set_eeg_reference("average"))
# ```
# :::
#
# ## What can go wrong
#
# - **Books that do not balance.** A batch norm that is not folded, an axis summed too early, a wrong row of a Fourier matrix:
#   none of them looks wrong in a figure. Add up.
# - **Components from a narrow band.** At 7 to 38 Hz an eye movement is gone and an ICA has no eyes to find. Fit broadband, apply
#   anywhere.
# - **The label of a component** is a classifier's opinion, trained on other recordings. Look at topographies and at the
#   probability. Eye movements and the frontal brain may share a component.
# - **Absolute shares.** They count what cancels. Show the net share beside them, and remove what you name.
# - **Heaps in a plane.** UMAP makes them of noise. Cluster the features, and ask what noise would give.
# - **The same seed** in every fold means the same initial weights, and filters that are alike for no other reason.
#
# ## Take-aways
#
# - LRP is a few lines once every linear layer, norms included, is one step; its sum is checked in one line.
# - Relevance goes through a linear transform as through a layer: to frequencies, to components. It sums to the same number.
# - Reference trials and conditional maps say what a filter sees; a pattern says what it extracts.
# - Clusters need the same rigour as maps: coherence, where their members come from, and a null.
#
# ## Questions
#
# 1. Why must convolution and batch norm be one layer to LRP, and when would that be wrong?
# 2. Why is the unmixed map $|\mathbf{W} \mathbf{R}|$ not the relevance of the sources?
# 3. A component has 30 % of the absolute relevance and nothing of the net. What would removing it cost?
# 4. What would you choose as features to find filters that do the same at different latencies?
#
# ## Exercise: clusters of noise
#
# Put random numbers in the place of the features, 64 for each filter, so that nothing is alike but by accident. How many
# filters find a cluster in the features, and how many in the plane of UMAP?
#
# :::{dropdown} Solution
# In the features hardly a filter finds a cluster, in the plane most do: UMAP's neighbours lie together whether or not they are close. The cell prints the shares.
# :::

# %% tags=["hide-cell"]
from sklearn.cluster import HDBSCAN

noise = np.random.default_rng(SEED).standard_normal((len(chosen), 64))
plane = xs.embed_filters(noise, n_neighbors=10, seed=SEED)
in_features = (xs.cluster_filters(noise, min_cluster_size=4) >= 0).mean()
in_plane = (HDBSCAN(4, copy=True).fit_predict(plane) >= 0).mean()
print(f"in a cluster: {in_features:.0%} in the features, {in_plane:.0%} in the plane")
assert in_plane > in_features

# %% [markdown]
# ## Exercise: sixteen parts of one map
#
# Add up the maps of the first trials conditional on each spatial filter in turn. What should the sum be, and would it
# be the same with pairs of filters in two layers?
#
# :::{dropdown} Solution
# All relevance passes through the spatial filters, so the parts add up to the map without conditions. With conditions in
# two layers there is a part for each pair of filters, and these add up, too. The cell asserts the first.
# :::

# %% tags=["hide-cell"]
network, test = networks["brain", 0]
x = test.signal[:4]
parts = [xs.attribute(network, x, (1, 0), "lrp_epsilon", conditions={"conv_spatial": f}).values for f in range(16)]
assert np.allclose(sum(parts), lrp.values[:4], atol=1e-5)

# %% [markdown]
# ## References
#
# :::{footbibliography}
# :::
