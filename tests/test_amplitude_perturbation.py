"""Amplitude perturbation against the algorithm of 2018 in NumPy, its first order against autograd."""

import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from networks import build
from scipy.stats import kstest, norm
from torch import nn

from eegxai_support.spectral import amplitude_gradients, amplitude_perturbation
from eegxai_support.spectral.correlations import PerturbationSums
from eegxai_support.spectral.perturbation import _noise

MAPS = ("correlation", "p_value", "low", "high")
SCALE = {"additive": 6.0, "multiplicative": 0.4, "phase": 2.0}  # strong, so that amplitudes are stopped at zero
N_ITERATIONS = 12


@pytest.fixture(scope="module")
def model():
    return build("EEGNet", torch.float64)


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).standard_normal((23, 3, 120)) + 0.2  # 23 trials: groups of two and of three


class OneChannel(nn.Module):
    """Power of the first channel and of its faster half; the other channels are not read."""

    def forward(self, x):
        return torch.stack([x[:, 0].square().mean(-1), x[:, 0].diff().square().mean(-1)], dim=1)


def linear(n_channels, n_times, n_outputs=2):
    torch.manual_seed(2)
    return nn.Sequential(nn.Flatten(), nn.Linear(n_channels * n_times, n_outputs)).double()


class Layers(nn.Module):
    """A circular convolution, a nonlinearity that works in place on its output, and one output for each filter."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv1d(3, 4, 5, padding=2, padding_mode="circular", bias=False)
        self.relu, self.twice, self.never = nn.ReLU(inplace=True), nn.Identity(), nn.Identity()
        self.turned, self.pair = nn.Identity(), nn.LSTM(4, 2, batch_first=True)
        self.double()

    def forward(self, x):
        maps = self.turned(self.relu(self.conv(x)).transpose(0, 1)).transpose(0, 1)
        self.pair(maps.transpose(1, 2))
        return self.twice(self.twice(maps)).square().mean(-1)


def perturbed(x, kind, scale, seed, iteration):
    """Perturb each trial as in the formulas of 2018, by the package's noise: what is correlated, and the trials."""
    n_trials, n_channels, n_times = x.shape
    spectrum = np.fft.rfft(x)
    amplitude, phase = np.abs(spectrum), np.angle(spectrum)
    seeds = np.random.SeedSequence((seed, iteration)).generate_state(n_trials, np.uint64).tolist()
    like = torch.as_tensor(spectrum[0, :1] if kind == "phase" else spectrum[0])
    draw = ("uniform_", -scale, scale) if kind == "phase" else ("normal_", 0, scale)
    noise = _noise(seeds, like, torch.Generator(), *draw).numpy()
    if kind == "additive":
        new = np.maximum(amplitude + noise, 0)
        # The stop at zero lifts the mean of the noise by this much, which depends on the trial.
        expected = norm.pdf(amplitude, scale=scale) * scale**2 - amplitude * norm.sf(amplitude, scale=scale)
        return new - amplitude - expected, np.fft.irfft(new * np.exp(1j * phase), n=n_times)
    if kind == "multiplicative":
        factor = np.maximum(1 + noise, 0)
        return factor - 1, np.fft.irfft(factor * spectrum, n=n_times)
    shift = np.repeat(noise, n_channels, axis=1)
    return np.abs(shift), np.fft.irfft(amplitude * np.exp(1j * (phase + shift)), n=n_times)


def brute_force(respond, change, x, kind, seed=0, n_iterations=N_ITERATIONS):
    """Return what is correlated, (iteration, trial, channel, freq) and (iteration, trial, output), and all outputs."""
    before, runs = respond(x), [perturbed(x, kind, SCALE[kind], seed, i) for i in range(n_iterations)]
    after = [respond(trials) for _, trials in runs]
    return np.array([values for values, _ in runs]), np.array([change(before, each) for each in after]), after


def correlation(perturbation, change):
    """Return the correlation over everything but the features and the outputs, shape (channel, freq, output)."""
    *_, n_channels, n_freqs = perturbation.shape
    features = perturbation.reshape(-1, n_channels * n_freqs).T
    outputs = change.reshape(-1, change.shape[-1]).T
    return np.corrcoef(features, outputs)[: len(features), len(features) :].reshape(n_channels, n_freqs, -1)


