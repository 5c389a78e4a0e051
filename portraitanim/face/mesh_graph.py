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
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from portraitanim.errors import PortraitAnimError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    model_path: "{model}" delegate {{ xnnpack {{ num_threads: {threads} }} }} }} }}
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


class MeshGraph:
    """Runs the mesh model on one square face crop at a time; safe to share between threads.

    Args:
        num_threads: threads of the model itself; it needs about 3 ms on one.
    """

    def __init__(self, *, num_threads: int = 1) -> None:
        from mediapipe.python import packet_creator, packet_getter
        from mediapipe.python._framework_bindings import calculator_graph, image_frame

        model = wheel_model("face_landmark", "face_landmark_with_attention.tflite").as_posix()
        text = _GRAPH.format(size=MESH_INPUT_PX, model=model, threads=num_threads)
        self._create_image = packet_creator.create_image_frame
        self._image_format = image_frame.ImageFormat.SRGB
        self._results: dict[str, Any] = {}
        self._timestamp = 0
        self._lock = threading.Lock()
        with native_messages_to_log():
            self._graph = calculator_graph.CalculatorGraph(graph_config=text)
            self._observe("landmarks", packet_getter.get_proto)
            self._observe("presence", packet_getter.get_float)
            self._graph.start_run({})
            # The model is loaded by the first picture: its messages belong to the start.
            self.run(np.zeros((MESH_INPUT_PX, MESH_INPUT_PX, 3), dtype=np.uint8))

    def _observe(self, stream: str, getter: Any) -> None:
        results = self._results
        self._graph.observe_output_stream(stream, lambda _, packet: results.__setitem__(stream, getter(packet)))

    def run(self, crop: np.ndarray) -> tuple[np.ndarray, float]:
        """Find the mesh in a crop.

        Args:
            crop: uint8 RGB ``(192, 192, 3)``, the face upright and filling about two thirds.

        Returns:
            Points float32 ``(478, 3)`` in pixels of the crop, z in the same unit, and the presence score in [0, 1].

        Raises:
            ShapeError: the crop has another size.
        """
        if crop.shape != (MESH_INPUT_PX, MESH_INPUT_PX, 3):
            raise ShapeError(f"A mesh crop must be ({MESH_INPUT_PX}, {MESH_INPUT_PX}, 3), got {crop.shape}.")
        with self._lock:
            self._results.clear()
            self._timestamp += 1
            packet = self._create_image(image_format=self._image_format, data=np.ascontiguousarray(crop))
            self._graph.add_packet_to_input_stream("image", packet.at(self._timestamp))
            self._graph.wait_until_idle()
            landmarks, presence = self._results["landmarks"], self._results["presence"]
        points = np.array([(mark.x, mark.y, mark.z) for mark in landmarks.landmark], dtype=np.float32)
        return points * MESH_INPUT_PX, float(presence)

    def close(self) -> None:
        """Stop the graph's threads."""
        self._graph.close_all_packet_sources()
        self._graph.wait_until_done()
