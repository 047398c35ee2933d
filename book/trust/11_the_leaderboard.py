# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["remove-cell"]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/eegxai--home/eegxai/blob/main/book/trust/11_the_leaderboard.ipynb)

# %% [markdown]
# # The leaderboard: which method finds what a network uses?
#
# Many methods make many maps of the same trial. Which should go into the paper? A study with simulated EEG gave an
# answer that many follow: take DeepLIFT, leave saliency {footcite:p}`sujatharavindran2023empirical`. Its data and its
# table cannot be computed again. This chapter rebuilds the benchmark in the open, with corrected scores, several
# networks and intervals, and asks which of its conclusions hold.
#
# :::{admonition} By the end you can
# - run a benchmark of your own, stop it anywhere and go on;
# - read a ranking with its intervals and its critical difference;
# - say which conclusions of the study hold here, which do not, and which were not tested;
# - keep apart what a network uses and where the signal is.
# :::
#
# **Before you start:** [twelve metrics](10_twelve_metrics.ipynb), [known-answer EEG](../foundations/01_known_answer_eeg.ipynb).
# **Time:** 30 minutes, a laptop without a graphics card.

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

# %% [markdown]
# ## The known answer first: a slice of the grid, live
#
# A benchmark is a grid: regime × signal-to-noise ratio × decoder × seed × method. Each of its cells is one file, written
# when it is done, under a name that is a hash of its configuration. So a run that was killed goes on where it was, and
# a second run computes nothing.
#
# The slice below has one regime and one network. Training trials, trials to stop on, held-out trials for the
# accuracy, and several fresh data sets for the maps are all drawn apart.

# %%
import tempfile

import numpy as np
import pandas as pd

import eegxai_support as xs

slice_ = {
    "regimes": {"temporal": {"sfreq": 100, "latencies": [0.25, 0.5, 0.75]}},
    "snr_db": [0],
    "decoders": {"EEGNet": {"build": {"kernel_length": 32}, "train": {"epochs": 8 if FAST else 12, "lr": 0.005}}},
    "seeds": [SEED],
    "methods": ["saliency", "input_x_gradient", "deep_lift", "lrp_gamma", "random"],
    **{"n_train": 120, "n_valid": 30, "n_test": 90},
    **{"n_datasets": 3 if FAST else 6, "n_explained": 6, "n_null": 0},
}

# %%
folder = tempfile.mkdtemp()
live = xs.run_benchmark(slice_, folder)
again = xs.run_benchmark(slice_, folder)
pd.testing.assert_frame_equal(live, again)  # even the seconds: they were read, not measured again

# %% [markdown]
# A decoder that has learned nothing has nothing to explain, so accuracy comes first, beside that of the ideal decoder on
# the same trials. Then the maps of correctly classified trials, scored against the truth.

# %%
print(live[live["check"] == "decoder"].set_index("metric")["value"].round(3).to_string())
mass = "RelevanceMassAccuracy_absnorm"
rows = live.query("check == 'accuracy' and trials == 'correct' and view == 'channel_time' and metric == @mass")
scores = rows.rename(columns={"value": mass})[["method", "snr_db", "seed", "dataset", mass]]
scores.groupby("method")[mass].agg(["mean", "min", "max"]).round(3)

# %% [markdown]
# ## By hand: ranks that data sets agree on
#
# Data sets differ in difficulty, and that difference is common to all methods. Ranks within a data set remove it.
# Friedman's test asks whether mean ranks differ at all, and two methods differ when their mean ranks
# lie further apart than the critical difference of Nemenyi {footcite:p}`demsar2006statistical`,
#
# $$
# CD = q \sqrt{\frac{k (k + 1)}{6 N}}
# $$
#
# for $k$ methods on $N$ data sets, with $q$ from the studentised range.

# %%
from scipy.stats import rankdata, studentized_range

