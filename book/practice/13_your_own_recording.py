# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["remove-cell"]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/eegxai--home/eegxai/blob/main/book/practice/13_your_own_recording.ipynb)

# %% [markdown]
# # Your own recording: from the file to a report that a reviewer can check
#
# You have a recording, a list of events and perhaps a network. What does the network use, and would you stake a paper
# on the answer? This chapter goes from the files to a report, one cell a step. The recording is one whose answer
# physics knows: somebody looks at a light that flickers 13, 17 or 21 times a second, and the visual cortex answers
# at that frequency and its multiples {footcite:p}`kalunga2016online`. Whatever network
# tells the lights apart has to read these frequencies. So we can check, at the end, whether the report is right, before you
# hand it a recording of which nobody knows the answer.
#
# :::{admonition} By the end you can
# - read a recording and its events in one call, and say what was done to it;
# - train on all runs but one, and explain only trials that the network has not seen;
# - test a peak in the spectrum of the relevance against permuted labels;
# - write a report, read its receipt, and verify it after a byte has changed;
# - bring a network of your own, and know what each error message asks for.
# :::
#
# **Before you start:** [training a decoder](../foundations/02_training_a_decoder.ipynb),
# [maps for one trial](../attribution/04_maps_for_one_trial.ipynb); helpful:
# [was it the brain?](../trust/12_was_it_the_brain.ipynb). **Time:** 40 minutes, a laptop without a graphics card.

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
recording = None  # path of a recording or of epochs, or a list of them, one a run; None takes the flicker
reading = {}  # further arguments of xs.read_recording, such as {"annotations": ["left", "right"], "tmax": 3}
group = "run"  # what may not stand on both sides of a split; "blocks" for a single long run
out_dir = None  # folder of the report; None makes one that is temporary

# %% [markdown]
# To send your own recording through the same cells, name it among the parameters above, or let papermill do so:
#
# ```bash
# papermill book/practice/13_your_own_recording.ipynb out.ipynb -p recording my-epo.fif
# papermill book/practice/13_your_own_recording.ipynb out.ipynb -p recording my_raw.fif -p group blocks \
#     -p out_dir my_report -y "reading: {annotations: [left, right], tmin: 0, tmax: 3, band: [1, 40]}"
# ```
#
# The claims about flicker are checked for the flicker only.
#
# ## The known answer first
#
# `fetch_ssvep` returns files as a laboratory would hand them over: for each run a recording and a list of events. Where the
# real ones can neither be found nor downloaded it simulates files of the same form, in which an oscillation under Oz has the
# frequency of the class, and says so: the next line of output tells what you are looking at.

# %% tags=["hide-input"]
import itertools
import json
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import eegxai_support as xs

warnings.simplefilter("ignore", xs.BaselineWarning)  # a network may lean to one side at zero; here it does not matter

# %%
out_dir = Path(tempfile.mkdtemp() if out_dir is None else out_dir)
flicker = xs.SSVEP_FREQUENCIES if recording is None else {}
if recording is None:
    recording, event_files = xs.fetch_ssvep(12, out_dir)
    events = {"13 Hz": 2, "17 Hz": 4, "21 Hz": 3}  # class: code in the event file
    reading = {"event_file": event_files, "events": events, "unit": "standardised"}
    reading |= {"tmin": 2, "tmax": 5, "band": (5, 45), "resample": 96}

# %% [markdown]
# ## Read
#
# One call reads, renames, places, filters, resamples and cuts. Each choice above has a reason that you should have too:
#
# - **Window.** A voice names the light, the eyes turn, the response builds up: we begin two seconds after the cue. In a window
#   of whole seconds each flicker has a frequency of the Fourier transform to itself.
# - **Band and rate.** The flicker and its second harmonics, up to 42 Hz, lie inside the band. A filter has slopes, and 50 Hz, the
#   mains, is on this one's; at 96 samples a second there is no 50 Hz.
# - **Unit.** The numbers in these files are no volts, and nobody says what they are. `"standardised"` stands for *without a unit*.
#   A file in microvolts that claims to hold volts is noticed, with the argument that mends it.
# - **Classes.** The fourth code, rest, is left out: events that are not named become no trials.
#
# What was done, guessed or noticed is in the notes. Read them: here a wrong result is still cheap.

# %%
read = xs.read_recording(recording, group=group, **reading)
print(*read.notes, sep="\n")

