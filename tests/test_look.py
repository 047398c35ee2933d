"""One look at a model and its trials: what is taken, warned of and refused, and with what advice."""

import warnings
from dataclasses import replace

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from networks import SIZES, build
from torch import nn

import eegxai_support as xs
from eegxai_support.attribution import METHODS, attribute
from eegxai_support.model import TrainingRecord, UnsupportedOperation, look, model_input
from eegxai_support.model.state import duplicate
from eegxai_support.trials import Trials

N_CHANNELS, N_TIMES, N_TRIALS, SFREQ = SIZES["n_chans"], SIZES["n_times"], 5, 100.0
NAMES = ["C3", "Cz", "C4"]
RNG = np.random.default_rng(0)
X = RNG.standard_normal((N_TRIALS, N_CHANNELS, N_TIMES)).astype("float32")
OPTIONS = {
    "integrated_gradients": {"n_steps": 8, "max_steps": 16, "tol": np.inf},
    "expected_gradients": {"n_samples": 8},
    "smooth_grad": {"n_samples": 4},
    "kernel_shap": {"n_samples": 8},
    "grad_cam": {"layer": "conv"},
    "guided_grad_cam": {"layer": "conv"},
}


class Net(nn.Module):
    """Three numbers per trial from a small convolution; `after` says what comes back."""

    def __init__(self, after=lambda z: z, before=lambda x: x, n_outputs=3):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv, self.linear = nn.Conv1d(N_CHANNELS, 4, 9), nn.Linear(4, n_outputs)
        self.relu, self.before, self.after = nn.ReLU(), before, after

    def forward(self, x):
        return self.after(self.linear(self.relu(self.conv(self.before(x))).mean(2)))


def trials(label=None, class_names=("a", "b", "c"), names=NAMES, sfreq=SFREQ):
    info = mne.create_info(names, sfreq, "eeg").set_montage("colin27_1005", verbose=False)
    metadata = pd.DataFrame({"subject": 1, "session": 1, "run": 1}, index=range(N_TRIALS))
    label = np.arange(N_TRIALS) % len(class_names) if label is None else label
    return Trials(10 * X, "uV", label, info, class_names, metadata)


def quietly(*args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return attribute(*args, **options)


# --- what is taken ----------------------------------------------------------------------------------------------------


class Skorch:
    """What a fitted classifier of skorch is to us."""

    def __init__(self, module):
        self.module_ = module


@pytest.mark.parametrize("wrap", [Skorch, nn.DataParallel, torch.compile, lambda model: Skorch(nn.DataParallel(model))])
def test_a_network_is_taken_out_of_its_wrapper(wrap):
    model = build("EEGNet")
    expected = attribute(model, X, 0, "gradient").values
    np.testing.assert_array_equal(attribute(wrap(model), X, 0, "gradient").values, expected)
    np.testing.assert_array_equal(xs.predict(wrap(model), X), xs.predict(model, X))


def test_compiled_parts_of_a_network_run_as_they_were_written():
    model = Net()
    expected = attribute(model, X, 0, "guided_backprop").values
    model.relu = torch.compile(nn.ReLU())
    np.testing.assert_array_equal(attribute(model, X, 0, "guided_backprop").values, expected)


def test_a_classifier_of_braindecode_is_taken_and_an_unfitted_one_told_to_fit():
    from braindecode import EEGClassifier

    classifier = EEGClassifier(Net, max_epochs=1, train_split=None, verbose=0, classes=[0, 1, 2])
    with pytest.raises(TypeError, match=r"no network yet.*initialize"):
        attribute(classifier, X, 0, "gradient")
    classifier.initialize()
    expected = attribute(classifier.module_, X, 0, "gradient").values
    np.testing.assert_array_equal(attribute(classifier, X, 0, "gradient").values, expected)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Net, "the class Net"),
        (lambda x: x.mean(2), "forward of a class"),
        (type("Pipeline", (), {"steps": []})(), r"pipeline\[-1\]"),
        (None, "expected a torch.nn.Module"),
    ],
)
def test_what_is_no_network_is_refused_with_what_to_pass(model, message):
    for function in (lambda: attribute(model, X, 0, "gradient"), lambda: xs.predict(model, X)):
        with pytest.raises(TypeError, match=message):
            function()


