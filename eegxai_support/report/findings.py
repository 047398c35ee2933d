"""What a report has found: what page, verdict and receipt are made from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from eegxai_support.trials import Trials

TRAINED, UNTRAINED = "trained", "untrained"  # of the column `network`
PAGE, SAMPLE, TABLES = "report.html", "sample.safetensors", "tables"  # what lies in the folder of a report


@dataclass(frozen=True, eq=False)
class Findings:
    """The tables, maps and facts of a report, whatever computed them.

    Parameters
    ----------
    trials : Trials
        The trials that are explained, as the network takes them, in the order of ``tables["predictions"].trial``.
    tables : dict of str to DataFrame
        A stage that could not be made is absent and has a row in ``tables["skipped"]``.
    maps : dict of str to ndarray, shape (n_shown, channel, time)
        By method, the mean over seeds of the maps of the trials ``tables["shown"].trial``; float32.
    facts : dict
        What is no table, as JSON holds it.
    """

    trials: Trials
    tables: dict[str, pd.DataFrame]
    maps: dict[str, np.ndarray]
    facts: dict

    @property
    def products(self) -> list[str]:
        """Every file of the report but its receipt, as paths from its folder."""
        tables = [*self.tables, *(f"maps_{method}" for method in self.maps)]
        return [PAGE, SAMPLE, *self.facts["weights"], *(f"{TABLES}/{name}.parquet" for name in tables)]
