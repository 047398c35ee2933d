# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["remove-cell"]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/eegxai--home/eegxai/blob/main/book/trust/10_twelve_metrics.ipynb)

# %% [markdown]
# # Twelve metrics: how good is a map, and good at what?
#
# A method found the source in the simulation, says one paper; another says that it did not. Both put a number on a
# map, but not the same number: overlap or correlation, signed or absolute, all points or the strongest 5 %. This
# chapter takes twelve metrics and four structural similarities apart, gives each its chance level, and asks whether
# they agree on which method is best.
#
# :::{admonition} By the end you can
# - compute a cosine, a correlation, a relevance mass and a relevance rank by hand;
# - say what each metric gives for a perfect map and for a map that knows nothing;
# - score maps against a known answer, and against themselves after the weights are destroyed;
# - recognise a protocol under which a blind map passes.
# :::
#
# **Before you start:** [sanity checks](09_sanity_checks.ipynb), [notation](../notation.md).
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
METHODS = ("saliency", "input_x_gradient", "integrated_gradients", "deep_lift", "random")

# %% [markdown]
# ## Sixteen columns
#
# Let $E$ be a map and $R$ the reference that it is held against; $A = |E|$, $G = |R|$, and $E^+$, $G^+$ the positive
# parts. *top* keeps the highest 5 % of the points, $S$ is the support of the reference and $K$ the number of its
# points. The names come from the study that compared them on EEG {footcite:p}`sujatharavindran2023empirical`; SSIM is
# the structural similarity of images {footcite:p}`wang2004image`.

# %%
import warnings

import numpy as np
import pandas as pd

import eegxai_support as xs

warnings.simplefilter("ignore", xs.BaselineWarning)  # zeros are not neutral either; chapter 4 shows it

pd.DataFrame(map(vars, xs.METRICS.values()), index=xs.METRICS)

# %% [markdown]
# Two protocols use the same columns with different roles. *Accuracy*: $E$ is the map, $R = |\text{truth}|$, and the
# direction is that of the table. *Randomisation*: $E$ is the map after the weights are redrawn, $R$ the map before, and
# lower is better, because a map should change when the network does.
#
# ## The known answer first
#
# The decoder is the one of the previous chapter: EEGNet on three simulated classes that differ in frequency. Only
# correctly classified trials of the left-out run are explained.

# %%
options = {"frequencies": (10.0, 14.0, 22.0), "sfreq": 80, "duration": 2, "seed": SEED}
trials = xs.simulate("spectral", n_trials=120 if FAST else 240, **options)
left_out = trials.metadata["run"].to_numpy() == 4
decoder = xs.build_decoder("EEGNet", trials, seed=SEED, **xs.RECIPES["EEGNet"])
xs.train(decoder, trials.subset(~left_out), epochs=10 if FAST else 20, lr=1e-2, seed=SEED, cache=True)