# %%
trials = read.trials.standardise()  # each run by one number; a network likes numbers around 1
names, groups = trials.class_names, trials.metadata[group].to_numpy()
counts = pd.crosstab(groups, np.array(names)[trials.label], rownames=[group], colnames=["class"])
assert not flicker or (counts.to_numpy() == 8).all()
counts

# %% [markdown]
# ## Look, before any network
#
# If the light is in the recording, a trial has more power at its frequency and twice that than at the neighbours. We
# decide each trial by the largest of these ratios. No training, no parameters: whoever
# trains a network should know what it has to beat.


# %%
def ratio(power, freqs, f, beside=2):
    """Power at f over the mean of two neighbours, mean over channels, for each trial."""
    at = np.abs(freqs - f).argmin()
    return (2 * power[..., at] / (power[..., at - beside] + power[..., at + beside])).mean(axis=1)


power, freqs = np.square(np.abs(np.fft.rfft(trials.signal))), np.fft.rfftfreq(trials.signal.shape[2], 1 / trials.sfreq)
scores = [ratio(power, freqs, f) + ratio(power, freqs, 2 * f) for f in flicker.values()]
if flicker:
    print("by power alone:", xs.accuracy(trials.label, np.argmax(scores, axis=0)))

# %% [markdown]
# ## Train on all runs but one
#
# For each run a network learns from the others, so that every trial has one network that has not seen it. Networks train on
# random crops of two thirds of the window; the middle is what we explain. Neighbours in time resemble each other, so the
# trials of a run never stand on both sides. A few seeds decide together, by the mean of their outputs: one network of so few
# trials is a matter of luck.

# %%
NETWORK = "ShallowFBCSPNet"
first, length = trials.times[0], trials.signal.shape[2] / trials.sfreq
middle = trials.crop(first + length / 6, first + 5 * length / 6)


def fit(train, seed):
    options = xs.recipe(NETWORK, train.sfreq) | {"n_times": middle.signal.shape[2]}
    model = xs.build_decoder(NETWORK, train, seed=seed, **options).to(xs.best_device(DEVICE))
    xs.train(model, train, epochs=60, seed=seed, cache=True, device=DEVICE)
    return model


seeds = range(SEED, SEED + (2 if FAST else 3))
networks = {each: [fit(trials.subset(groups != each), seed) for seed in seeds] for each in pd.unique(groups)}

# %%
predicted = np.empty(len(trials), int)
for each, models in networks.items():
    outputs = [xs.predict(model, middle.signal[groups == each]) for model in models]
    predicted[groups == each] = np.mean(outputs, axis=0).argmax(axis=1)
right, p = xs.accuracy(trials.label, predicted), xs.permutation_p_value(trials.label, predicted, groups)
print(f"{right}, p = {p:.4f}")
knows = p < 0.05

# %% [markdown]
# The p-value permutes labels within runs. If it is not small, stop here: a map of a decoder at chance explains
# nothing, however good it looks, and the report will say so in its title.
#
# ## Maps, and the frequencies in them
#
# What speaks for a class is its output minus the mean of the others; softmax sees no more than such differences.
# DeepLIFT shares it out among the samples of a trial, and `frequency_relevance` shares the same sum out among
# frequencies. We compute it for every class on every trial, for a reason that comes next.


# %%
def evidence(label):
    """Return a target: output of one class minus the mean of the others."""

    def target(outputs):
        others = [k for k in range(outputs.shape[1]) if k != label]
        return outputs[:, label] - outputs[:, others].mean(dim=1)

    return target


# %%
n_times = middle.signal.shape[2]
freqs = np.fft.rfftfreq(n_times, 1 / trials.sfreq)
spectra = np.zeros((len(names), len(trials), trials.signal.shape[1], len(freqs)))  # (class, trial, channel, freq)
for each, models in networks.items():
    rows = np.flatnonzero(groups == each)
    x = middle.signal[rows]
    for label, model in itertools.product(range(len(names)), models):
        map_ = xs.attribute(model, x, evidence(label), "deep_lift")
        spectra[label, rows] += xs.frequency_relevance(map_, x) / len(models)

# %%
of_class = np.array([spectra[label, trials.label == label].mean(axis=0) for label in range(len(names))])
best = [trials.info.ch_names[c] for c in np.argsort(of_class.clip(0).sum(axis=(0, 2)))[::-1][:3]]

