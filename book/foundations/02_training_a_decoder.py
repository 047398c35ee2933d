# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["remove-cell"]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/eegxai--home/eegxai/blob/main/book/foundations/02_training_a_decoder.ipynb)

# %% [markdown]
# # Training a decoder: is there one that is worth explaining?
#
# Would you believe an explanation of a decoder that is at chance? It can be computed, and it will look like a map. But it
# explains how a network guesses. So before anything is explained, we show that the decoder knows something, on trials
# that had no part in making it.
#
# :::{admonition} By the end you can
# - write the training loop of a decoder, and check that the package's loop is the same one;
# - split trials so that nothing leaks, and show what happens otherwise;
# - put an interval and a p-value on an accuracy, and say how many trials must be right;
# - say whose decoders this book explains, and what that choice does to their accuracies.
# :::
#
# **Before you start:** [known-answer EEG](01_known_answer_eeg.ipynb). **Time:** 30 minutes, a laptop without a
# graphics card.

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
FAST = False  # True runs the same code on fewer trials, epochs and folds
SEED = 0
DEVICE = None  # "cpu", "cuda" …; None takes the accelerator where there is one

# %% [markdown]
# ## The known answer first
#
# Simulated trials have a class signal that we placed ourselves, at C3. `xs.Trials` holds them: the signal in the order
# (trial, channel, time), the labels, the electrodes, and a table with subject, session and run of each trial. The run
# matters most. Trials of one run share its drifts, its electrode gel and the subject's mood, so a decoder is
# tested on a *run* that it never saw, not on trials taken at random from the same runs. Here, run 4 is left out.
#
# `DEVICE` says where networks run. On Colab, choose a GPU under *Runtime → Change runtime type* and the whole notebook
# uses it, training and explanations alike.

# %%
import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from scipy.stats import binom, binomtest, ttest_1samp

import eegxai_support as xs

device = xs.best_device(DEVICE)
EPOCHS = 10
known = xs.simulate("spectral", n_trials=80 if FAST else 180, snr_db=0, sfreq=100, seed=SEED)
left_out = (known.metadata["run"] == 4).to_numpy()
seen, unseen = known.subset(~left_out), known.subset(left_out)
print(seen)

# %% [markdown]
# ## The training loop by hand
#
# Training repeats one step: predict the classes of a few trials, measure the loss, move each weight a little against its
# gradient. The loss is the cross-entropy $-\log p_y$, where $p_y$ is the probability that the network gives to the true
# class. Three choices make it work on few trials:
#
# - **Random crops.** The network sees 0.8 s of each trial, at a new place in every epoch. So it cannot learn trials by
#   heart as easily, and it learns that the exact latency does not matter.
# - **AdamW** adapts the step of each weight and pulls the weights towards zero {footcite:p}`loshchilov2019decoupled`.
# - **A cosine schedule** lets the step size fall to zero, so that the last epochs settle.