def test_trials_are_taken_in_every_form():
    model, data = Net(), trials()
    epochs = mne.EpochsArray(data.signal.astype(float) * 1e-6, data.info, verbose=False)
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(10 * X), torch.arange(N_TRIALS))
    expected = attribute(model, 10 * X, 0, "gradient").values
    for x in (data, epochs, dataset, (10 * X).tolist(), torch.from_numpy(10 * X)):
        np.testing.assert_allclose(attribute(model, x, 0, "gradient").values, expected, atol=1e-6)
        np.testing.assert_allclose(xs.predict(model, x), xs.predict(model, 10 * X), atol=1e-5)


def test_windows_of_braindecode_are_taken_with_their_channels():
    from braindecode.datasets import BaseConcatDataset, WindowsDataset

    data = trials()
    metadata = pd.DataFrame({"target": data.label, "i_window_in_trial": 0, "i_start_in_trial": 0, "i_stop_in_trial": 1})
    epochs = mne.EpochsArray(data.signal.astype(float), data.info, metadata=metadata, verbose=False)
    windows = BaseConcatDataset([WindowsDataset(epochs)])
    expected = attribute(Net(), 10 * X, 0, "gradient").values
    np.testing.assert_allclose(attribute(Net(), windows, 0, "gradient").values, expected, atol=1e-6)
    model = Net()
    model.chs_info = [{"ch_name": name} for name in reversed(NAMES)]
    with pytest.raises(ValueError, match="another order"):
        attribute(model, windows, 0, "gradient")


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.utils.data.DataLoader(X), r"torch\.cat"),
        (mne.io.RawArray(np.zeros((3, 10)), mne.create_info(3, 100.0), verbose=False), "Cut a Raw"),
        ({"x": X}, "expected trials"),
        (np.array([["a"]]), "real numbers"),
        (X.astype(complex), "real"),
    ],
)
def test_what_are_no_trials_is_refused_with_what_to_pass(x, message):
    with pytest.raises(TypeError, match=message):
        attribute(Net(), x, 0, "gradient")


def test_networks_with_an_axis_of_one_before_the_channels_get_it():
    images = Net(before=lambda x: x[:, 0] if x.ndim == 4 else torch.empty(0, 1)[1])
    for method in METHODS:
        options = OPTIONS.get(method, {})
        expected = quietly(Net(), X, 0, method, **options).values
        np.testing.assert_array_equal(quietly(images, X, 0, method, **options).values, expected, err_msg=method)
        np.testing.assert_array_equal(
            quietly(images, X[:1], 0, "gradient").values, quietly(Net(), X[:1], 0, "gradient").values
        )
    np.testing.assert_array_equal(xs.predict(images, X), xs.predict(Net(), X))
    assert not images._forward_pre_hooks  # the network itself is left alone
    with pytest.raises(ValueError, match=r"Give x\[:, 0\]"):
        attribute(images, X[:, None], 0, "gradient")


def test_a_convolution_over_images_does_not_take_trials_for_one():
    """`Conv2d` takes (1, channel, time) as a single image: alone, the first trial would pass."""
    model = nn.Sequential(nn.Conv2d(1, 2, (N_CHANNELS, 5)), nn.Flatten(), nn.LazyLinear(3))
    model(torch.zeros(1, 1, N_CHANNELS, N_TIMES))
    whole = attribute(model, X, 1, "gradient").values
    np.testing.assert_allclose(attribute(model, X[:1], 1, "gradient").values, whole[:1], atol=1e-6)


@pytest.mark.parametrize("after", [lambda z: z[:, 1], lambda z: z[:, 1:2, None], lambda z: z[..., None, None]])
def test_one_number_a_trial_and_axes_of_one_are_outputs(after):
    expected = attribute(Net(), X, 1, "gradient").values
    found = attribute(Net(after), X, 1 if look(Net(after), X).n_outputs > 1 else 0, "gradient").values
    np.testing.assert_array_equal(found, expected)