# %% mystnb={"figure": {"caption": "Relevance per frequency for the true class, mean over held-out trials, at the three channels that have most.", "name": "fig-13-spectra"}, "image": {"alt": "Three panels, one a channel, with a line per class. For the flicker each line has a narrow peak at the frequency of its light."}}
xs.viz.plot_spectra_of_patterns(of_class, freqs, trials.info, names, label="relevance (logit)", channels=tuple(best))

# %% [markdown]
# Is a peak more than chance? Some largest value there always is. We draw as many trials from each run, whatever their
# class, a few hundred times, and note the largest mean of each draw; a peak counts above 95 % of these. Relevance that all trials share
# passes neither way: it is in the draws as well.


# %% tags=["hide-input"]
def level(values, label, rng, n=300):
    """95 % level of the largest mean over trials of permuted classes; values (trial, freq)."""
    largest = []
    for _ in range(n):
        permuted = label.copy()
        for each in pd.unique(groups):
            permuted[groups == each] = rng.permutation(permuted[groups == each])
        largest.append(values[permuted].mean(axis=0).max())
    return np.quantile(largest, 0.95)


# %%
rows, rng = [], np.random.default_rng(SEED)
for label, name in enumerate(names):
    values, true = spectra[label].sum(axis=1), trials.label == label
    mean = values[true].mean(axis=0)
    rows.append([name, freqs[mean.argmax()], mean.max(), level(values, true, rng)])
peaks = pd.DataFrame(rows, columns=["class", "peak (Hz)", "relevance", "level"]).set_index("class")
for name, f in flicker.items() if knows else ():
    assert peaks.loc[name, "peak (Hz)"] in (f, 2 * f) and peaks.loc[name, "relevance"] > peaks.loc[name, "level"]
peaks.round(2)

# %% [markdown]
# That is the receipt of this chapter: on runs that the networks had not seen, the largest relevance of each class is at
# the frequency of its light or twice that, above what permuted classes give. No one told the networks, or the method, which frequencies
# there are.
#
# ## The report
#
# `make_report` does all of this, and what the earlier chapters added: several seeds, five methods, sanity checks, components, an untrained
# network beside each number, parts of the signal removed, with controls as powerful. `raw` is the widest band at hand, by subject: components
# are looked for there. The notes, files and dropped events of the reading go along, so that the page can tell.

# %%
wide = read.by_subject
if FAST and flicker:
    wide = {subject: raw.copy().crop(tmax=40) for subject, raw in wide.items()}
told = {"notes": read.notes, "files": read.files, "dropped": read.dropped}
options = {"group": group, "epochs": 60, "quick": FAST, "seed": SEED}
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of trials whose map does not add up: the page says which
    page = xs.make_report(NETWORK, trials, out_dir / "report", raw=wide, **options, **told)
print(*sorted(path.name for path in page.parent.iterdir() if not path.name.startswith(".")))

# %% [markdown]
# Open `report.html` in a browser; it is one file and asks no other host for anything. `tables` has the numbers behind its figures,
# `weights` the networks. Its section "For your paper" says what was done in the order that the COBIDAS recommendations for EEG and MEG ask
# for {footcite:p}`pernet2020issues`, with the references as BibTeX. `receipt.json` says the same to programs, see [receipt of a report](../receipt.md).

# %%
receipt = json.loads((page.parent / "receipt.json").read_text())
decoder, verdict = receipt["decoder"], receipt["verdict"]
print(f"balanced accuracy {decoder['balanced_accuracy']:.2f}, chance {decoder['chance']:.2f}, p = {decoder['p']:.4f}")
print(f"{verdict['source']}: {verdict['rule']}")

# %%
found = pd.DataFrame(receipt["peaks"]).T[["channel", "frequency", "time"]]
for name, f in flicker.items() if decoder["p"] < 0.05 else ():
    assert found.loc[name, "frequency"] in (f, 2 * f)
assert decoder["p"] < 0.05 or verdict["source"] == "nothing"
found

# %% [markdown]
# ## Is it right where the answer is known?
#
# One subject proves little. The table is recorded: the same report on trials whose answer is known beforehand. *From the cue*, broadband
# and across eleven subjects of EEGBCI, the eyes follow the target, see [was it the brain?](../trust/12_was_it_the_brain.ipynb). In *one
# subject*, S007 within 7 to 38 Hz from a second after the cue on, it should be the motor cortex; with *labels permuted* within its runs,
# nothing. `part` is what the verdict names, with the accuracy without it and with nothing else.

