"""Build, train, evaluate, save and load decoders."""

from eegxai_support.decoders.accuracy import Accuracy, accuracy, class_labels
from eegxai_support.decoders.evaluation import (
    cross_validate,
    csp_lda,
    decoder_fit,
    permutation_p_value,
)
from eegxai_support.decoders.inference import predict
from eegxai_support.decoders.models import RECIPES, DeepNet, InterpretableCNN, build_decoder, recipe
from eegxai_support.decoders.training import Training, load, save, train

__all__ = [
    "RECIPES",
    "Accuracy",
    "DeepNet",
    "InterpretableCNN",
    "Training",
    "accuracy",
    "build_decoder",
    "class_labels",
    "cross_validate",
    "csp_lda",
    "decoder_fit",
    "load",
    "permutation_p_value",
    "predict",
    "recipe",
    "save",
    "train",
]
