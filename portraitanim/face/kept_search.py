"""The faces of a picture as tensors, exactly: to be kept on disk."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from portraitanim.face.detection import DetectedFace, FaceSearch


def search_to_tensors(search: FaceSearch) -> dict[str, Tensor]:
    """All that a search found, by name."""
    faces = search.faces
    tensors = {
        "numbers": torch.tensor([search.best_rejected_score, search.min_score], dtype=torch.float64),
        "image_size": torch.tensor(search.image_size),
        "hint": torch.tensor(list(search.hint.encode()), dtype=torch.uint8),
        "scores": torch.tensor([[face.score, face.presence] for face in faces], dtype=torch.float64).reshape(-1, 2),
    }
    for number, face in enumerate(faces):
        tensors[f"points_{number}"] = torch.from_numpy(np.ascontiguousarray(face.points))
        if face.blendshapes is not None:
            tensors[f"blendshapes_{number}"] = torch.from_numpy(np.ascontiguousarray(face.blendshapes))
    return tensors


def search_from_tensors(tensors: Mapping[str, Tensor]) -> FaceSearch:
    """From what `search_to_tensors` gave."""
    faces = []
    for number, (score, presence) in enumerate(tensors["scores"].tolist()):
        shapes = tensors.get(f"blendshapes_{number}")
        faces.append(
            DetectedFace(
                points=tensors[f"points_{number}"].numpy(),
                score=score,
                presence=presence,
                blendshapes=None if shapes is None else shapes.numpy(),
            )
        )
    best, needed = tensors["numbers"].tolist()
    height, width = tensors["image_size"].tolist()
    return FaceSearch(
        faces=tuple(faces),
        best_rejected_score=best,
        min_score=needed,
        image_size=(height, width),
        hint=bytes(tensors["hint"].tolist()).decode(),
    )
