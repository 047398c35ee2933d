"""Independent components: how much of a decision rests on brain, eyes and muscles."""

from eegxai_support.sources.eeglab import read_components
from eegxai_support.sources.ica import fit_ica, label_components
from eegxai_support.sources.relevance import component_relevance, matrices_of, remove_components

__all__ = ["component_relevance", "fit_ica", "label_components", "matrices_of", "read_components", "remove_components"]
