"""What the weights of a network show: kernels, spatial filters and their patterns, and what its units do."""

from eegxai_support.filters.activations import ablate_units, unit_activations
from eegxai_support.filters.clusters import cluster_filters, cluster_table, embed_filters, stability
from eegxai_support.filters.concepts import ConceptRelevance, concept_relevance, reference_trials
from eegxai_support.filters.layers import FILTER_LAYERS, FilterLayers, Filters, filter_patterns, read_filters
from eegxai_support.filters.matching import match_patterns

__all__ = [
    "FILTER_LAYERS",
    "ConceptRelevance",
    "FilterLayers",
    "Filters",
    "ablate_units",
    "cluster_filters",
    "cluster_table",
    "concept_relevance",
    "embed_filters",
    "filter_patterns",
    "match_patterns",
    "read_filters",
    "reference_trials",
    "stability",
    "unit_activations",
]
