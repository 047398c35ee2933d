"""Amplitude gradients against automatic differentiation and against braindecode."""

import warnings

import numpy as np
import pytest
import torch
from networks import NETWORKS, build
from torch import nn

from eegxai_support.model import simplify
from eegxai_support.spectral import amplitude_gradients
from eegxai_support.spectral.gradients import _gradients

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from braindecode.models import EEGNet, ShallowFBCSPNet
    from braindecode.visualization import amplitude_gradients as braindecode_amplitude_gradients


def shallow(n_times):
    torch.manual_seed(0)
    sizes = {"n_filters_time": 4, "n_filters_spat": 4, "filter_time_length": 9, "pool_time_length": 20}
    return ShallowFBCSPNet(3, 2, n_times, **sizes).eval()


def by_autograd(model, x, quantity="amplitude"):
    """Differentiate through irfft(A exp(i phase)), trial by trial and output by output."""
    spectrum = torch.fft.rfft(torch.as_tensor(x))
    variables = {"amplitude": spectrum.abs(), "power": spectrum.abs() ** 2, "phase": spectrum.angle()}

    def outputs(variable, trial):
        amplitude = {"amplitude": variable, "power": variable.sqrt()}.get(quantity, spectrum[trial].abs())
        phase = variable if quantity == "phase" else spectrum[trial].angle()
        return model(torch.fft.irfft(torch.polar(amplitude, phase), n=x.shape[-1])[None])[0]

    jacobians = [
        torch.autograd.functional.jacobian(lambda v, t=trial: outputs(v, t), variables[quantity][trial])
        for trial in range(len(x))
    ]
    return torch.stack(jacobians, dim=1).numpy()


@pytest.mark.parametrize("quantity", ["amplitude", "power", "phase"])
@pytest.mark.parametrize("n_times", [80, 81])
def test_equals_autograd_in_float64(n_times, quantity):
    model = shallow(n_times).double()
    x = np.random.default_rng(1).standard_normal((3, 3, n_times)) + 0.3  # an offset, so that DC counts
    actual, expected = amplitude_gradients(model, x, quantity=quantity), by_autograd(model, x, quantity)
    assert actual.dtype == np.float64
    assert actual.shape == (2, 3, 3, n_times // 2 + 1)
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-12 * abs(expected).max())
    real = [0, -1] if n_times % 2 == 0 else [0]
    if quantity == "phase":  # a real coefficient has nowhere to turn to
        np.testing.assert_allclose(actual[..., real], 0, atol=1e-14)
    else:
        assert (actual[..., real] != 0).all()


@pytest.mark.parametrize("n_times", [16, 15])
def test_linear_network_in_closed_form(n_times):
    """The output sum_t w_t x_t is linear in the amplitudes: its gradient is the output of a unit amplitude."""
    weight, rng = np.random.default_rng(2).standard_normal(n_times), np.random.default_rng(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(n_times, 1)).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.as_tensor(weight[None]))
    x = rng.standard_normal((2, 1, n_times))
    phase = np.angle(np.fft.rfft(x))
    unit = np.fft.irfft(np.exp(1j * phase)[:, :, :, None] * np.eye(phase.shape[-1]), n=n_times, axis=2)
    expected = np.einsum("bctk,t->bck", unit, weight)
    np.testing.assert_allclose(amplitude_gradients(model, x)[0], expected, atol=1e-12)


def test_zero_amplitude_has_phase_zero():
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 1, bias=False)).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.ones(1, 8))
    gradient = amplitude_gradients(model, np.zeros((1, 1, 8)))
    np.testing.assert_allclose(gradient[0, 0, 0], [1, 0, 0, 0, 0], atol=1e-15)  # the mean is the only cosine it reads
    assert (amplitude_gradients(model, np.zeros((1, 1, 8)), quantity="phase") == 0).all()


