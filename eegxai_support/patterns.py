"""From filters to patterns: what is in the signal, not what the decoder weighs."""

from __future__ import annotations

import warnings

import numpy as np

RANK_TOLERANCE = 1e-5  # singular values of the outputs below this share of the largest count as zero


def haufe_patterns(filters, features, *, output_covariance: bool = False) -> np.ndarray:
    r"""Turn the filters of linear outputs into activation patterns.

    With centred features :math:`X` (trial × feature) and outputs :math:`S = X W^\top`, the pattern [1]_ of each output
    is its covariance with every feature, :math:`S^\top X / (n-1)`. Outputs that covary share patterns; with
    `output_covariance` the covariance of the outputs is divided out, :math:`\Sigma_X W^\top \Sigma_S^{-1}` of Haufe's
    equation 6, which is the least-squares regression of the features on the outputs. Neither forms the feature
    covariance, so time and memory grow with the number of features and not with its square. Exact for linear outputs;
    for the gradients of a network it holds locally.

    Parameters
    ----------
    filters : ndarray, shape (output, ...)
        One weight per feature and output, for instance (class, channel, freq).
    features : ndarray, shape (trial, ...)
        The features that the filters weigh.
    output_covariance : bool
        Divide by the covariance of the outputs.

    Returns
    -------
    ndarray, shape of `filters`
        In units of feature × output, or with `output_covariance` of feature per output.

    Warns
    -----
    UserWarning
        With `output_covariance`, when the outputs are linearly dependent, as those of class-centred filters are: the
        patterns of least norm are returned.

    Raises
    ------
    ValueError
        Shapes disagree, fewer than two trials, NaN or infinity.

    References
    ----------
    .. [1] Haufe et al. (2014). On the interpretation of weight vectors of linear models in multivariate neuroimaging.
       NeuroImage 87, 96-110.
    """
    filters, features = np.asarray(filters), np.asarray(features)
    _check(filters, features)
    weights = filters.reshape(len(filters), -1)
    centred = (features - features.mean(axis=0)).reshape(len(features), -1)
    outputs = centred @ weights.T
    if not output_covariance:
        return (outputs.T @ centred / (len(features) - 1)).reshape(filters.shape)
    # Filters are float32: outputs that depend on each other do so to that precision, whatever the features' type.
    patterns, _, rank, _ = np.linalg.lstsq(outputs.astype(float), centred, rcond=RANK_TOLERANCE)
    if rank < len(filters):
        warnings.warn(
            f"The {len(filters)} outputs are linearly dependent (rank {rank}); their patterns are those of least norm.",
            stacklevel=2,
        )
    return patterns.reshape(filters.shape).astype(np.result_type(filters, features))


def _check(filters: np.ndarray, features: np.ndarray) -> None:
    if filters.ndim < 2 or filters.shape[1:] != features.shape[1:]:
        raise ValueError(
            f"filters have shape {filters.shape} and features {features.shape}; expected (output, ...) and (trial, ...)"
            " that agree after the first axis."
        )
    if len(features) < 2:
        raise ValueError(f"features hold {len(features)} trial; a covariance needs at least 2.")
    for name, array in (("filters", filters), ("features", features)):
        if not np.isfinite(array).all():
            raise ValueError(f"{name} hold NaN or infinity. Drop those trials or repair them first.")