# %% tags=["hide-input"]
verdicts = xs.recorded("report_verdicts").set_index("case")
answers = {"from the cue": "eyes", "one subject": "brain", "labels permuted": "nothing"}
assert all(verdicts.loc[case, "source"] == source for case, source in answers.items())
verdicts[["n_trials", "accuracy", "p", "source", "part", "accuracy_without", "accuracy_alone"]].round(4)

# %% [markdown]
# The rule is short. A part of the signal *carries* the decision where it would do alone and cannot be spared: with nothing else, at least
# half of the accuracy above chance is left; without it, at most half. If the components that look like eyes carry it, and so do the
# frequencies below 6 Hz, where eyes have their power, the verdict is *eyes*; [the reference](../api.md) has all the rules in their order.
# Of flicker it says *brain* where 6 to 20 Hz carry the decision and neither slower nor faster frequencies do, and else, above chance, that it
# cannot tell: eight electrodes over one place leave most of the power to no component. What the page does show of each light is the
# peak; beside it, the decision by power alone.

# %% tags=["hide-input"]
recorded = xs.recorded("report_peaks").round(4)
above = recorded["p"] < 0.05
assert (recorded["passed"] & recorded["harmonic"].isin([1, 2]))[above].all()
assert recorded.loc[~above, "reported"].isna().all()
assert (verdicts.loc[recorded.loc[~above, "case"], "source"] == "nothing").all()
assert verdicts.loc[recorded.loc[above, "case"], "source"].isin(["brain", "cannot tell"]).all()
missed = recorded.loc[~above & (recorded["by_power_p"] < 0.05), "case"].unique()
print("the network knows nothing, power alone does:", *missed, sep="\n- ")
print("peaks above the level in subjects at chance:", recorded.loc[~above, "passed"].sum(), "of", (~above).sum())
columns = ["case", "accuracy", "p", "by_power", "by_power_p"]
shown = recorded.pivot(index=columns, columns="class", values="reported").reset_index(columns[1:])
shown.loc[recorded["case"].unique()]

# %% [markdown]
# Wherever the network decodes above chance, each peak is at the light or at twice its frequency, above the level of permuted classes.
# Where it does not, the page says *nothing* and shows no peak, though some would pass that level: where the relevance is
# large and whether the answer is right are two questions. And *nothing* is said of this network, not of the brain: in the subjects
# that are named first the flicker is there, and the network has missed it.

# %% [markdown]
# ## How often is it right?
#
# Some recordings are no rate. So we make decoders whose answer is known: `simulate(..., background=trials)` plants a source in
# the cortex of real trials, with new labels that have nothing to do with what happened in them; `add_shortcut(trials, "blinks")` adds an
# artefact that goes along with the class in nine of ten trials; `judge_decoder` gives the verdict without the report, in half a minute.
# Half of the backgrounds below are simulated, half are windows of EEGBCI's subjects 1 to 10. **The rules were made on these very
# decoders**: the table says that they can be right on all these kinds, not how often they are on others. Other subjects, electrodes
# and networks are set aside to judge them, once, and have not been asked yet.

# %% tags=["hide-input"]
battery = xs.recorded("battery_made_on")
learnt = battery[(battery["p"] < 0.05) | (battery["answer"] == "nothing")]
print(f"at chance, though there was something to learn: {len(battery) - len(learnt)} of {len(battery)}")
honest = learnt[learnt["kind"] == "honest"]
assert honest["source"].isin(["brain", "cannot tell"]).all()  # none of them is accused
print(f"honest ones of which it cannot tell: {(honest['source'] == 'cannot tell').sum()} of {len(honest)}")
said = learnt["source"].where(learnt["source"] != learnt["answer"], "right")
pd.crosstab([learnt["answer"], learnt["kind"]], said.rename("verdict"))

# %% [markdown]
# ## Does it still stand?
#
# Months later somebody asks whether the table in the paper is that of the report. `verify_receipt` hashes every file and computes a
# sample of the numbers again. Then we change one byte.

# %%
verified = xs.verify_receipt(page.parent)
assert not (verified["status"] == "refused").any()
verified.groupby(["what", "status"]).size().rename("n").to_frame()

# %%
table = page.parent / "tables" / "predictions.parquet"
content = table.read_bytes()
table.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
refused = xs.verify_receipt(page.parent).query("status == 'refused'")
table.write_bytes(content)
assert [name.endswith("predictions.parquet") for name in refused["name"]] == [True]
refused[["what", "name"]]

