"""CSIM: is it still the same person, by the cosine between face embeddings.

There is no common network: the value belongs to the one that made the embeddings, which its name must say. Embeddings
of the network that also conditions a model judge that model kindly (reference/metrics.md, section 8).
"""

from __future__ import annotations

import numpy as np

from portraitanim.errors import ShapeError


def cosine_similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosine of the angle between embeddings, -1 to 1.

    Args:
        first: ``(..., dim)``, of any length.
        second: the same shape, or one that broadcasts.

    Raises:
        ShapeError: the dimensions differ, or an embedding is zero.
    """
    if first.shape[-1] != second.shape[-1]:
        raise ShapeError(f"Embeddings have {first.shape[-1]} and {second.shape[-1]} dimensions.")
    ours, theirs = first.astype(np.float64), second.astype(np.float64)
    lengths = np.linalg.norm(ours, axis=-1) * np.linalg.norm(theirs, axis=-1)
    if not (lengths > 0).all():
        raise ShapeError("An embedding is zero: its network saw nothing.")
    cosine: np.ndarray = (ours * theirs).sum(axis=-1) / lengths
    return cosine
