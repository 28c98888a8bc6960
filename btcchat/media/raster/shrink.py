"""Values at a smaller size: each new pixel is the mean of the valid values of the area it covers."""

import numpy as np


def shrink(
    values: np.ndarray, valid: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """values, valid (H, W, B) -> the same at (h, w, B), values as float64.

    rows, columns: the h + 1 and w + 1 edges of the new pixels, in old ones and at least one of them apart; fractions
    count in part. A new value is valid where more than half of its area is.
    """
    if valid.all():
        area = (np.diff(rows)[:, None] * np.diff(columns))[..., None]
        return _sums(_sums(values, rows), columns, axis=1) / area, np.ones((*area.shape[:2], values.shape[2]), bool)
    sums = _sums(_sums(np.where(valid, values, 0), rows), columns, axis=1)
    weights = _sums(_sums(valid, rows), columns, axis=1)
    area = (np.diff(rows)[:, None] * np.diff(columns))[..., None]
    return sums / np.maximum(weights, 1e-9), weights > area / 2


def _sums(values: np.ndarray, edges: np.ndarray, axis: int = 0) -> np.ndarray:
    """Integrals between ``edges`` along an axis, as float64."""
    values = np.moveaxis(values, axis, 0)
    whole = np.minimum(edges.astype(int), len(values))
    part = (edges - whole).reshape(-1, *[1] * (values.ndim - 1))
    last = np.minimum(whole, len(values) - 1)  # its part is 0 where it is the end
    sums: np.ndarray = np.add.reduceat(values, whole[:-1], axis=0, dtype=np.float64)
    if whole[-1] < len(values):  # reduceat sums the last one to the end
        sums[-1] -= values[whole[-1] :].sum(axis=0, dtype=np.float64)
    if part.any():
        sums += part[1:] * values[last[1:]] - part[:-1] * values[last[:-1]]
    return np.moveaxis(sums, 0, axis)