table = scores.pivot(index="dataset", columns="method", values=mass)
k, n = table.shape[1], table.shape[0]
mean_rank = pd.Series(rankdata(-table, axis=1).mean(axis=0), table.columns)
critical = studentized_range.ppf(0.95, k, np.inf) / np.sqrt(2) * np.sqrt(k * (k + 1) / (6 * n))

ranking = xs.rank_methods(scores, mass)
np.testing.assert_allclose(ranking["rank"], mean_rank[ranking["method"]])
np.testing.assert_allclose(ranking.attrs["critical_difference"], critical)
print(f"{n} data sets, critical difference {critical:.2f}")
ranking.round(3)

# %% [markdown]
# The columns `low` and `high` are a bootstrap over data sets; `behind` is the distance to the best method with an interval
# of its own, in which what the data sets have in common cancels.
#
# ## Recorded: the grid
#
# From here on the tables are **recorded**: computed once by `make leaderboard` from the configuration below, and kept with
# their versions in `book/results`. DeepNet is the network of the study, five temporal convolutions with ReLU and no batch norm;
# EEGNet and ShallowFBCSPNet are compact; Deep4Net is deep. A data set has four trials whose maps are scored: one per class, or,
# where there are three classes, two of the first.

# %%
all_scores = xs.recorded("leaderboard_scores")
grid = all_scores.attrs["configuration"]["benchmark"]
pd.Series(grid, name="configuration").to_frame().style

# %% [markdown]
# Which networks reached the ideal decoder? The share below is accuracy over that of the ideal decoder, mean over seeds.
# At these ratios the ideal decoder makes no error on the test trials; [chapter 1](../foundations/01_known_answer_eeg.ipynb) shows
# where it begins to. At the highest ratio every network comes close. At the lowest some learned nothing, and a map cannot show
# more than the network knows: the rankings leave that ratio out.

# %%
decoders = xs.recorded("leaderboard_decoders")
decoders["share"] = decoders["accuracy"] / decoders["ideal_accuracy"]
share = decoders.pivot_table(index=["regime", "decoder"], columns="snr_db", values="share", observed=True)
highest = decoders[decoders["snr_db"] == max(grid["snr_db"])]
assert (highest["share"] >= 0.95).all() and (decoders["ideal_accuracy"] == 1).all()
share.round(3)

# %% [markdown]
# ## Who leads
#
# The study judged the temporal and the spectral regime by relevance mass on channel × time, and the spatial one by the cosine
# of scalp images. We do the same, with the support that gives these scores a chance level, and judge the suppressor regime
# like the temporal one. ShallowFBCSPNet has no rectifier, so three methods have no meaning for it; the rankings are over the other
# three networks, which all methods can explain.

# %%
PRIMARY = dict.fromkeys(grid["regimes"], ("channel_time", mass)) | {"spatial": ("scalp", "Cosine_absnorm")}
complete = all_scores[all_scores["decoder"] != "ShallowFBCSPNet"].astype({"method": str, "decoder": str, "regime": str})
learned = complete[complete["snr_db"] > min(grid["snr_db"])]
assert learned[[mass, "Cosine_absnorm"]].notna().all(axis=None)


def judged(table, regime):
    return table[(table["regime"] == regime) & (table["view"] == PRIMARY[regime][0])]


rankings = {regime: xs.rank_methods(judged(learned, regime), PRIMARY[regime][1]) for regime in PRIMARY}
chance = {regime: table.set_index("method").loc["random", "value"] for regime, table in rankings.items()}

# %% mystnb={"figure": {"caption": "Recorded: mean score of each method over data sets, two signal-to-noise ratios and three networks, with 95 % bootstrap intervals over data sets. Ordered by mean rank. Dotted: noise.", "name": "fig-leaderboard"}, "image": {"alt": "Four panels, one per regime: methods from the best to the worst mean rank, each with a dot for its mean score and a line for its interval; random is near the dotted line."}}
xs.viz.plot_leaderboard(
    rankings, chance, label="relevance mass (temporal, spectral, suppressor) or cosine on the scalp (spatial)"
)

