"""Forward model: from cortical dipoles to potentials on the scalp."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import mne
import numpy as np
import scipy
from numpy.polynomial.legendre import legder, legval

from eegxai_support.montages import EEGBCI_CHANNELS, electrode_info
from eegxai_support.trials import unknown_name

SOURCE_RADIUS = 0.8  # of the head radius: 19 mm under the scalp, the depth of the cortex
# Rush & Driscoll (1968): outer radii of brain, skull and scalp, and their conductivities in S/m.
SHELL_RADII = (0.87, 0.924, 1.0)
CONDUCTIVITIES = (0.33, 0.0042, 0.33)
N_TERMS = 150  # of the series, whose terms fall as SOURCE_RADIUS ** n: the rest is below the rounding of float64
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
    radial = turned(electrode_directions((electrode,))[0], lowered)
    forwards = np.array([0.0, 1.0, 0.0])  # head coordinates: y runs to the nose
    moment = radial if orientation == "radial" else forwards - radial * (radial @ forwards)
    potential = lead_field(radial[None], ch_names, head) @ moment
    potential /= np.abs(potential).max()
    potential.flags.writeable = False  # the cache hands out the same array again
    return potential


def electrode_directions(ch_names: tuple[str, ...]) -> np.ndarray:
    """Unit vectors from the centre of the head to electrodes, shape (channel, 3)."""
    # All names at once: MNE reads the whole montage for each call, which for 64 electrodes took longer than a trial.
    located = [channel["loc"][:3] - fitted_sphere()[1] for channel in electrode_info(ch_names, 1.0)["chs"]]
    return np.stack([place / np.linalg.norm(place) for place in located])


def turned(direction: np.ndarray, degrees: float) -> np.ndarray:
    """Turn a unit vector towards the neck, shape (3,)."""
    down = np.array([0.0, 0.0, -1.0])
    down -= direction * (direction @ down)
    angle = np.deg2rad(degrees)
    return np.cos(angle) * direction + np.sin(angle) * down / np.linalg.norm(down)


@lru_cache(maxsize=1)
def fitted_sphere() -> tuple[float, np.ndarray]:
    """Radius and centre of the sphere fitted to the electrodes of the 10-05 system, in m, head coordinates."""
    return mne.bem.fit_sphere_to_headshape(electrode_info(EEGBCI_CHANNELS, 1.0), verbose=False)[:2]


def lead_field(direction: np.ndarray, ch_names: tuple[str, ...], head: str = "sphere") -> np.ndarray:
    """Potential of cortical dipoles along three axes, average reference, shape (channel, 3 · place)."""
    if head not in HEADS:
        raise unknown_name("head model", head, HEADS)
    gain = HEADS[head](direction, ch_names)
    return gain - gain.mean(axis=0)


def _sphere(direction: np.ndarray, ch_names: tuple[str, ...]) -> np.ndarray:
    """Series of the potential on the surface of concentric shells, in V/(A m).

    A dipole q in direction d, at the share b of the radius R, gives at an electrode in direction e, with cos γ = d·e,

    V = Σ c(n) [n P(n, cos γ) q·d + P'(n, cos γ) (q·e - cos γ q·d)],  c(n) = (2n + 1) f(n) b^(n-1) / (4π σ R² n),

    with σ of the scalp and f(n) from the shells [1]_. MNE replaces the series by three dipoles in a homogeneous sphere,
    whose places an optimiser looks for along a flat valley: it ends elsewhere on another processor, and so would our
    trials. Electrodes are moved onto the sphere: off it by up to 1 cm, as in a real montage, the formula does not hold.

    .. [1] Zhang (1995), Physics in Medicine and Biology 40, 335-349; Mosher et al. (1999), IEEE TBME 46, 245-259.
    """
    n = np.arange(1, N_TERMS)
    unit = 4 * np.pi * CONDUCTIVITIES[-1] * fitted_sphere()[0] ** 2
    series = np.append(0.0, (2 * n + 1) * _shell_factor(n) * SOURCE_RADIUS ** (n - 1.0) / (unit * n))
    electrode = electrode_directions(ch_names)
    cosine = np.clip(electrode @ direction.T, -1, 1)[..., None]
    gain = legval(cosine, np.arange(N_TERMS) * series) * direction
    gain += legval(cosine, legder(series)) * (electrode[:, None] - cosine * direction)
    return gain.reshape(len(electrode), -1)


def _shell_factor(n: np.ndarray) -> np.ndarray:
    """Order n of the surface potential over that in a homogeneous sphere of the scalp's conductivity.

    Potential and radial current are continuous at each boundary, which is a matrix on the coefficients of r^n and
    r^-(n+1). Its determinant is the ratio of the conductivities. With no current out of the scalp the factor follows.
    """
    passed = np.eye(2)
    for radius, inner, outer in zip(SHELL_RADII[:-1], CONDUCTIVITIES[:-1], CONDUCTIVITIES[1:], strict=True):
        ratio, power = inner / outer, radius ** (2.0 * n + 1)
        boundary = [
            [n + 1 + n * ratio, (n + 1) * (1 - ratio) / power],
            [n * (1 - ratio) * power, n + (n + 1) * ratio],
        ]
        passed = np.moveaxis(np.array(boundary), 2, 0) @ passed / (2 * n + 1)[:, None, None]
    return n / (n * passed[:, 0, 0] - (n + 1) * passed[:, 1, 0])


def _fsaverage(direction: np.ndarray, ch_names: tuple[str, ...]) -> np.ndarray:
    """Potential from the template's boundary elements; places are the nearest vertices of its cortex."""
    folder = fsaverage_folder()
    trans = template_trans()
    cortex = mne.read_source_spaces(folder / "fsaverage-ico-5-src.fif", verbose=False)
    vertices = np.concatenate([side["rr"][side["vertno"]] for side in cortex])
    outwards = mne.transforms.apply_trans(np.linalg.inv(trans["trans"]), vertices) - fitted_sphere()[1]
    outwards /= np.linalg.norm(outwards, axis=1, keepdims=True)
    nearest = scipy.spatial.cKDTree(outwards).query(direction)[1]
    rotated = mne.transforms.apply_trans(trans, direction, move=False)
    bem = mne.read_bem_solution(folder / "fsaverage-5120-5120-5120-bem-sol.fif", verbose=False)
    space = mne.setup_volume_source_space(pos={"rr": vertices[nearest], "nn": rotated}, bem=bem, verbose=False)
    info = electrode_info(ch_names, 1.0)
    forward = mne.make_forward_solution(info, trans, space, bem, meg=False, mindist=0.0, verbose=False)
    return forward["sol"]["data"]


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


HEADS: dict[str, Callable[[np.ndarray, tuple[str, ...]], np.ndarray]] = {"sphere": _sphere, "fsaverage": _fsaverage}
