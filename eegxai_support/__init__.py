"""Explain EEG decoders and be believed: every map comes with its receipt."""

import warnings
from importlib.metadata import version

with warnings.catch_warnings():  # captum and pooch import this bar, and it complains where ipywidgets is missing
    warnings.simplefilter("ignore")
    import tqdm.auto  # noqa: F401

from eegxai_support import viz
from eegxai_support.attribution import (
    METHODS,
    Attribution,
    BaselineWarning,
    Method,
    UnsupportedOperation,
    attribute,
    make_baseline,
    simplify,
)
from eegxai_support.benchmark import rank_methods, run_benchmark
from eegxai_support.decoders import (
    RECIPES,
    DeepNet,
    InterpretableCNN,
    Training,
    build_decoder,
    cross_validate,
    csp_lda,
    decoder_fit,
    frozen,
    load,
    permutation_p_value,
    predict,
    save,
    train,
)
from eegxai_support.patterns import ClusterTest, haufe_patterns, pattern_cluster_test, pattern_interval
from eegxai_support.recordings import (
    from_epochs,
    load_bnci2014_001,
    load_eegbci,
    load_motor_imagery,
    recorded,
)
from eegxai_support.sanity import (
    data_randomisation_test,
    efficient_mprt,
    label_randomisation_test,
    random_target,
    randomize,
    smooth_mprt,
    weight_randomisation_test,
)
from eegxai_support.scoring import (
    METRICS,
    area_under_curve,
    deletion_test,
    mean_and_interval,
    perturbation_curves,
    roar,
    score_maps,
    sensitivity_test,
)
from eegxai_support.simulate import SimulatedTrials, simulate
from eegxai_support.spectral import (
    AmplitudeEffect,
    FilterBankCSP,
    amplitude_gradients,
    amplitude_perturbation,
    band_power,
    erds_map,
    event_related_desynchronisation,
    filter_bank_csp,
    frequency_relevance,
    time_frequency_relevance,
)
from eegxai_support.trials import Trials

__version__ = version("eegxai-support")

__all__ = [
    "METHODS",
    "METRICS",
    "RECIPES",
    "AmplitudeEffect",
    "Attribution",
    "BaselineWarning",
    "ClusterTest",
    "DeepNet",
    "FilterBankCSP",
    "InterpretableCNN",
    "Method",
    "SimulatedTrials",
    "Training",
    "Trials",
    "UnsupportedOperation",
    "amplitude_gradients",
    "amplitude_perturbation",
    "area_under_curve",
    "attribute",
    "band_power",
    "build_decoder",
    "cross_validate",
    "csp_lda",
    "data_randomisation_test",
    "decoder_fit",
    "deletion_test",
    "efficient_mprt",
    "erds_map",
    "event_related_desynchronisation",
    "filter_bank_csp",
    "frequency_relevance",
    "from_epochs",
    "frozen",
    "haufe_patterns",
    "label_randomisation_test",
    "load",
    "load_bnci2014_001",
    "load_eegbci",
    "load_motor_imagery",
    "make_baseline",
    "mean_and_interval",
    "pattern_cluster_test",
    "pattern_interval",
    "permutation_p_value",
    "perturbation_curves",
    "predict",
    "random_target",
    "randomize",
    "rank_methods",
    "recorded",
    "roar",
    "run_benchmark",
    "save",
    "score_maps",
    "sensitivity_test",
    "simplify",
    "simulate",
    "smooth_mprt",
    "time_frequency_relevance",
    "train",
    "viz",
    "weight_randomisation_test",
]
