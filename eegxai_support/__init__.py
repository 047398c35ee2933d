"""Explain EEG decoders and be believed: every map comes with its receipt."""

import warnings
from importlib.metadata import version

import lazy_loader

with warnings.catch_warnings():  # MNE, Pooch and UMAP import this bar, and it complains where ipywidgets is missing
    warnings.simplefilter("ignore")
    import tqdm.auto  # noqa: F401

from eegxai_support import provenance  # noqa: F401 - notes the state of the files before any other of them is imported

# `__init__.pyi` lists the public names. Each is imported when it is first asked for, or all at once: EAGER_IMPORT=1.
# The room `simulate` has the name of a function: since 0.6 lazy_loader keeps Python from putting it in its place.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = version("eegxai-support")
