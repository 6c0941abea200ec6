"""Linear prediction: autoregressive models of short stretches of sound.

A predictor of order p is ``[1, a1, ..., ap]``: the filter whose output is what the p samples before cannot foresee.
Source: Makhoul, "Linear prediction: a tutorial review", Proc. IEEE 63(4), 1975.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

FloatArray = NDArray[np.float64]


def autocorrelation(spectra: FloatArray, order: int) -> FloatArray:
    """Return lags 0 to ``order`` [..., order + 1] of frames, from power spectra [..., n / 2 + 1] (n even)."""
    return np.asarray(fft.irfft(spectra, axis=-1)[..., : order + 1])


def predictor(correlation: FloatArray) -> FloatArray:
    """Return predictors [..., order + 1] from an autocorrelation by the recursion of Levinson and Durbin."""
    correlation = correlation / np.maximum(correlation[..., :1], 1e-30)
    # A noise floor 90 dB down keeps the recursion well conditioned, and makes silence give the identity.
    error = correlation[..., 0] + 1e-9
    coefficients = np.zeros_like(correlation)
    coefficients[..., 0] = 1
    for order in range(1, correlation.shape[-1]):
        match = (coefficients[..., :order] * correlation[..., order:0:-1]).sum(-1)
        reflection = (-match / error)[..., None]
        coefficients[..., 1 : order + 1] += reflection * coefficients[..., order - 1 :: -1][..., :order]
        error = error * (1 - reflection[..., 0] ** 2)
    return coefficients
