"""From filters to patterns: what is in the signal, not what the decoder weighs."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import mne
import numpy as np
from tqdm import tqdm

RANK_TOLERANCE = 1e-5  # standard deviations of outputs below this share of the largest count as zero
BLOCK = 2**17  # values that are made double precision at a time: a megabyte, which stays in a processor's cache
ROWS = 8  # trials in such a block, where not all are needed at once: long rows of few trials are read fastest


def haufe_patterns(
    filters, features, *, output_covariance: bool = False, shrinkage: float | str | None = None, label=None
) -> np.ndarray:
    r"""Turn the filters of linear outputs into activation patterns.

    With features :math:`X` (trial × feature) of covariance :math:`\Sigma` and outputs :math:`S = X W^\top`, the
    pattern [1]_ of each output is its covariance with every feature, :math:`W \Sigma`. Outputs that covary share
    patterns; with `output_covariance` the covariance of the outputs is divided out,
    :math:`(W \Sigma W^\top)^{-1} W \Sigma`, Haufe's equation 6. :math:`\Sigma` is never formed:
    :math:`W \Sigma = S^\top X / (n-1)` with both centred, so time grows with the number of features and not with its
    square. Exact for linear outputs; for the gradients of a network it holds locally.

    Parameters
    ----------
    filters : ndarray, shape (output, ...)
        One weight per feature and output, for instance (class, channel, freq).
    features : ndarray, shape (trial, ...)
        The features that the filters weigh. Read in double precision, a block at a time.
    output_covariance : bool
        Divide by the covariance of the outputs.
    shrinkage : float, "ledoit_wolf" or None
        Share :math:`\gamma`, from 0 to 1, of the shrunk covariance
        :math:`(1-\gamma)\Sigma + \gamma\,\mathrm{tr}(\Sigma)/D\,I`. "ledoit_wolf" estimates it [2]_ from the products
        of trials, of which there are trial × trial. At 1 the patterns are the filters, scaled.
    label : array-like, shape (trial,), optional
        Class of each trial. :math:`\Sigma` is then the covariance within the classes: trials are centred on the mean of
        their class, and the sum of squares is divided by the number of trials less that of classes.

    Returns
    -------
    ndarray, shape of `filters`
        In units of feature × output, or with `output_covariance` of feature per output.

    Warns
    -----
    UserWarning
        With `output_covariance`, when the outputs are linearly dependent, as those of class-centred filters are: the
        patterns of least norm are returned, in units of their standard deviations.

    Raises
    ------
    ValueError
        Shapes disagree, fewer than two trials (of a class, with `label`), NaN or infinity, a shrinkage outside 0 … 1.

    References
    ----------
    .. [1] Haufe et al. (2014). On the interpretation of weight vectors of linear models in multivariate neuroimaging.
       NeuroImage 87, 96-110.
    .. [2] Ledoit & Wolf (2004). A well-conditioned estimator for large-dimensional covariance matrices. Journal of
       Multivariate Analysis 88(2), 365-411.
    """
    filters, features = np.asarray(filters), np.asarray(features)
    classes = _checked_classes(filters, features, label)
    n_free = len(features) - len(classes[1])
    outputs = _outputs(filters, features, classes)
    gamma, trace = _shrinkage(shrinkage, features, classes)
    of_trial, ridge = (1 - gamma) / n_free * outputs.T, gamma * trace / n_free / filters[0].size
    mixing = np.eye(len(filters))
    if output_covariance:
        weights = _flat(filters)
        mixing, rank = _inverse(of_trial @ outputs + ridge * (weights @ weights.T))
        if rank < len(filters):
            warnings.warn(
                f"The {len(filters)} outputs are linearly dependent (rank {rank}); their patterns are those of least"
                " norm.",
                stacklevel=2,
            )
    patterns = np.empty(filters.shape, _dtype(filters, features))
    for part in _parts(features, ROWS):
        shrunk = ridge * _flat(filters[:, part])
        for rows in _rows(features):
            shrunk += of_trial[:, rows] @ _flat(features[rows, part])
        patterns[:, part] = (mixing @ shrunk).reshape(patterns[:, part].shape)
    return patterns


def pattern_interval(
    filters,
    features,
    *,
    n: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    output_covariance: bool = False,
    label=None,
) -> tuple[np.ndarray, np.ndarray]:
    """Say how far the patterns of given filters would move with other trials.

    Trials are drawn with replacement, within their class where `label` is given, and the patterns of the drawn trials
    computed anew; the ends are percentiles of theirs [1]_. The filters stay as they are: the interval covers what the
    choice of trials does to the covariance, not what it does to training, nor the spread over subjects. With fewer than
    about 50 trials, or 10 in a class, it is too narrow, and so it is where trials depend on each other: overlapping
    windows, or neighbours in one slow drift. It holds for each feature on its own, not for all at once.

    Parameters
    ----------
    filters, features, output_covariance, label
        See `haufe_patterns`.
    n : int
        Number of bootstrap samples.
    level : float
        Share of the bootstrap patterns inside the interval, between 0 and 1.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    low, high : ndarray, shape of `filters`
        In the unit of the patterns.

    Raises
    ------
    ValueError
        As `haufe_patterns`, a level outside 0 … 1, or no sample.

    References
    ----------
    .. [1] Efron & Tibshirani (1993). An introduction to the bootstrap. Chapman & Hall.
    """
    if not 0 < level < 1 or n < 1:
        raise ValueError(f"level is {level} and n {n}; expected a share between 0 and 1 and at least one sample.")
    filters, features = np.asarray(filters), np.asarray(features)
    classes = _checked_classes(filters, features, label)
    of_trial = _bootstrap(_outputs(filters, features, classes), classes, output_covariance, n, seed)
    low, high = np.empty((2, *filters.shape), _dtype(filters, features))
    for part in tqdm(_parts(features, len(features)), desc="Bootstrap", unit="block", leave=False, delay=2):
        drawn = (of_trial.reshape(-1, len(features)) @ _flat(features[:, part])).reshape(n, -1)
        ends = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0, overwrite_input=True)
        low[:, part], high[:, part] = ends.reshape(2, *low[:, part].shape)
    return low, high


@dataclass(frozen=True, eq=False)
class ClusterTest:
    """Where patterns differ from zero over subjects.

    Parameters
    ----------
    t : ndarray, shape (channel, freq)
        Student's t over subjects.
    p_value : ndarray, shape (channel, freq)
        That of the cluster a point belongs to, 1 outside the clusters.
    clusters : ndarray of bool, shape (cluster, channel, freq)
        Neighbouring points beyond the threshold with the same sign.
    smallest_p_value : float
        What the number of sign flips allows: one of 2 ** (number of subjects - 1) or of `n_permutations`.
    """

    t: np.ndarray
    p_value: np.ndarray
    clusters: np.ndarray
    smallest_p_value: float


def pattern_cluster_test(
    patterns, info: mne.Info, *, threshold: float | None = None, n_permutations: int = 1024, seed: int = 0
) -> ClusterTest:
    """Test over subjects where patterns differ from zero, by flipping signs, corrected for channels and frequencies.

    The sum of t over each cluster of neighbouring channels and frequencies is compared with the largest such sum after
    flipping the sign of whole subjects [1]_. Under the null hypothesis the patterns are symmetric about zero and the
    subjects independent. The sign of a pattern has to mean the same in every subject, as that of one class's output
    does. A small p-value says that there is an effect; it does not place the borders of a cluster [2]_.

    Parameters
    ----------
    patterns : ndarray, shape (subject, channel, freq)
        One pattern a subject, on a common scale. With up to 5 subjects no p-value falls below 0.05.
    info : mne.Info
        EEG channels with positions; neighbours are those of a Delaunay triangulation, and adjacent frequencies.
    threshold : float, optional
        Value of t beyond which points form clusters; by default that of p = 0.05, two-sided.
    n_permutations : int
        Number of sign flips, the true signs among them. All that differ are taken where they are no more than this.
    seed : int
        Seed of the sign flips.

    Returns
    -------
    ClusterTest

    Raises
    ------
    ValueError
        Not three axes, fewer than two subjects, other channels than those of `info`, NaN or infinity, a point that is
        the same in all subjects.

    References
    ----------
    .. [1] Maris & Oostenveld (2007). Nonparametric statistical testing of EEG- and MEG-data. Journal of Neuroscience
       Methods 164(1), 177-190.
    .. [2] Sassenhagen & Draschkow (2019). Cluster-based permutation tests of MEG/EEG data do not establish significance
       of effect latency or location. Psychophysiology 56(6), e13335.
    """
    patterns = np.asarray(patterns, float)
    with mne.use_log_level("error"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No clusters found", RuntimeWarning)
        neighbours, names = mne.channels.find_ch_adjacency(info, "eeg")
        _check_subjects(patterns, names)
        t, clusters, p_values, _ = mne.stats.permutation_cluster_1samp_test(
            patterns,
            threshold=threshold,
            n_permutations=n_permutations,
            adjacency=mne.stats.combine_adjacency(neighbours, patterns.shape[2]),
            out_type="mask",
            seed=seed,
        )
    p_value = np.ones(t.shape)
    for cluster, p in zip(clusters, p_values, strict=True):
        p_value[cluster] = p
    masks = np.reshape(clusters, (-1, *t.shape)).astype(bool)
    return ClusterTest(t, p_value, masks, 1 / min(n_permutations, 2 ** (len(patterns) - 1)))


def _check_subjects(patterns: np.ndarray, names: list[str]) -> None:
    if patterns.ndim != 3 or patterns.shape[1] != len(names):
        raise ValueError(
            f"patterns have shape {patterns.shape}; expected (subject, channel, freq) with the {len(names)} EEG"
            " channels of info."
        )
    if len(patterns) < 2:
        raise ValueError(f"patterns hold {len(patterns)} subject; a test over subjects needs at least 2.")
    _check_finite("patterns", patterns)
    if constant := (np.ptp(patterns, axis=0) == 0).sum():
        raise ValueError(f"patterns are the same in all subjects at {constant} points; leave those out.")


def _checked_classes(filters: np.ndarray, features: np.ndarray, label) -> tuple[np.ndarray, np.ndarray]:
    """Return the class of each trial and the matrix (class, trial) that averages within classes."""
    if filters.ndim < 2 or filters.shape[1:] != features.shape[1:]:
        raise ValueError(
            f"filters have shape {filters.shape} and features {features.shape}; expected (output, ...) and (trial, ...)"
            " that agree after the first axis."
        )
    _check_finite("filters", filters)
    label = np.zeros(len(features)) if label is None else np.asarray(label)
    if label.shape != (len(features),):
        raise ValueError(f"label has shape {label.shape}; expected ({len(features)},), one class per trial.")
    names, index, counts = np.unique(label, return_inverse=True, return_counts=True)
    if len(features) < 2 or counts.min() < 2:
        where = f"class {names[counts.argmin()]} holds" if len(names) > 1 else "features hold"
        raise ValueError(f"{where} {counts.min(initial=len(features))} trial; a covariance needs at least 2.")
    return index, (index == np.arange(len(names))[:, None]) / counts[:, None]


def _check_finite(name: str, array: np.ndarray) -> None:
    if not np.isfinite(array).all():
        raise ValueError(f"{name} hold NaN or infinity. Drop those trials or repair them first.")


def _parts(features: np.ndarray, n_rows: int) -> list[slice]:
    """Return parts of the second axis that make blocks with so many trials."""
    _, size, *rest = features.shape
    step = max(1, BLOCK // (n_rows * math.prod(rest)))
    return [slice(start, start + step) for start in range(0, size, step)]


def _rows(features: np.ndarray) -> list[slice]:
    return [slice(start, start + ROWS) for start in range(0, len(features), ROWS)]


def _flat(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, float).reshape(len(array), -1)


def _centred(block: np.ndarray, classes) -> np.ndarray:
    index, mean = classes
    return block - (mean @ block)[index]


def _outputs(filters: np.ndarray, features: np.ndarray, classes) -> np.ndarray:
    """Return the outputs (trial, output), centred on the mean of each class.

    Their sum is zero, so that their products with the features need no centred features either. A common offset of the
    features costs no more digits here than it cost where they were stored: the sums are in double precision.
    """
    outputs = np.zeros((len(features), len(filters)))
    for part in _parts(features, ROWS):
        weights = _flat(filters[:, part]).T
        for rows in _rows(features):
            outputs[rows] += _flat(features[rows, part]) @ weights
    if not np.isfinite(outputs).all():
        _check_finite("features", features)
    return _centred(_centred(outputs, classes), classes)  # twice: rounding leaves a little of a large mean


def _shrinkage(shrinkage, features: np.ndarray, classes) -> tuple[float, float]:
    """Return the share of shrinkage and the sum of squares of the centred features, 0 where it is not needed."""
    if shrinkage is None:
        return 0.0, 0.0
    if shrinkage != "ledoit_wolf" and (isinstance(shrinkage, str) or not 0 <= shrinkage <= 1):
        raise ValueError(f"shrinkage is {shrinkage!r}; expected a share from 0 to 1, 'ledoit_wolf' or None.")
    blocks = (_centred(_flat(features[:, part]), classes) for part in _parts(features, len(features)))
    if shrinkage != "ledoit_wolf":
        return shrinkage, sum(np.vdot(block, block) for block in blocks)
    products = sum(block @ block.T for block in blocks)
    return _ledoit_wolf(products, features[0].size), np.trace(products)


def _ledoit_wolf(products: np.ndarray, n_features: int) -> float:
    """Return Ledoit and Wolf's share of shrinkage from the products of centred trials (trial, trial)."""
    n = len(products)
    norm = (products**2).sum() / n**2  # of the covariance of the features: it has the eigenvalues of the products
    distance = norm - (np.trace(products) / n) ** 2 / n_features  # to the multiple of the identity
    error = ((np.diag(products) ** 2).sum() / n - norm) / n
    return min(error, distance) / distance if distance > 0 else 0.0


