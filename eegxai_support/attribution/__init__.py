"""Per-trial attribution maps, one file per family of methods; importing a family registers its methods."""

from eegxai_support.attribution import deep_lift, gradients, integrated, random  # noqa: F401
from eegxai_support.attribution.core import METHODS, Attribution, Method, UnsupportedOperation, attribute

__all__ = ["METHODS", "Attribution", "Method", "UnsupportedOperation", "attribute"]