# %% [markdown]
# What does chance reach? The two nulls of [chapter 10](10_twelve_metrics.ipynb), for each method's own maps at the highest ratio: the truth
# of another trial of another class, and random maps of the same smoothness. Nearly every method is above the second one.
# The first null asks more. In the temporal regime the place is the same in all classes, so a map that knows the place and not the time
# scores as well on another trial: channel ablation does.

# %%
levels = xs.recorded("leaderboard_chance")
rows = pd.concat([judged(levels, regime) for regime in PRIMARY])
rows = rows[rows["metric"] == rows["regime"].map({regime: metric for regime, (_, metric) in PRIMARY.items()})]
nulls = rows.groupby(["regime", "method"])[["value", "surrogate_high", "other_trial_mean"]].mean()
print("inside chance:", nulls.index[nulls["value"] <= nulls["surrogate_high"]].tolist())
nulls.loc["temporal"].sort_values("value", ascending=False).round(2)

# %% [markdown]
# Over all regimes at once, each data set ranks the methods by the score of its regime. A bar joins methods that
# these data sets cannot tell apart. Data sets of one seed share the trained networks, so they are not fully independent; with the seeds
# as blocks, the careful reading, the critical difference is twice as large, and the figure shows that one.

# %%
parts = []
for regime, (_, metric) in PRIMARY.items():
    part = judged(learned, regime)
    parts.append(part[["method", "regime", "snr_db", "seed", "dataset"]].assign(score=part[metric]))
blocks = ("regime", "snr_db", "seed", "dataset")
by_dataset = xs.rank_methods(pd.concat(parts), "score", block=blocks, stratum=blocks[:3])
overall = xs.rank_methods(pd.concat(parts), "score", block=blocks[:3], stratum=blocks[:2])
for name, ranking in {"data sets": by_dataset, "seeds": overall}.items():
    print(name, {key: f"{value:.3g}" for key, value in ranking.attrs.items()})

# %% mystnb={"figure": {"caption": "Recorded: mean ranks over regimes, ratios and seeds. Bars join methods that are closer than the critical difference.", "name": "fig-critical-difference"}, "image": {"alt": "A line of mean ranks with the names of eighteen methods on both sides, the best on the left, and bars that join neighbours."}}
xs.viz.plot_critical_difference(overall, overall.attrs["critical_difference"])

# %% [markdown]
# ## How far does the ranking depend on our choices?
#
# On the network, the ratio, the seed, the metric and the trials. Kendall's $\tau$ compares two orders of the methods by their mean
# score: 1 is the same order, 0 unrelated. A row compares a part with the rest, or one choice with another.

# %%
every = xs.recorded("leaderboard_trials").query("decoder != 'ShallowFBCSPNet'")
every = every[every["snr_db"].isin(learned["snr_db"])]


def order(table, regime, metric=None):
    return judged(table, regime).groupby("method", observed=True)[metric or PRIMARY[regime][1]].mean()


def tau(one, other, metric=None):
    return {r: order(one, r).corr(order(other, r, metric), method="kendall") for r in PRIMARY}


# %%
def against_the_rest(column):
    inside = {value: learned[column] == value for value in learned[column].unique()}
    return {f"{column} {value}": tau(learned[here], learned[~here]) for value, here in inside.items()}


changes = against_the_rest("decoder") | against_the_rest("snr_db") | against_the_rest("seed")
changes |= {metric: tau(learned, learned, metric) for metric in ("Pearson_raw", "Cosine_raw", "SSIM_absnorm")}
changes |= {f"{kind} trials": tau(learned, every[every["trials"] == kind]) for kind in ("all", "predicted")}
pd.DataFrame(changes).T.round(2)

# %% [markdown]
# Seeds, ratios and the choice of trials change the order little where their rows are near 1. Networks and metrics change it
# more: signed columns punish a map that has both signs, whatever it found. So a sentence such as "method A is better than B" needs its
# network and its metric.
#
# ## Class and weights: the randomisation checks on the same grid
#
# Two checks from [sanity checks](09_sanity_checks.ipynb) ran beside the scores: the map for a wrong class, and the map of the
# network with all weights redrawn, each correlated with the original map. The study calls a map specific below 0.5.
# The noise of the grid is drawn with one seed, so here `random` is the blind map: it ignores class and weights, and gets 1.

