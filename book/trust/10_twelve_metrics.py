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
# - recognise a protocol under which a blind map passes;
# - test without a known answer whether the output changes where a map says it should.
# :::
#
# **Before you start:** [sanity checks](09_sanity_checks.ipynb), [notation](../notation.md).
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
DEVICE = None  # "cpu", "cuda" …; None takes the accelerator where there is one
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

device = xs.best_device(DEVICE)
warnings.simplefilter("ignore", xs.BaselineWarning)  # zeros are not neutral either; chapter 4 shows it

pd.DataFrame(map(vars, xs.METRICS.values()), index=xs.METRICS)

# %% [markdown]
# Two protocols use the same columns with different roles. *Accuracy*: $E$ is the map, $R = |\text{truth}|$, and the
# direction is that of the table. *Randomisation*: $E$ is the map after the weights are redrawn, $R$ the map before, and
# lower is better, because a map should change when the network does. Every table of scores carries the direction of its
# protocol in `.attrs["metrics"]`.
#
# ## The known answer first
#
# Two maps have a known score whatever the metric: the truth itself, which must score 1, and noise, which must score
# what chance gives. What chance gives is not zero, so it must be computed. The *surrogate* null draws random maps with
# the values and the smoothness of the map {footcite:p}`theiler1992testing` and scores them against the same truth: its
# 95 % interval should hold 95 % of the maps that know nothing. Both are tested in all four simulated regimes and in both
# views, channel × time and scalp images averaged over time. Beside it stands what the ideal map scores against the truth
# of a trial of *another class*, on average.

# %%
inside, other_class = {}, {}
for regime in ("temporal", "spectral", "spatial", "suppressor"):
    known = xs.simulate(regime, n_trials=4, n_runs=1, sfreq=50, seed=SEED)
    noise = np.random.default_rng(SEED).standard_normal(known.truth.shape)
    for view, info in {"channel × time": None, "scalp": known.info}.items():
        ideal = xs.score_maps(known.ideal_map, known.truth, info, label=known.label, n_null=5)
        np.testing.assert_allclose(ideal, 1, atol=1e-6)
        other_class[regime, view] = ideal.attrs["chance"]["other_trial"]["Pearson_absnorm"]["mean"]
        random = xs.score_maps(noise, known.truth, info, n_null=40)
        chance = pd.DataFrame(random.attrs["chance"]["surrogate"]).T
        inside[regime, view] = random.mean().between(chance["low"], chance["high"]).mean()

assert np.mean(list(inside.values())) > 0.75  # 40 draws give an interval of about 90 %, and the columns are alike
columns = {"noise inside chance": inside, "ideal map, other class": other_class}
pd.DataFrame(columns).round(2)

# %% [markdown]
# The ideal map scores 1 on every column. The last column says which view asks a question at all. In the temporal regime
# the classes differ in time only: averaged over time, the truth of another class is the same image, and no map can be
# told from its rival on the scalp. In the spatial regime the scalp is what tells the classes apart. So choose the view by
# the question. The spectral one is answered by neither: the burst has one place and one time, so that even channel × time
# finds the classes alike, and [chapter 8](../frequency/08_amplitude_gradients_and_haufe_patterns.ipynb) looks at
# frequencies instead.
#
# ## A trained decoder
#
# EEGNet on three classes that differ in frequency, as in the previous chapter. Only correctly classified trials of the
# left-out run are explained.

# %%
options = {"frequencies": (10.0, 14.0, 22.0), "sfreq": 80, "duration": 1, "seed": SEED}
trials = xs.simulate("spectral", n_trials=120 if FAST else 160, **options)
left_out = trials.metadata["run"].to_numpy() == 4
decoder = xs.build_decoder("EEGNet", trials, seed=SEED, **xs.RECIPES["EEGNet"]).to(device)
xs.train(decoder, trials.subset(~left_out), epochs=10 if FAST else 20, lr=1e-2, seed=SEED, cache=True, device=device)