def numpy_function(model):
    @torch.no_grad()
    def respond(x):
        return model(torch.as_tensor(x)).numpy()

    return respond


@pytest.fixture(scope="module")
def oracle(model, x):
    def difference(before, after):
        return after - before

    return {kind: brute_force(numpy_function(model), difference, x, kind) for kind in SCALE}


@pytest.fixture(scope="module")
def effects(model, x):
    return {
        kind: amplitude_perturbation(model, x, n_iterations=N_ITERATIONS, kind=kind, scale=SCALE[kind])
        for kind in SCALE
    }


@pytest.mark.parametrize("kind", SCALE)
def test_equals_numpy_over_all_trials_and_iterations(kind, effects, oracle):
    perturbation, change, _ = oracle[kind]
    np.testing.assert_allclose(effects[kind].correlation, correlation(perturbation, change), atol=1e-9)
    assert effects[kind].n_iterations == N_ITERATIONS


def test_the_strong_scales_reach_zero(oracle):
    """Otherwise the oracle would not see the stop at zero."""
    additive, multiplicative = oracle["additive"][0], oracle["multiplicative"][0]
    assert (np.diff(np.sort(additive[:, :, 0, 5], axis=0), axis=0)[0] == 0).any()  # minus the amplitude, twice
    assert (multiplicative == -1).any()


@pytest.mark.parametrize("kind", SCALE)
def test_agrees_with_the_mean_of_the_iterations_correlations(kind):
    """The definition of 2018; that of all pairs differs by chance where an iteration has few trials."""
    x = np.random.default_rng(1).standard_normal((200, 3, 81)) * 3
    model = linear(3, 81).append(nn.ELU())
    runs = brute_force(numpy_function(model), lambda before, after: after - before, x, kind)
    by_iteration = np.mean([correlation(*each) for each in zip(*runs[:2], strict=True)], axis=0)
    effect = amplitude_perturbation(model, x, n_iterations=N_ITERATIONS, kind=kind, scale=SCALE[kind])
    for output in range(2):
        assert np.corrcoef(by_iteration[..., output].ravel(), effect.correlation[..., output].ravel())[0, 1] > 0.99


@pytest.mark.parametrize("kind", SCALE)
def test_interval_is_a_jackknife_over_ten_groups_of_trials(kind, effects, oracle):
    perturbation, change, _ = oracle[kind]
    bounds = np.linspace(0, perturbation.shape[1], 11).astype(int)
    left_out = []
    for start, end in pairwise(bounds):
        rest = np.setdiff1d(np.arange(perturbation.shape[1]), np.arange(start, end))
        left_out.append(np.arctanh(correlation(perturbation[:, rest], change[:, rest])))
    spread = np.sum((left_out - np.mean(left_out, axis=0)) ** 2, axis=0)
    reach = 2.2621571628 * np.sqrt(9 / 10 * spread)  # 97.5 % point of Student's t with 9 degrees of freedom
    z = np.arctanh(effects[kind].correlation)
    np.testing.assert_allclose(np.arctanh(effects[kind].high) - z, reach, rtol=1e-7)
    np.testing.assert_allclose(z - np.arctanh(effects[kind].low), reach, rtol=1e-7)