def test_the_adapted_network_is_the_one_that_the_message_promises():
    model = Net(lambda z: {"features": z, "logits": z.flip(1)})
    with pytest.raises(TypeError, match=r"'features' \(2, 3\), 'logits' \(2, 3\).*xs\.adapted"):
        attribute(model, X, 0, "gradient")
    chosen = xs.adapted(model, output=lambda output: output["logits"])
    assert [*dict(chosen.named_modules())] == [*dict(model.named_modules())]
    expected = attribute(Net(), X, 2, "gradient").values
    np.testing.assert_array_equal(attribute(chosen, X, 0, "gradient").values, expected)
    turned = xs.adapted(Net(before=lambda x: x.mT), input=lambda x: x.mT)
    np.testing.assert_array_equal(attribute(turned, X, 2, "gradient").values, expected)


@pytest.mark.parametrize(
    ("after", "error", "message"),
    [
        (lambda z: (z, z), TypeError, r"returns tuple \(\(2, 3\), \(2, 3\)\).*output\[0\]"),
        (lambda z: {"a": z, "logits": z}, TypeError, r"output\['logits'\]"),
        (lambda z: z.detach().numpy(), TypeError, r"returns ndarray \(\(2, 3\)\).*torch\.as_tensor\(output\)"),
        (lambda z: z[:, :, None] * torch.ones(7), ValueError, r"shape \(2, 3, 7\).*output\.mean\(2\)"),
        (lambda z: z[:, :, None, None] * torch.ones(7, 5), ValueError, r"output\.mean\(\(2, 3\)\)"),
        (lambda z: z[:, None], ValueError, r"shape \(2, 1, 3\).*outputs of a trial.*output\.flatten\(1\)"),
        (lambda z: z.argmax(1), ValueError, "explain scores, not decisions"),
        (lambda z: z.mean(), ValueError, "Keep the axis of trials"),
    ],
)
@pytest.mark.parametrize("before", [lambda x: x, lambda x: x[:, 0]], ids=["3 axes", "4 axes"])
def test_outputs_in_another_form_are_refused_at_every_function(after, error, message, before):
    model = Net(after, before)
    for function in (
        lambda: attribute(model, X, 0, "gradient"),
        lambda: xs.predict(model, X),
        lambda: xs.amplitude_gradients(model, X),
        lambda: xs.deletion_test(model, X, [0] * N_TRIALS, X),
    ):
        with pytest.raises(error, match=message):
            function()


def test_the_advice_for_a_tuple_of_a_network_of_four_axes_works():
    chosen = xs.adapted(Net(lambda z: (z, 0), lambda x: x[:, 0]), output=lambda output: output[0])
    np.testing.assert_array_equal(xs.predict(chosen, X), xs.predict(Net(), X))


def test_the_advice_for_an_axis_before_the_outputs_keeps_them():
    flat = xs.adapted(Net(lambda z: z[:, None]), output=lambda output: output.flatten(1))
    np.testing.assert_array_equal(xs.predict(flat, X), xs.predict(Net(), X))


def test_a_network_that_cannot_take_the_trials_names_its_own_reason():
    with pytest.raises(
        ValueError, match=r"cannot take two trials of shape \(2, 3, 120\) \(RuntimeError: .*xs\.adapted"
    ):
        attribute(Net(before=lambda x: x[:, :, :, None]), X, 0, "gradient")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_refused_at_every_function(dtype):
    model = build("EEGNet", dtype)
    for function in (
        lambda: attribute(model, X, 0, "gradient"),
        lambda: xs.predict(model, X),
        lambda: xs.amplitude_gradients(model, X),
        lambda: xs.amplitude_perturbation(model, X, n_iterations=1),
        lambda: xs.unit_activations(model, X, "conv_spatial"),
        lambda: xs.deletion_test(model, X, [0] * N_TRIALS, X),
        lambda: xs.concept_relevance(model, X, 0, "conv_spatial"),
    ):
        with pytest.raises(TypeError, match=r"Give model\.float\(\)"):
            function()


