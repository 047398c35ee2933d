"""Problems that people reported of other tools, rebuilt: each test is named after the kind."""

import warnings

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import eegxai_support as xs
from eegxai_support.decoders import load, train
from eegxai_support.model import UnsupportedOperation

NAMES = ("C3", "Cz", "C4", "Pz")
N_TRIALS, N_CHANNELS, N_TIMES = 6, len(NAMES), 32
X = np.random.default_rng(0).standard_normal((N_TRIALS, N_CHANNELS, N_TIMES)).astype("float32")


def small_net(n_outputs=2):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Conv1d(N_CHANNELS, 3, 5), nn.ReLU(), nn.Flatten(), nn.Linear(3 * (N_TIMES - 4), n_outputs)
    return nn.Sequential(*layers)


def gradient_of(model, x=X):
    """The gradient of output 0 by autograd in float64."""
    leaf = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    return torch.autograd.grad(model.double()(leaf)[:, 0].sum(), leaf)[0].numpy()


def epochs_of(metadata=None, offset=0.0):
    data = 1e-5 * np.random.default_rng(1).standard_normal((N_TRIALS, N_CHANNELS, N_TIMES)) + offset
    events = np.column_stack([100 * np.arange(N_TRIALS), np.zeros(N_TRIALS, int), [1, 2] * (N_TRIALS // 2)])
    info = mne.create_info(list(NAMES), 100.0, "eeg")
    return mne.EpochsArray(data, info, events, event_id={"left": 1, "right": 2}, metadata=metadata, verbose=False)


@pytest.fixture(autouse=True)
def every_warning_is_expected():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


# ---- networks ------------------------------------------------------------------------------------------------------


class Recurrent(nn.Module):
    """An LSTM whose state begins as `begin(n_trials)` says; None where it goes on from the last call."""

    def __init__(self, begin):
        super().__init__()
        self.lstm, self.linear = nn.LSTM(N_CHANNELS, 5, batch_first=True), nn.Linear(5, 2)
        self.begin, self.state = begin, None

    def forward(self, x):
        n_trials = self.begin(len(x))
        state = (x.new_zeros(1, n_trials, 5),) * 2 if n_trials else self.state
        made, self.state = self.lstm(x.transpose(1, 2), state)
        return self.linear(made[:, -1])


def test_a_batch_size_that_is_written_into_the_network_is_named():
    fixed = Recurrent(lambda n_trials: N_TRIALS)
    with pytest.raises(
        ValueError, match=r"takes 6 trials but not two\. A batch size is written into it.*len\(x\) rows"
    ):
        xs.attribute(fixed, X, 0, "gradient")
    fixed.begin = lambda n_trials: n_trials  # what the message advises
    np.testing.assert_allclose(xs.attribute(fixed, X, 0, "gradient").values, gradient_of(fixed), atol=1e-7)


def test_a_state_that_is_kept_from_call_to_call_is_named():
    keeps = Recurrent(lambda n_trials: 0)
    for explain in (lambda: xs.attribute(keeps, X, 0, "occlusion"), lambda: xs.predict(keeps, X)):
        with pytest.raises(ValueError, match=r"but not one after them .*it keeps a state"):
            explain()

    class Sums(nn.Module):
        """Goes on whatever the number of trials."""

        total = 0.0

        def forward(self, x):
            self.total = self.total + 1
            return x.mean(2) * self.total

    with pytest.warns(UserWarning, match="a state that it keeps from one call to the next"):
        xs.attribute(Sums(), X, 0, "gradient")


def test_weights_that_were_never_drawn_are_not_explained():
    lazy = nn.Sequential(nn.Conv1d(N_CHANNELS, 3, 5), nn.Flatten(), nn.LazyLinear(2))
    for use in (lambda: xs.attribute(lazy, X, 0, "gradient"), lambda: xs.predict(lazy, X)):
        with pytest.raises(ValueError, match=r"2\.weight, 2\.bias.*torch\.zeros\(1, 4, 32\)"):
            use()
        assert isinstance(lazy[2], nn.LazyLinear)  # a look draws nothing
    lazy.eval()(torch.zeros(1, 4, 32))  # what the message advises
    np.testing.assert_allclose(xs.attribute(lazy, X, 0, "gradient").values, gradient_of(lazy), atol=1e-7)


@pytest.mark.parametrize("back", [lambda outputs: outputs, lambda outputs: outputs.float()])
def test_half_precision_inside_the_forward_is_refused(back):
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.enabled = small_net(), True

        def forward(self, x):
            with torch.autocast("cpu", torch.bfloat16, enabled=self.enabled):
                return back(self.net(x))

    model = Mixed()
    for method in ("gradient", "occlusion"):
        with pytest.raises(TypeError, match=r"computes in half precision \(conv1d\).*enabled=False"):
            xs.attribute(model, X, 0, method)
    model.enabled = False
    np.testing.assert_allclose(xs.attribute(model, X, 0, "gradient").values, gradient_of(small_net()), atol=1e-7)


def test_backward_hooks_that_another_tool_left_change_no_map():
    model = small_net()
    model[1] = nn.ReLU(inplace=True)
    right = gradient_of(small_net())
    model[0].register_full_backward_hook(lambda module, given, made: None)  # which forbids the layer in place after it
    model[3].register_full_backward_hook(lambda module, given, made: (given[0].clamp(min=0),))
    model[3].register_full_backward_pre_hook(lambda module, made: (2 * made[0],))
    np.testing.assert_allclose(xs.attribute(model, X, 0, "gradient").values, right, atol=1e-7)
    assert abs(xs.attribute(model, X, 0, "deep_lift").delta).max() < 1e-5
    assert model[3]._backward_hooks and model[3]._backward_pre_hooks  # they are the user's


def test_quantised_layers_have_no_derivative():
    warnings.simplefilter("ignore")  # torch gives this interface up
    quantised = torch.ao.quantization.quantize_dynamic(small_net(), {nn.Linear}, dtype=torch.qint8)
    with pytest.raises(UnsupportedOperation, match=r"cuts it off .*quantised layers.*occlusion"):
        xs.attribute(quantised, X, 0, "gradient")
    found, right = (xs.attribute(model, X, 0, "occlusion").values for model in (quantised, small_net()))
    assert np.corrcoef(found.ravel(), right.ravel())[0, 1] > 0.99


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("script", [torch.jit.script, lambda model: torch.jit.trace(model, torch.zeros(2, 4, 32))])
def test_scripted_networks_are_explained_by_what_needs_no_layer(script):
    scripted = script(small_net())
    for method in ("gradient", "integrated_gradients", "occlusion"):
        found, right = (xs.attribute(model, X, 0, method).values for model in (scripted, small_net()))
        np.testing.assert_allclose(found, right, atol=1e-6)
    for options in ({}, {"layer": "0"}):
        with pytest.raises(UnsupportedOperation, match=r"is scripted.*as it was before torch\.jit"):
            xs.attribute(scripted, X, 0, "grad_cam", **options)
    with pytest.raises(UnsupportedOperation, match="is scripted"):
        xs.unit_activations(scripted, X, "0")
    with pytest.raises(TypeError, match=r"expected a convolution.*before torch\.jit"):
        xs.read_filters(scripted, xs.FilterLayers("0", "0"), 100.0)


def test_outputs_at_every_time_are_averaged_over_the_axis_of_time():
    class EveryTime(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(N_CHANNELS, 2)

        def forward(self, x):
            return self.linear(x.transpose(1, 2)).tanh()  # (trial, time, output)

    model = EveryTime()
    with pytest.raises(ValueError, match=r"\(2, 32, 2\).*if axis 1, the longest, is time.*output\.mean\(1\)"):
        xs.attribute(model, X, 0, "gradient")
    found = xs.attribute(xs.adapted(model, output=lambda output: output.mean(1)), X, 0, "gradient")
    np.testing.assert_allclose(found.values, gradient_of(lambda_model(model)), atol=1e-7)


def lambda_model(model):
    """The mean over time, written by hand."""
    mean = nn.Module()
    mean.model, mean.forward = model, lambda x: model(x).mean(1)
    return mean


def test_weights_that_the_forward_renormalises_are_explained_as_it_uses_them():
    class Constrained(nn.Conv1d):
        """EEGNet's maximum norm, as it is often written for PyTorch."""

        def forward(self, x):
            self.weight.data = torch.renorm(self.weight.data, p=2, dim=0, maxnorm=0.3)
            return super().forward(x)

    model, plain = small_net(), small_net()
    constrained = Constrained(N_CHANNELS, 3, 5)
    constrained.load_state_dict(model[0].state_dict())
    model[0], before = constrained, constrained.weight.detach().clone()
    plain[0].weight.data = torch.renorm(before, p=2, dim=0, maxnorm=0.3)
    for method in ("gradient", "deep_lift", "lrp_epsilon", "grad_cam"):
        found, right = (xs.attribute(each, X, 0, method).values for each in (model, plain))
        np.testing.assert_allclose(found, right, atol=1e-6)
    assert torch.equal(model[0].weight, before)


# ---- targets and trials --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "error", "remedy", "mended"),
    [
        (np.eye(2)[[0, 1] * 3], ValueError, r"target\.argmax\(1\)", lambda target: target.argmax(1)),
        (np.array([[0], [1]] * 3), ValueError, r"target\[:, 0\]", lambda target: target[:, 0]),
        (np.array([0.0, 1.0] * 3), TypeError, r"target\.astype\(int\)", lambda target: target.astype(int)),
        (np.array([1, 2] * 3), ValueError, "Counted from 1.*target - 1", lambda target: target - 1),
    ],
)
def test_labels_in_another_form_are_told_how_to_become_targets(target, error, remedy, mended):
    with pytest.raises(error, match=remedy):
        xs.attribute(small_net(), X, target, "gradient")
    found, right = (xs.attribute(small_net(), X, each, "gradient") for each in (mended(target), [0, 1] * 3))
    np.testing.assert_array_equal(found.values, right.values)


def test_trials_of_several_lengths_are_refused_with_their_shapes():
    ragged = [X[0], X[1, :, :20]]
    remedy = r"shapes \(4, 32\), \(4, 20\).*np\.stack\(\[trial\[:, :n_times\]"
    with pytest.raises(ValueError, match=remedy):
        xs.attribute(small_net(), ragged, 0, "gradient")
    with pytest.raises(ValueError, match=remedy):
        xs.from_array(ragged, 100.0, NAMES)
    assert (
        xs.from_array(np.stack([trial[:, :20] for trial in ragged]), 100.0, NAMES, unit="standardised").n_classes == 0
    )


def test_trials_with_further_axes_are_joined_and_parted_again():
    bands = np.random.default_rng(2).standard_normal((5, N_CHANNELS, 10, 16)).astype("float32")
    with torch.random.fork_rng():
        images = nn.Sequential(nn.Conv2d(N_CHANNELS, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 8 * 14, 2))
    with pytest.raises(ValueError, match=r"x\.reshape\(len\(x\), -1, 16\).*x\.unflatten\(1, \(4, 10\)\)"):
        xs.attribute(images, bands, 0, "gradient")
    model = xs.adapted(images, input=lambda x: x.unflatten(1, (4, 10)))  # what the message advises
    found = xs.attribute(model, bands.reshape(len(bands), -1, 16), 0, "gradient").values
    np.testing.assert_allclose(found.reshape(bands.shape), gradient_of(images, bands), atol=1e-7)


def test_datasets_whose_trials_have_an_axis_of_one_are_taken():
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(X)[:, None], torch.zeros(N_TRIALS))
    found, right = (xs.attribute(small_net(), x, 0, "gradient").values for x in (dataset, X))
    np.testing.assert_array_equal(found, right)


# ---- recordings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values", [["yes", "no", np.nan] * 2, ["yes", None, "no"] * 2, pd.array([1, 2, None] * 2), [0.3, 0.2, np.nan] * 2]
)
def test_a_label_that_lacks_a_value_is_refused_with_its_trials(values):
    epochs = epochs_of(pd.DataFrame({"answer": values}))
    with pytest.raises(ValueError, match=r"answer of 2 of 6 trials is missing.*epochs\[epochs\.metadata\['answer'\]"):
        xs.from_epochs(epochs, label="answer")
    assert len(xs.from_epochs(epochs[epochs.metadata["answer"].notna()], label="answer")) == 4  # as it advises


def test_categories_keep_their_order():
    answer = pd.Categorical(["mid", "high", "low"] * 2, categories=["low", "mid", "high", "never"], ordered=True)
    with pytest.warns(UserWarning, match="no trial has them: the classes never"):
        trials = xs.from_epochs(epochs_of(pd.DataFrame({"answer": answer})), label="answer")
    assert trials.class_names == ("low", "mid", "high") and trials.label.tolist() == [1, 2, 0] * 2


def test_labels_of_several_types_are_classes_by_their_names():
    answer = pd.Series([1, "x", 2] * 2, dtype=object)
    trials = xs.from_epochs(epochs_of(pd.DataFrame({"answer": answer})), label="answer")
    assert trials.class_names == ("1", "2", "x") and trials.label.tolist() == [0, 2, 1] * 2


def test_the_offset_of_an_amplifier_is_named():
    with pytest.warns(UserWarning, match=r"4 of 4 channels are far from zero: .* lies at 4\.2e\+03.*raw\.filter\(0\.5"):
        trials = xs.from_epochs(epochs_of(offset=4200e-6))  # V, as an Emotiv headset records
    xs.from_array(trials.signal - trials.signal.mean(2, keepdims=True), 100.0, NAMES, trials.label)  # warns no more


def test_windows_of_an_array_say_how_their_channels_become_eeg():
    datasets = pytest.importorskip("braindecode.datasets")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        windows = datasets.create_from_X_y(
            10 * X, [0, 1] * 3, False, 100.0, NAMES, window_size_samples=N_TIMES, window_stride_samples=N_TIMES
        )
    with pytest.raises(ValueError, match=r"\['misc'\].*set_channel_types.*of windows on the raw of each data set"):
        xs.from_epochs(windows, unit="uV")
    for part in windows.datasets:
        part.raw.set_channel_types(dict.fromkeys(NAMES, "eeg"), on_unit_change="ignore", verbose=False)
    subset = torch.utils.data.Subset(windows, [4, 1])
    with pytest.raises(TypeError, match=r"from_epochs\(subset\.dataset\)\.subset\(subset\.indices\)"):
        xs.from_epochs(subset)
    trials = xs.from_epochs(subset.dataset, unit="uV").subset(subset.indices)
    np.testing.assert_allclose(trials.signal, 10 * X[[4, 1]], rtol=1e-5)
    assert trials.label.tolist() == [0, 1]


def test_codes_that_mean_other_classes_in_other_files_are_joined_by_name():
    first, second = epochs_of(), epochs_of()
    second.event_id = {"right": 1, "rest": 2}
    trials = xs.from_epochs([first, second])
    assert trials.class_names == ("left", "right", "rest")
    assert trials.label.tolist() == [0, 1] * 3 + [1, 2] * 3


# ---- training and weights ------------------------------------------------------------------------------------------


def test_a_training_that_diverges_is_stopped():
    trials = xs.from_epochs(epochs_of())
    with pytest.raises(ValueError, match=r"The loss of the Sequential is (nan|inf).*Lower lr \(1e\+30\)"):
        train(small_net(), trials, epochs=5, lr=1e30)


def test_weights_of_another_format_or_network_are_named(tmp_path):
    model = small_net()
    torch.save(model.state_dict(), tmp_path / "params.pt")
    with pytest.raises(
        ValueError, match=r"written by torch\.save: model\.load_state_dict\(torch\.load\(path, weights_on"
    ):
        load(small_net(), tmp_path / "params.pt")
    small_net().load_state_dict(torch.load(tmp_path / "params.pt", weights_only=True))  # what it advises
    xs.save(nn.ModuleDict({"module": model}), tmp_path / "parallel.safetensors")
    with pytest.raises(ValueError, match=r"it lacks 0\.weight, 0\.bias …; it has module\.0\.bias"):
        load(small_net(), tmp_path / "parallel.safetensors")
    xs.save(small_net(3), tmp_path / "three.safetensors")
    with pytest.raises(ValueError, match=r"of another size are 3\.weight, \(3, 84\) for \(2, 84\), 3\.bias"):
        load(model, tmp_path / "three.safetensors")


def test_trials_of_one_recording_are_told_how_to_be_divided():
    trials = xs.from_epochs(epochs_of())
    with pytest.raises(ValueError, match=r"All trials are in one group \(1\).*by='session'.*by=array"):
        xs.cross_validate(xs.csp_lda(2), trials)
    assert len(xs.cross_validate(xs.csp_lda(2), trials, by=np.repeat([0, 1], 3))) == N_TRIALS


# ---- electrodes and components -------------------------------------------------------------------------------------


def test_electrodes_in_one_place_count_alike_in_scores():
    names = ("T7", "T3", "Cz", "Pz", "O1", "O2", "Fz")  # the first two are one place under two names
    maps = np.random.default_rng(3).standard_normal((4, len(names), 20)).astype("float32")
    reference = np.abs(maps)
    info = xs.from_array(10 * maps, 100.0, names).info
    swapped = [1, 0, *range(2, len(names))]
    found, right = (xs.score_maps(maps[:, order], reference[:, order], info) for order in (range(len(names)), swapped))
    pd.testing.assert_frame_equal(found, right)
    changed = maps.copy()
    changed[:, 1] *= -3  # T3 alone
    assert (xs.score_maps(changed, reference, info)["SSIM_raw"] != found["SSIM_raw"]).all()


def test_components_of_channels_in_another_order_are_refused():
    trials = xs.from_epochs(epochs_of())
    ica = mne.preprocessing.ICA(3, max_iter=5, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ica.fit(epochs_of(), verbose=False)
    turned = trials.pick(NAMES[::-1])
    with pytest.raises(ValueError, match=r"fitted to the channels C3, Cz, C4, Pz; the trials have Pz, C4, Cz, C3"):
        xs.component_relevance(xs.attribute(small_net(), turned, 0, "deep_lift"), turned, ica)
    explained = xs.attribute(small_net(), trials, 0, "deep_lift")
    found, right = (xs.component_relevance(explained, x, ica) for x in (trials, trials.signal))
    np.testing.assert_array_equal(found, right)


def test_a_single_trial_is_told_how_to_become_a_set():
    with pytest.raises(ValueError, match=r"\(4, 32\).*x\[None\]"):
        xs.attribute(small_net(), X[0], 0, "gradient")
    assert xs.attribute(small_net(), X[0][None], 0, "gradient").values.shape == (1, N_CHANNELS, N_TIMES)
