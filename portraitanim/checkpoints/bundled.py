"""The small weights that come with the package: in ``weights/`` of a clone, inside the package of an installation."""

from __future__ import annotations

from pathlib import Path

from portraitanim.errors import MissingWeightsError

BUNDLED_NAME = "tiny"
"""Name of the bundled weights, which is also the name of their preset."""

_PACKAGE = Path(__file__).resolve().parents[1]


def bundled_folder() -> Path:
    """Folder of the bundled weights.

    Raises:
        MissingWeightsError: this installation was made without them.
    """
    places = (_PACKAGE / "bundled" / BUNDLED_NAME, _PACKAGE.parent / "weights" / BUNDLED_NAME)
    for place in places:
        if (place / "model_index.json").is_file():
            return place
    raise MissingWeightsError(
        "The bundled weights are not in this installation. Install portraitanim again from a wheel or a clone, or use "
        "other weights: portraitanim weights pull hallo"
    )