def rightly_classified(model, tested, n):
    predicted = xs.predict(model, tested.signal).argmax(axis=1)
    print("left out:", xs.accuracy(tested.label, predicted, tested.n_classes))
    right = np.flatnonzero(predicted == tested.label)
    return tested.subset(right[:: max(1, len(right) // n)])


explained = rightly_classified(decoder, trials.subset(left_out), 6 if FAST else 16)

# %% [markdown]
# The maps are those of earlier chapters, and noise as a control.

# %%
N_NULL = 10 if FAST else 100


def maps_of(model, trials, method, seed=SEED):
    options = {"integrated_gradients": {"n_steps": 16, "tol": np.inf}, "random": {"seed": seed}}
    return xs.attribute(model, trials.signal, trials.label, method, **options.get(method, {})).values


decoder = xs.simplify(decoder)  # the same outputs with fewer operations
maps = {method: maps_of(decoder, explained, method) for method in METHODS}
scored = {
    method: xs.score_maps(e, explained.truth, label=explained.label, n_null=N_NULL, seed=SEED)
    for method, e in maps.items()
}

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
scores = scored["deep_lift"]
A, G = (np.abs(m).reshape(len(m), -1).astype(float) for m in (maps["deep_lift"], explained.truth))


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
# ## Between chance and one
#
# Two nulls answer two questions. *Surrogate*: is the map better than a smooth accident? *Other trial*: the same map
# against the truth of a trial of another class; does the map say anything about *this* trial? The folded cell only lays
# out tables.


# %% tags=["hide-input"]
def with_chance(scores):
    """Return the mean score over trials beside the mean and 95 % interval of both nulls."""
    table = {"score": scores.mean().map("{:.2f}".format)}
    for null, levels in scores.attrs["chance"].items():
        table[null] = {name: "{mean:.2f} [{low:.2f}, {high:.2f}]".format(**level) for name, level in levels.items()}
    return pd.DataFrame(table)


def table_of(scored):
    """Return mean scores and both ends of the surrogate interval, each method × metric."""
    means = pd.DataFrame({method: table.mean() for method, table in scored.items()}).T
    chance = {method: pd.DataFrame(table.attrs["chance"]["surrogate"]).T for method, table in scored.items()}
    low, high = (pd.DataFrame({m: levels[end] for m, levels in chance.items()}).T for end in ("low", "high"))
    return means, low, high


with_chance(scores)

# %% [markdown]
# The nulls are far apart. In these trials the burst has the same place and time in every class, so that the truth of
# another trial is nearly as good a reference: what is above *surrogate* is the right place and time, what is above
# *other trial* the right frequency and phase. A score without its chance level cannot be read. And mind what the second
# interval is not: where all trials of a class share one truth, it moves over two or three references only.
#
# ## Methods against the truth

# %%
accuracy, low, high = table_of(scored)
rank = accuracy.drop(index="random").rank(ascending=False)
print("best method, number of columns:", accuracy.idxmax().value_counts().to_dict())
print(f"rank correlation of two columns: at least {rank.corr().min().min():.2f}")

# %% mystnb={"figure": {"caption": "Accuracy protocol on simulated trials: mean score and rank of each method on sixteen columns. Grey: inside the 95 % interval of the surrogate null.", "name": "fig-metrics-accuracy"}, "image": {"alt": "Two tables of sixteen metrics in rows and five methods in columns, scores on the left and ranks on the right. Scores inside the chance interval are grey."}}
xs.viz.plot_scores(accuracy, low=low, high=high, title="Known answer: map against |truth|")

# %% [markdown]
# Read {numref}`fig-metrics-accuracy` by rows. The signed columns (*raw*) hold the map against a truth without sign.
# They suit methods that multiply by the input, where a gradient that oscillates in step with the trial becomes a
# positive map. The plain gradient would fail them, right or wrong. The question also has two halves that a single
# number mixes: where the *signal* is, which we know, and what the *network* uses, which may be less, or may include
# channels that only cancel noise {footcite:p}`haufe2014interpretation,wilming2022scrutinizing`.
#
# The printed lines ask whether the columns agree. With four methods a rank correlation is coarse, but a negative one
# means that the choice of the metric decides which method wins, so choose before looking, from the question: place
# without sign (*absnorm*, RMA), place of the strongest points (*topperc*, RRA), or sign and shape (*raw*).
#
# ## A protocol that a blind map passes
#
# Take a map that ignores the weights: the trial itself, $E = R = \mathbf{x}$, before and after randomising. Nothing
# changes, so an honest randomisation score is 1: the map fails. Beside it stands noise, which changes completely. The
# protocol "braindecode" repeats the numbers of a widely used tutorial: the explanation keeps its sign, the reference
# loses it, and there is no support.

# %%
x, y = explained.signal, explained.label
pairs = {"blind": x, "noise": maps["random"]}
protocols = ("braindecode", "randomisation")
blind = {(p, name): xs.score_maps(e, x, protocol=p, n_null=0).mean() for p in protocols for name, e in pairs.items()}
blind = pd.DataFrame(blind)
assert abs(blind["braindecode", "blind"]["Pearson_raw"]) < 0.2 and blind["randomisation", "blind"].min() > 0.999
assert blind["braindecode", "noise"]["RelevanceRankAccuracy_topK"] > 0.99
blind.round(2)

# %% [markdown]
# Under the first protocol the blind map has a correlation near zero with itself, because a signal is compared with
# its own absolute value: it "passes". And rank accuracy is one for noise, because a reference without a support is
# everywhere. Under the second the blind map scores 1 throughout, and noise what chance gives.
#
# ## Without a known answer: ask the network
#
# A recording has no truth, but the network can be asked again. The sensitivity test {footcite:p}`cui2023towards` takes
# away random patches of the trial, each on one channel, and correlates the sum of the map in a patch with what the logit
# loses. Chance is computed on the same patches: the map's values in other places, with its smoothness (*surrogate*) and
# without (*random*).

# %% mystnb={"figure": {"caption": "Sensitivity test: correlation between what a map holds in a patch and what the logit loses without it, over patches of five lengths and over whole channels. Bars: 95 % intervals over trials. Grey: mean of the surrogates of all maps with its interval.", "name": "fig-metrics-sensitivity"}, "image": {"alt": "Five methods as dots with bars over the length of the patches. A grey bar near zero marks the mean of the surrogates."}}
tested = xs.sensitivity_test(decoder, x, y, maps, n_patches=50, seed=SEED)
sensitivity = xs.mean_and_interval(tested, ["map", "method", "share"], "correlation")
chance = xs.mean_and_interval(tested.query("map == 'surrogate'"), ["share"], "correlation")
xs.viz.plot_sensitivity(sensitivity.query("map == 'own'"), chance)

# %%
table = sensitivity.pivot(index="method", columns=["share", "map"], values="mean")[[0.1, 1.0]]
assert (table.loc["deep_lift", [(0.1, "own"), (1.0, "own")]] > 0.8).all() and table.loc["random"].abs().max() < 0.3
table.round(2)

# %% [markdown]
# The grey bar says where the *mean* of the surrogates lies. It is not a test: a blind map may well fall outside it. Which
# methods are above chance is a question about pairs, each map against its own surrogate on the same patches. Where the
# interval of their difference lies above zero, the method is above chance.


# %%
def above_chance(table, keys, value):
    """Return how far maps are above their own surrogates, trial by trial: mean and 95 % interval."""
    pairs = table.pivot(index=[*keys, "trial"], columns="map", values=value)
    return xs.mean_and_interval(pairs.eval("gain = own - surrogate").reset_index(), keys, "gain").set_index(keys)


gain = above_chance(tested, ["share", "method"], "correlation").drop(columns="n_draws")
assert gain.xs("deep_lift", level="method")["low"].min() > 0
gain.loc[[0.1, 1.0]].round(2)

# %% [markdown]
# Methods that account for the output predict its losses; saliency has no sign, so it cannot tell a point that raises the
# logit from one that lowers it, and noise stays at chance. The test asks about the *network*. A map of a wrong network
# can pass it, and says nothing of where the brain signal is.
#
# Deletion curves remove more and more points, the highest of the map first, and follow the logit. A trial with holes is
# unlike any that the network has seen, and what fills the holes decides how: zeros, the mean of the channel, or the same
# trial with its phases scrambled.

# %%
curves, compared = [], {method: maps[method] for method in ("saliency", "deep_lift", "random")}
for fill in ("zero", "trial_mean", "phase_scrambled"):
    baseline = xs.make_baseline(x, fill, seed=SEED)
    curves.append(xs.perturbation_curves(decoder, x, y, compared, baseline=baseline, seed=SEED).assign(fill=fill))
curves = pd.concat(curves)
deletion = xs.mean_and_interval(curves, ["map", "method", "fill", "share"], "logit")
chance = xs.mean_and_interval(curves.query("map == 'surrogate'"), ["fill", "share"], "logit")

# %% mystnb={"figure": {"caption": "Deletion curves: logit of the class while the points of a trial are replaced, the highest of the map first, with three fills. Bands: 95 % intervals over trials. Grey, dashed: mean of the surrogates with its interval.", "name": "fig-metrics-deletion"}, "image": {"alt": "Three panels, one for each fill, each with a curve for saliency, one for DeepLIFT and one for noise, and a dashed grey curve for chance."}}
xs.viz.plot_perturbation_curves(deletion.query("map == 'own'"), chance, panel="fill", label="logit of the class")

# %%
own = deletion.query("map == 'own' and method == 'deep_lift'").pivot(index="fill", columns="share", values="mean")
assert (own[0.1] < own[0.0] - 2).all() and (own.diff(axis=1).max(axis=1) > 0.2).all()
assert own.loc["phase_scrambled", 1.0] > own.loc["zero", 1.0] + 1
own.round(1)

# %%
gain = above_chance(curves.query("share == 0.1"), ["fill", "method"], "logit").drop(columns="n_draws")
assert gain.xs("deep_lift", level="method")["high"].max() < 0
gain.round(1)

# %% [markdown]
# The last table is again a map against its own surrogate, after a tenth of the points; below zero is better than chance.
#
# Two things in {numref}`fig-metrics-deletion` are properties of the test and not of a map. The curve of a signed map
# falls within the first tenth of the points and *rises* again later: points that speak for the class go first, and those
# that speak against it last. Its area mixes both, so look at the early part.
# And with the scrambled fill the logit stays high to the end, when nothing of the trial is left: scrambling keeps the
# spectrum, and the spectrum is what these classes differ in. A fill must not hold the answer, so look at the right end
# of the curve first, and report more than one fill.
#
# ## The real recording
#
# The four-class decoder of subject 42, left-out runs 12 and 14, as in the previous chapters. Each map after all weights
# are redrawn ($E$) is scored against the map before ($R$). The first printed line says whether these trials are real.
# The folded cell loads and trains as before.

# %% tags=["hide-input"]
trials = xs.load_motor_imagery(subjects=42, runs=(4, 6, 8, 10, 12, 14), sfreq=80)
left_out = trials.metadata["run"].isin((12, 14)).to_numpy()
recipe = xs.RECIPES["ShallowFBCSPNet"]
decoder = xs.build_decoder("ShallowFBCSPNet", trials, n_times=160, seed=SEED, **recipe).to(device)
xs.train(decoder, trials.subset(~left_out), epochs=8 if FAST else 80, seed=SEED, cache=True, device=device)
explained = rightly_classified(decoder, trials.subset(left_out).crop(1.5, 3.5), 6 if FAST else 8)
((_, redrawn),) = xs.randomize(decoder, SEED, order="at_once")

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
pd.concat({"after against before": similarity[columns], "highest by chance": high[columns]}, axis=1).round(2)

# %% [markdown]
# ## Recorded: three seeds, three folds
#
# One training on one fold says little about ranks. The figure below is **recorded**: subject 42, real recording, three
# seeds times three folds, randomisation protocol, computed beforehand with the same functions. Look for noise in the row
# *Cosine_absnorm*: it is the most "similar" of all, since any two dense non-negative maps have a high cosine.

# %%
recorded = xs.recorded("scores").query("protocol == 'randomisation'")
wide = recorded.pivot(index="method", columns="metric", values=["value", "chance_low", "chance_high"])
wide = wide.loc[list(METHODS)]
print(f"at least {recorded['n_valid'].min()} trials; widest interval {(recorded['high'] - recorded['low']).max():.2f}")
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
# - **A fill that holds the answer.** A deletion curve that ends high has deleted nothing that matters.
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
# - Without a known answer, ask the network: its losses judge a map as an account of the network, not of the brain.
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
