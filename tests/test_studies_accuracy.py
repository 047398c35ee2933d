"""The accuracies of the book: which trials a decoder is trained and tested on, and what is made of its answers."""

import itertools

import numpy as np
import pandas as pd
import pytest
import tagged
from tagged import N_IN_RUN, label_of, numbers_of

import eegxai_support as xs
from studies import accuracy

ALL_SUBJECTS = [*range(1, 21), 42]
WITHIN = {  # table: (subjects, runs, runs that are left out in turn, seeds, epochs)
    "within_subject": ((7, 42, 2), (3, 7, 11, 4, 8, 12), [(4,), (8,), (12,)], (0, 1, 2), 60),
    "all_subjects": (ALL_SUBJECTS, (4, 8, 12), [(4,), (8,), (12,)], (0,), 150),
    "four_classes": ((42, 1, 15), (4, 8, 12, 6, 10, 14), [(4, 6), (8, 10), (12, 14)], (0, 1, 2), 80),
}


def n_wrong(decoder, seed):
    """Return how many trials of each run a decoder gets wrong: each decoder and seed another number."""
    return {"CSP+LDA": 0, "EEGNet": 1, "ShallowFBCSPNet": 2}[decoder] + seed


@pytest.fixture
def fits(monkeypatch):
    """Hand out decoders that know the classes, and return the list of what each was given."""
    log = []

    def decoder(name, seed=0, **options):
        def fit(trials):
            entry = {"decoder": name, "seed": seed, "trained": tagged.numbers_in(trials.signal), **options}
            entry["window"] = tagged.window_of(trials.signal)
            log.append(entry)

            def classify(signal):
                assert tagged.window_of(signal) == entry["window"]
                entry["tested"] = tagged.numbers_in(signal)
                wrong = [n % 10 < n_wrong(name, seed) for n in entry["tested"]]
                return (np.array([label_of(n) for n in entry["tested"]]) + wrong) % trials.n_classes

            return classify

        return fit

    monkeypatch.setattr(xs, "load_eegbci", tagged.load_eegbci)
    monkeypatch.setattr(xs, "csp_lda", lambda: decoder("CSP+LDA"))
    monkeypatch.setattr(xs, "decoder_fit", decoder)
    return log


@pytest.fixture
def p_values(monkeypatch):
    """Give every table of answers another p-value; return what each was asked for."""
    asked, draw = [], np.random.default_rng(0)

    def permutation_p_value(label, predicted, group):
        asked.append((list(label), list(predicted), list(group), draw.uniform(0, 0.1)))
        return asked[-1][-1]

    monkeypatch.setattr(xs, "permutation_p_value", permutation_p_value)
    return asked


def decoders(seeds):
    return [("CSP+LDA", 0), *itertools.product(("EEGNet", "ShallowFBCSPNet"), seeds)]


def check_numbers(row, n_trials, share):
    """Compare a row with the share of right answers and Wilson's interval, by his formula."""
    z = 1.959964
    centre = (share + z**2 / (2 * n_trials)) / (1 + z**2 / n_trials)
    half = z * np.sqrt(share * (1 - share) / n_trials + z**2 / (4 * n_trials**2)) / (1 + z**2 / n_trials)
    assert (row.n_trials, row.accuracy) == (n_trials, pytest.approx(share))
    assert (row.low, row.high) == (pytest.approx(centre - half, abs=1e-6), pytest.approx(centre + half, abs=1e-6))


