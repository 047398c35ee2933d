"""The same numbers give the same result however they lie in memory."""

from functools import partial

import numpy as np
import pytest
from properties import CH_NAMES, SFREQ, Net, assert_close, info_of, of, trials_of

import eegxai_support as xs

pytestmark = pytest.mark.filterwarnings("ignore")  # of few trials
LAYOUTS = {
    "by column": np.asfortranarray,
    "backwards": lambda x: np.flip(np.flip(x).copy()),
    "of another machine": lambda x: x.astype(x.dtype.newbyteorder()),
    "every other": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
}
RNG = np.random.default_rng(0)
X, MAPS = RNG.standard_normal((2, 6, 3, 24)).astype("float32")
LABEL = np.arange(6) // 2 % 2
MODEL, INFO = Net(3, 24, 2), info_of(3)


def trials(laid, label=LABEL):
    return trials_of(laid(X), laid(label), 2)


def weights_of(laid):
    model = xs.train(Net(3, 24, 2), trials(laid), trials(laid), epochs=1, lr=1e-6).model
    return xs.predict(model, X)


def threshold(trials):
    return lambda signal: (signal.mean((1, 2)) > trials.signal.mean()).astype(int)


def explain(laid, model, x, target):
    return laid(xs.attribute(model, x, target, "gradient").values)


FUNCTIONS = {
    "attribute": lambda laid: xs.attribute(MODEL, laid(X), laid(LABEL), "deep_lift", baseline=laid(MAPS)).values,
    "amplitude_perturbation": lambda laid: np.array(
        xs.amplitude_perturbation(MODEL, laid(X), label=laid(LABEL), n_iterations=3).accuracy_kept
    ),
    "predict": lambda laid: xs.predict(MODEL, laid(np.tile(X, 2)), stride=5),
    "concept_relevance": lambda laid: xs.concept_relevance(MODEL, laid(X), laid(LABEL), "norm").relevance,
    "deletion_test": lambda laid: xs.deletion_test(MODEL, X, LABEL, laid(MAPS), baseline=laid(MAPS))["logit"],
    "perturbation_curves": lambda laid: xs.perturbation_curves(MODEL, X, LABEL, laid(MAPS))["logit"],
    "sensitivity_test": lambda laid: xs.sensitivity_test(MODEL, X, 1, laid(MAPS), n_patches=3)["correlation"],
    "roar": lambda laid: xs.roar(threshold, trials(laid), trials(laid), laid(MAPS), laid(MAPS))["correct"].astype(
        float
    ),
    "score_maps": lambda laid: xs.score_maps(laid(MAPS), laid(X), label=laid(LABEL), n_null=3),
    "process_maps": lambda laid: xs.process_maps(laid(MAPS))[0],
    "weight_randomisation_test": lambda laid: xs.weight_randomisation_test(
        partial(explain, laid), MODEL, laid(X), laid(LABEL), [0]
    )["pearson"],
    "make_baseline": lambda laid: xs.make_baseline(laid(X), "phase_scrambled"),
    "haufe_patterns": lambda laid: xs.haufe_patterns(laid(MAPS[:2]), laid(X), label=laid(LABEL)),
    "train": weights_of,
    "frequency_relevance": lambda laid: xs.frequency_relevance(xs.attribute(MODEL, X, 1, "deep_lift"), laid(X)),
    "from_array": lambda laid: xs.from_array(laid(X), SFREQ, CH_NAMES[:3], laid(LABEL)).signal,
    "to_epochs": lambda laid: xs.to_array(xs.to_epochs(trials(laid), laid(MAPS))),
    "band_power": lambda laid: xs.band_power(trials(laid), {"alpha": (8, 13)}, segment=0.25),
    "permutation_p_value": lambda laid: xs.permutation_p_value(laid(LABEL), laid(LABEL), laid(LABEL)),
}


@of(*FUNCTIONS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_order_in_memory_means_nothing(name):
    expected = np.array(FUNCTIONS[name](lambda x: x))
    for layout in LAYOUTS.values():
        assert_close(np.array(FUNCTIONS[name](layout)).astype(expected.dtype), expected, "float32")