# %%
randomised = xs.recorded("leaderboard_randomisation").query("view == 'channel_time'")
pearson = randomised.dropna(subset="Pearson_raw").groupby(["check", "method"], observed=True)["Pearson_raw"]
above = pearson.agg(lambda r: (r > 0.5).mean())
checks = pd.concat({"mean": pearson.mean(), "share above 0.5": above, "cells": pearson.size()}, axis=1).unstack("check")
checks.sort_values(("mean", "label"), ascending=False).round(2)

# %% [markdown]
# Absolute and rectified gradients stay alike when the class changes; signed maps turn over, because what speaks for one class speaks
# against the others. After all weights are redrawn hardly anything is left of any map but the blind one. Cells are missing in the
# second check: with its weights redrawn, DeepNet, which has no batch norm, is often dead, every ReLU shut, and a map of zeros has no
# correlation. So DeepNet is checked again with five draws each, of which the living ones count.

# %%
redraws = xs.recorded("leaderboard_redraws")
print(f"{redraws['alive'].mean():.0%} of {len(redraws)} draws leave the network alive")
deepnet = redraws[redraws["alive"]][["saliency", "gradient", "deep_lift"]]
print("Pearson r with the original map:", deepnet.mean().round(2).to_dict())

# %% [markdown]
# ## What the study found, and what we find
#
# Each conclusion becomes a sentence that a cell can check, over all networks, ratios and seeds.

# %%
label, weights = checks[("mean", "label")], checks[("mean", "weights")]
place = pd.DataFrame({regime: t.reset_index().set_index("method")["index"] + 1 for regime, t in rankings.items()})
lift = place.loc["deep_lift", ["temporal", "spectral", "spatial"]]
leader = {regime: table["method"][0] for regime, table in rankings.items()}
failing = sorted(set(label[label > 0.5].index) - {"random"})
saliency_above = checks.loc["saliency", ("share above 0.5", "label")]

# %%
robust = max(label["deep_lift"], weights["deep_lift"], deepnet["deep_lift"].mean()) < 0.5
specific = max(weights["saliency"], deepnet["saliency"].mean()) < 0.5
conclusions = {
    "saliency is not class-specific": (f"wrong class r = {label['saliency']:.2f}", label["saliency"] > 0.5),
    "saliency is not model-specific": (f"random weights r = {weights['saliency']:.2f}", not specific),
    "DeepLIFT is in the upper third": (f"places {lift.tolist()} of {len(place)}", (lift <= len(place) / 3).all()),
    "DeepLIFT is robust": (f"r = {label['deep_lift']:.2f}, {weights['deep_lift']:.2f}", robust),
    "some methods fail the checks": (", ".join(failing), len(failing) > 0),
    "r = 0.5 separates": (f"{saliency_above:.0%} of saliency's cells lie above", saliency_above in (0, 1)),
}
print("first:", leader)
pd.DataFrame(conclusions, index=["here", "replicates"]).T.style

# %% [markdown]
# Three remarks. *DeepLIFT* holds the places that the table gives it; who leads stands above the table.
# *Saliency* keeps its shape when the class changes, and loses it with the weights, against the study. *The limit of
# 0.5* runs through the middle of saliency's distribution: the same method passes on one network and fails on the next.
#
# Not tested here: Grad-CAM++, Score-CAM, FullGrad and Layer-CAM; the New York head model and the simulator of the study; its training,
# on tens of thousands of trials for up to 500 epochs. Ours have a few hundred trials, which is what recordings have, and
# a few epochs; their weights are redrawn with their own moments, not reset.
#
# ## Two questions, two columns
#
# In the suppressor regime the network must use a channel on which there is no signal. A map that shows it is right about the
# network and wrong about the brain. The table has both: the share of the absolute gradient on that channel, and the share
# of its Haufe pattern {footcite:p}`haufe2014interpretation`; an average channel has one in sixty-four.

