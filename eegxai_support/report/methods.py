"""What a report calls the methods, and what is to be cited where they are used."""

from __future__ import annotations

import re
from pathlib import Path

TITLES = {
    "deep_lift": "DeepLIFT",
    "deep_lift_shap": "DeepLIFT SHAP",
    "input_x_gradient": "input × gradient",
    "integrated_gradients": "integrated gradients",
    "expected_gradients": "expected gradients",
    "smooth_grad": "SmoothGrad",
    "lrp_epsilon": "LRP-ε",
    "lrp_gamma": "LRP-γ",
    "lrp_alpha_beta": "LRP-αβ",
    "lrp_z_plus": "LRP-z⁺",
    "guided_backprop": "guided backpropagation",
    "grad_cam": "Grad-CAM",
    "guided_grad_cam": "guided Grad-CAM",
    "kernel_shap": "KernelSHAP",
    "haufe_pattern": "Haufe pattern",
}
# Keys of references.bib, by what was used.
CITED = {
    "gradient": ("simonyan2014deep",),
    "saliency": ("simonyan2014deep",),
    "input_x_gradient": ("shrikumar2017learning",),
    "integrated_gradients": ("sundararajan2017axiomatic",),
    "smooth_grad": ("smilkov2017smoothgrad",),
    "expected_gradients": ("erion2021improving",),
    "deep_lift": ("shrikumar2017learning", "ancona2018better"),
    "deep_lift_shap": ("lundberg2017unified",),
    "lrp_epsilon": ("bach2015pixel",),
    "lrp_gamma": ("montavon2019layer",),
    "lrp_alpha_beta": ("bach2015pixel", "montavon2019layer"),
    "lrp_z_plus": ("montavon2019layer",),
    "guided_backprop": ("springenberg2015striving",),
    "deconvolution": ("zeiler2014visualizing",),
    "grad_cam": ("selvaraju2017grad",),
    "guided_grad_cam": ("selvaraju2017grad",),
    "occlusion": ("zeiler2014visualizing",),
    "channel_ablation": ("zeiler2014visualizing",),
    "window_ablation": ("zeiler2014visualizing",),
    "kernel_shap": ("lundberg2017unified", "covert2021improving"),
    "amplitude_gradients": ("schirrmeister2017deep", "hartmann2018hierarchical"),
    "haufe_pattern": ("haufe2014interpretation",),
    "EEGNet": ("lawhern2018eegnet", "schirrmeister2017deep"),
    "ShallowFBCSPNet": ("schirrmeister2017deep",),
    "Deep4Net": ("schirrmeister2017deep",),
    "InterpretableCNN": ("cui2023eeg",),
    "MNE-Python": ("gramfort2013meg",),
    "COBIDAS": ("pernet2020issues",),
    "permutation": ("phipson2010permutation",),
    "interval over trials and draws": ("owen2007pigeonhole",),
    "components": ("lee1999independent", "pion2019iclabel"),
    "sanity": ("adebayo2018sanity", "sujatharavindran2023empirical"),
    "robustness": ("cui2023towards", "ancona2018better"),
    "faithfulness": ("petsiuk2018rise",),
    "surrogates": ("theiler1992testing", "prichard1994generating"),
    "spectra": ("kechris2025time", "vielhaben2024explainable"),
}
ENTRY = r"(?ms)^(@\w+\{([^,]+),.*?^\})"
STORE = Path(__file__).with_name("references.bib")


def title_of(method: str) -> str:
    """Return what a method is called in a sentence."""
    return TITLES.get(method, method.replace("_", " "))


def bibliography(keys) -> str:
    """Return the BibTeX entries of some keys, each once, in the order of the keys."""
    entries = {key: entry for entry, key in re.findall(ENTRY, STORE.read_text(encoding="utf-8"))}
    return "\n\n".join(entries[key] for key in dict.fromkeys(keys))
