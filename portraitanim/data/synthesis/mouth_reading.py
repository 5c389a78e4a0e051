"""How a mouth is read from an audio projection's tokens: fitted on speech whose mouth is known."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from portraitanim.audio.frame_windows import centred_indices
from portraitanim.data.speech_motion import SpeechMotionDataset
from portraitanim.data.synthesis.expression_basis import POUT_WIDTHS, ExpressionBasis
from portraitanim.face.mouth_reader import MouthReader
from portraitanim.models.embedders import AudioProjection

_RIDGE, _LEAST_VARIANCE = 1e-3, 1e-6


@torch.no_grad()
def fit_mouth_reader(
    projection: AudioProjection, speech: SpeechMotionDataset, basis: ExpressionBasis, num_clips: int
) -> MouthReader:
    """Regress the mouth on the tokens (ridge regression), over so many clips of which all measures are known."""
    gram, mixed = torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for number in range(num_clips):
        states, mouth = speech.sample(number)
        if mouth.isnan().any():
            continue
        tokens = _with_one(projection(states[centred_indices(len(states), projection.config.window)][None])[0])
        gram, mixed = gram + tokens.T @ tokens, mixed + tokens.T @ mouth.double()
    stiff = _RIDGE * torch.diag(torch.diag(gram)) + _LEAST_VARIANCE * torch.eye(len(gram))
    solved = torch.linalg.solve(gram + stiff, mixed).float().numpy()
    return MouthReader(
        weight=solved[:-1],
        bias=solved[-1],
        neutral=basis.neutral.astype(np.float32),
        modes=_mouth_modes(basis).astype(np.float32),
    )


def _with_one(tokens: Tensor) -> Tensor:
    flat = tokens.flatten(1).double()
    return torch.cat([flat, torch.ones(len(flat), 1, dtype=flat.dtype)], dim=1)


def _mouth_modes(basis: ExpressionBasis) -> np.ndarray:
    """Motion ``(3, 478, 3)`` per unit of opening, relative width and pout, with what goes along with each."""
    opening, width, pout, upper_lip, corners = basis.modes[:5]
    along = np.einsum("km,mnc->knc", basis.company, np.stack([pout, upper_lip, corners]))
    mouth_width = basis.neutral[291, 0] - basis.neutral[61, 0]
    return np.stack([opening + along[0], mouth_width * (width + along[1]), POUT_WIDTHS * pout])