# %% [markdown]
# The same without Python, from a shell: `eegxai report --help` has the options of this chapter, and
#
# ```bash
# eegxai report run1_raw.fif run2_raw.fif --event-file run1-eve.fif run2-eve.fif --events "13 Hz=2,17 Hz=4,21 Hz=3" \
#     --tmin 2 --tmax 5 --band 5,45 --resample 96 --unit standardised --train ShallowFBCSPNet --out report
# eegxai verify report/receipt.json
# ```
#
# ## A network of your own
#
# Yours may want another form of input, or return more than outputs. This one takes (trial, 1, channel, time), as many do, and
# returns its features as well. Every function adds an axis of one where a network wants it; which of several outputs is meant it cannot
# know, and says how to choose. A training of yours adds no axis, so here we say both.


# %% tags=["hide-input"]
class Mine(torch.nn.Module):
    def __init__(self, n_channels, n_outputs, n_filters=16):
        super().__init__()
        self.time = torch.nn.Conv2d(1, n_filters, (1, 25), bias=False)
        self.space = torch.nn.Conv2d(n_filters, n_filters, (n_channels, 1), groups=n_filters)
        self.norm = torch.nn.BatchNorm2d(n_filters)
        self.out = torch.nn.Linear(n_filters, n_outputs)

    def forward(self, x):  # (trial, 1, channel, time)
        x = self.norm(self.space(self.time(x)))
        features = x.square().mean(dim=(2, 3)).clamp(min=1e-6).log()
        return self.out(features), features


# %%
held_out = counts.loc[pd.unique(groups)[:0:-1]].cumsum().min(axis=1)  # from the last run backwards, without the first
last = held_out.index[: (held_out >= 8).argmax() + 1]  # a report asks for eight trials of each class
train, test = middle.subset(~np.isin(groups, last)), middle.subset(np.isin(groups, last))
torch.manual_seed(SEED)
mine = Mine(len(trials.info.ch_names), len(names))
try:
    xs.attribute(mine, test.signal, 0, "deep_lift")
except TypeError as error:
    print(error)
own = xs.adapted(mine, input=lambda x: x.unsqueeze(1), output=lambda output: output[0])

# %% [markdown]
# Train it however you like. Here it is braindecode's `EEGClassifier` {footcite:p}`schirrmeister2017deep`, whose fitted network every function takes out by itself.
# A report on a network that was trained elsewhere needs the trials that it has not seen, as `test`; without them the page says, in its
# first line, that it cannot know.

# %%
from braindecode import EEGClassifier

options = {"criterion": torch.nn.CrossEntropyLoss, "optimizer": torch.optim.AdamW, "lr": 0.01, "batch_size": 16}
options |= {"max_epochs": 20 if FAST else 60, "iterator_train__shuffle": True, "train_split": None, "verbose": 0}
classifier = EEGClassifier(own, classes=list(range(len(names))), **options)
classifier.fit(train.signal, train.label)
print(xs.accuracy(test.label, xs.predict(classifier, test).argmax(axis=1)))

# %%
own_page = xs.make_report(classifier, train, out_dir / "own", test=test, group=group, quick=True)
own_receipt = json.loads((own_page.parent / "receipt.json").read_text())
assert own_receipt["explained"]["origin"] == "test trials"
print(f"p = {own_receipt['decoder']['p']:.4f}: {own_receipt['verdict']['source']}")