def test_a_lazy_network_that_never_ran_is_refused_with_the_line_that_mends_it():
    """A copy of it would draw its weights, be explained and thrown away."""
    for function in (
        lambda model: attribute(model, X, 0, "gradient"),
        lambda model: xs.predict(model, X),
        lambda model: xs.amplitude_gradients(model, X),
        lambda model: xs.deletion_test(model, X, [0] * N_TRIALS, X),
        lambda model: xs.train(model, trials(), epochs=1, device="cpu"),
    ):
        model = nn.Sequential(nn.Flatten(), nn.LazyBatchNorm1d(), nn.LazyLinear(3))
        with pytest.raises(ValueError, match=r"1\.weight.*model\.eval\(\)\(torch\.zeros\(1, 3, 120\)\)"):
            function(model)
        assert isinstance(model[2].weight, nn.UninitializedParameter)  # nobody drew its weights in passing
        model.eval()(torch.zeros(1, N_CHANNELS, N_TIMES))
        function(model)


# --- what the model declares ------------------------------------------------------------------------------------------


def test_channels_and_rates_that_the_model_was_not_made_for_are_refused():
    model = Net()
    model.chs_info = [{"ch_name": name} for name in ("C4", "Cz", "C3")]
    with pytest.raises(ValueError, match=r"has the channels C3, Cz, C4 .* made for C4, Cz, C3.*Trials\.pick"):
        attribute(model, trials(), 0, "gradient")
    model.chs_info = [{"ch_name": name} for name in ("F3", "Fz", "F4")]
    with pytest.raises(ValueError, match=r"made for F3, Fz, F4\. Pick"):
        xs.predict(model, trials())
    model.chs_info = [{"ch_name": name.upper()} for name in NAMES]
    model.sfreq = 250
    with pytest.raises(ValueError, match="sampled at 100 Hz but the Net was made for 250 Hz"):
        xs.amplitude_gradients(model, trials())
    model.sfreq = 100
    attribute(model, trials(), 0, "gradient")
    attribute(model, X, 0, "gradient")  # an array knows no channels


def record(**changes):
    fields = {"ch_names": tuple(NAMES), "sfreq": SFREQ, "unit": "uV", "scale": 10.0}
    return TrainingRecord(**fields | {"class_names": ("a", "b", "c"), "n_trials": (9, 9, 0)} | changes)


def test_a_class_without_training_trials_is_not_explained():
    model = Net()
    model.training_record = record()
    for target in (2, [0, 1, 2, 0, 1], (0, 2)):
        with pytest.raises(ValueError, match=r"trained without a trial of c"):
            attribute(model, 10 * X, target, "gradient")
    attribute(model, 10 * X, (0, 1), "gradient")
    for test in (xs.deletion_test, xs.sensitivity_test, xs.perturbation_curves):
        with pytest.raises(ValueError, match=r"trained without a trial of c"):
            test(model, 10 * X, 2, X)


def test_classes_in_another_order_than_the_models_are_refused():
    model = Net()
    model.training_record = record()
    with pytest.raises(ValueError, match="label 0 is b for the one and another class"):
        attribute(model, trials(class_names=("b", "a", "c")), 0, "gradient")


def test_classes_numbered_anew_without_one_of_the_training_are_refused_and_the_advice_numbers_them():
    model = Net()
    model.training_record = record()
    fewer = trials(class_names=("a", "c"))
    with pytest.raises(ValueError, match="label 1 is c for the one and another class for the other"):
        attribute(model, fewer, 0, "gradient")
    names = list(model.training_record.class_names)
    right = replace(fewer, class_names=names, label=[names.index(fewer.class_names[k]) for k in fewer.label])
    assert attribute(model, right, 0, "gradient").decoder == xs.accuracy(
        [0, 2, 0, 2, 0], xs.predict(model, right).argmax(1), 3
    )
    attribute(model, trials(class_names=("a", "b")), 0, "gradient")  # the numbers that the model knows
    attribute(model, trials(class_names=("x", "y", "z")), 0, "gradient")  # other words, perhaps the same classes