@pytest.mark.parametrize("name", WITHIN)
def test_a_decoder_within_a_subject_never_sees_the_runs_that_test_it(name, fits, p_values):
    subjects, runs, left_out, seeds, epochs = WITHIN[name]
    table = getattr(accuracy, name)()
    expected = itertools.product(subjects, decoders(seeds), left_out)
    for (subject, (decoder, seed), out), entry in zip(expected, fits, strict=True):
        assert (entry["decoder"], entry["seed"]) == (decoder, seed)
        assert sorted(entry["trained"]) == sorted(numbers_of(subject, set(runs) - set(out)))
        assert sorted(entry["tested"]) == sorted(numbers_of(subject, out))
        assert entry["window"] == (1.0, pytest.approx(4 - 1 / 80))
        if decoder != "CSP+LDA":
            assert (entry["epochs"], entry["n_times"]) == (epochs, 160)
    n_trials = N_IN_RUN * sum(map(len, left_out))
    rows = itertools.product(subjects, decoders(seeds))
    for (subject, (decoder, seed)), row, asked in zip(rows, table.itertuples(), p_values, strict=True):
        assert (row.subject, row.decoder, getattr(row, "seed", 0)) == (subject, decoder, seed)
        check_numbers(row, n_trials, 1 - n_wrong(decoder, seed) / N_IN_RUN)
        check_p_value(row, asked, subject, [run for out in left_out for run in out])


def check_p_value(row, asked, subject, runs):
    """The labels of exactly the tested trials are exchanged, within their run."""
    label, predicted, group, p_value = asked
    numbers = numbers_of(subject, runs)
    assert sorted(zip(group, label, strict=True)) == sorted(
        (f"{subject}-{n // 10 % 100}", label_of(n)) for n in numbers
    )
    assert np.mean(np.equal(label, predicted)) == pytest.approx(row.accuracy)
    assert row.p_value == p_value


def test_a_decoder_across_subjects_never_sees_the_subjects_that_test_it(fits, p_values):
    table = accuracy.unseen_subjects()
    of_subject = {subject: set(numbers_of(subject, (4, 8, 12))) for subject in ALL_SUBJECTS}
    for decoder, seed in decoders((0,)):
        entries = [entry for entry in fits if entry["decoder"] == decoder]
        tested = [{n // 1000 for n in entry["tested"]} for entry in entries]
        assert sorted(map(len, tested)) == [5, 5, 5, 6] and set.union(*tested) == set(ALL_SUBJECTS)
        for entry, subjects in zip(entries, tested, strict=True):
            assert set(entry["tested"]) == set.union(*(of_subject[s] for s in subjects))
            assert set(entry["trained"]) == set.union(*(of_subject[s] for s in ALL_SUBJECTS if s not in subjects))
            assert decoder == "CSP+LDA" or (entry["epochs"], entry["n_times"], entry["seed"]) == (25, 160, seed)
    rows = itertools.product(decoders((0,)), ALL_SUBJECTS)
    for ((decoder, seed), subject), row, asked in zip(rows, table.itertuples(), p_values, strict=True):
        assert (row.subject, row.decoder) == (subject, decoder)
        check_numbers(row, 3 * N_IN_RUN, 1 - n_wrong(decoder, seed) / N_IN_RUN)
        check_p_value(row, asked, subject, (4, 8, 12))


@pytest.mark.parametrize("name", ["all_subjects", "unseen_subjects"])
def test_the_subjects_of_each_decoder_share_a_false_discovery_rate(name, fits, p_values):
    table = getattr(accuracy, name)()
    for _, group in table.groupby("decoder"):
        p = group["p_value"].to_numpy()
        larger = p[None, :] >= p[:, None]  # Benjamini and Hochberg: the least of m p / rank over all that are as large
        by_rank = len(p) * p / (p[None, :] <= p[:, None]).sum(1)
        expected = [min(1, by_rank[those].min()) for those in larger]
        np.testing.assert_allclose(group["p_fdr"], expected)


def test_a_pair_of_runs_holds_all_four_classes():
    trials = tagged.load_eegbci(1, (4, 8, 12, 6, 10, 14))
    pairs = pd.Series(trials.label).groupby(accuracy.pairs_of_runs(trials)).unique()
    assert [sorted(classes) for classes in pairs] == [[0, 1, 2, 3]] * 3
