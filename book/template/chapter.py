# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["remove-cell"]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/eegxai--home/eegxai/blob/main/book/template/chapter.ipynb)

# %% [markdown]
# # A title that says the topic: and the question it answers
#
# Open with the question that a reader brings, in two or three sentences, before any tool is named. Here: a linear
# decoder weighs every channel, and yet its weights do not say where the brain signal is. Which computation does?
#
# :::{admonition} By the end you can
# - write the decoder as a formula and say the shape of each symbol;
# - turn its weights into a pattern and name the channel that carries the signal;
# - say why the two differ, and when they would not.
# :::
#
# **Before you start:** [notation](../notation.md). **Time:** 10 minutes, a laptop without a graphics card.

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
# ## The known answer first
#
# A map can only be wrong where the right map is known. So each chapter begins with data that we made ourselves. Two
# channels record one source $s$ and one noise $n$: the first sees both, the second sees the noise alone,
#
# $$
# x_1 = s + n, \qquad x_2 = n .
# $$
#
# The signal is in channel 1. An honest explanation must say so, and must leave channel 2 blank. We draw enough
# trials for the estimate to be stable; with `FAST` there are fewer of them, and nothing else changes.

# %%
import numpy as np

rng = np.random.default_rng(SEED)
s, n = rng.standard_normal((2, 500 if FAST else 5000))
x = np.stack([s + n, n], axis=1)  # (trial, channel)

# %% [markdown]
# ## By hand
#
# The first time an idea appears, it is a cell that the reader can take apart; afterwards it is a call to the package,
# and a test asserts that both agree. Least squares recovers the source as $\hat s = \mathbf{w}^\top \mathbf{x}$.
# Haufe et al. showed how a filter becomes a pattern, $\mathbf{a} \propto \operatorname{Cov}(\mathbf{x})\,\mathbf{w}$
# {footcite:p}`haufe2014interpretation`.

# %%
w = np.linalg.lstsq(x, s, rcond=None)[0]
a = np.cov(x.T) @ w
print(f"filter  w = {w.round(1)}\npattern a = {a.round(1)}")

# %% [markdown]
# The filter gives both channels the same weight, one with a minus sign: it subtracts the noise. Only the pattern is
# zero where there is no signal. A claim about a number is asserted, never typed from memory.

# %%
assert abs(a[1]) < 0.2 < a[0]

# %% [markdown]
# ## As a figure
#
# Now with 64 electrodes: simulated trials with one source under C3. Their reference is the average, so the channels sum
# to zero and the data have rank 63; `rcond` leaves the missing direction out of the filter.

# %%
import eegxai_support as xs

trials = xs.simulate("spectral", n_trials=60 if FAST else 200, sfreq=100, seed=SEED)
x = trials.signal.transpose(0, 2, 1).reshape(-1, 64)  # (trial and time, channel)
s = trials.truth[:, trials.info.ch_names.index("C3")].ravel()
w = np.linalg.lstsq(x, s, rcond=1e-3)[0]
a = np.cov(x.T) @ w
assert trials.info.ch_names[a.argmax()] == "C3"

# %% [markdown]
# A figure comes from `eegxai_support.viz` in one line, the last of its cell. The cell carries a caption, a label and a
# text for those who cannot see it. Refer to it by its label: {numref}`fig-template-pattern` has filter and pattern.

# %% mystnb={"figure": {"caption": "Filter and pattern of the source under C3.", "name": "fig-template-pattern"}, "image": {"alt": "Two heads. The filter is positive at C3 and negative around it; the pattern is one smooth spot at C3."}}
xs.viz.plot_channel_topomaps([w / w.max(), a / a.max()], trials.info, ["filter", "pattern"], label="largest value = 1")

# %% [markdown]
# ## What can go wrong
#
# - The covariance must come from the data that the decoder saw, after the same preprocessing.
# - With correlated sources a pattern shows both of them, and says nothing of their order in time.
#
# ## Take-aways
#
# - A filter says how to read the data; a pattern says where the signal is.
# - Weights on noise channels are not a fault of the decoder.
#
# ## Questions
#
# 1. What does the filter become when the noise is ten times smaller?
# 2. For which covariance are filter and pattern proportional?
#
# ## Exercise
#
# Give channel 2 a tenth of the source. Is the pattern still right?
#
# :::{dropdown} Solution
# It is: `x = np.stack([s + n, n + 0.1 * s], axis=1)` gives a pattern with the second entry at a tenth of the first.
# :::
#
# ## References
#
# :::{footbibliography}
# :::