# %%
suppressor = xs.recorded("leaderboard_suppressor").merge(decoders, on=["regime", "snr_db", "decoder", "seed"])
columns = ["share", "gradient", "pattern", "pattern_chance_high", "chance"]
suppressor.groupby(["decoder", "snr_db"], observed=True)[columns].mean().round(3)

# %%
best = suppressor[suppressor["snr_db"] == max(grid["snr_db"])]
times = best[["gradient", "pattern"]].div(best["chance"], axis=0)
times.agg(["mean", "min", "max"]).round(2)

# %%
assert (times["gradient"] >= 3).all()
assert times["pattern"].mean() <= 1 and (best["pattern"] <= best["pattern_chance_high"]).all()

# %% [markdown]
# Above: times the share of an average channel, over networks and seeds, at the highest ratio. Every gradient puts more than three
# average channels' worth on the suppressor. The patterns, on average, put no more there than an average channel, and each less than
# `pattern_chance_high`, below which a channel drawn at random lies in 97.5 % of cases. At lower ratios the networks
# cancel the shared noise less well. What they leave is in their output, and a pattern shows that, rightly. The patterns are
# estimated from thousands of trials; with a few hundred, the noise of the suppressor channel alone would give it several per cent.
#
# ## Run it on a cluster
#
# The same call takes a Dask client. Workers write their own files, so a worker that dies costs one cell, and so does the driver.
#
# ```python
# from dask.distributed import Client
# from dask_jobqueue import SLURMCluster
#
# cluster = SLURMCluster(cores=1, processes=1, memory="4GB", walltime="04:00:00")
# cluster.scale(jobs=32)
# xs.run_benchmark("leaderboard.yml", "/shared/results", client=Client(cluster))
# ```
#
# From a shell: `python -m eegxai_support.benchmark leaderboard.yml results --jobs 8`, or `--scheduler` with the address of a
# Dask scheduler.
#
# ## What can go wrong
#
# - **A ranking over networks that did not learn.** Look at the accuracy first.
# - **An interval over trials.** Trials of a data set share its noise and its decoder; the blocks here are data sets.
# - **Three seeds.** The intervals hold for these trained networks; the rows for seeds say how much others would differ.
# - **One place, one head.** Every regime has one set of sources; a deeper or tangential source may rank methods otherwise.
# - **The metric of one's choice.** Kendall's $\tau$ above says what that choice is worth.
#
# ## Take-aways
#
# - A benchmark is a configuration, a folder of cells and a command; anything less cannot be checked.
# - Read scores with intervals over data sets, and ranks with their critical difference.
# - What a network uses and where the signal is are two questions; score both.
#
# ## Questions
#
# 1. Why can the paired interval of a difference be narrow where both means have wide ones?
# 2. Window ablation is the same on all channels. In which regimes can it still be good, and why?
# 3. Which metric would you choose for a map that is to guide electrode placement?
#
# ## Exercise: add a method
#
# Add integrated gradients with eight steps to the slice and run it again in the same folder. How many cells are computed, and does
# the critical difference change?
#
# :::{dropdown} Solution
# One cell: the others are files already. The critical difference grows with the number of methods, because more pairs are
# compared.
# :::

# %% tags=["hide-cell"]
more = {name: {} for name in slice_["methods"]} | {"integrated_gradients": {"n_steps": 8, "tol": np.inf}}
larger = xs.run_benchmark(slice_ | {"methods": more}, folder)
assert larger["method"].nunique() == live["method"].nunique() + 1
rows = larger.query("check == 'accuracy' and trials == 'correct' and view == 'channel_time' and metric == @mass")
wider = xs.rank_methods(rows.rename(columns={"value": mass}), mass).attrs["critical_difference"]
print(f"critical difference {critical:.2f} before, {wider:.2f} after")
assert wider > critical

# %% [markdown]
# ## References
#
# :::{footbibliography}
# :::
