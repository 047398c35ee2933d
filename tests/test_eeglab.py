"""Components and labels of an EEGLAB data set, against small files whose decomposition is known."""

import warnings

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torch import nn

import eegxai_support as xs
from eegxai_support.montages import electrode_info
from eegxai_support.sources.eeglab import CLASSES

NAMES = ("Fp1", "Fp2", "C3", "C4", "Pz", "Oz")
DECOMPOSED = (5, 0, 3, 1)  # of the channels: in an order of its own, and not all
SFREQ, N_TRIALS, N_TIMES = 50.0, 5, 40
ICLABEL_ORDER = ["Brain", "Muscle", "Eye", "Heart", "Line Noise", "Channel Noise", "Other"]


class Source(nn.Module):
    """Reads one source through its row of the unmixing matrix, and weighs its time course."""

    def __init__(self, unmixing, course):
        super().__init__()
        self.weight = nn.Parameter(torch.as_tensor(np.outer(unmixing, course)))

    def forward(self, x):
        score = (x * self.weight).sum((1, 2))
        return torch.stack([score, -score], 1)


@pytest.fixture
def unmixing():
    """Weights and sphere that EEGLAB keeps apart, shape (component, channel) together."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((4, 4)), np.eye(4) + 0.2 * rng.standard_normal((4, 4))


@pytest.fixture
def probability():
    return np.random.default_rng(1).dirichlet(np.ones(7), size=4)


def data_set(weights, sphere, *, classified=None, classes=ICLABEL_ORDER, positions=True, names=NAMES, **fields):
    """Return the fields of an EEGLAB data set of a recording, as MATLAB would save them."""
    xyz = np.array([channel["loc"][:3] for channel in electrode_info(NAMES, SFREQ)["chs"]])
    xyz *= 85 / np.linalg.norm(xyz, axis=1, keepdims=True)  # millimetres
    rotated = np.column_stack([xyz[:, 1], -xyz[:, 0], xyz[:, 2]])  # to EEGLAB, the nose is along x
    places = [dict(zip("XYZ", row, strict=True)) if positions else {} for row in rotated]
    empty = {} if positions else dict.fromkeys("XYZ", np.array([]))
    chanlocs = [{"labels": name, **place, **empty} for name, place in zip(names, places, strict=True)]
    etc = {}
    if classified is not None:
        etc = {"ic_classification": {"ICLabel": {"classes": np.array(classes, object), "classifications": classified}}}
    signal = np.random.default_rng(2).standard_normal((len(NAMES), 200))
    return {
        "setname": "", "nbchan": len(NAMES), "trials": 1, "pnts": 200, "srate": SFREQ, "xmin": 0.0, "xmax": 4.0,
        "data": signal, "chanlocs": np.array(chanlocs, object), "event": np.array([]), "etc": etc,
        "icaweights": weights, "icasphere": sphere, "icachansind": np.array(DECOMPOSED) + 1.0,
        "icawinv": np.linalg.pinv(weights @ sphere) if np.size(weights) else np.array([]), "icaact": np.array([]),
    } | fields  # fmt: skip


@pytest.fixture(params=["one variable", "a variable for each field"])
def written(request, tmp_path):
    """Return a function that writes a data set in one of the two ways in which EEGLAB saves them."""

    def write(fields):
        savemat(tmp_path / "own.set", {"EEG": fields} if request.param == "one variable" else fields)
        return tmp_path / "own.set"

    return write


def trials_of(names=NAMES):
    signal = np.random.default_rng(3).standard_normal((N_TRIALS, len(names), N_TIMES))
    return xs.from_array(10 * signal, SFREQ, names, np.arange(N_TRIALS) % 2)


def test_the_files_own_components_carry_the_relevance_and_conserve_it(written, unmixing, probability):
    ica, _ = xs.read_components(written(data_set(*unmixing, classified=probability)))
    assert ica.ch_names == [NAMES[channel] for channel in DECOMPOSED]
    trials = trials_of().pick(ica.ch_names)
    course = np.random.default_rng(4).standard_normal(N_TIMES)
    matrix = unmixing[0] @ unmixing[1]
    for read in range(4):
        attribution = xs.attribute(Source(matrix[read], course), trials, 0, "input_x_gradient")
        relevance = xs.component_relevance(attribution, trials, ica)
        expected = np.zeros_like(relevance)
        expected[:, read] = (matrix[read] @ trials.signal) @ course
        np.testing.assert_allclose(relevance, expected, atol=1e-3 * np.abs(expected).max())
    removed = xs.remove_components(trials, ica, [2])
    np.testing.assert_allclose(matrix[2] @ removed.signal, 0, atol=1e-4)
    np.testing.assert_allclose(matrix[1] @ removed.signal, matrix[1] @ trials.signal, rtol=1e-3, atol=1e-3)


def test_labels_have_the_columns_of_label_components_whatever_their_order_in_the_file(written, unmixing, probability):
    turned = [6, 2, 0, 1, 4, 3, 5]
    classes = [ICLABEL_ORDER[k] for k in turned]
    path = written(data_set(*unmixing, classified=probability[:, turned], classes=classes))
    _, labels = xs.read_components(path)
    assert list(labels) == ["component", "label", "probability", *CLASSES.values()]
    np.testing.assert_allclose(labels[list(CLASSES.values())], probability)
    best = probability.argmax(1)
    assert labels["label"].tolist() == [list(CLASSES.values())[k] for k in best]
    np.testing.assert_allclose(labels["probability"], probability.max(1))
    assert labels["component"].tolist() == [0, 1, 2, 3]


def test_classes_are_those_of_mne_icalabel():
    from mne_icalabel.config import ICALABEL_METHODS_NUMERICAL_TO_STRING

    assert list(CLASSES.values()) == list(ICALABEL_METHODS_NUMERICAL_TO_STRING["iclabel"].values())
    assert list(CLASSES) == ICLABEL_ORDER


def test_at_reduced_rank_the_last_column_holds_what_the_file_dropped(written, unmixing, probability):
    """With PCA, EEGLAB keeps weights times the principal axes, and a sphere that is the identity."""
    weights = unmixing[0][:2]
    ica, labels = xs.read_components(written(data_set(weights, np.eye(4), classified=probability[:2])))
    assert ica.n_components_ == len(labels) == 2
    trials, course = trials_of().pick(ica.ch_names), np.ones(N_TIMES)
    dropped = np.linalg.svd(weights)[2][3]  # orthogonal to both components
    attribution = xs.attribute(Source(weights[1] + dropped, course), trials, 0, "input_x_gradient")
    relevance = xs.component_relevance(attribution, trials, ica)
    of_rest = (dropped @ trials.signal) @ course
    np.testing.assert_allclose(relevance.sum(1), attribution.values.sum((1, 2)), rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(relevance[:, -1], of_rest, atol=1e-3 * np.abs(of_rest).max())


def test_channels_without_positions_are_named_as_from_array_names_them(written, unmixing):
    decorated = [f"EEG {name}-Ref" for name in NAMES]
    ica, labels = xs.read_components(written(data_set(*unmixing, positions=False, names=decorated)))
    trials = trials_of(decorated)
    assert labels is None and ica.ch_names == [NAMES[channel] for channel in DECOMPOSED]
    assert trials.info.ch_names == list(NAMES)


def test_trials_in_another_order_are_told_how_to_come_into_that_of_the_ica(written, unmixing):
    ica, _ = xs.read_components(written(data_set(*unmixing)))
    with pytest.raises(ValueError, match=r"fitted to the channels Oz, Fp1, .* trials\.pick\(ica\.ch_names\)"):
        xs.remove_components(trials_of(), ica, [0])
    assert xs.remove_components(trials_of().pick(ica.ch_names), ica, [0]).signal.shape == (N_TRIALS, 4, N_TIMES)


def test_labels_of_another_decomposition_are_not_taken(written, unmixing, probability):
    path = written(data_set(*unmixing, classified=probability[:3]))
    with pytest.warns(UserWarning, match="4 components, and ICLabel's classes of 3: they were classified before"):
        ica, labels = xs.read_components(path)
    assert labels is None and ica.n_components_ == 4


def test_a_file_whose_mixing_was_edited_is_read_with_mnes_warning(written, unmixing):
    edited = data_set(*unmixing)
    edited["icawinv"] = 2 * edited["icawinv"]
    with pytest.warns(RuntimeWarning, match="Mismatch between icawinv"):
        xs.read_components(written(edited))


def test_reading_warns_of_nothing_else(written, unmixing, probability):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        xs.read_components(written(data_set(*unmixing, classified=probability)))


def test_what_is_no_decomposition_is_refused_with_the_reason(tmp_path, unmixing, probability):
    path = tmp_path / "own.set"
    with pytest.raises(FileNotFoundError, match=r"There is no file .*own\.set"):
        xs.read_components(path)
    for content, message in (
        ({"EEG": data_set(np.array([]), np.array([]))}, r"no independent components: .* fit_ica"),
        ({"EEG": data_set(unmixing[0][:1], np.eye(4))}, "has a single component"),
        ({"ALLEEG": [data_set(*unmixing)] * 2}, "holds ALLEEG and no EEGLAB data set. It holds several"),
        ({"x": 1.0}, "holds x and no EEGLAB data set.$"),
        (data_set(*unmixing, classified=probability, classes=["Brain", *"abcdef"]), "ICLabel's classes Brain, a, b"),
    ):
        savemat(path, content)
        with pytest.raises(ValueError, match=message):
            xs.read_components(path)
    for bytes_ in (b"", b"no MATLAB file" * 100):
        path.write_bytes(bytes_)
        with pytest.raises(ValueError, match="is not a MATLAB file, as an EEGLAB data set is"):
            xs.read_components(path)