def test_epochs_are_taken_as_from_epochs_takes_them():
    info = mne.create_info([f"EEG {name}-Ref" for name in NAMES], SFREQ, "eeg")
    epochs = mne.EpochsArray(1e-5 * X, info, verbose=False)
    epochs.set_eeg_reference(projection=True, verbose=False)
    made, model = xs.from_epochs(epochs), Net()
    model.training_record = record(ch_names=tuple(made.info.ch_names))
    assert made.info.ch_names == NAMES
    np.testing.assert_allclose(xs.predict(model, epochs), xs.predict(model, made), rtol=1e-4)
    assert not epochs.info["projs"][0]["active"]
    with pytest.raises(TypeError, match=r"list of epochs.*xs\.from_epochs"):
        xs.predict(model, [epochs, epochs])
    density = mne.EpochsArray(X, mne.create_info(NAMES, SFREQ, "csd"), verbose=False)
    with pytest.raises(ValueError, match=r"no good EEG channel; its types are \['csd'\].*xs\.from_epochs"):
        xs.predict(model, density)


def test_warnings_point_at_the_line_that_asked():
    model = Net(lambda z: z.softmax(1))
    model.training_record = record()
    for function in (
        lambda: attribute(model, X * 1e6, 0, "gradient"),
        lambda: xs.predict(model, X * 1e6),
        lambda: xs.amplitude_gradients(model, X * 1e6),
        lambda: xs.deletion_test(model, X * 1e6, 0, X),
        lambda: xs.unit_activations(model, X * 1e6, "conv"),
        lambda: xs.concept_relevance(Net(lambda z: 0 * z), X, 0, "conv", share=0.5),
    ):
        with pytest.warns(UserWarning) as caught:
            function()
        assert {each.filename for each in caught} == {__file__}


@pytest.mark.parametrize("factor", [1e-6, 1e-3, 1e3])
def test_trials_in_another_unit_than_the_training_are_named(factor):
    model = Net()
    model.training_record = record()
    with pytest.warns(UserWarning, match=r"standard deviation of .* that the Net was trained on had 10 \(uV\)"):
        attribute(model, 10 * factor * X, 0, "gradient")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attribute(model, 3 * X, 0, "gradient")  # a person with smaller EEG


# --- what comes back --------------------------------------------------------------------------------------------------


def test_probabilities_are_recognised_with_what_to_explain_instead():
    for after in (lambda z: z.softmax(1), lambda z: z.log_softmax(1)):
        with pytest.warns(UserWarning, match=r"returns (log-)?probabilities.*Explain what goes into"):
            attribute(Net(after), X, 0, "saliency")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        of_logs = attribute(Net(lambda z: z.log_softmax(1)), X, (0, 1), "gradient").values
        attribute(Net(lambda z: z.softmax(1)), X, 0, "occlusion")  # no gradient that could vanish
    np.testing.assert_allclose(of_logs, attribute(Net(), X, (0, 1), "gradient").values, atol=1e-6)


def test_the_advice_for_probabilities_leads_to_the_map_of_the_logits():
    model = nn.Sequential(Net(), nn.Softmax(1))
    with pytest.warns(UserWarning, match=r"model\.1 = torch\.nn\.Identity\(\)"):
        attribute(model, X, 0, "gradient")
    model[1] = nn.Identity()
    np.testing.assert_array_equal(attribute(model, X, 0, "gradient").values, attribute(Net(), X, 0, "gradient").values)


def test_confidence_at_the_baseline_is_read_off_probabilities_too():
    model = Net(lambda z: (z + torch.tensor([9.0, 0, 0])).softmax(1))
    assert quietly(model, X, 0, "occlusion").at_baseline > 0.99


@pytest.mark.parametrize("cut", [lambda z: z.detach(), lambda z: torch.from_numpy(z.numpy())])
def test_a_cut_graph_is_named_with_methods_that_do_without(cut):
    model = Net(cut)
    for method, kind in METHODS.items():
        if method == "random":
            continue
        if kind.uses_gradient:
            with pytest.raises(UnsupportedOperation, match=r"cuts it off .*occlusion, channel_ablation"):
                attribute(model, X, 0, method)
        else:
            expected = quietly(Net(), X, 0, method, **OPTIONS.get(method, {})).values
            found = quietly(model, X, 0, method, **OPTIONS.get(method, {})).values
            np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("trial", [0, 1, 3])
