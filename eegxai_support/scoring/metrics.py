"""What each column of `score_maps` measures."""

from __future__ import annotations

from dataclasses import dataclass

from numpy import inf

OPPOSITE = {"higher": "lower", "lower": "higher"}


@dataclass(frozen=True)
class Metric:
    """What a column of `score_maps` measures under the protocols "accuracy" and "randomisation".

    Attributes
    ----------
    formula : str
        In the symbols of `score_maps`.
    low, high : float
        Bounds of the formula.
    uses_support : bool
        Whether it needs the support S of the reference.
    direction : str
        The better direction under "accuracy". Under "randomisation" it is the opposite one: a good explanation
        changes when the network does.
    """

    formula: str
    low: float
    high: float
    uses_support: bool = False
    direction: str = "higher"

    def under(self, protocol: str) -> dict[str, str | float | None]:
        """Return direction and bounds under "accuracy" or "randomisation", as JSON holds them: None for no bound."""
        direction = self.direction if protocol == "accuracy" else OPPOSITE[self.direction]
        return {"direction": direction, "low": self.low, "high": self.high if self.high < inf else None}


# In braindecode's column order, so that a table can be laid beside braindecode's.
METRICS: dict[str, Metric] = {
    "Cosine_topperc_abs": Metric("cos(top A, top G)", 0, 1),
    "Cosine_absnorm": Metric("cos(A, G)", 0, 1),
    "Cosine_norm": Metric("cos(E⁺, G⁺)", 0, 1),
    "Cosine_raw": Metric("cos(E, R)", -1, 1),
    "RelevanceMassAccuracy_topperc": Metric("(mass of top A in S / mass of top A) / same of G", 0, inf, True),
    "RelevanceRankAccuracy_topK": Metric("points of S among the K highest of A / K", 0, 1, True),
    "RelevanceMassAccuracy_norm": Metric("(mass of E⁺ in S / mass of E⁺) / same of G⁺", 0, inf, True),
    "RelevanceMassAccuracy_absnorm": Metric("(mass of A in S / mass of A) / same of G", 0, inf, True),
    "Pearson_topK_vs_topperc": Metric("r(A on its K highest, G on S), zero elsewhere", -1, 1, True),
    "Pearson_absnorm": Metric("r(A, G)", -1, 1),
    "Pearson_norm": Metric("r(E⁺, G⁺)", -1, 1),
    "Pearson_raw": Metric("r(E, R)", -1, 1),
    "SSIM_topperc": Metric("SSIM((top A)ₛ, (top G)ₛ), data range 1", -1, 1),
    "SSIM_absnorm": Metric("SSIM(Aₛ, Gₛ), data range 1", -1, 1),
    "SSIM_norm": Metric("SSIM(E⁺ₛ, G⁺ₛ), data range 1", -1, 1),
    "SSIM_raw": Metric("SSIM(Eₛ, Rₛ), data range 2", -1, 1),
}