def _bootstrap(outputs: np.ndarray, classes, output_covariance: bool, n: int, seed: int) -> np.ndarray:
    """Return the weights (draw, output, trial) that turn centred features into the patterns of each draw."""
    index, mean = classes
    rng, times = np.random.default_rng(seed), np.empty((n, len(outputs)))
    for group in mean:
        times[:, group > 0] = rng.multinomial((group > 0).sum(), group[group > 0], size=n)
    means = (times[:, None] * mean) @ outputs  # (draw, class, output)
    centred = outputs - means[:, index]
    sizes = np.bincount(index)
    # Trials drawn twice leave a drawn class of k trials (k - 1) / k of its squares.
    weights = times * (sizes / (sizes - 1))[index]
    of_trial = np.swapaxes(weights[..., None] * centred, 1, 2) / (len(outputs) - len(mean))
    return _inverse(of_trial @ centred)[0] @ of_trial if output_covariance else of_trial


def _inverse(covariance: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the inverse of covariances of outputs, and the lowest rank; a pseudo-inverse where they are dependent."""
    deviation = np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))
    deviation = np.where(deviation > 0, deviation, 1)  # an output that never changes
    scale = deviation[..., :, None] * deviation[..., None, :]
    # Filters are float32: outputs that depend on each other do so to that precision, whatever the features' type.
    options = {"rtol": RANK_TOLERANCE**2, "hermitian": True}
    rank = np.linalg.matrix_rank(covariance / scale, **options).min()
    return np.linalg.pinv(covariance / scale, **options) / scale, rank


def _dtype(filters: np.ndarray, features: np.ndarray) -> np.dtype:
    return np.result_type(filters, features, np.float32)