def test_an_output_that_is_not_finite_warns_wherever_it_is(trial):
    x = X.copy()
    x[trial] *= 1e5
    model = Net(lambda z: z + (60 - z.abs()).log())  # NaN beyond 60, and its derivative is finite all the same
    for method in ("gradient", "deep_lift", "integrated_gradients", "occlusion"):
        with pytest.warns(UserWarning, match=f"{method} on Net: in 1 of 5 trials .* first is trial {trial}"):
            attribute(model, x, 0, method)


# --- rows that are not apart ------------------------------------------------------------------------------------------


def test_dropout_that_is_always_on_is_not_taken_for_statistics_over_the_batch():
    model = Net(before=lambda x: nn.functional.dropout(x, 0.5, training=True))
    with pytest.warns(UserWarning, match="another output at every call"):
        attribute(model, X, 0, "gradient")


class Ages(nn.Module):
    """Takes what belongs to each trial after the trials; or holds it, which is the mistake."""

    def __init__(self, held=None):
        super().__init__()
        self.net, self.held = Net(), held

    def forward(self, x, age=None):
        age = self.held[: len(x)] if age is None else age
        return self.net(x) * (1 + age[:, None])


AGE = torch.linspace(-1, 2, N_TRIALS)
IMAGES = torch.linspace(-1, 1, 3 * N_TRIALS).sin().view(N_TRIALS, 3)


@pytest.mark.parametrize("method", [m for m in METHODS if m != "random"])
def test_inputs_of_each_trial_equal_a_loop_over_single_trials(method):
    options = OPTIONS.get(method, {})
    if "layer" in options:
        options = {"layer": "net.conv"}
    if METHODS[method].many_baselines:
        options = options | {"baseline": RNG.standard_normal((3, N_CHANNELS, N_TIMES)).astype("float32")}
    maps = quietly(Ages(), X, 0, method, extra=(AGE,), batch_size=3, **options)
    largest = max(abs(maps.values).max(), abs(xs.predict(Ages(), X, extra=(AGE,))).max())
    for i in range(N_TRIALS):
        alone = quietly(
            xs.adapted(Ages(), output=lambda z: z), X[[i] * (i + 1)], 0, method, extra=(AGE[[i] * (i + 1)],), **options
        )
        np.testing.assert_allclose(maps.values[i], alone.values[i], atol=2e-6 * largest)
        if METHODS[method].conserves and "tol" not in options and maps.standard_error is None:
            assert abs(maps.delta[i]) <= 1e-5


def test_a_baseline_is_judged_with_the_inputs_of_its_trial():
    own = (AGE + 2) * 20
    maps = quietly(Ages(), X, 0, "occlusion", extra=(own,), baseline=0.5 * X)
    outputs = torch.as_tensor(xs.predict(Ages(), 0.5 * X, extra=(own,)))
    assert maps.at_baseline == pytest.approx(float(outputs.softmax(1).mean(0).max()), abs=1e-6)


@pytest.mark.parametrize("method", ["gradient", "occlusion", "smooth_grad", "channel_ablation", "integrated_gradients"])
def test_a_target_of_outputs_and_trials_equals_a_loop_over_single_trials(method):
    options = OPTIONS.get(method, {})

    def target(outputs, trial):
        return torch.cosine_similarity(outputs, IMAGES[trial])

    maps = quietly(Net(), X, target, method, batch_size=2, **options).values
    for i in range(N_TRIALS):
        rows = [i] * (i + 1)
        alone = quietly(
            Net(), X[rows], lambda z, i=i: torch.cosine_similarity(z, IMAGES[[i]]), method, **options
        ).values
        # A map of differences is rounded as the outputs are, which are cosines here.
        np.testing.assert_allclose(maps[i], alone[i], atol=2e-6 * max(abs(maps).max(), 1))