# %% [markdown]
# ### From Keras
#
# The EEGNet that its authors published is written in Keras {footcite:p}`lawhern2018eegnet`. Keras 3 computes with PyTorch where you ask it to *before* it is
# imported, and its models are then modules of PyTorch. Keras is not installed with this book, so the cell below does not run here. We
# tried it once, with Keras 3.15 and the same layers, trained on two runs of subject 12: DeepLIFT, integrated gradients and LRP-ε added up to 1e-4
# of the change and better, and the report of the third run was made. Grad-CAM asks for convolutions of PyTorch and says that there are none.
#
# ```python
# import os
# os.environ["KERAS_BACKEND"] = "torch"
# import keras
# from EEGModels import EEGNet  # of arl-eegmodels, with tensorflow.keras replaced by keras
#
# network = EEGNet(nb_classes=3, Chans=8, Samples=192)   # takes (trial, channel, time, 1), returns softmax
# network.load_weights("mine.weights.h5")
# network.layers[-1].activation = keras.activations.linear  # outputs before softmax: explain scores; None cannot be copied
# mine = xs.adapted(network, input=lambda x: x.unsqueeze(-1))
# xs.make_report(mine, train, "report", test=test)
# ```
#
# ## What the messages mean
#
# An error here says what was given, what was expected, and what to do. These are the ones that recordings from elsewhere
# meet most often.
#
# | What you see | It means | What to do |
# |---|---|---|
# | *… does not exist; near it in its folder: …* | the path is wrong, seen from the folder you are in | take one of the near names |
# | *Which trials are which? … has, with their number: …* | a continuous recording has no classes until you name them | choose from the list: `events=` or `annotations=` |
# | *There are 1 event files for 3 recordings* | each recording needs its own | give a list, in the same order |
# | *… Taken as V … Pass unit='uV'* | the numbers are no volts, though the file says so | pass the unit that the warning names |
# | *All trials are of one run, so that none can be left out* | there is nothing to test on | `group="blocks"`, or another column |
# | *Trials of each class: … a report needs 8 of each* | a mean over fewer says little | leave the class out, or join it with others |
# | *… cannot take two trials of shape …* | the network wants another form | `xs.adapted(model, input=...)` |
# | *… returns tuple … expected a tensor* | it returns more than outputs | `xs.adapted(model, output=...)` |
# | *All … trials are among those that … was trained on* | nothing is left to explain | `test=`, or the network's name |
# | *… is not read: a .pt file is a pickle* | a pickle can run code of whoever made it | save the weights as safetensors, as the message shows |
#
# We provoke two of them.

# %%
for wrong in ({"group": "hand"}, {"methods": ["deeplift"]}):
    try:
        xs.make_report(NETWORK, trials, out_dir / "refused", **{"group": group} | wrong)
    except ValueError as error:
        print(error, end="\n\n")
assert not (out_dir / "refused").exists()  # refused before anything is written

# %% [markdown]
# ## What can go wrong
#
# - **A single run.** Blocks of one run share its electrodes, its drowsiness and its drifts. What generalises from block to block
#   need not generalise to tomorrow.
# - **A window that is no whole number of periods.** The flicker then leaks into neighbouring frequencies, and the
#   peak is broad, or beside the true one.
# - **Mains on the slope of the filter.** A pass-band that ends at 45 Hz still lets some of 50 Hz through, and a network may
#   use it. Try `"resample": 128` on subject 8, and look for it in the peaks.
# - **Peaks of a decoder at chance.** The largest value is always somewhere. Look at the level, and at p first.
# - **A verdict on a mixture.** A decoder that reads brain and eyes alike has no part that carries the decision: it cannot tell, and the table
#   of parts says how much goes with each.
# - **Tuning on the runs that you report.** Window, band and network above were fixed for all subjects, but chosen on these same
#   recordings, of subjects 12, 8, 3, 1 and 7: the accuracies may be too good. If you try ten, nested splits are needed.
#
# ## Take-aways
#
# - Read the notes of the reading; the cheapest mistakes are found there.
# - Explain only trials that the network has not seen, and only where it decodes better than chance.
# - A recording whose answer is known is the test of a whole chain, from the file to the verdict.
# - A receipt can be verified by somebody who does not trust you.
#
# ## Questions
#
# 1. Why would a window of 2 to 4.9 s make the peaks broader?
# 2. Why is the level drawn from the same trials rather than from random maps?
# 3. The page says "brain" and the accuracy is 0.9. What has not been shown?
# 4. What could the network use at 26 Hz for the light of 13 Hz, and is that the wrong reason?
#
# ## Exercise: an average reference
#
# The eight electrodes lie close together. Subtract their mean from each sample, as an average reference does, and decide by power
# again. What happened?
#
# :::{dropdown} Solution
# The response is nearly the same at all eight electrodes, so the mean is the response, and subtracting it removes most of the
# signal. The ratios at the flicker fall. An average over a few
# neighbours is no neutral reference.
# :::

# %% tags=["hide-cell"]
referenced = trials.signal - trials.signal.mean(axis=1, keepdims=True)
lost = np.square(referenced).sum() / np.square(trials.signal).sum()
print(f"power that is left: {lost:.2f}")
assert not flicker or lost < 0.5

# %% [markdown]
# ## References
#
# :::{footbibliography}
# :::
