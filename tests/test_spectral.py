"""Amplitude gradients against automatic differentiation and against braindecode."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from eegxai_support.spectral import amplitude_gradients

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from braindecode.models import EEGNet, ShallowFBCSPNet
    from braindecode.visualization import amplitude_gradients as braindecode_amplitude_gradients


def shallow(n_times):
    torch.manual_seed(0)
    sizes = {"n_filters_time": 4, "n_filters_spat": 4, "filter_time_length": 9, "pool_time_length": 20}
    return ShallowFBCSPNet(3, 2, n_times, **sizes).eval()


def by_autograd(model, x):
    """Differentiate through irfft(A exp(i phase)), trial by trial and output by output."""
    spectrum = torch.fft.rfft(torch.as_tensor(x))
    phase = spectrum.angle()

    def outputs(amplitude, phase):
        return model(torch.fft.irfft(torch.polar(amplitude, phase), n=x.shape[-1])[None])[0]

    jacobians = [
        torch.autograd.functional.jacobian(lambda a, p=p: outputs(a, p), s.abs())
        for s, p in zip(spectrum, phase, strict=True)
    ]
    return torch.stack(jacobians, dim=1).numpy()


@pytest.mark.parametrize("n_times", [80, 81])
def test_equals_autograd_in_float64(n_times):
    model = shallow(n_times).double()
    x = np.random.default_rng(1).standard_normal((3, 3, n_times)) + 0.3  # an offset, so that DC counts
    actual, expected = amplitude_gradients(model, x), by_autograd(model, x)
    assert actual.dtype == np.float64
    assert actual.shape == (2, 3, 3, n_times // 2 + 1)
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-12 * abs(expected).max())


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
