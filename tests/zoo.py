"""Every braindecode model that maps (trial, channel, time) to (trial, class), small and with random weights.

The montage is that of data set 2a of BCI Competition IV: 22 channels, 4 s at 250 Hz, 4 classes. Nothing is downloaded.
"""

import json
import os
import tempfile
import warnings
from pathlib import Path
from unittest.mock import patch

import mne
import torch
from torch import nn

N_CHANNELS, N_TIMES, N_CLASSES, SFREQ = 22, 1000, 4, 250
CHANNELS = "Fz FC3 FC1 FCz FC2 FC4 C5 C3 C1 Cz C2 C4 C6 CP3 CP1 CPz CP2 CP4 P1 Pz P2 POz".split()

# Keyword arguments of each. Sizes of the large ones are cut to what a CPU does in a tenth of a second.
MODELS = {
    "ATCNet": {},
    "AttentionBaseNet": {},
    "BDTCN": {},
    "BIOT": {"embed_dim": 64, "num_layers": 2},
    "BrainModule": {"hidden_dim": 64},
    "CBraMod": {"n_layer": 2},
    "CTNet": {},
    "CodeBrain": {"num_res_layers": 2, "res_channels": 32, "skip_channels": 32, "out_channels": 32},
    "ContraWR": {},
    "DGCNN": {},
    "Deep4Net": {},
    "DeepSleepNet": {"bilstm_hidden_size": 16},
    "EEGConformer": {"num_layers": 2},
    "EEGDINO": {"n_channel_embeddings": N_CHANNELS, "n_layer": 2},
    "EEGITNet": {},
    "EEGInceptionERP": {},
    "EEGInceptionMI": {"n_filters": 4, "n_convs": 3},
    "EEGMiner": {},
    "EEGNeX": {},
    "EEGNet": {},
    "EEGPT": {"depth": 2, "embed_dim": 64},
    "EEGSimpleConv": {},
    "EEGSym": {},
    "EEGTCNet": {},
    "FBCNet": {},
    "FBLightConvNet": {},
    "FBMSNet": {},
    "IFNet": {},
    "InterpolatedBENDR": {"transformer_layers": 1, "contextualizer_hidden": 64, "encoder_h": 64},
    "InterpolatedBIOT": {"embed_dim": 64, "num_layers": 2},
    "InterpolatedEEGPT": {"depth": 2, "embed_dim": 64},
    "InterpolatedLaBraM": {"num_layers": 2},
    "LUNA": {"depth": 2},
    "MEDFormer": {"embed_dim": 64, "num_layers": 2},
    "MSVTNet": {},
    "MVPFormer": {"d_model": 64, "n_layers": 2},
    "PBT": {"num_layers": 2},
    "REVE": {"depth": 2, "embed_dim": 64, "heads": 2, "head_dim": 32},
    "SCCNet": {},
    "SPARCNet": {},
    "SSTDPN": {},
    "STEEGFormer": {"depth": 2, "embed_dim": 64, "patch_size": 50},
    "ShallowFBCSPNet": {},
    "SignalJEPA_Contextual": {},
    "SignalJEPA_PostLocal": {},
    "SignalJEPA_PreLocal": {},
    "SincShallowNet": {},
    "SleepStagerBlanco2020": {},
    "SleepStagerChambon2018": {},
    "SyncNet": {},
    "TCFormer": {},
    "TIDNet": {"s_growth": 6, "t_filters": 8},
    "TSception": {},
    "USleep": {"ensure_odd_conv_size": True},
    "ZUNA": {"fine_time_pts": 100, "n_layers": 2, "dim": 128},
}
OUTSIDE = {  # why a model is not one of them
    "AttnSleep": "takes one channel",
    "BENDR": "takes its own 20 channels; InterpolatedBENDR takes any",
    "DANCE": "a class for each of many events: (trial, event, class)",
    "EMG2QwertyNet": "EMG at 2 kHz, a class per sample",
    "HybridNet": "a class per crop: (trial, class, crop)",
    "InterpolatedSignalJEPA": "returns features, no classes",
    "Labram": "takes its own 128 channels; InterpolatedLaBraM takes any",
    "MetaNeuromotorHand": "EMG at 2 kHz, a class per sample",
    "NeuroPose": "EMG, an output per sample",
    "SensingDynamics": "takes 16 channels of EMG",
    "SignalJEPA": "returns features, no classes",
    "TCN": "a class per sample: (trial, class, sample); BDTCN pools it",
    "VEMG2Pose": "EMG at 2 kHz, an output per sample",
}
ONLY_FLOAT32 = {  # what breaks in float64 without any attribution, or computes in float32 all the same
    "CodeBrain": "breaks: casts its spectrum to float32",
    "MVPFormer": "casts trials to float32",
    "REVE": "breaks: its position codes stay float32",
    "SyncNet": "breaks: casts trials and filters to float32",
    "ZUNA": "casts what enters each block to float32",
}


def build(name: str) -> nn.Module:
    """Build a network in eval mode with seeded weights, its batch-norm statistics those of random trials."""
    with torch.random.fork_rng(), warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        import braindecode.models

        info = mne.create_info(CHANNELS, SFREQ, "eeg").set_montage("colin27_1005")
        positions = {channel["ch_name"]: channel["loc"][:3].tolist() for channel in info["chs"]}
        Path(folder, "reve_positions.json").write_text(json.dumps(positions))  # else REVE would download its own
        sizes = {"n_chans": N_CHANNELS, "n_times": N_TIMES, "n_outputs": N_CLASSES, "sfreq": SFREQ}
        torch.manual_seed(0)
        with patch.dict(os.environ, REVE_POSITIONS_PATH=folder):
            model = getattr(braindecode.models, name)(**sizes, chs_info=info["chs"], **MODELS[name])
        calibrate(model)
    return model.eval()


@torch.no_grad()
def calibrate(model: nn.Module, n_batches: int = 3) -> None:
    norms = [layer for layer in model.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    if norms:
        momentum = [layer.momentum for layer in norms]
        for layer in norms:
            layer.momentum = None  # the mean over all batches
        for _ in range(n_batches):
            model.train()(torch.randn(8, N_CHANNELS, N_TIMES))
        for layer, value in zip(norms, momentum, strict=True):
            layer.momentum = value
