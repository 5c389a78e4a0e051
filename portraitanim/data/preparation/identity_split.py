"""Who is held out for tests: whole persons, chosen by a seed, the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np


def held_out_identities(identities: Iterable[str], test_share: float, seed: int) -> set[str]:
    """Choose the identities that are held out.

    Args:
        identities: all of them; repeats do not count.
        test_share: share of identities, rounded, and at least one of two or more where the share is above 0; 1 holds
            out all, and less leaves at least one.
        seed: another seed holds out others.

    Returns:
        The chosen ones. Adding an identity moves at most one other in or out for each.
    """
    names = set(identities)
    count = round(test_share * len(names))
    if 0 < test_share < 1 and len(names) > 1:
        count = min(max(count, 1), len(names) - 1)
    return set(sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())[:count])


def merge_identities(embeddings: Mapping[str, Iterable[np.ndarray]], min_cosine: float) -> dict[str, str]:
    """Find persons who go under several names.

    Args:
        embeddings: name → face embeddings ``(512,)`` of clips of that person.
        min_cosine: names whose mean directions agree at least so much are one person; so are chains of them.

    Returns:
        Name → the first name, in alphabetical order, of the same person.
    """
    names = sorted(embeddings)
    if not names:
        return {}
    means = np.stack([_unit(np.mean([_unit(vector) for vector in embeddings[name]], axis=0)) for name in names])
    first = list(range(len(names)))
    for number in range(len(names)):
        for other in np.flatnonzero(means[:number] @ means[number] >= min_cosine):
            low, high = sorted((_root(first, int(other)), _root(first, number)))
            first[high] = low
    return {name: names[_root(first, number)] for number, name in enumerate(names)}


def _unit(vector: np.ndarray) -> np.ndarray:
    return np.asarray(vector, np.float64) / max(float(np.linalg.norm(vector)), 1e-12)


def _root(first: list[int], number: int) -> int:
    while first[number] != number:
        number = first[number]
    return number
