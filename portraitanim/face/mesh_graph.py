"""The 478-point face mesh of the mediapipe wheel as a function of one face crop, without hidden state.

The ready-made `FaceMesh` solution keeps the face rectangle of the last frame inside, hides the presence score and
searches the face anew in still pictures. Here the same model (``face_landmark_with_attention.tflite``) runs in a
graph of our own: we choose the rectangle, so a result depends on nothing but the pixels, and a resumed run sees
the same landmarks as an unbroken one.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from abc import ABC, abstractmethod
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from portraitanim.errors import PortraitAnimError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

logger = logging.getLogger(__name__)

MESH_INPUT_PX = 192
"""Side of the square picture that the mesh model reads."""

_GRAPH = """
input_stream: "image"
output_stream: "landmarks"
output_stream: "presence"
num_threads: 1
node {{
  calculator: "ImageToTensorCalculator"
  input_stream: "IMAGE:image"
  output_stream: "TENSORS:crop"
  options {{ [mediapipe.ImageToTensorCalculatorOptions.ext] {{
    output_tensor_width: {size} output_tensor_height: {size} output_tensor_float_range {{ min: 0 max: 1 }} }} }}
}}
node {{
  calculator: "TfLiteCustomOpResolverCalculator"
  output_side_packet: "OP_RESOLVER:operators"
  options {{ [mediapipe.TfLiteCustomOpResolverCalculatorOptions.ext] {{ use_gpu: false }} }}
}}
node {{
  calculator: "InferenceCalculator"
  input_side_packet: "OP_RESOLVER:operators"
  input_stream: "TENSORS:crop"
  output_stream: "TENSORS:outputs"
  options {{ [mediapipe.InferenceCalculatorOptions.ext] {{
    model_path: "{model}" delegate {{ xnnpack {{ num_threads: 1 }} }} }} }}
}}
node {{
  calculator: "SplitTensorVectorCalculator"
  input_stream: "outputs"
  output_stream: "mesh"
  output_stream: "flag"
  options {{ [mediapipe.SplitVectorCalculatorOptions.ext] {{
    ranges: {{ begin: 0 end: 6 }} ranges: {{ begin: 6 end: 7 }} }} }}
}}
node {{
  calculator: "TensorsToFloatsCalculator"
  input_stream: "TENSORS:flag"
  output_stream: "FLOAT:presence"
  options {{ [mediapipe.TensorsToFloatsCalculatorOptions.ext] {{ activation: SIGMOID }} }}
}}
node {{
  calculator: "TensorsToFaceLandmarksWithAttention"
  input_stream: "TENSORS:mesh"
  output_stream: "LANDMARKS:landmarks"
}}
"""

_native_stderr_lock = threading.Lock()


class MeshFit(NamedTuple):
    """What a mesh model says of a crop.

    Attributes:
        points: float32 ``(478, 3)`` in pixels of the crop, z in the same unit.
        presence: in [0, 1], that the points lie on a face.
        blendshapes: expression scores, float32 ``(52,)`` in [0, 1], where the model gives them.
    """

    points: np.ndarray
    presence: float
    blendshapes: np.ndarray | None = None


class MeshModel(Protocol):
    """Finds the mesh in one face crop: `MeshGraph`, or `portraitanim.face.landmarker_task.LandmarkerTask`."""

    @property
    def name(self) -> str:
        """What it is called in summaries and files."""

    @property
    def input_px(self) -> int:
        """Side of the square crop that it reads."""

    def run(self, crop: np.ndarray) -> MeshFit:
        """Find the mesh in a crop, uint8 RGB ``(input_px, input_px, 3)``."""

    def close(self) -> None:
        """Free the model."""


@contextmanager
def native_messages_to_log() -> Iterator[None]:
    """Send what native libraries print on stderr to our log (level debug) while the block runs.

    TensorFlow Lite and mediapipe announce their start on file descriptor 2, past Python's logging, and have no
    switch for it. Used around model start only, never around whole runs: a message of a crash must stay visible.
    """
    with _native_stderr_lock:
        try:
            saved = os.dup(2)
        except OSError:  # a program without stderr: nothing to keep clean
            yield
            return
        with tempfile.TemporaryFile() as sink:
            os.dup2(sink.fileno(), 2)
            try:
                yield
            finally:
                os.dup2(saved, 2)
                os.close(saved)
                sink.seek(0)
                for line in sink.read().decode(errors="replace").splitlines():
                    logger.debug("native: %s", line)


def wheel_model(*parts: str) -> Path:
    """Path of a model file inside the installed mediapipe wheel.

    Raises:
        PortraitAnimError: the wheel carries no such file (releases after 0.10.21 dropped them).
    """
    import mediapipe

    path = Path(mediapipe.__file__).parent.joinpath("modules", *parts)
    if not path.is_file():
        raise PortraitAnimError(
            f"mediapipe {mediapipe.__version__} carries no {path.name}, which finds the face. "
            "Install the release that this package names: pip install mediapipe==0.10.21."
        )
    return path


class CropGraph(ABC):
    """A mediapipe graph that is run on one crop at a time; safe to share between threads.

    Args:
        config: the graph, as mediapipe takes it; its streams ``landmarks`` and ``presence`` are read.
        input_px: side of the square crop that it reads.
        getters: further output stream → mediapipe's function that reads its packets.
    """

    def __init__(self, config: Any, input_px: int, getters: Mapping[str, Callable[[Any], Any]] | None = None) -> None:
        from mediapipe.python import packet_getter
        from mediapipe.python._framework_bindings import calculator_graph

        self.input_px = input_px
        self._results: dict[str, Any] = {}
        self._timestamp = 0
        self._lock = threading.Lock()
        with native_messages_to_log():
            self._graph = calculator_graph.CalculatorGraph(graph_config=config)
            self._observe("landmarks", packet_getter.get_proto)
            self._observe("presence", packet_getter.get_float)
            for stream, getter in (getters or {}).items():
                self._observe(stream, getter)
            self._graph.start_run({})
            # The model is loaded by the first picture: its messages belong to the start.
            self.run(np.zeros((input_px, input_px, 3), dtype=np.uint8))

    def _observe(self, stream: str, getter: Callable[[Any], Any]) -> None:
        results = self._results
        self._graph.observe_output_stream(stream, lambda _, packet: results.__setitem__(stream, getter(packet)))

    @abstractmethod
    def packets(self, crop: np.ndarray) -> dict[str, Any]:
        """The graph's input stream → packet."""

    def blendshapes(self, results: Mapping[str, Any]) -> np.ndarray | None:
        """Expression scores out of the graph's results."""
        return None

    def run(self, crop: np.ndarray) -> MeshFit:
        """Find the mesh in a crop.

        Args:
            crop: uint8 RGB ``(input_px, input_px, 3)``, the face upright and filling about two thirds.

        Raises:
            ShapeError: the crop has another size.
        """
        if crop.shape != (self.input_px, self.input_px, 3):
            raise ShapeError(f"A mesh crop must be ({self.input_px}, {self.input_px}, 3), got {crop.shape}.")
        with self._lock:
            self._results.clear()
            self._timestamp += 1
            for stream, packet in self.packets(np.ascontiguousarray(crop)).items():
                self._graph.add_packet_to_input_stream(stream, packet.at(self._timestamp))
            self._graph.wait_until_idle()
            landmarks, presence = self._results["landmarks"], self._results["presence"]
            blendshapes = self.blendshapes(self._results)
        points = np.array([(mark.x, mark.y, mark.z) for mark in landmarks.landmark], dtype=np.float32)
        return MeshFit(points * self.input_px, float(presence), blendshapes)

    def close(self) -> None:
        """Stop the graph's threads."""
        self._graph.close_all_packet_sources()
        self._graph.wait_until_done()


class MeshGraph(CropGraph):
    """The mesh model of the mediapipe wheel, which needs about 3 ms on one thread."""

    name = "mediapipe face mesh"

    def __init__(self) -> None:
        from mediapipe.python import packet_creator
        from mediapipe.python._framework_bindings import image_frame

        self._create_image = packet_creator.create_image_frame
        self._image_format = image_frame.ImageFormat.SRGB
        model = wheel_model("face_landmark", "face_landmark_with_attention.tflite").as_posix()
        super().__init__(_GRAPH.format(size=MESH_INPUT_PX, model=model), MESH_INPUT_PX)

    def packets(self, crop: np.ndarray) -> dict[str, Any]:
        """See `CropGraph.packets`."""
        return {"image": self._create_image(image_format=self._image_format, data=crop)}
