"""Measure one pair of videos: both are decoded once, frame beside frame, and handed to what measures."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from portraitanim.errors import InputError, PortraitAnimError, ShapeError
from portraitanim.evaluation.catalogue import FACE_METRICS
from portraitanim.evaluation.clip_result import ClipResult, features_path, thumbnail_path
from portraitanim.evaluation.clips import ClipPair, content_hash
from portraitanim.evaluation.face_meters import FaceMeter
from portraitanim.evaluation.frame_meters import FrameMeter, I3DMeter, InceptionMeter, PixelMeter, Values
from portraitanim.evaluation.judges import Judges
from portraitanim.evaluation.protocol import EvaluationProtocol
from portraitanim.evaluation.sync_measurement import measure_sync
from portraitanim.evaluation.thumbnails import ThumbnailStrip
from portraitanim.media.files import whole_file
from portraitanim.media.image import resize_image, save_image
from portraitanim.media.video import iter_video, probe_video

logger = logging.getLogger(__name__)

_PIXEL_METRICS = frozenset({"ssim", "psnr", "lpips"})
_SYNC_METRICS = frozenset({"sync_c", "sync_d", "sync_offset"})
_RATE_TOLERANCE = 0.01


def measure_clip(pair: ClipPair, protocol: EvaluationProtocol, judges: Judges, output: Path) -> ClipResult:
    """Measure one pair; what cannot be measured is said in the result, and nothing is raised for a bad file.

    Args:
        pair: the videos.
        protocol: what is measured; only metrics whose weights are there.
        judges: the networks.
        output: folder of the run; features and thumbnails are written into it.
    """
    start = time.monotonic()
    result = ClipResult(
        name=pair.name,
        generated=str(pair.generated),
        true=str(pair.true),
        generated_sha256=content_hash(pair.generated),
        true_sha256=content_hash(pair.true),
    )
    try:
        with torch.inference_mode():
            found = _Measurement(pair, protocol, judges)
            found.run()
        found.write(output)
    except PortraitAnimError as error:
        return replace(result, error=str(error), seconds=time.monotonic() - start)
    except Exception as error:  # one clip must not end a run of thousands; the log has the place
        logger.exception("%s cannot be measured", pair.name)
        return replace(result, error=f"{type(error).__name__}: {error}", seconds=time.monotonic() - start)
    return replace(
        result,
        num_frames=found.num_frames,
        values=found.values,
        true_values=found.true_values,
        num_features={name: len(rows) for name, rows in found.features.items()},
        notes=tuple(found.notes),
        seconds=time.monotonic() - start,
    )


class _Measurement:
    def __init__(self, pair: ClipPair, protocol: EvaluationProtocol, judges: Judges) -> None:
        self._pair, self._protocol, self._judges = pair, protocol, judges
        self.num_frames = 0
        self.values: Values = {}
        self.true_values: Values = {}
        self.features: dict[str, np.ndarray] = {}
        self.notes: list[str] = []
        self._thumbnails = ThumbnailStrip()

    def run(self) -> None:
        wanted = set(self._protocol.metrics)
        self._note_rates()
        pixels = PixelMeter(self._protocol, self._judges) if wanted & _PIXEL_METRICS else None
        faces = FaceMeter(self._protocol, self._judges) if wanted & FACE_METRICS else None
        meters: list[FrameMeter] = [meter for meter in (faces,) if meter is not None]
        meters += [InceptionMeter(self._protocol, self._judges)] if "fid" in wanted else []
        meters += [I3DMeter(self._protocol, self._judges)] if "fvd" in wanted else []
        for generated, true in self._frames():
            if pixels is not None:
                try:
                    pixels.add(generated, true)
                except ShapeError as error:  # other metrics do not mind
                    self.notes.append(str(error))
                    self.values |= dict.fromkeys(sorted(wanted & _PIXEL_METRICS))
                    pixels = None
            for meter in meters:
                meter.add(generated, true)
            self._thumbnails.add(generated, true)
            self.num_frames += 1
        if not self.num_frames:
            raise InputError(f"{self._pair.generated} and {self._pair.true} have no frame in common.")
        for meter in ([pixels] if pixels is not None else []) + meters:
            own, others = meter.values()
            self.values |= own
            self.true_values |= others
            self.features |= meter.features()
            self.notes += meter.notes()
        if wanted & _SYNC_METRICS and faces is not None:
            self._measure_sync(faces, wanted)

    def write(self, output: Path) -> None:
        if self.features:
            with whole_file(features_path(output, self._pair.name)) as partial:
                save_file({name: np.ascontiguousarray(rows) for name, rows in self.features.items()}, partial)
        save_image(self._thumbnails.picture(), thumbnail_path(output, self._pair.name), quality=85)

    def _frames(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Frames of both at the protocol's rate and size, as long as both have some."""
        ours = iter_video(self._pair.generated, self._protocol.fps)
        theirs = iter_video(self._pair.true, self._protocol.fps)
        limit = self._protocol.max_frames
        number = 0
        while limit is None or number < limit:
            generated, true = next(ours, None), next(theirs, None)
            if generated is None or true is None:
                if generated is not None or true is not None:
                    longer = "generated" if true is None else "true"
                    self.notes.append(f"the {longer} video is longer; the first {number} frames were compared")
                return
            yield self._scaled(generated.image), self._scaled(true.image)
            number += 1

    def _scaled(self, frame: np.ndarray) -> np.ndarray:
        size = self._protocol.size_px
        if size is None:
            return frame
        height, width = frame.shape[1:]
        factor = size / min(height, width)
        return resize_image(frame, round(height * factor), round(width * factor), self._protocol.resize_kernel)

    def _note_rates(self) -> None:
        for side, path in (("generated", self._pair.generated), ("true", self._pair.true)):
            rate = float(probe_video(path).fps)
            if abs(rate - self._protocol.fps) > _RATE_TOLERANCE:
                self.notes.append(f"the {side} video has {rate:.3g} frames per second; read at {self._protocol.fps:g}")

    def _measure_sync(self, faces: FaceMeter, wanted: set[str]) -> None:
        landmarks = faces.landmarks("generated")
        if self._protocol.size_px is not None:
            # SyncNet cuts from the video as it is.
            shape = probe_video(self._pair.generated)
            landmarks = landmarks * (min(shape.width, shape.height) / self._protocol.size_px)
        try:
            score = measure_sync(
                self._pair.generated,
                self._pair.audio,
                landmarks,
                self._protocol.fps,
                self._judges,
                use_s3fd=self._protocol.sync_boxes == "s3fd",
            )
        except PortraitAnimError as error:
            self.notes.append(f"no sync: {error}")
            self.values |= dict.fromkeys(sorted(wanted & _SYNC_METRICS))
            return
        found = {"sync_c": score.confidence, "sync_d": score.distance, "sync_offset": float(score.offset_frames)}
        self.values |= {name: value for name, value in found.items() if name in wanted}
        if score.is_biased:
            self.notes.append(f"only {score.num_windows} windows for SyncNet: below 60 its values are biased")