# %%
def train_by_hand(model, trials, lr):
    """Train in place and return the loss of each epoch."""
    x, y = (torch.tensor(values, device=device) for values in (trials.signal, trials.label))
    rng, n_steps, losses = torch.Generator().manual_seed(SEED), -(-len(y) // 16), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * n_steps)
    model.train()
    for _ in range(EPOCHS):
        losses.append(0.0)
        for batch in torch.randperm(len(y), generator=rng).tensor_split(n_steps):
            start = torch.randint(x.shape[2] - model.n_times + 1, (len(batch),), generator=rng)
            crops = torch.stack([x[i, :, t : t + model.n_times] for i, t in zip(batch, start, strict=True)])
            loss = torch.nn.functional.cross_entropy(model(crops), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses[-1] += loss.item() * len(batch) / len(y)
    return losses


# %% [markdown]
# `xs.train` is this loop, with early stopping, a progress bar and a cache besides. We start two copies of one small
# network {footcite:p}`cui2023eeg` from the same weights and train one by hand and one with the package. Both draw the same
# order and the same crops from the seed, so losses and weights must agree.

# %%
by_hand, decoder = (xs.build_decoder("InterpretableCNN", known, n_times=80, seed=SEED).to(device) for _ in range(2))
losses = train_by_hand(by_hand, seen, lr=3e-3)
training = xs.train(decoder, seen, epochs=EPOCHS, seed=SEED, lr=3e-3, device=device)
assert np.allclose(losses, training.history["train_loss"])
assert all(torch.allclose(a, b) for a, b in zip(by_hand.parameters(), decoder.parameters(), strict=True))


# %% [markdown]
# At test time a trial is cut into crops too, one every `stride` samples, and their logits are averaged. This gives the
# accuracy on the run that was left out. `xs.accuracy` sets beside it what knows nothing: a guess at random has the accuracy
# of *chance*, one answer throughout that of the *largest class*, and both have a *balanced* accuracy, the mean over the
# classes, of chance.


# %%
def accuracy(model, trials):
    return xs.accuracy(trials.label, xs.predict(model, trials.signal, stride=10).argmax(1), trials.n_classes)


print("left-out run:", accuracy(decoder, unseen))

# %% [markdown]
# ## A map of nothing
#
# Now the opening question. We shuffle the labels of the training trials, so that there is nothing to learn, and train the
# same network in the same way.

# %%
shuffled = replace(seen, label=np.random.default_rng(SEED).permutation(seen.label))
fooled = xs.build_decoder("InterpretableCNN", known, n_times=80, seed=SEED).to(device)
history = xs.train(fooled, shuffled, epochs=3 * EPOCHS, seed=SEED, lr=3e-3, device=device).history
print(f"on the shuffled labels that it was trained with: {history['train_accuracy'].iloc[-1]:.2f}")
print("on the left-out run:", accuracy(fooled, unseen))

# %% mystnb={"figure": {"caption": "Training on shuffled labels: the loss falls all the same.", "name": "fig-training-shuffled"}, "image": {"alt": "Left, a loss that falls over the epochs. Right, an accuracy on the training trials that rises above a third."}}
xs.viz.plot_history(history)

# %% [markdown]
# {numref}`fig-training-shuffled` shows a network that learns its trials by heart. A falling loss is no evidence. Is its
# map any less convincing? We take the absolute gradient of the logit of the true class, which chapter 4 explains, and
# average it over trials and time.

# %%
crop = unseen.crop(0.1, 0.9)
maps = [xs.attribute(model, crop.signal, crop.label, "saliency").values for model in (decoder, fooled)]
per_channel = np.mean([*maps, np.abs(crop.truth)], axis=(1, 3))
per_channel /= per_channel.max(axis=1, keepdims=True)

# %% mystnb={"figure": {"caption": "Saliency of a decoder that knows the classes and of one at chance, beside the source.", "name": "fig-training-nothing"}, "image": {"alt": "Three heads: the saliency of the trained decoder, that of the decoder at chance, and the truth with one spot at C3."}}
titles = ["trained", "shuffled labels", "truth"]
xs.viz.plot_channel_topomaps(per_channel, known.info, titles, label="largest value = 1")

# %% [markdown]
# The map of the network at chance in {numref}`fig-training-nothing` has peaks and valleys like any other. Nothing in it
# says that it is empty; only the accuracy does. The map of the trained network comes closer to the truth once it has had
# enough trials. We can see that here because we know the truth; on a recording, both would just be maps.
#
# ## A recording
#
# Subject 7 of PhysioNet's EEGBCI {footcite:p}`schalk2004bci2000,goldberger2000physiobank` clenched the left or the right
# fist, or imagined it: three runs executed, three imagined, 15 trials each. We keep 1 to 4 s after the cue, 7–38 Hz. Where
# the recording cannot be had, simulated trials of the same shape stand in, and the next line says so.

# %%
trials = xs.load_motor_imagery(subjects=7, runs=(3, 7, 11, 4, 8, 12), sfreq=80)
print(trials)

# %% mystnb={"figure": {"caption": "The trials that are decoded: spectra per class, and power between 7 and 13 Hz on the head.", "name": "fig-training-trials"}, "image": {"alt": "Spectra of each class at C3, Cz and C4, and one head per class with its power between 7 and 13 Hz relative to the mean of the classes."}}
xs.viz.plot_trials(trials)

# %% [markdown]
# The hand area lies on the opposite side of the head, and its mu rhythm weakens when the hand is moved or imagined
# {footcite:p}`pfurtscheller1999event`. In {numref}`fig-training-trials` a recording of imagery should show it: less power
# near C4 for the left fist, less near C3 for the right one.
#
# Two decoders. ShallowFBCSPNet {footcite:p}`schirrmeister2017deep` comes from braindecode, with the settings in
# `xs.RECIPES`; EEGNet {footcite:p}`lawhern2018eegnet` needs more epochs than this page has time for, and joins it in the
# recorded results. CSP+LDA {footcite:p}`ramoser2000optimal,blankertz2008optimizing` is the
# classical baseline: a network that loses to it has no claim to have found anything new. (On the simulated stand-in it is
# blind: it compares power between places, and there the classes differ in frequency only.)

# %%
options = {"epochs": 5 if FAST else 30, "n_times": 160, "seed": SEED, "cache": True}
fits = {"CSP+LDA": xs.csp_lda(), "ShallowFBCSPNet": xs.decoder_fit("ShallowFBCSPNet", **options, device=device)}

# %% [markdown]
# Each imagined run is left out in turn. The decoder is trained on all the others, executed ones included, and tested on
# the left-out one; with `FAST` only the last run is tested.

# %%
tested = trials.metadata["run"].isin((12,) if FAST else (4, 8, 12)).to_numpy()
tables = {name: xs.cross_validate(fit, trials, tested=tested) for name, fit in fits.items()}
tables["CSP+LDA"].head(3)

# %% [markdown]
# ## Better than chance?
#
# If the decoder knew nothing, its predictions would fit any other order of the labels as well. So we shuffle the labels
# many times, each run by itself, and count how often a shuffled order has as many right as the true one. Within
# runs, because a run may have more trials of one class, or a decoder may prefer one class in it; neither is evidence.
# The observed order counts as one of the shuffled ones, and $p$ is never zero {footcite:p}`phipson2010permutation`.

# %%
table = tables["ShallowFBCSPNet"]
rng, n_permutations = np.random.default_rng(SEED), 2000
n_right = np.zeros(n_permutations, int)
for _, run in table.groupby("run"):
    orders = rng.permuted(np.tile(run["label"], (n_permutations, 1)), axis=1)
    n_right += (orders == run["predicted"].to_numpy()).sum(axis=1)
at_least = (n_right >= (table["label"] == table["predicted"]).sum()).sum()
p_value = (1 + at_least) / (1 + n_permutations)

columns = table["label"], table["predicted"], table["run"]
assert p_value == xs.permutation_p_value(*columns, n_permutations=n_permutations, seed=SEED)


# %% [markdown]
# An accuracy also has an interval. Wilson's is right for few trials. It is still too narrow here: the folds of a
# cross-validation share most of their training trials, and are not independent.


# %%
def summary(table):
    right = (table["label"] == table["predicted"]).to_numpy()
    interval = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
    p = xs.permutation_p_value(table["label"], table["predicted"], table["run"], seed=SEED)
    return {"trials": len(right), "accuracy": right.mean(), "low": interval.low, "high": interval.high, "p": p}


live = pd.DataFrame({name: summary(table) for name, table in tables.items()}).T
live.astype({"trials": int}).round({"accuracy": 2, "low": 2, "high": 2, "p": 4})

# %% [markdown]
# How many trials must be right? For two classes and the 45 imagined trials of a subject, the binomial distribution says:

# %%
needed = int(binom.isf(0.05, 45, 0.5)) + 1  # isf: the largest number that is still too few
assert binom.sf(needed - 1, 45, 0.5) < 0.05 <= binom.sf(needed - 2, 45, 0.5)
print(f"{needed} of 45, an accuracy of {needed / 45:.2f}")

# %% [markdown]
# ## What a random split does
#
# Let us give the runs labels that mean nothing: three of them "a", the other three "b". Nobody thought of "a" or "b"; a
# decoder that finds them has found the *run*. We leave out trials at random, then whole runs, and average over a few such
# labellings.

# %%
run = trials.metadata["run"].to_numpy()
first, *others = np.unique(run)
rows = []
for pair in list(itertools.combinations(others, 2))[: 1 if FAST else 3]:
    label = np.isin(run, (first, *pair)).astype(int)
    fake = replace(trials, label=label, class_names=("a", "b"))
    random_fold = np.random.default_rng(SEED).permutation(len(run)) % 6
    for split, by in (("random trials", random_fold), ("whole runs", run)):
        result = xs.cross_validate(xs.csp_lda(), fake, by=by)
        rows.append({"left out": split, "accuracy": (result["label"] == result["predicted"]).mean()})
pd.DataFrame(rows).groupby("left out").mean().round(2)

# %% [markdown]
# Chance is 0.5. On the recording, random trials make a meaningless label look decodable: each run has its own
# fingerprint, and the gap between the two rows is the leak. (Simulated runs have none. Whole runs can then fall below
# 0.5: the label of the run that is left out is the rarer one in training.) A map of the leaking decoder would show that
# fingerprint, sharply.
#
# ## Recorded results
#
# What follows was recorded on the real data with `make results`; this page only reads it. First CSP+LDA and both networks,
# trained for longer than above, for three subjects and three seeds: mean accuracy over seeds on the left-out imagined runs,
# and the range over seeds (CSP+LDA has no seed). Compare with the baseline: we explain networks because they need it, not
# because they win.


# %%
def over_seeds(table):
    by_subject = table.groupby(["subject", "decoder"])["accuracy"]
    cells = by_subject.agg(lambda a: f"{a.mean():.2f}" + (f" ({a.min():.2f}-{a.max():.2f})" if len(a) > 1 else ""))
    return cells.unstack("decoder").rename(index="S{:03d}".format)


within = xs.recorded("within_subject")
explained = within[within["subject"].isin((7, 42))]
assert (explained["p_value"] < 0.05).all() and (explained.groupby("decoder")["accuracy"].mean() >= 0.8).all()
over_seeds(within)

# %% [markdown]
# S007 and S042 are the subjects whose decoders are explained in this book, and they were **chosen for their accuracy on
# these same runs**. So their accuracies are optimistic, and their maps are not a sample of the population. To
# see what they were chosen from, {numref}`fig-training-all` shows every subject, each decoded alone: trained on two
# imagined runs, tested on the third. The p-values are corrected for the number of subjects so that, of the filled dots, 5 % at
# most are expected to be false {footcite:p}`benjamini1995controlling`.

# %%
both = pd.concat({"alone": xs.recorded("all_subjects"), "unseen": xs.recorded("unseen_subjects")}, names=["recorded"])
both = both.assign(significant=both["p_fdr"] < 0.05, subject=both["subject"].map("S{:03d}".format))

# %% mystnb={"figure": {"caption": "Recorded: left or right fist, imagined, each subject decoded alone; 95 % Wilson intervals over 45 trials.", "name": "fig-training-all"}, "image": {"alt": "One panel per decoder with a dot and an interval per subject. Most intervals include chance; a few subjects lie well above."}}
xs.viz.plot_accuracies(both.loc["alone"], chance=0.5)

# %% [markdown]
# And a decoder for people it has never met? It is trained on three quarters of the subjects and tested on the others
# ({numref}`fig-training-unseen`).

# %% mystnb={"figure": {"caption": "Recorded: the same trials, decoded by decoders that were trained on other subjects; 95 % Wilson intervals over 45 trials.", "name": "fig-training-unseen"}, "image": {"alt": "One panel per decoder with a dot and an interval per subject, laid out as in the figure before. Most intervals include chance; a few subjects lie well above."}}
xs.viz.plot_accuracies(both.loc["unseen"], chance=0.5)

# %% [markdown]
# For the group we average over subjects. The interval must be over subjects too: trials of one person are not
# independent, and counting all of them as if they were would make it too narrow. The last column counts filled dots.


# %%
def mean_over_subjects(values, reference=0.5):
    test = ttest_1samp(values, reference)
    return pd.Series([values.mean(), *test.confidence_interval(), test.pvalue], ["mean", "low", "high", "p"])


grouped = both.groupby(["recorded", "decoder"])
group = grouped["accuracy"].apply(mean_over_subjects).unstack()
group.round(3).assign(significant=grouped["significant"].sum().astype(str) + " of " + grouped.size().astype(str))

# %% [markdown]
# On unseen subjects the mean is a little above chance for all three decoders, and most subjects cannot be told from
# chance. Is that the price of not knowing the person? We take the difference between the two tables, subject by
# subject.

# %%
wide = both.reset_index("recorded").pivot(index=["decoder", "subject"], columns="recorded", values="accuracy")
transfer = wide.eval("unseen - alone").groupby("decoder").apply(mean_over_subjects, reference=0).unstack()
assert (group.loc["unseen", "low"] > 0.5).all()
assert both.loc["unseen"].groupby("decoder")["significant"].mean().max() < 0.5
assert ((transfer["low"] < 0) & (transfer["high"] > 0)).all()
transfer.round(3)

# %% [markdown]
# Every interval includes zero: two runs of one's own, 30 trials, and hundreds of trials of other people come to much the
# same. These numbers do not say why the accuracies are low. They do say whom to explain: for most subjects a map would
# explain a decoder that may know nothing, so this book explains decoders of single subjects that are accurate.
#
# The window is a choice too. The target appears on the left or on the right of the screen. The window starts 1 s after
# the cue and above 7 Hz to keep out eye movements towards it and evoked responses to its appearance. A
# decoder of those could be right for the wrong reason, in people it has never met as well.
#
# With two classes, an explanation of one class is the mirror image of the other. The later chapters therefore explain a
# decoder of four: left fist, right fist, both fists, both feet, all imagined. Chance is 0.25.

# %%
four = xs.recorded("four_classes")
assert four.query("subject == 42 and decoder == 'ShallowFBCSPNet'")["accuracy"].mean() >= 0.5
over_seeds(four)

# %% [markdown]
# ## What can go wrong
#
# - **Runs leak.** Trials of one run on both sides of the split test whether a run can be recognised.
# - **Chance is not 0.5.** With few trials, chance is an interval; with unequal classes, the larger class sets it.
# - **Choosing after looking.** The best of many subjects, seeds or settings is above chance by itself (exercise 1).
# - **Batch-norm momentum.** At EEGNet's usual momentum of 0.01 the running means lag behind a short training, and the
#   network that is tested is not the one that was trained. `xs.RECIPES` sets 0.1.
# - **Train mode.** In train mode the output for a trial depends on the other trials in its batch (exercise 2). `xs.predict`
#   and `xs.attribute` switch to eval mode and back.
#
# ## Take-aways
#
# - A decoder at chance has maps too. Accuracy on unseen runs comes before any explanation.
# - Leave out whole runs, or whole subjects, never random trials.
# - Report trials, interval and p-value, with shuffling within runs, beside a simple baseline.
# - Say how the explained subjects were chosen.
#
# ## Questions
#
# 1. Why does the loss fall when the labels are shuffled?
# 2. What would the p-value test if labels were shuffled across runs?
# 3. CSP+LDA beats your network on two subjects. Which of the two do you explain, and why?
#
# ## Exercises
#
# **1.** Twenty seeds of a decoder at chance are tested on the same 45 trials, and the best is published. Which accuracy
# is to be expected, if the seeds were independent?
#
# :::{dropdown} Solution
# The best of twenty stays below a limit only if all twenty do, so the distribution function of one is raised to the
# power of twenty. More often than not the best one looks significant.
# :::

# %% tags=["hide-cell"]
below = binom.cdf(np.arange(46), 45, 0.5) ** 20  # the best of 20 has at most 0 … 45 right
expected = np.sum(1 - below[:-1])
print(f"best of 20 at chance: {expected / 45:.2f}; at least {needed} right: {1 - below[needed - 1]:.0%} of the time")
assert below[needed - 1] < 0.5

# %% [markdown]
# **2.** Predict one trial alone and together with others, once in train mode and once in eval mode. What differs?
#
# :::{dropdown} Solution
# In train mode batch norm takes mean and variance from the batch, so the logits of a trial change with its company, and
# each forward pass moves the running statistics. In eval mode they do not. The folded cell checks both, on a copy.
# :::

# %% tags=["hide-cell"]
from copy import deepcopy

copy, x = deepcopy(decoder), torch.tensor(crop.signal[:8], device=device)
with torch.no_grad():
    alone_train, together_train = copy.train()(x[:1]), copy.train()(x)[:1]
    alone_eval, together_eval = copy.eval()(x[:1]), copy.eval()(x)[:1]
assert torch.allclose(alone_eval, together_eval, atol=1e-5)
assert not torch.allclose(alone_train, together_train, atol=1e-2)
assert not torch.allclose(copy.bnorm.running_mean, decoder.bnorm.running_mean)

# %% [markdown]
# ## References
#
# :::{footbibliography}
# :::