def test_power_has_no_gradient_where_it_is_zero():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).double()
    x = np.zeros((1, 2, 8))
    x[0, 0] = [1, -1] * 4  # power at the Nyquist frequency of the first channel only
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradient = amplitude_gradients(model, x, quantity="power")
    assert np.isfinite(gradient[:, 0, 0, 4]).all()
    assert np.isnan(gradient[:, 0, 0, :4]).all()
    assert np.isnan(gradient[:, 0, 1]).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_one_pass_for_all_outputs_equals_one_for_each(name):
    """What a GPU does."""
    model = build(name, torch.float64)
    x = torch.randn(3, 3, model.n_times, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    model = simplify(model, x)
    x.requires_grad_()
    outputs = model(x.clone()).sum(0)
    one_by_one = _gradients(outputs, x, one_pass=False)  # first: one pass is the last of its graph
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        together = _gradients(outputs, x, one_pass=True)
    np.testing.assert_allclose(together, one_by_one, rtol=1e-10, atol=1e-12 * one_by_one.abs().max())


@pytest.fixture(scope="module")
def eegnet():
    torch.manual_seed(0)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = EEGNet(4, 3, 64, kernel_length=16)
        model.train()(torch.randn(32, 4, 64))
    return model.eval()


def test_braindecode_has_the_same_divided_by_the_batch(eegnet):
    x = np.random.default_rng(4).standard_normal((5, 4, 64)).astype("float32")
    actual = amplitude_gradients(eegnet, x)
    np.testing.assert_allclose(actual, 5 * braindecode_amplitude_gradients(eegnet, x), atol=1e-5 * abs(actual).max())


def test_trials_do_not_depend_on_their_batch(eegnet):
    x = np.random.default_rng(5).standard_normal((64, 4, 64)).astype("float32")
    one_by_one = amplitude_gradients(eegnet, x, batch_size=1)
    together = amplitude_gradients(eegnet, x, batch_size=64)
    remainder = amplitude_gradients(eegnet, x, batch_size=48)
    scale = abs(together).max()
    np.testing.assert_allclose(one_by_one, together, atol=1e-6 * scale)
    np.testing.assert_allclose(remainder, together, atol=1e-6 * scale)


def test_model_is_given_back_as_it_was(eegnet):
    eegnet.train()
    for parameter in eegnet.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = {name: value.clone() for name, value in eegnet.state_dict().items()}
    amplitude_gradients(eegnet, np.ones((2, 4, 64)))
    assert all(module.training for module in eegnet.modules())
    assert all((p.grad == 1).all() and p.requires_grad for p in eegnet.parameters())
    assert all(torch.equal(value, before[name]) for name, value in eegnet.state_dict().items())
    assert not any("forward" in vars(module) for module in eegnet.modules())
    eegnet.eval().zero_grad()


def test_bad_input(eegnet):
    with pytest.raises(ValueError, match="the model expects 4"):
        amplitude_gradients(eegnet, np.zeros((2, 5, 64)))
    with pytest.raises(ValueError, match="batch_size is 0"):
        amplitude_gradients(eegnet, np.zeros((2, 4, 64)), batch_size=0)
    with pytest.raises(ValueError, match=r"expected \(trial, output\)"):
        amplitude_gradients(nn.Identity(), np.zeros((2, 4, 64)))
    with pytest.raises(ValueError, match=r"Unknown quantity 'Power'\. Did you mean 'power'"):
        amplitude_gradients(nn.Identity(), np.zeros((2, 4, 64)), quantity="Power")


def test_a_network_may_change_its_input_in_place():
    class InPlace(nn.Module):
        def forward(self, x):
            return x.mul_(2).square().mean(-1)

    x = np.ones((1, 2, 8), "float32")
    np.testing.assert_allclose(amplitude_gradients(InPlace(), x)[0, 0, 0], [1, 0, 0, 0, 0], atol=1e-6)
    assert (x == 1).all()
