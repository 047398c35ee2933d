"""Every figure of the book: arrays and tables in, a matplotlib Figure out, never shown and never kept by pyplot.

With ``axes=``, a figure is drawn as a part of one of your own: in as many Axes as it has panels, in their order, and
your figure is returned. It keeps your style, and what belongs to a whole figure stands in the panels: the names of
quantities at each, the legend in the last. A colour bar takes its place from the Axes that it belongs to.
``plt.subplots(1, 3, layout="constrained")`` keeps all of it apart.

Four functions take no ``axes=``, since their layout is what they say: rows of unlike panels that are read together,
whose heights follow from what they hold. These are `plot_trial_maps` (image, head and receipt of every method),
`plot_filters` (kernel, response, filter and pattern of every unit), `plot_ideal_maps` (courses and heads of every
regime) and `plot_single_trial` (traces beside a head and numbers).
"""

from .concepts import plot_cluster_topographies, plot_component_shares, plot_filter_map, plot_region_relevance
from .decoding import plot_accuracies, plot_history, plot_known_answer, plot_trials
from .evidence import plot_conservation, plot_randomisation, plot_scores
from .faithfulness import plot_perturbation_curves, plot_sensitivity
from .filters import plot_ablation, plot_filters, plot_unit_averages
from .intervals import plot_intervals
from .leaderboard import plot_critical_difference, plot_leaderboard
from .maps import (
    plot_agreement,
    plot_band_topomaps,
    plot_channel_topomaps,
    plot_spectra_of_patterns,
    plot_trial_maps,
)
from .montages import plot_montages
from .perturbation import plot_convergence
from .simulation import plot_accuracy_over_snr, plot_ideal_maps
from .single_trial import plot_processing, plot_single_trial
from .time_frequency import plot_map_comparison, plot_time_frequency

__all__ = [
    "plot_ablation",
    "plot_accuracies",
    "plot_accuracy_over_snr",
    "plot_agreement",
    "plot_band_topomaps",
    "plot_channel_topomaps",
    "plot_cluster_topographies",
    "plot_component_shares",
    "plot_conservation",
    "plot_convergence",
    "plot_critical_difference",
    "plot_filter_map",
    "plot_filters",
    "plot_history",
    "plot_ideal_maps",
    "plot_intervals",
    "plot_known_answer",
    "plot_leaderboard",
    "plot_map_comparison",
    "plot_montages",
    "plot_perturbation_curves",
    "plot_processing",
    "plot_randomisation",
    "plot_region_relevance",
    "plot_scores",
    "plot_sensitivity",
    "plot_single_trial",
    "plot_spectra_of_patterns",
    "plot_time_frequency",
    "plot_trial_maps",
    "plot_trials",
    "plot_unit_averages",
]
