"""Build, train, evaluate, save and load decoders."""

from eegxai_support.decoders.accuracy import Accuracy, accuracy
from eegxai_support.decoders.evaluation import (
    cross_validate,
    csp_lda,
    decoder_fit,
    permutation_p_value,
)
from eegxai_support.decoders.inference import predict
from eegxai_support.decoders.models import RECIPES, DeepNet, InterpretableCNN, build_decoder, recipe
from eegxai_support.decoders.training import Training, train
from eegxai_support.decoders.weights import load, save

__all__ = [
    "RECIPES",
    "Accuracy",
    "DeepNet",
    "InterpretableCNN",
    "Training",
    "accuracy",
    "build_decoder",
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
