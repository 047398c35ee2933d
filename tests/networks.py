"""Small networks with random weights, three channels and three classes, whose batch norms have seen data."""

import warnings
from copy import deepcopy
from functools import cache

import torch

from eegxai_support.decoders import InterpretableCNN

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from braindecode.models import Deep4Net, EEGConformer, EEGNet, EEGNeX, FBCNet, SCCNet, ShallowFBCSPNet, TIDNet

SIZES = {"n_chans": 3, "n_outputs": 3, "n_times": 120}
NETWORKS = {
    "EEGNet": lambda: EEGNet(**SIZES, kernel_length=16),
    "ShallowFBCSPNet": lambda: ShallowFBCSPNet(
        **SIZES, n_filters_time=4, n_filters_spat=4, filter_time_length=9, pool_time_length=20, pool_time_stride=5
    ),
    "Deep4Net": lambda: Deep4Net(
        **SIZES, n_filters_time=4, n_filters_spat=4, n_filters_2=4, n_filters_3=4, n_filters_4=4, pool_time_length=2,
        pool_time_stride=2, filter_time_length=5, filter_length_2=5, filter_length_3=5, filter_length_4=5,
    ),
    "InterpretableCNN": lambda: InterpretableCNN(**SIZES, n_spatial=4, kernel_length=16),
    "EEGNeX": lambda: EEGNeX(**SIZES, kernel_block_1_2=16),
    "FBCNet": lambda: FBCNet(**SIZES, sfreq=100, n_bands=3, n_filters_spat=4),
    "SCCNet": lambda: SCCNet(**SIZES, sfreq=100, n_spatial_filters=4, n_spatial_filters_smooth=4),
    "TIDNet": lambda: TIDNet(**SIZES, t_filters=4, s_growth=4),
    "EEGConformer": lambda: EEGConformer(3, 3, n_times=200, n_filters_time=8, num_layers=1, num_heads=2),
}  # fmt: skip


@cache
def built(name):
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        model = NETWORKS[name]().train()
        with torch.no_grad():
            for _ in range(20):
                model(torch.randn(32, 3, model.n_times))
    return model.eval()


def build(name, dtype=torch.float32):
    """Return a network that a test may change: a copy, which takes a tenth of the time or less.

    Copies share the classes that parametrisations have made: who removes one takes `built.__wrapped__`, a new network.
    """
    return deepcopy(built(name)).to(dtype)
