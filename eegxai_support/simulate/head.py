"""Forward model: from cortical dipoles to potentials on the scalp."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import mne
import numpy as np
from scipy.spatial import cKDTree

from eegxai_support.montages import EEGBCI_CHANNELS, electrode_info
from eegxai_support.trials import unknown_name

SOURCE_RADIUS = 0.8  # of the head radius: 19 mm under the scalp, the depth of the cortex
# Rush & Driscoll (1968): outer radii of brain, skull and scalp, and their conductivities in S/m.
SHELL_RADII = (0.87, 0.924, 1.0)
CONDUCTIVITIES = (0.33, 0.0042, 0.33)
ORIENTATIONS = ("radial", "tangential")


@lru_cache(maxsize=64)
def dipole_topography(
    electrode: str, orientation: str, ch_names: tuple[str, ...], head: str = "sphere", *, lowered: float = 0.0
) -> np.ndarray:
    """Potential of one cortical dipole under an electrode, average reference.

    Parameters
    ----------
    electrode : str
        Name of the 10-05 system; it need not be one of `ch_names`.
    orientation : {"radial", "tangential"}
        Radial points to the electrode; tangential lies along the scalp and points to the nose.
    ch_names : tuple of str
    head : {"sphere", "fsaverage"}
        See `eegxai_support.simulate`.
    lowered : float
        Angle in degrees by which the dipole lies below the electrode.

    Returns
    -------
    ndarray, shape (channel,)
        Scaled to a largest absolute value of 1.
    """
    if orientation not in ORIENTATIONS:
        raise unknown_name("orientation", orientation, ORIENTATIONS)
    radial = _turned(electrode_direction(electrode), lowered)
    forwards = np.array([0.0, 1.0, 0.0])  # head coordinates: y runs to the nose
    moment = radial if orientation == "radial" else forwards - radial * (radial @ forwards)
    potential = lead_field(radial[None], ch_names, head) @ moment
    potential /= np.abs(potential).max()
    potential.flags.writeable = False  # the cache hands out the same array again
    return potential


def electrode_direction(electrode: str) -> np.ndarray:
    """Unit vector from the centre of the head to an electrode."""
    located = electrode_info((electrode,), 1.0)["chs"][0]["loc"][:3] - sphere_model()["r0"]
    return located / np.linalg.norm(located)


def _turned(direction: np.ndarray, degrees: float) -> np.ndarray:
    down = np.array([0.0, 0.0, -1.0])
    down -= direction * (direction @ down)
    angle = np.deg2rad(degrees)
    return np.cos(angle) * direction + np.sin(angle) * down / np.linalg.norm(down)


@lru_cache(maxsize=1)
def sphere_model() -> mne.bem.ConductorModel:
    """Three shells fitted to the electrodes of the 10-05 system."""
    info = electrode_info(EEGBCI_CHANNELS, 1.0)
    return mne.make_sphere_model("auto", "auto", info, relative_radii=SHELL_RADII, sigmas=CONDUCTIVITIES, verbose=False)


def lead_field(direction: np.ndarray, ch_names: tuple[str, ...], head: str = "sphere") -> np.ndarray:
    """Potential of cortical dipoles along three axes, average reference, shape (channel, 3 · place)."""
    if head not in HEADS:
        raise unknown_name("head model", head, HEADS)
    gain = HEADS[head](direction, ch_names)["sol"]["data"]
    return gain - gain.mean(axis=0)


def _sphere(direction: np.ndarray, ch_names: tuple[str, ...]) -> mne.Forward:
    sphere = sphere_model()
    info = electrode_info(ch_names, 1.0)
    # MNE evaluates the potential where the electrodes are, which its formula allows only on the surface: off it by up
    # to 1 cm, as in a real montage, the potential beside a dipole is wrong by a third.
    for channel in info["chs"]:
        radial = channel["loc"][:3] - sphere["r0"]
        channel["loc"][:3] = sphere["r0"] + radial * sphere.radius / np.linalg.norm(radial)
    places = {"rr": sphere["r0"] + SOURCE_RADIUS * sphere.radius * direction, "nn": direction}
    space = mne.setup_volume_source_space(pos=places, sphere=sphere, mindist=0.0, verbose=False)
    return mne.make_forward_solution(info, None, space, sphere, meg=False, verbose=False)


def _fsaverage(direction: np.ndarray, ch_names: tuple[str, ...]) -> mne.Forward:
    """Forward solution of the template's boundary elements; places are the nearest vertices of its cortex."""
    folder = fsaverage_folder()
    trans = template_trans()
    cortex = mne.read_source_spaces(folder / "fsaverage-ico-5-src.fif", verbose=False)
    vertices = np.concatenate([side["rr"][side["vertno"]] for side in cortex])
    outwards = mne.transforms.apply_trans(np.linalg.inv(trans["trans"]), vertices) - sphere_model()["r0"]
    outwards /= np.linalg.norm(outwards, axis=1, keepdims=True)
    nearest = cKDTree(outwards).query(direction)[1]
    rotated = mne.transforms.apply_trans(trans, direction, move=False)
    bem = mne.read_bem_solution(folder / "fsaverage-5120-5120-5120-bem-sol.fif", verbose=False)
    space = mne.setup_volume_source_space(pos={"rr": vertices[nearest], "nn": rotated}, bem=bem, verbose=False)
    return mne.make_forward_solution(
        electrode_info(ch_names, 1.0), trans, space, bem, meg=False, mindist=0.0, verbose=False
    )


def template_trans() -> mne.Transform:
    """Transform from head coordinates to those of fsaverage's MRI, which MNE carries."""
    return mne.read_trans(Path(mne.__file__).parent / "data" / "fsaverage" / "fsaverage-trans.fif")


def fsaverage_folder() -> Path:
    """Folder ``bem`` of MNE's template subject, where it is installed."""
    roots = [mne.get_config("SUBJECTS_DIR"), Path(mne.get_config("MNE_DATA") or "~/mne_data") / "MNE-fsaverage-data"]
    for root in filter(None, roots):
        folder = Path(root).expanduser() / "fsaverage" / "bem"
        if folder.is_dir():
            return folder
    raise ValueError(
        "head='fsaverage' needs MNE's template subject, which is not installed. Fetch it with"
        " mne.datasets.fetch_fsaverage(), or take head='sphere', which needs no file."
    )


HEADS: dict[str, Callable[[np.ndarray, tuple[str, ...]], mne.Forward]] = {"sphere": _sphere, "fsaverage": _fsaverage}
