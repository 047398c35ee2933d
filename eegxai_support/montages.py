"""Channel names and positions: what heads, regions and simulations need."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import cache

import mne
import numpy as np
import scipy
from mne.io.constants import FIFF

from eegxai_support.trials import unknown_name

MONTAGE = "colin27_1005"  # all 10-05 positions; MNE's name for what was standard_1005
# The 64 electrodes of PhysioNet's EEGBCI, in its order.
EEGBCI_CHANNELS = tuple(
    "FC5 FC3 FC1 FCz FC2 FC4 FC6 C5 C3 C1 Cz C2 C4 C6 CP5 CP3 CP1 CPz CP2 CP4 CP6 Fp1 Fpz Fp2 AF7 AF3 AFz AF4 AF8"
    " F7 F5 F3 F1 Fz F2 F4 F6 F8 FT7 FT8 T7 T8 T9 T10 TP7 TP8 P7 P5 P3 P1 Pz P2 P4 P6 P8 PO7 PO3 POz PO4 PO8 O1 Oz O2"
    " Iz".split()
)

# What amplifiers and archives write around the name of an electrode:
# "EEG F3-Ref", "EEG.AF3", "POL C3", "Fc5.", "C4-A1".
# Ears and mastoids are places to refer to; a second electrode of the scalp makes a bipolar channel, which has no place.
DECORATED = re.compile(
    r"(?:(?:eeg|pol)[\s._:-]*)?([a-z]+\d*h?)(?:[\s_:/-]+(?:ref\w*|le|ler|avg|average|car|ar|[am][12]|[am]1\W*[am]2))?[\s.]*",
    re.IGNORECASE,
)
# Head of the colin27 template in MNE's head frame: the plane of the lowest 10-20 ring (F7, T7, P7) is tilted against
# the plane through nasion and ears, and its centre lies in front of them. An upright sphere around the origin, MNE's
# default, draws Fpz outside the head and Oz halfway to the vertex.
HEAD_CENTRE = (0.0, 0.018, 0.035)
HEAD_TILT = np.deg2rad(8)
HEAD_EDGE = np.deg2rad(95)
TOLERANCE = 0.03  # metres on the template from the place of a name: neighbours of the 10-10 system are 0.035 apart
ENOUGH = 2 / 3  # of the names agree: half a mirrored head can be turned inside out until its names do
FEW = 8  # electrodes: four are on some sphere wherever they are, and fewer than this tell no head from it
ALL_ROUND = 0.75  # length of the mean direction of electrodes: 0.5 for half a sphere, 1 for a single place
ROUND = 0.1  # standard deviation of the distances from a fitted centre over their mean; 0.085 for EGI's net of 256
MISPLACED = 0.3  # head radii from the place of a name on the template
METRE = 1.0  # to MNE, positions are in metres
LETTER_AND_NUMBER = re.compile(r"[A-Z]\d+")


def canonical_name(name: str) -> str | None:
    """Return the 10-05 name of an electrode, stripped of what a file writes around it.

    Parameters
    ----------
    name : str
        Such as "EEG F3-Ref", "Fc5." or "FPZ". A reference to an ear or a mastoid, as in "C4-A1", counts as decoration.

    Returns
    -------
    str or None
        The name as `MONTAGE` spells it; None where it is not of the 10-05 system, or bipolar, such as "Fpz-Cz".

    Notes
    -----
    BioSemi's caps of 128 and more call their electrodes A1, C3 or F5 wherever they are: with the names of a whole
    recording at hand, ask `canonical_names`.
    """
    found = DECORATED.fullmatch(name.strip())
    return _known_names().get(found[1].lower()) if found else None


def canonical_names(names: Iterable[str]) -> list[str | None]:
    """Return the 10-05 name of each electrode of a recording, None where it has none.

    A cap that has an electrode A3, C7 or D1 counts its electrodes by letter and number, as BioSemi's do: its C3 is not
    the C3 of the 10-05 system, and no such name of the cap is taken for one.
    """
    names = list(names)
    known = [canonical_name(name) for name in names]
    counted = [bool(LETTER_AND_NUMBER.fullmatch(name)) for name in names]
    lettered = any(it and k is None for it, k in zip(counted, known, strict=True))
    return [None if lettered and it else k for it, k in zip(counted, known, strict=True)]


@cache
def _known_names() -> dict[str, str]:
    return {name.lower(): name for name in mne.channels.make_standard_montage(MONTAGE).ch_names}


def electrode_info(ch_names: tuple[str, ...], sfreq: float) -> mne.Info:
    """Return channel names, sampling rate and positions of electrodes of the 10-05 system."""
    info = mne.create_info(list(ch_names), sfreq, "eeg", verbose=False)
    try:
        info.set_montage(MONTAGE, verbose=False)
    except ValueError:
        known = mne.channels.make_standard_montage(MONTAGE).ch_names
        name = next(name for name in ch_names if name not in known)
        raise unknown_name("electrode", name, known) from None
    return info


def located(info: mne.Info) -> mne.Info:
    """Name and place electrodes by the 10-05 system where a recording has no positions at all, and log it.

    Parameters
    ----------
    info : mne.Info
        Left as it is. Positions more than a metre from the middle of the head, which were written in millimetres, count
        as none.

    Returns
    -------
    mne.Info
        The same where a channel has a position. Else a copy without projectors; two derivations of one electrode keep
        their names.
    """
    position = np.array([channel["loc"][:3] for channel in info["chs"]])
    if (np.isfinite(position).all(1) & position.any(1) & (np.abs(position) < METRE).all(1)).any():
        return info
    names = dict(zip(info.ch_names, canonical_names(info.ch_names), strict=True))
    wanted = Counter(new or old for old, new in names.items())
    names = {old: new for old, new in names.items() if new and wanted[new] == 1}
    if not names:
        return info
    info = info.copy()
    with info._unlock():  # a copy shares its projectors, and the names in them would change for the recording too
        info["projs"] = []
    mne.rename_channels(info, names, verbose=False)
    info.set_montage(MONTAGE, on_missing="ignore", verbose=False)
    said = [f"Positions of {MONTAGE} for {len(names)} of {len(info.ch_names)} channels."]
    for what, which in (
        ("Renamed", [f"{old} → {new}" for old, new in names.items() if old != new]),
        ("Without a position", [name for name in info.ch_names if name not in names.values()]),
    ):
        if which:
            said.append(f"{what}: {', '.join(which[:8])}{f' and {len(which) - 8} more' * (len(which) > 8)}.")
    mne.utils.logger.info(" ".join(said))
    return info


def scalp_positions(info: mne.Info) -> np.ndarray:
    """Project electrodes on the plane as seen from above: nose up, left on the left, angles from the vertex kept.

    Files disagree on where the head is: on a sphere or on a scalp, round its centre or round a point between the ears,
    in metres or not, or flat. So the head is found from the electrodes, by the best evidence there is:

    1. electrodes with a 10-05 name, and the fiducials (nasion and ears), are brought to their places on the colin27
       template by rotation, scale and shift [1]_; names whose electrodes lie elsewhere are not believed;
    2. where fewer than three have a name, a sphere is fitted to electrodes that go round the head;
    3. fewer of them bend any sphere, and rely on the fiducials;
    4. without these, positions at one distance from the origin are taken to be on a sphere round it.

    Parameters
    ----------
    info : mne.Info

    Returns
    -------
    ndarray, shape (channel, 2)
        To the right and to the front, the vertex at the origin, the lowest 10-20 ring (Fpz, T7, Oz) near radius 1. NaN
        for a channel without a position.

    Raises
    ------
    ValueError
        No position, or positions that are not those of a head, with the reason.

    Notes
    -----
    Of the montages that MNE ships, electrodes with a 10-05 name lie within 0.16 of their place on the template, and
    those of EGI's nets and BioSemi's large caps that are known to be at one lie within 0.25.

    References
    ----------
    .. [1] Umeyama, S. (1991). Least-squares estimation of transformation parameters between two point patterns. IEEE
       Transactions on Pattern Analysis and Machine Intelligence, 13(4), 376-380.
    """
    xyz, located = _positions(info)
    if not located.any():
        raise ValueError("No channel has a position. Set a montage: info.set_montage('colin27_1005').")
    spread = np.linalg.svd(xyz[located] - xyz[located].mean(axis=0), compute_uv=False)
    if located.sum() > 2 and spread[1] <= 1e-3 * spread[0]:
        raise ValueError("All positions lie on a straight line or in one place. Set the montage of the cap.")
    names = [name for name, it in zip(canonical_names(info.ch_names), located, strict=True) if it]
    plane = np.full((len(xyz), 2), np.nan)
    if _is_flat(xyz[located]):
        plane[located] = _flat_head(xyz[located, :2], names)
    else:
        plane[located] = _projected(_from_centre(xyz[located], names, _fiducials(info)))
    return plane


def scalp_places(info: mne.Info) -> np.ndarray:
    """Return where on the scalp each channel is, for regions: the place of its 10-05 name, else its position.

    Parameters
    ----------
    info : mne.Info

    Returns
    -------
    ndarray, shape (channel, 2)
        As of `scalp_positions`; NaN for a channel that has neither a name nor a position on a head.
    """
    try:
        plane = scalp_positions(info)
    except ValueError:  # no head, but names may still say where
        plane = np.full((len(info.ch_names), 2), np.nan)
    names = canonical_names(info.ch_names)
    named = [index for index, name in enumerate(names) if name]
    places = name_places(names[index] for index in named)
    # A name is believed unless its electrode is known to be elsewhere: caps give these names other meanings too.
    believed = ~(np.linalg.norm(places - plane[named], axis=1) > MISPLACED)
    plane[np.array(named, dtype=int)[believed]] = places[believed]
    return plane


def nearest_names(info: mne.Info, among: Iterable[str]) -> list[str | None]:
    """Return for each channel that of some 10-05 names that is nearest on the scalp, None for one that is nowhere."""
    among = list(among)
    distance = np.linalg.norm(scalp_places(info)[:, None] - name_places(among), axis=2)
    distance[np.isnan(distance)] = np.inf
    near = zip(distance.argmin(axis=1), distance.min(axis=1), strict=True)
    return [among[k] if np.isfinite(d) else None for k, d in near]


def name_places(names: Iterable[str]) -> np.ndarray:
    """Return the places of 10-05 names on the template, shape (name, 2), as of `scalp_positions`."""
    return _projected(np.array([_template()[name] for name in names]).reshape(-1, 3))


def _positions(info: mne.Info) -> tuple[np.ndarray, np.ndarray]:
    """Positions (channel, 3), and which channels have one: files write NaN or zeros where they know none."""
    xyz = np.array([channel["loc"][:3] for channel in info["chs"]], dtype=float).reshape(-1, 3)
    return xyz, np.isfinite(xyz).all(axis=1) & xyz.any(axis=1)


def _fiducials(info: mne.Info) -> dict[str, np.ndarray]:
    """Nasion and ears, unless MNE made them up: on the axes, at the mean distance of the electrodes."""
    points = {kind: {} for kind in (FIFF.FIFFV_POINT_CARDINAL, FIFF.FIFFV_POINT_EEG)}
    for dig in info["dig"] or ():
        points.setdefault(dig["kind"], {})[int(dig["ident"])] = dig["r"]
    fiducials, electrodes = (list(found.values()) for found in list(points.values())[:2])
    if len(fiducials) < 3 or not electrodes:
        return {}
    distance = np.linalg.norm(fiducials, axis=1)
    made_up = np.abs(distance - np.linalg.norm(electrodes, axis=1).mean()).max() <= 1e-3 * distance.mean()
    names = {1: "LPA", 2: "nasion", 3: "RPA"}
    return {} if made_up else {names[k]: place for k, place in points[FIFF.FIFFV_POINT_CARDINAL].items()}


@cache
def _tilt() -> np.ndarray:
    return scipy.spatial.transform.Rotation.from_euler("x", HEAD_TILT).as_matrix()


@cache
def _template() -> dict[str, np.ndarray]:
    """Places of all names and fiducials on the head as it is drawn: origin in its centre, vertex along z, in metres."""
    info = electrode_info(tuple(_known_names().values()), 1.0)
    places = dict(zip(info.ch_names, _positions(info)[0], strict=True)) | _fiducials(info)
    return {name: _tilt() @ (xyz - HEAD_CENTRE) for name, xyz in places.items()}


def _projected(xyz: np.ndarray) -> np.ndarray:
    x, y, z = xyz.T
    radius = np.arctan2(np.hypot(x, y), z) / HEAD_EDGE
    direction = np.arctan2(y, x)
    return np.column_stack([radius * np.cos(direction), radius * np.sin(direction)])


def _is_flat(xyz: np.ndarray) -> bool:
    """Whether positions are a drawing: all at one height, as a ring round the head is, but no ring."""
    distance = np.linalg.norm(xyz, axis=1)
    return np.ptp(xyz[:, 2]) <= 1e-6 * distance.max() and np.ptp(distance) > 0.1 * distance.max()


def _flat_head(xy: np.ndarray, names: list[str | None]) -> np.ndarray:
    """Bring a drawing to the places of its names or, without names, its farthest electrodes to the edge of the head."""
    named = np.array([name is not None for name in names])
    if named.sum() >= 3:
        places = name_places(filter(None, names))
        return _brought(xy, xy[named], places, MISPLACED, n_names=named.sum())
    centred = xy - (xy.min(axis=0) + xy.max(axis=0)) / 2
    return centred / np.linalg.norm(centred, axis=1).max()


def _from_centre(xyz: np.ndarray, names: list[str | None], fiducials: dict[str, np.ndarray]) -> np.ndarray:
    """Return electrodes as seen from the centre of the head, up to a scale, in the frame of `_template`."""
    named = np.array([name is not None for name in names])
    points = np.array([*xyz[named], *fiducials.values()]).reshape(-1, 3)
    places = np.array([_template()[name] for name in [*filter(None, names), *fiducials]]).reshape(-1, 3)
    if named.sum() >= min(3, len(xyz)) and len(points) >= 3:
        return _on_a_head(_brought(xyz, points, places, TOLERANCE, n_names=named.sum()))
    if len(xyz) >= FEW:
        # |p - c|² = r² is linear in c and r² - |c|².
        centre = np.linalg.lstsq(np.c_[2 * xyz, np.ones(len(xyz))], (xyz**2).sum(axis=1), rcond=None)[0][:3]
        direction = xyz - centre
        distance = np.linalg.norm(direction, axis=1)
        mean_direction = np.linalg.norm((direction / distance[:, None]).mean(axis=0))
        if mean_direction < ALL_ROUND and distance.std() < ROUND * distance.mean():
            return direction @ _tilt().T if fiducials else direction
    if len(fiducials) == 3:
        return _on_a_head(_brought(xyz, points, places, np.inf))
    distance = np.linalg.norm(xyz, axis=1)
    if distance.std() < ROUND * distance.mean() / 5:
        return xyz
    raise ValueError(
        "These positions do not say where the head is. Three names of the 10-05 system at least, nasion and ears, or"
        " electrodes all round it would: info.set_montage(mne.channels.make_dig_montage(ch_pos, nasion, lpa, rpa))."
    )


def _on_a_head(xyz: np.ndarray) -> np.ndarray:
    distance = np.linalg.norm(xyz, axis=1)
    if distance.min() < 0.05 or distance.max() > 0.2:  # metres on the template, where they are 0.08 to 0.11
        raise ValueError("These positions do not lie on a head. Set the montage of the cap.")
    return xyz


def _brought(xyz, points, places, tolerance: float, n_names: int = 0) -> np.ndarray:
    """Bring positions to the template by the similarity that brings points of theirs to their places.

    One name in the wrong place pulls all others away, so the worst is left out until those that are left agree. A
    mirrored head or another coordinate system leaves few: then names and positions are not of the same head.
    """
    used = np.arange(len(points))
    reach = np.linalg.norm(places - places.mean(axis=0), axis=1).mean()
    tolerance = min(tolerance, reach / 2)  # or everything shrunk to a point would agree
    while True:
        move = _similarity(points[used], places[used])
        gap = np.linalg.norm(move(points[used]) - places[used], axis=1)
        if gap.max() < tolerance or len(used) <= points.shape[1]:
            break
        used = np.delete(used, gap.argmax())
    if gap.max() > tolerance or (used < n_names).sum() < ENOUGH * n_names:
        raise ValueError(
            f"Names and positions disagree: {(used < n_names).sum()} of {n_names} electrodes lie where their 10-05 name"
            " says. Is left on the left (x grows to the right, y to the nose)? Set the montage of the cap."
        )
    return move(xyz)


def _similarity(points: np.ndarray, places: np.ndarray):
    """Rotation, scale and shift, no mirror image, that bring points nearest to their places."""
    a, b = points - points.mean(axis=0), places - places.mean(axis=0)
    u, stretch, vt = np.linalg.svd(b.T @ a)
    sign = np.append(np.ones(len(u) - 1), np.linalg.det(u) * np.linalg.det(vt))
    scale = (sign * stretch).sum() / max((a**2).sum(), np.finfo(float).tiny)
    return lambda x: (x - points.mean(axis=0)) @ (scale * (u * sign) @ vt).T + places.mean(axis=0)