@pytest.mark.parametrize("kind", SCALE)
def test_p_value_compares_with_changes_of_earlier_iterations(kind, effects, oracle):
    """Of the five before, also across the tenth, where the package looks at the reliability."""
    perturbation, change, _ = oracle[kind]
    perturbation = perturbation[:, :, :1] if kind == "phase" else perturbation
    actual = np.abs(effects[kind].correlation[: perturbation.shape[2]])
    null = []
    for lag in range(1, 6):
        noise, earlier = perturbation[lag:], change[:-lag]
        product = np.einsum("itcf,ito->cfo", noise, earlier) / earlier[..., 0].size
        mean, mean_change = noise.mean((0, 1))[..., None], earlier.mean((0, 1))
        # Standard deviations are those over all pairs.
        deviations = perturbation.std((0, 1))[..., None] * change.std((0, 1))
        r = (product - mean * mean_change) / deviations
        null.append(np.abs(r) * np.sqrt(1 - lag / N_ITERATIONS))  # correlations of fewer pairs stray further
    for output in range(3):
        pool = np.array(null)[..., output].ravel()
        expected = (1 + (pool >= actual[..., output, None]).sum(-1)) / (1 + len(pool))
        found = effects[kind].p_value[: perturbation.shape[2], :, output]
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("kind", SCALE)
def test_reliability_is_that_of_two_halves_of_the_iterations(kind, effects, oracle):
    perturbation, change, _ = oracle[kind]
    halves = [correlation(perturbation[half::2], change[half::2]) for half in (0, 1)]
    for output in range(3):
        r = np.corrcoef(*(half[..., output].ravel() for half in halves))[0, 1]
        np.testing.assert_allclose(effects[kind].reliability[output], max(0, 2 * r / (1 + r)), atol=1e-9)


@pytest.mark.parametrize("kind", SCALE)
def test_accuracy_kept(kind, model, x, effects, oracle):
    decided, after = numpy_function(model)(x).argmax(1), np.array(oracle[kind][2]).argmax(-1)
    assert effects[kind].accuracy_kept == pytest.approx((after == decided).mean(), abs=1e-12)
    assert effects[kind].accuracy_kept < 1
    label = np.arange(len(x)) % 3
    options = {"n_iterations": N_ITERATIONS, "kind": kind, "scale": SCALE[kind], "label": label}
    kept = amplitude_perturbation(model, x, **options).accuracy_kept
    assert kept == pytest.approx((after == label).mean() / (decided == label).mean(), abs=1e-12)


def test_result_does_not_depend_on_the_batch_size(model, x):
    """Groups have 6 or 7 trials."""
    x, options = np.tile(x, (3, 1, 1)), {"n_iterations": N_ITERATIONS, "scale": SCALE["additive"]}
    expected = amplitude_perturbation(model, x, **options, batch_size=64)
    for batch_size in (1, 5):
        actual = amplitude_perturbation(model, x, **options, batch_size=batch_size)
        for name in (*MAPS, "reliability"):
            np.testing.assert_allclose(getattr(actual, name), getattr(expected, name), atol=1e-9)
        assert actual.accuracy_kept == expected.accuracy_kept
    first_order = [amplitude_perturbation(model, x, method="first_order", batch_size=size) for size in (1, 5, 64)]
    for name in MAPS:
        values = [getattr(effect, name) for effect in first_order]
        np.testing.assert_allclose(values[0], values[2], atol=1e-9)
        np.testing.assert_allclose(values[1], values[2], atol=1e-9)


def test_only_its_own_seed_counts(model, x, effects):
    torch.manual_seed(11)
    np.random.seed(11)  # noqa: NPY002
    state = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    options = {"n_iterations": N_ITERATIONS, "scale": SCALE["additive"]}
    again = amplitude_perturbation(model, x, **options)
    assert torch.equal(state[0], torch.get_rng_state())
    np.testing.assert_array_equal(state[1], np.random.get_state()[1])  # noqa: NPY002
    for name in MAPS:
        np.testing.assert_array_equal(getattr(again, name), getattr(effects["additive"], name))
    other = amplitude_perturbation(model, x, **options, seed=1)
    expected = brute_force(numpy_function(model), lambda before, after: after - before, x, "additive", seed=1)
    np.testing.assert_allclose(other.correlation, correlation(*expected[:2]), atol=1e-9)
    assert np.abs(other.correlation - again.correlation).max() > 0.05


@pytest.mark.parametrize("context", [torch.inference_mode, torch.no_grad])
@pytest.mark.parametrize("method", ["perturbation", "first_order"])
def test_works_without_gradients(context, method, model, x):
    outside = amplitude_perturbation(model, x, n_iterations=2, method=method)
    with context():
        inside = amplitude_perturbation(model, torch.as_tensor(x).clone(), n_iterations=2, method=method)
    np.testing.assert_array_equal(inside.correlation, outside.correlation)


