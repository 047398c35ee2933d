"""Power over groups: the recorded level is what the test promises, and groups hold the effect where they say."""

import numpy as np
import pytest
from scipy import stats

import eegxai_support as xs
from studies import groups


def test_groups_without_an_effect_are_called_one_as_rarely_as_promised():
    """Over thousands of groups, and at least 500 of each size, 0.05 is inside the interval of the share."""
    table = xs.recorded("group_power").query("effect == 0")
    assert (table["n_groups"] >= 500).all()
    found = round((table["found"] * table["n_groups"]).sum())
    low, high = stats.binomtest(found, int(table["n_groups"].sum())).proportion_ci(method="wilson")
    assert low <= 0.05 <= high
    corrected = 0.05 / len(table)  # of so many intervals
    for row in table.itertuples():
        assert stats.binomtest(round(row.found * row.n_groups), row.n_groups, 0.05).pvalue > corrected


def test_more_subjects_and_larger_effects_are_found_more_often():
    table = xs.recorded("group_power").pivot(index="n_units", columns="effect", values="found")
    assert (np.diff(table[[1.0, 2.0]].to_numpy(), axis=0) > -0.1).all() and (table[2.0] > table[1.0] - 0.05).all()
    assert table.loc[30, 2.0] > 0.9 > table.loc[6, 1.0]


def test_a_group_has_its_effect_where_it_says_and_in_most_subjects():
    without, with_it = (groups.group(200, effect, np.random.default_rng(0)) for effect in (0.0, 1.0))
    difference = with_it - without  # of the same noise and scales
    channels, places = groups.WHERE
    outside = np.ones(difference.shape[2:], bool)
    outside[np.ix_(channels, range(groups.N_PLACES)[places])] = False
    assert not difference[:, 0].any() and not difference[:, 1][:, outside].any()
    showing = difference[:, 1][:, ~outside].any(axis=1)
    assert showing.mean() == pytest.approx(groups.SHOWING, abs=0.1)


def test_a_row_counts_groups(monkeypatch):
    monkeypatch.setattr(groups, "N_GROUPS", {5.0: 4, 0.0: 4})
    monkeypatch.setattr(groups, "SHOWING", 1.0)
    row = groups._row(8, 5.0)
    assert row["n_groups"] == 4 and row["found"] == row["inside"] == 1 and row["low"] < 1 == row["high"]
    assert groups._row(8, 0.0)["found"] < 1