def rightly_classified(model, tested):
    right = np.flatnonzero(xs.predict(model, tested.signal).argmax(axis=1) == tested.label)
    print(f"{len(right)} of {len(tested)} left-out trials are classified correctly")
    return tested.subset(right[:: max(1, len(right) // (6 if FAST else 16))])


explained = rightly_classified(decoder, trials.subset(left_out))

# %% [markdown]
# The maps are those of earlier chapters, and noise as a control.

# %%
N_NULL = 10 if FAST else 100


def maps_of(model, trials, method, seed=SEED):
    options = {"integrated_gradients": {"n_steps": 16, "tol": np.inf}, "random": {"seed": seed}}
    return xs.attribute(model, trials.signal, trials.label, method, **options.get(method, {})).values


maps = maps_of(decoder, explained, "deep_lift")
scores = xs.score_maps(maps, explained.truth, label=explained.label, n_null=N_NULL, seed=SEED)

# %% [markdown]
# ## By hand: a cosine and a correlation
#
# The cosine compares directions from the origin, the correlation from the mean. For non-negative maps
# this matters: two unrelated positive maps have a cosine far above zero, and no correlation.
#
# $$
# \cos(A, G) = \frac{\sum A G}{\sqrt{\sum A^2 \sum G^2}}, \qquad
# r(A, G) = \cos\bigl(A - \bar A,\, G - \bar G\bigr).
# $$

# %%
A, G = (np.abs(m).reshape(len(maps), -1).astype(float) for m in (maps, explained.truth))


def cosine(a, g):
    return (a * g).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (g**2).sum(axis=1))


r = cosine(A - A.mean(axis=1, keepdims=True), G - G.mean(axis=1, keepdims=True))
np.testing.assert_allclose(cosine(A, G), scores["Cosine_absnorm"], rtol=1e-6)
np.testing.assert_allclose(r, scores["Pearson_absnorm"], rtol=1e-6)

# %% [markdown]
# ## By hand: relevance mass and relevance rank
#
# *Mass accuracy* (RMA): which share of the relevance lies where the truth is? *Rank accuracy* (RRA): of the $K$
# strongest points of the map, how many lie there? Both need to know *where the truth is*, hence the support
# $S = \{G \ge 0.05 \max G\}$. Without it every point at which the truth is not exactly zero would count. We divide
# RMA by the mass of the truth itself in $S$, so that the ideal map scores one.

# %%
S = G >= 0.05 * G.max(axis=1, keepdims=True)


def mass_in_support(x):
    return (x * S).sum(axis=1) / x.sum(axis=1)


rma = mass_in_support(A) / mass_in_support(G)
rra = [s[np.argsort(a)[-s.sum() :]].mean() for a, s in zip(A, S, strict=True)]
np.testing.assert_allclose(rma, scores["RelevanceMassAccuracy_absnorm"], rtol=1e-6)
np.testing.assert_allclose(rra, scores["RelevanceRankAccuracy_topK"], rtol=1e-6)
print(f"share of the points: G > 0 {np.mean(G > 0):.2f}, support S {S.mean():.2f}")

# %% [markdown]
# The first number says why $S$ exists. With a dense truth nearly every point "is in the truth", and both accuracies are
# one for any map, noise included.
#
# ## Two ends of the scale
#
# A perfect map scores 1 on every column. What a map scores that knows nothing must be computed, because it is not
# zero. Two nulls answer two questions. *Surrogate*: random maps with the values and the smoothness of the map
# {footcite:p}`theiler1992testing`; is the map better than a smooth accident? *Other trial*: the same map against the
# truth of a trial of another class; does the map say anything about *this* trial?

# %%
ideal = np.abs(explained.truth)
np.testing.assert_allclose(xs.score_maps(ideal, explained.truth, n_null=0), 1, atol=1e-6)


def with_chance(scores):
    """Return the mean score over trials beside the mean and 95 % interval of both nulls."""
    table = {"score": scores.mean().map("{:.2f}".format)}
    for null, levels in scores.attrs["chance"].items():
        table[null] = {name: "{mean:.2f} [{low:.2f}, {high:.2f}]".format(**level) for name, level in levels.items()}
    return pd.DataFrame(table)


with_chance(scores)

# %% [markdown]
# The nulls are far apart. In these trials the burst has the same place and time in every class, so that the truth of
# another trial is nearly as good a reference: what is above *surrogate* is the right place and time, what is above
# *other trial* the right frequency and phase. A score without its chance level cannot be read.
#
# ## Methods against the truth


# %%
def table_of(scored):
    """Return mean scores and both ends of the surrogate interval, each method × metric."""
    means = pd.DataFrame({method: table.mean() for method, table in scored.items()}).T
    chance = {method: pd.DataFrame(table.attrs["chance"]["surrogate"]).T for method, table in scored.items()}
    low, high = (pd.DataFrame({m: levels[end] for m, levels in chance.items()}).T for end in ("low", "high"))
    return means, low, high


def score(reference, method):
    maps = maps_of(decoder, explained, method)
    return xs.score_maps(maps, reference, label=explained.label, n_null=N_NULL, seed=SEED)


scored = {method: score(explained.truth, method) for method in METHODS}
accuracy, low, high = table_of(scored)

# %% mystnb={"figure": {"caption": "Accuracy protocol on simulated trials: mean score and rank of each method on sixteen columns. Grey: inside the 95 % interval of the surrogate null.", "name": "fig-metrics-accuracy"}, "image": {"alt": "Two tables of sixteen metrics in rows and five methods in columns, scores on the left and ranks on the right. Scores inside the chance interval are grey."}}
xs.viz.plot_scores(accuracy, low=low, high=high, title="Known answer: map against |truth|")

# %% [markdown]
# Read {numref}`fig-metrics-accuracy` by rows. The signed columns (*raw*) hold the map against a truth without sign.
# They suit methods that multiply by the input, where a gradient that oscillates in step with the trial becomes a
# positive map. The plain gradient would fail them, right or wrong. The question also has two halves that a single
# number mixes: where the *signal* is, which we know, and what the *network* uses, which may be less, or may include
# channels that only cancel noise {footcite:p}`haufe2014interpretation,wilming2022scrutinizing`.
#
# ## Do the metrics agree?
#
# We rank the methods by each column and correlate the ranks of every two columns. The control stays out:
# the question is whether the metrics agree on methods, not on noise.


# %%
def agreement(means):
    """Print how well the columns agree on the ranking of the methods."""
    means = means.drop(index="random", errors="ignore")
    rho = means.T.astype(float).T.corr(method="spearman").to_numpy()[np.triu_indices(len(means.columns), 1)]
    best = means.idxmax().value_counts().to_dict()
    print(f"rank correlation of two metrics: median {np.nanmedian(rho):.2f}, lowest {np.nanmin(rho):.2f}")
    print(f"best method, number of columns: {best}")
    apart = np.ptp(means.loc[["input_x_gradient", "integrated_gradients", "deep_lift"]], axis=0).max()
    print(f"methods that multiply by the input differ by at most {apart:.3f} on any column")


agreement(accuracy)

# %% [markdown]
# With four methods a rank correlation is coarse; but a negative one means that the choice of the metric decides which
# method wins. The last line warns of the opposite error: a rank hides by how little one method beats the next, and
# methods that differ in the third digit have no order. Choose the metric before looking, from the question: place
# without sign (*absnorm*, RMA), place of the strongest points (*topperc*, RRA), or sign and shape (*raw*).
#
# ## A protocol that a blind map passes
#
# Take a map that cannot depend on the network: the trial itself, $E = R = \mathbf{x}$, before and after randomising.
# Nothing changes, so an honest randomisation score is 1: the map fails. Beside it stands noise, which changes
# completely. The protocol "braindecode" repeats the numbers of a widely used tutorial: the explanation keeps its sign,
# the reference loses it, and there is no support.

# %%
x = explained.signal
pairs = {"blind": x, "noise": maps_of(decoder, explained, "random")}
protocols = ("braindecode", "randomisation")
blind = {(p, name): xs.score_maps(e, x, protocol=p, n_null=0).mean() for p in protocols for name, e in pairs.items()}
pd.DataFrame(blind).round(2)

# %%
blind = pd.DataFrame(blind)
assert abs(blind["braindecode", "blind"]["Pearson_raw"]) < 0.2
assert blind["randomisation", "blind"].min() > 0.999
assert blind["braindecode", "noise"]["RelevanceRankAccuracy_topK"] > 0.99

# %% [markdown]
# Under the first protocol the blind map has a correlation near zero with itself, because a signal is compared with
# its own absolute value: it "passes". And rank accuracy is one for noise, because a reference without a support is
# everywhere. Under the second the blind map scores 1 throughout, and noise what chance gives.
#
# ## The real recording
#
# The four-class decoder of subject 42, left-out runs 12 and 14, as in the previous chapters. Each map after all weights
# are redrawn ($E$) is scored against the map before ($R$). The first printed line says whether these trials are real.

# %%
trials = xs.load_motor_imagery(subjects=42, runs=(4, 6, 8, 10, 12, 14), sfreq=80)
left_out = trials.metadata["run"].isin((12, 14)).to_numpy()
decoder = xs.build_decoder("ShallowFBCSPNet", trials, n_times=160, seed=SEED, **xs.RECIPES["ShallowFBCSPNet"])
xs.train(decoder, trials.subset(~left_out), epochs=20 if FAST else 80, seed=SEED, cache=True)
explained = rightly_classified(decoder, trials.subset(left_out).crop(1.5, 3.5))
*_, (_, redrawn) = xs.randomize(decoder, SEED)

# %%
randomised = {}
for method in METHODS:
    before, after = maps_of(decoder, explained, method), maps_of(redrawn, explained, method, seed=SEED + 1)
    randomised[method] = xs.score_maps(after, before, protocol="randomisation", n_null=N_NULL, seed=SEED)

similarity, low, high = table_of(randomised)
n_missing = {method: int(table.isna().to_numpy().sum()) for method, table in randomised.items()}
print(f"scores that do not exist (never counted as 0), of {16 * len(explained)} each: {n_missing}")

# %% mystnb={"figure": {"caption": "Randomisation protocol on the loaded trials: similarity of the maps after and before all weights are redrawn; lower is better. Grey: inside the 95 % interval of smooth random maps, where a map has changed completely.", "name": "fig-metrics-randomisation"}, "image": {"alt": "Two tables of sixteen metrics by five methods, scores on the left and ranks on the right. Scores inside the chance interval are grey."}}
xs.viz.plot_scores(similarity, low=low, high=high, higher_is_better=False, title="All weights redrawn")

# %% [markdown]
# Here grey is good: the map is as different as a random one. Where a method multiplies by the input (input × gradient,
# integrated gradients, DeepLIFT), all its maps share the factor $|\mathbf{x}|$. The correlation without sign sees this
# factor and stays above chance with redrawn weights; the signed one hides it. So the answer to "does it pass?" depends on
# the column, and the table shows by how much.

# %%
unsigned, signed = (similarity.loc[list(METHODS[1:4]), f"Pearson_{kind}"] for kind in ("absnorm", "raw"))
assert (unsigned > high.loc[unsigned.index, "Pearson_absnorm"]).all() and (unsigned > signed.abs() + 0.1).all()
columns = ["Cosine_absnorm", "Pearson_absnorm", "Pearson_raw"]
agreement(-similarity)
pd.concat({"after against before": similarity[columns], "highest by chance": high[columns]}, axis=1).round(2)

# %% [markdown]
# ## Recorded: three seeds, three folds
#
# One training on one fold says little about ranks. The figure below is **recorded**: subject 42, real recording, three
# seeds times three folds, randomisation protocol, computed beforehand with the same functions. Look for noise in the row
# *Cosine_absnorm*: it is the most "similar" of all, since any two dense non-negative maps have a high cosine.

# %%
recorded = xs.recorded("scores").query("protocol == 'randomisation'")
wide = recorded.pivot(index="method", columns="metric", values=["value", "chance_low", "chance_high"]).loc[
    list(METHODS)
]
width = recorded["high"] - recorded["low"]
print(f"trials per score: at least {recorded['n_valid'].min()}; widest 95 % interval: {width.max():.2f}")
agreement(-wide["value"])
assert wide["value"]["Cosine_absnorm"].idxmax() == "random"

# %% mystnb={"figure": {"caption": "Recorded: the randomisation protocol on subject 42, three seeds and three folds. Grey: inside the 95 % interval of the surrogate null.", "name": "fig-metrics-recorded"}, "image": {"alt": "Recorded scores and ranks of five methods on sixteen metrics, laid out as in the figures above."}}
xs.viz.plot_scores(
    wide["value"], low=wide["chance_low"], high=wide["chance_high"], higher_is_better=False, title="Recorded"
)

# %% [markdown]
# ## What can go wrong
#
# - **No chance level.** A cosine of 0.6 between two positive maps may be what chance gives.
# - **No support.** With a dense reference, relevance mass and rank are one for every map.
# - **Roles exchanged.** The columns are not symmetric: the support belongs to the reference.
# - **Trials without a score entered as zero.** They lower the mean of an accuracy and flatter a randomisation; here
#   they are missing values, and counted.
# - **Channel order as space.** On channel × time, SSIM compares windows of channels that are neighbours only in the
#   list. With `info` the maps become scalp images first, averaged over time.
#
# ## Take-aways
#
# - Each metric answers its own question; state the question, then choose.
# - A score is read between two chance levels and one.
# - Mass and rank need a support.
# - Test a protocol with a blind map and with noise before you trust it with a method.
#
# ## Questions
#
# 1. Why does `Pearson_raw` not change when the map is multiplied by two, but does change when it is rectified?
# 2. Which of the two nulls is the harder one when sources differ in place between the classes?
# 3. Saliency is never negative. Which of its columns are equal, and why?
#
# ## Exercise: the maps on the scalp
#
# Score DeepLIFT on scalp images instead of channel × time: pass `info`. Does the perfect map still score one, and what
# happens to the chance level of `Cosine_absnorm`?
#
# :::{dropdown} Solution
# The perfect map scores one. Averaged over time and interpolated, a map is smooth on the scalp and has few independent
# points, so random maps of that smoothness overlap more. The folded cell prints both levels.
# :::

# %% tags=["hide-cell"]
simulated = xs.simulate("spectral", n_trials=12, **options)
ideal = np.abs(simulated.truth)
np.testing.assert_allclose(xs.score_maps(ideal, ideal, simulated.info, n_null=0), 1, atol=1e-6)
for name, info in {"channel × time": None, "scalp": simulated.info}.items():
    chance = xs.score_maps(simulated.signal, ideal, info, n_null=10).attrs["chance"]["surrogate"]["Cosine_absnorm"]
    print(f"{name:15s} {chance['mean']:.2f} [{chance['low']:.2f}, {chance['high']:.2f}]")

# %% [markdown]
# ## References
#
# :::{footbibliography}
# :::
