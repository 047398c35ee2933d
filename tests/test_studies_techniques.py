"""Study of seven techniques: who is left out, which trials are explained, and what the three tables are means of."""

import numpy as np
import pandas as pd
import pytest
from tiny_studies import gradients, logits, tiny_recordings

import eegxai_support as xs
from studies import techniques

SUBJECTS = (1, 2, 3, 4, 5)
METHODS = ("gradient", "input_x_gradient", "deconvolution", "guided_backprop", "deep_lift", "lrp_epsilon")
METHODS += ("integrated_gradients", "random")
PRODUCTS = ("deconvolution x input", "guided_backprop x input")


@pytest.fixture(scope="module")
def study():
    """All tables of tiny trials, the decoders, and what the two tests of maps were given."""
    asked = []

    def tested(model, x, target, maps):
        """Stand in for both tests of maps: numbers of every trial and map that can be told apart."""
        asked.append((model, x, target, maps))
        rows = [
            (method, trial, part, share, values[trial].sum() + 100 * share)
            for method, values in maps.items()
            for trial in range(len(x))
            for part, share in (("a", 0.1), ("b", 0.5))
        ]
        table = pd.DataFrame(rows, columns=["method", "trial", "part", "share", "correlation"]).assign(map="signed")
        drops = ["deleted", "logit_drop", "probability", "probability_drop"]
        return table.assign(**{name: (k + 2) * table["correlation"] for k, name in enumerate(drops)})

    with tiny_recordings() as (recordings, patch):
        patch.setattr(techniques, "SUBJECTS", SUBJECTS)
        patch.setattr(techniques, "N_EXPLAINED", 5)
        patch.setattr(techniques, "rounded", lambda table, _: table)
        tables = {"accuracy": techniques.technique_accuracy()}
        n_models = len(recordings.trained)
        for name in ("sensitivity_test", "deletion_test"):
            patch.setattr(xs, name, tested)
        for name in ("sensitivity", "deletion", "agreement"):
            tables[name] = getattr(techniques, f"technique_{name}")()
        trials = {"drowsiness": recordings.load_drowsiness()}
        trials["fists"] = recordings.load_eegbci(SUBJECTS, tmin=0.0, tmax=3.0, sfreq=80)
        yield recordings, trials, tables, recordings.trained[:n_models], asked


def keys_and_models(study):
    """Return data, network and subject of every row of the accuracies, with the decoder that left the subject out."""
    _, trials, tables, models, _ = study
    number_of = {d: t.metadata.groupby("subject")["number"].agg(set).to_dict() for d, t in trials.items()}
    for _, row in tables["accuracy"].iterrows():
        own = number_of[row["data"]][row["subject"]]
        fit = [
            m for m in models
            if type(m).__name__ == row["network"] and m.numbers < set().union(*number_of[row["data"]].values())
            and not m.numbers & own
        ]  # fmt: skip
        assert len(fit) == 1, "a subject is left out once, and tested by no decoder that has seen a trial of it"
        yield row, fit[0], trials[row["data"]].subset(trials[row["data"]].metadata["subject"] == row["subject"])


def test_every_subject_is_tested_once_by_a_decoder_that_was_trained_on_others(study):
    _, trials, tables, models, _ = study
    keys = tables["accuracy"][["data", "network", "subject"]].itertuples(index=False, name=None)
    assert sorted(keys) == sorted(
        (data, network, subject)
        for network in ("EEGNet", "InterpretableCNN")
        for data, subjects in (("drowsiness", (1, 2, 3)), ("fists", SUBJECTS))
        for subject in subjects
    )
    assert len(models) == 2 * (3 + 4)  # one subject of three, and a quarter of the five, at a time
    for row, model, own in keys_and_models(study):
        n_left_out = len(trials[row["data"]]) - len(model.numbers)
        assert n_left_out == len(own) if row["data"] == "drowsiness" else n_left_out in (12, 24)
        assert row["n_trials"] == len(own) and not row["simulated"]
        assert row["accuracy"] == pytest.approx(np.mean(logits(model, own.signal).argmax(1) == own.label))