@pytest.mark.parametrize("options", [{}, {"method": "first_order"}, {"layer": "bnorm_temporal"}])
def test_model_is_given_back_as_it_was(options, x):
    model = build("EEGNet", torch.float64).train()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    hooks = [len(module._forward_hooks) for module in model.modules()]
    given = x.copy()
    amplitude_perturbation(model, given, n_iterations=2, **options)
    np.testing.assert_array_equal(given, x)
    assert all(module.training for module in model.modules())
    assert all((p.grad == 1).all() and p.requires_grad for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [len(module._forward_hooks) for module in model.modules()] == hooks


@pytest.mark.parametrize("method", ["perturbation", "first_order"])
def test_a_network_may_change_its_input_in_place(method):
    class InPlace(OneChannel):
        def forward(self, x):
            return super().forward(x.mul_(2))

    x = np.random.default_rng(4).standard_normal((4, 2, 16)).astype("float32")
    given = x.copy()
    actual = amplitude_perturbation(InPlace(), given, n_iterations=3, method=method)
    np.testing.assert_array_equal(given, x)
    expected = amplitude_perturbation(OneChannel(), x, n_iterations=3, method=method)
    np.testing.assert_allclose(actual.correlation, expected.correlation, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("method", ["perturbation", "first_order"])
def test_type_and_shape(dtype, method, x):
    model = build("EEGNet", getattr(torch, dtype))
    effect = amplitude_perturbation(model, x, n_iterations=2, method=method)
    for name in MAPS:
        assert getattr(effect, name).dtype == dtype
        assert getattr(effect, name).shape == (3, 61, 3)
    assert effect.reliability.shape == (3,)


# --- first order


@pytest.mark.parametrize("kind", ["additive", "multiplicative"])
@pytest.mark.parametrize("n_times", [120, 81])
def test_first_order_in_closed_form(kind, n_times, model, x):
    """The gradients by automatic differentiation through irfft(A exp(i phase)), or through factors of A."""
    model = model if n_times == 120 else linear(3, n_times)
    spectrum = torch.fft.rfft(torch.as_tensor(x[..., :n_times]))
    factor = torch.ones_like(spectrum.real) if kind == "multiplicative" else spectrum.abs()
    variable = factor.requires_grad_()
    amplitude = variable * spectrum.abs() if kind == "multiplicative" else variable
    outputs = model(torch.fft.irfft(torch.polar(amplitude, spectrum.angle()), n=n_times)).sum(0)
    gradient = torch.stack([torch.autograd.grad(each, variable, retain_graph=True)[0] for each in outputs]).numpy()
    size = np.sqrt((gradient**2).sum((2, 3)).mean(1))
    expected = np.moveaxis(gradient.mean(1) / size[:, None, None], 0, -1)
    effect = amplitude_perturbation(model, x[..., :n_times], kind=kind, method="first_order", batch_size=2)
    np.testing.assert_allclose(effect.correlation, expected, atol=1e-10)
    assert np.isnan(effect.accuracy_kept)
    assert effect.n_iterations == 0
    assert (effect.reliability == 1).all()


def test_first_order_interval_and_p_value(model, x):
    """Student's t of a jackknife over ten groups."""
    gradient = amplitude_gradients(model, x)

    def rho(rows):
        return gradient[:, rows].mean(1) / np.sqrt((gradient[:, rows] ** 2).sum((2, 3)).mean(1))[:, None, None]

    bounds = np.linspace(0, len(x), 11).astype(int)
    left_out = np.arctanh([rho(np.r_[: bounds[i], bounds[i + 1] : len(x)]) for i in range(10)])
    error = np.sqrt(9 / 10 * ((left_out - left_out.mean(0)) ** 2).sum(0))
    effect = amplitude_perturbation(model, x, method="first_order")
    actual = {name: np.moveaxis(getattr(effect, name), -1, 0) for name in MAPS}
    low, high = np.arctanh(actual["low"]), np.arctanh(actual["high"])
    np.testing.assert_allclose((high - low) / 2, 2.2621571628 * error, rtol=1e-7)
    np.testing.assert_allclose(np.tanh((high + low) / 2), actual["correlation"], atol=1e-12)
    covers = (actual["low"] <= 0) & (actual["high"] >= 0)
    np.testing.assert_array_equal(covers, actual["p_value"] >= 0.05)


@pytest.mark.parametrize("kind", ["additive", "multiplicative"])
def test_small_noise_has_the_first_order(kind):
    rng = np.random.default_rng(5)
    model, x = linear(3, 32), rng.standard_normal((3, 32)) + 0.5 * rng.standard_normal((40, 3, 32))
    expected = amplitude_perturbation(model, x, kind=kind, method="first_order").correlation
    effect = amplitude_perturbation(model, x, kind=kind, scale=1e-3, n_iterations=150)
    for output in range(2):
        r = np.corrcoef(effect.correlation[..., output].ravel(), expected[..., output].ravel())[0, 1]
        assert effect.reliability[output] > 0.9
        assert 0.98 < r / np.sqrt(effect.reliability[output]) < 1.02
    # 6000 pairs: the standard error of a correlation is 0.013
    np.testing.assert_allclose(effect.correlation, expected, atol=4.5 / np.sqrt(6000))


# --- what chance does


def uniform(p_values):
    return kstest(p_values.ravel(), "uniform").pvalue


@pytest.mark.parametrize("kind", ["additive", "multiplicative"])
@pytest.mark.filterwarnings("ignore:The noise has")
@pytest.mark.parametrize("sizes", [(2, 20), (0.05, 0.5)])
def test_channels_that_are_not_read_look_like_chance(kind, sizes):
    """Trials of very different size, so that a few of them make most of the change; also smaller than the noise."""
    rng = np.random.default_rng(6)
    x = rng.standard_normal((40, 8, 64)) * rng.uniform(*sizes, (40, 1, 1))
    effect = amplitude_perturbation(OneChannel(), x, n_iterations=40, kind=kind)
    for output in range(2):
        assert uniform(effect.p_value[1:, :, output]) > 0.01
        covered = (effect.low[1:, :, output] <= 0) & (effect.high[1:, :, output] >= 0)
        assert 0.90 < covered.mean() < 0.99  # 231 intervals
    assert (effect.p_value[0, 1:-1, 0] < 0.05).mean() > 0.9  # of the channel that is read


def test_noise_that_drowns_the_trials_is_reported(x):
    with pytest.warns(UserWarning, match="standard deviation of 1, but half of the amplitudes are below .*e-0"):
        amplitude_perturbation(OneChannel(), 1e-6 * x, n_iterations=1)


def test_one_output_decides_nothing(x):
    effect = amplitude_perturbation(linear(3, 120, 1), x, n_iterations=2)
    assert np.isnan(effect.accuracy_kept) and np.isfinite(effect.correlation).all()


def test_phases_of_a_power_look_like_chance():
    """The power of a trial does not depend on its phases, but where a shift changes a real coefficient's size."""

    class Power(nn.Module):
        def forward(self, x):
            return x[:, :1].square().mean(-1)

    x = np.random.default_rng(7).standard_normal((40, 2, 200))
    effect = amplitude_perturbation(Power(), x, n_iterations=40, kind="phase", scale=np.pi / 2)
    np.testing.assert_array_equal(effect.correlation[0], effect.correlation[1])  # one shift for all channels
    assert (effect.p_value[0, [0, -1], 0] < 0.02).all()
    assert (effect.correlation[0, [0, -1], 0] < -0.1).all()
    assert uniform(effect.p_value[0, 1:-1, 0]) > 0.01


def test_first_order_of_random_phases_looks_like_chance():
    """A linear output has gradients of either sign where phases are random, so that their mean is zero."""
    x = np.random.default_rng(8).standard_normal((200, 4, 60))
    effect = amplitude_perturbation(linear(4, 60), x, method="first_order")
    for output in range(2):
        assert uniform(effect.p_value[..., output]) > 0.01
        covered = (effect.low[..., output] <= 0) & (effect.high[..., output] >= 0)
        assert 0.90 < covered.mean() < 0.99  # 124 intervals


def test_first_order_of_a_channel_that_is_not_read_is_zero(x):
    effect = amplitude_perturbation(OneChannel(), x, method="first_order")
    assert (effect.correlation[1:] == 0).all()
    assert (effect.p_value[1:] == 1).all()
    assert (effect.low[1:] == 0).all()
    assert (effect.high[1:] == 0).all()


# --- layers


def part(model, kind):
    """Run the first layers by hand; the units' positions last."""
    conv = numpy_function(model.conv)
    return (lambda x: np.maximum(conv(x), 0)) if kind == "relu" else conv


@pytest.mark.parametrize("kind", SCALE)
@pytest.mark.parametrize("layer", ["conv", "relu"])
def test_a_layer_equals_its_network_run_by_hand(layer, kind, x):
    def difference(before, after):
        return (after - before).mean(-1)

    def by_position(before, after):
        pairs = np.stack([before, after], axis=2)
        return np.array([[np.corrcoef(unit)[0, 1] for unit in trial] for trial in pairs])

    model, change = Layers(), by_position if kind == "phase" else difference
    perturbation, change, _ = brute_force(part(model, layer), change, x, kind, n_iterations=3)
    effect = amplitude_perturbation(model, x, n_iterations=3, kind=kind, scale=SCALE[kind], layer=layer)
    np.testing.assert_allclose(effect.correlation, correlation(perturbation, change), atol=1e-9)
    # The accuracy is that of the whole network.
    whole = amplitude_perturbation(model, x, n_iterations=3, kind=kind, scale=SCALE[kind])
    assert effect.accuracy_kept == whole.accuracy_kept


def test_the_mean_of_a_convolution_reads_nothing_but_0_hz(x):
    model = Layers()
    effect = amplitude_perturbation(model, x + 3, method="first_order", layer="conv")  # an offset: no mean is negative
    weight = model.conv.weight.detach().numpy().sum(-1)
    np.testing.assert_allclose(effect.correlation[:, 0], (weight / np.linalg.norm(weight, axis=1)[:, None]).T)
    assert np.abs(effect.correlation[:, 1:]).max() < 1e-12
    noisy = amplitude_perturbation(model, x + 3, n_iterations=20, layer="conv")
    assert np.abs(noisy.correlation[:, 0] - effect.correlation[:, 0]).max() < 0.15
    assert np.abs(noisy.correlation[:, 1:]).max() < 5 / np.sqrt(20 * len(x))


@pytest.mark.parametrize("options", [{"n_iterations": 3}, {"method": "first_order"}])
def test_layers_that_have_no_answer(options, x):
    for layer, message in {
        "cnv": "Unknown layer 'cnv'. Did you mean 'conv'",
        "never": "'never' of Layers ran 0 times",
        "twice": "'twice' of Layers ran 2 times",
        "turned": "expected one tensor",  # units first
        "pair": "expected one tensor",  # a tuple
    }.items():
        with pytest.raises(ValueError, match=message):
            amplitude_perturbation(Layers(), x, layer=layer, **options)


# --- when to stop


def test_stops_at_the_reliability_asked_for():
    x = np.random.default_rng(9).standard_normal((30, 2, 32)) * 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        effect = amplitude_perturbation(OneChannel(), x, target_reliability=0.95, n_iterations=400)
    assert 10 < effect.n_iterations < 400
    assert effect.reliability.min() >= 0.95
    same = amplitude_perturbation(OneChannel(), x, n_iterations=effect.n_iterations)
    np.testing.assert_array_equal(effect.correlation, same.correlation)
    sooner = amplitude_perturbation(OneChannel(), x, n_iterations=effect.n_iterations - 10)
    assert sooner.reliability.min() < 0.95


def test_says_that_the_reliability_was_not_reached(model, x):
    with pytest.warns(UserWarning, match="After 4 iterations .* less than the 0.99 asked for"):
        effect = amplitude_perturbation(model, x, target_reliability=0.99, n_iterations=4)
    assert effect.n_iterations == 4
    with pytest.warns(UserWarning, match="After 1 iterations"):
        amplitude_perturbation(model, x, target_reliability=0.99, n_iterations=1)


class Dead(OneChannel):
    def forward(self, x):
        return torch.cat([super().forward(x), x.relu().sum((1, 2))[:, None] * 0], dim=1)


def test_an_output_that_never_changes(x):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        effect = amplitude_perturbation(Dead(), x, target_reliability=0.2, n_iterations=100)
    assert effect.n_iterations < 100
    for name in MAPS:
        assert np.isnan(getattr(effect, name)[..., 2]).all()
        assert np.isfinite(getattr(effect, name)[..., :2]).all()
    first_order = amplitude_perturbation(Dead(), x, method="first_order")
    assert np.isnan(first_order.correlation[..., 2]).all()
    assert np.isnan(first_order.p_value[..., 2]).all()


# --- small numbers, memory, errors


@pytest.mark.parametrize("kind", SCALE)
@pytest.mark.parametrize(("n_trials", "n_iterations"), [(1, 1), (1, 12), (2, 1), (3, 2), (9, 11), (10, 1)])
def test_few_trials_and_iterations(kind, n_trials, n_iterations, model, x):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        effect = amplitude_perturbation(model, x[:n_trials], kind=kind, n_iterations=n_iterations)
    assert np.isfinite(effect.correlation).all() == (n_trials * n_iterations > 1)
    assert np.isfinite(effect.p_value).all() == (n_trials * n_iterations > 1)
    assert np.isfinite(effect.reliability).all() == ((n_trials > 1 and n_iterations > 1) or n_iterations > 3)
    if n_trials == 1:
        assert np.isnan(effect.low).all()
    if n_iterations == 1 and n_trials > 1:
        assert (effect.p_value == 1).all()  # no earlier iteration to compare with


@pytest.mark.parametrize("n_trials", [1, 3])
def test_first_order_of_few_trials(n_trials, model, x):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        effect = amplitude_perturbation(model, x[:n_trials], method="first_order")
    assert np.isfinite(effect.correlation).all()
    assert np.isfinite(effect.p_value).all() == np.isfinite(effect.low).all() == (n_trials > 1)


def test_nothing_is_kept_for_every_trial():
    def sizes(n_trials):
        perturbation, change = torch.randn(n_trials, 3, 9), torch.randn(n_trials, 2)
        sums = PerturbationSums(10, perturbation, change)
        sums.add(0, 0, perturbation, change, [change])
        return {name: value.numel() for name, value in vars(sums).items() if isinstance(value, torch.Tensor)}

    assert sizes(2) == sizes(50)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "additve"}, "Unknown kind 'additve'. Did you mean 'additive'"),
        ({"method": "gradient"}, "Unknown method 'gradient'"),
        ({"kind": "phase", "method": "first_order"}, "no first-order effect"),
        ({"n_iterations": 0}, "n_iterations is 0"),
        ({"scale": 0.0}, "scale 0.0"),
        ({"scale": np.nan}, "scale nan"),
        ({"scale": np.inf}, "scale inf"),
        ({"kind": "phase", "scale": 4.0}, "at most pi"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"target_reliability": 1.0}, "target_reliability is 1.0"),
        ({"target_reliability": 0.0}, "target_reliability is 0.0"),
        ({"label": [0, 1]}, r"label has shape \(2,\) and type int64; expected \(23,\) integers"),
        ({"label": np.full(23, 0.5)}, r"label has shape \(23,\) and type float64; expected \(23,\) integers"),
    ],
)
def test_bad_arguments(options, message, model, x):
    with pytest.raises(ValueError, match=message):
        amplitude_perturbation(model, x, **options)


@pytest.mark.parametrize("method", ["perturbation", "first_order"])
def test_bad_input(method, model, x):
    with pytest.raises(ValueError, match="the model expects 3"):
        amplitude_perturbation(model, x[:, :2], method=method)
    with pytest.raises(ValueError, match=r"expected \(trial, output\)"):
        amplitude_perturbation(nn.Identity(), x, method=method)
