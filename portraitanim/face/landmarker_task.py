"""The models of MediaPipe's ``face_landmarker.task``: 478 points and 52 expression scores.

The ready-made ``FaceLandmarker`` searches each picture with one short-range detector, which misses small faces and
does not know which of two people to follow. Here the two networks of the file run in MediaPipe's own sub-graphs on
the crop that we choose, as the wheel's mesh does. Head poses follow from the points, see `metric_geometry`: the same
numbers as the landmarker's to 1e-3 cm.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from portraitanim.errors import DamagedWeightsError, MissingWeightsError
from portraitanim.face.mesh_graph import CropGraph

TASK_FILE = "face_landmarker_v2_with_blendshapes.task"
"""Name of the file as it is published."""

BLENDSHAPE_NAMES = (
    *("_neutral", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
    *("cheekPuff", "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft"),
    *("eyeLookDownRight", "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft"),
    *("eyeLookUpRight", "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft"),
    *("jawOpen", "jawRight", "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft"),
    *("mouthFrownRight", "mouthFunnel", "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft"),
    *("mouthPressRight", "mouthPucker", "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower"),
    *("mouthShrugUpper", "mouthSmileLeft", "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight"),
    *("mouthUpperUpLeft", "mouthUpperUpRight", "noseSneerLeft", "noseSneerRight"),
)
"""The expression scores in their order."""

_INPUT_PX = 256
_MESH, _BLENDSHAPES = "face_landmarks_detector.tflite", "face_blendshapes.tflite"
_GRAPHS = "mediapipe.tasks.vision.face_landmarker."


class LandmarkerTask(CropGraph):
    """Mesh and expression scores of a face crop; give it to `portraitanim.face.landmarks.FaceMesh`.

    Args:
        path: the ``.task`` file, or the folder where ``portraitanim weights pull face-landmarker`` put it.

    Raises:
        MissingWeightsError: there is no such file.
        DamagedWeightsError: the file is not what it should be.
    """

    name = "mediapipe face landmarker"

    def __init__(self, path: str | Path) -> None:
        from mediapipe.framework.formats.rect_pb2 import NormalizedRect
        from mediapipe.python import packet_creator, packet_getter
        from mediapipe.python._framework_bindings import image, image_frame

        file = _task_file(Path(path))
        config = _graph_config(_read_models(file))
        self._create = packet_creator
        self._image = image.Image
        self._image_format = image_frame.ImageFormat.SRGB
        self._whole_crop = NormalizedRect(x_center=0.5, y_center=0.5, width=1.0, height=1.0)
        try:
            super().__init__(config, _INPUT_PX, {"blendshapes": packet_getter.get_proto})
        except (RuntimeError, ValueError) as error:
            reason = (str(error).splitlines() or ["no reason"])[0][:100]
            raise DamagedWeightsError(
                f"{file} cannot be run ({reason}). Run: portraitanim weights pull face-landmarker"
            ) from None

    def packets(self, crop: np.ndarray) -> dict[str, Any]:
        """See `CropGraph.packets`."""
        return {
            "image": self._create.create_image(self._image(image_format=self._image_format, data=crop)),
            "rect": self._create.create_proto(self._whole_crop),
        }

    def blendshapes(self, results: Mapping[str, Any]) -> np.ndarray | None:
        """See `CropGraph.blendshapes`."""
        scores = np.zeros(len(BLENDSHAPE_NAMES), dtype=np.float32)
        for entry in results["blendshapes"].classification:
            scores[entry.index] = entry.score
        return scores.clip(0.0, 1.0)


def _task_file(path: Path) -> Path:
    if path.is_dir():
        path = next(iter(sorted(path.rglob("*.task"))), path / TASK_FILE)
    if not path.is_file():
        raise MissingWeightsError(
            f"There is no face landmarker file {path}. Run: portraitanim weights pull face-landmarker"
        )
    return path


def _read_models(path: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in (_MESH, _BLENDSHAPES)}
    except (zipfile.BadZipFile, KeyError, OSError, EOFError, ValueError, RuntimeError, NotImplementedError) as error:
        raise DamagedWeightsError(
            f"{path} is no face landmarker file with expression scores ({str(error)[:100]}). "
            "Run: portraitanim weights pull face-landmarker"
        ) from None


def _graph_config(models: Mapping[str, bytes]) -> Any:
    from mediapipe.framework.calculator_pb2 import CalculatorGraphConfig
    from mediapipe.tasks.cc.vision.face_landmarker.proto import (
        face_blendshapes_graph_options_pb2 as scores_pb2,
    )
    from mediapipe.tasks.cc.vision.face_landmarker.proto import (
        face_landmarks_detector_graph_options_pb2 as mesh_pb2,
    )

    config = CalculatorGraphConfig(
        input_stream=["image", "rect"], output_stream=["landmarks", "presence", "blendshapes"], num_threads=1
    )
    mesh = config.node.add(
        calculator=f"{_GRAPHS}SingleFaceLandmarksDetectorGraph",
        input_stream=["IMAGE:image", "NORM_RECT:rect"],
        output_stream=["NORM_LANDMARKS:landmarks", "PRESENCE_SCORE:presence"],
    )
    found = mesh.options.Extensions[mesh_pb2.FaceLandmarksDetectorGraphOptions.ext]
    found.min_detection_confidence = 0.0  # the presence is reported, and judged by the caller
    _set_model(found.base_options, models[_MESH])
    config.node.add(calculator="ImagePropertiesCalculator", input_stream=["IMAGE:image"], output_stream=["SIZE:size"])
    scores = config.node.add(
        calculator=f"{_GRAPHS}FaceBlendshapesGraph",
        input_stream=["LANDMARKS:landmarks", "IMAGE_SIZE:size"],
        output_stream=["BLENDSHAPES:blendshapes"],
    )
    options = scores.options.Extensions[scores_pb2.FaceBlendshapesGraphOptions.ext]
    _set_model(options.base_options, models[_BLENDSHAPES])
    return config


def _set_model(base_options: Any, model: bytes) -> None:
    base_options.model_asset.file_content = model
    base_options.acceleration.xnnpack.num_threads = 1