def test_networks_have_kernels_of_so_many_seconds_and_trainings_of_each_set(study):
    for row, model, own in keys_and_models(study):
        seconds = {"InterpretableCNN": 0.5, "EEGNet": 0.4}[row["network"]]
        assert model.conv_temporal.kernel_size[1] == round(seconds * own.sfreq)
        epochs = {"epochs": 3, "lr": 3e-3, "batch_size": 8} if row["data"] == "drowsiness" else {"epochs": 25}
        assert model.options == {"cache": True, **epochs}
        assert own.sfreq == (128 if row["data"] == "drowsiness" else 80)
        assert model.n_times == model.shape[2] == own.signal.shape[2]


def test_both_tests_of_maps_get_evenly_spaced_trials_their_predicted_class_and_all_maps(study):
    _, _, _, _, asked = study
    fits = list(keys_and_models(study))
    assert len(asked) == 2 * len(fits)
    for k, (_, model, own) in enumerate(fits):
        for _, x, target, maps in asked[2 * k : 2 * k + 2]:
            n = len(own) - 1
            expected = [own.signal[round(place * n)] for place in (0, 1 / 4, 1 / 2, 3 / 4, 1)]
            np.testing.assert_array_equal(x, expected)
            np.testing.assert_array_equal(target, logits(model, x).argmax(1))
            assert [*maps] == [*METHODS, *PRODUCTS]


def test_maps_explain_the_logit_of_the_predicted_class(study):
    for k, (_, model, _) in enumerate(keys_and_models(study)):
        _, x, target, maps = study[4][2 * k]
        gradient = gradients(model, x)[target, np.arange(len(x))]
        scale = np.abs(gradient).max()
        np.testing.assert_allclose(maps["gradient"], gradient, atol=1e-3 * scale)
        np.testing.assert_allclose(maps["input_x_gradient"], gradient * x, atol=1e-2 * scale)
        for name in PRODUCTS:
            np.testing.assert_array_equal(maps[name], maps[name.removesuffix(" x input")] * x)
        change = logits(model, x)[range(len(x)), target] - logits(model, 0 * x)[range(len(x)), target]
        np.testing.assert_allclose(maps["integrated_gradients"].sum((1, 2)), change, atol=0.1 * np.abs(change).max())


def test_a_random_map_is_drawn_anew_for_every_decoder_and_subject(study):
    """One draw for all subjects would be one control, and its distance from chance would stay in every mean."""
    drawn = {maps["random"].tobytes() for *_, maps in study[4]}
    assert len(drawn) == len(study[4]) // 2  # the two tests of one decoder and subject are given the same maps


def test_tables_are_means_over_the_trials_of_a_subject(study):
    _, _, tables, _, asked = study
    for k, (row, _, _) in enumerate(keys_and_models(study)):
        maps = asked[2 * k][3]
        keys = ["data", "network", "subject"]
        of = {name: table[(table[keys] == row[keys]).all(axis=1)] for name, table in tables.items()}
        assert all((of[name]["n_trials"] == 5).all() for name in ("sensitivity", "deletion", "agreement"))
        # Of every pair of maps over channels and time, mean over trials.
        trials = zip(*(values.reshape(5, -1) for values in maps.values()), strict=True)
        r = pd.DataFrame(np.mean([np.corrcoef(each) for each in trials], axis=0), [*maps], [*maps])
        for a, values in maps.items():
            mean = values.sum((1, 2)).mean()
            found = of["sensitivity"].query(f"method == {a!r} and map == 'signed'").set_index("share")["correlation"]
            assert found.to_dict() == pytest.approx({0.1: mean + 10, 0.5: mean + 50}, rel=1e-3)
            dropped = of["deletion"].query(f"method == {a!r} and map == 'signed'").set_index("part")
            for column, factor in (("deleted", 2), ("logit_drop", 3), ("probability", 4), ("probability_drop", 5)):
                expected = {"a": factor * (mean + 10), "b": factor * (mean + 50)}
                assert dropped[column].to_dict() == pytest.approx(expected, rel=1e-3)
            agreement = of["agreement"].query(f"method_a == {a!r}").set_index("method_b")["correlation"]
            for b in maps:
                assert agreement[b] == pytest.approx(r.loc[a, b], abs=1e-4)


def test_the_two_sets_of_trials_are_loaded_as_the_configuration_says(study):
    asked = [call for call in study[0].loaded if call["subjects"] == SUBJECTS]
    window = {"tmin": 0.0, "tmax": 3.0, "l_freq": 0.5, "h_freq": 38.0, "sfreq": 80}
    assert asked[0] == {"subjects": SUBJECTS, "runs": (4, 8, 12), **window}