def test_a_model_or_target_that_holds_a_row_per_trial_is_refused():
    with pytest.raises(ValueError, match=r"extra=\(rows,\)"):
        attribute(Ages(AGE), X, 0, "occlusion")
    with pytest.raises(ValueError, match="lambda outputs, trial"):
        attribute(Net(), X[:2], lambda z: torch.cosine_similarity(z, IMAGES[:2]), "occlusion")
    with pytest.raises(ValueError, match="lambda outputs, trial"):
        attribute(Net(), X, lambda z: torch.cosine_similarity(z, IMAGES), "occlusion")


@pytest.mark.parametrize(
    ("extra", "error", "message"),
    [
        (AGE, TypeError, r"extra=\(array,\)"),
        ((AGE[:3],), ValueError, r"extra\[0\] has shape \(3,\); expected 5 rows"),
    ],
)
def test_further_inputs_of_another_form_are_refused(extra, error, message):
    with pytest.raises(error, match=message):
        attribute(Ages(), X, 0, "gradient", extra=extra)


# --- the receipt ------------------------------------------------------------------------------------------------------


def test_the_receipt_begins_with_whether_the_decoder_knows_anything():
    data = trials(label=np.array([0, 0, 0, 1, 2]))
    model = Net()
    maps = quietly(model, data, 0, "deep_lift")
    predicted = xs.predict(model, data).argmax(1)
    assert maps.decoder.accuracy == (predicted == data.label).mean()
    assert (maps.decoder.chance, maps.decoder.majority) == (1 / 3, 3 / 5)
    text = str(maps).splitlines()
    assert text[0].startswith("map          deep_lift of Net, target 0: 5 trials")
    assert text[1].startswith("decoder      accuracy") and "0.60" in text[1]
    assert text[2].startswith("conservation sums miss f(x) - f(baseline) by")
    assert "not known" in str(attribute(model, X, 0, "gradient"))
    ignorant = Net(lambda z: z * 0 + torch.eye(3)[0])  # always the first class
    assert "no better than one class throughout" in str(quietly(ignorant, data, 0, "occlusion"))


def test_empty_maps_are_counted_with_cause_and_remedy():
    model = Net()
    model.conv.bias.data.fill_(9.0)  # every filter is active, and none speaks for an output
    model.linear.weight.data.abs_().neg_()
    with pytest.warns(UserWarning, match=r"grad_cam on Net: 5 of 5 maps are zero.*relu=False") as caught:
        maps = attribute(model, X, 0, "grad_cam", layer="conv")
    assert maps.n_zero == N_TRIALS and len(caught) == 1
    assert "5 of 5 maps are zero" in str(maps)
    silent = X.copy()
    silent[1] = 0
    with pytest.warns(UserWarning, match=r"deep_lift on Net: 1 of 5 maps are zero .* trial 1\. The trial is its own"):
        assert attribute(Net(), silent, 0, "deep_lift").n_zero == 1


# --- copies -----------------------------------------------------------------------------------------------------------


class Cached(nn.Module):
    """Keeps what it computed, with its history: deepcopy of PyTorch refuses such a model."""

    def __init__(self):
        super().__init__()
        self.net, self.kept = Net(), None

    def forward(self, x):
        self.kept = self.net.linear.weight * 2
        return self.net(x)


def test_a_network_that_keeps_tensors_is_copied_not_used_itself():
    model = Cached()
    model(torch.from_numpy(X))
    kept = model.kept
    expected = attribute(Net(), X, 0, "gradient").values
    np.testing.assert_array_equal(attribute(model, X, 0, "gradient").values, expected)
    assert model.kept is kept


@pytest.mark.parametrize("kind", [Net, Cached])
def test_a_copy_has_hooks_of_its_own(kind):
    model = kind()
    model(torch.from_numpy(X))
    copy = duplicate(model)
    tables = [value for each in (model, copy) for m in each.modules() for value in vars(m).values()
              if isinstance(value, dict)]  # fmt: skip
    assert len({id(table) for table in tables}) == len(tables)
    copy.register_forward_hook(lambda *_: None)
    assert not model._forward_hooks and not copy._forward_pre_hooks


def test_model_input_compares_nothing_where_nothing_is_declared():
    assert model_input(Net(), X).dtype == torch.float32
