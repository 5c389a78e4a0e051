"""Real files where they are present, and small generated ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from portraitanim.types import AudioTrack


def shared_media() -> Path | None:
    """The folder of real pictures, sounds and videos, or ``None`` where it is not laid out."""
    for parent in Path(__file__).resolve().parents:
        if (parent / "shared" / "media").is_dir():
            return parent / "shared" / "media"
    return None


@pytest.fixture
def real_media() -> Path:
    folder = shared_media()
    if folder is None:
        pytest.skip("../shared/media is absent")
    return folder


@pytest.fixture
def encode_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes files with PyAV alone, as other programs would."""

    def encode(name: str, codec: str, track: AudioTrack, *, delay_seconds: float = 0.0, num_frames: int = 0) -> Path:
        path = tmp_path / name
        with av.open(str(path), "w") as container:
            video = None
            if num_frames:
                video = container.add_stream("libx264", rate=25)
                video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
            layout = "mono" if track.samples.shape[0] == 1 else "stereo"
            audio = container.add_stream(codec, rate=track.sample_rate_hz, layout=layout)
            for index in range(num_frames):
                frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 8 * index, np.uint8), format="rgb24")
                frame.pts = index
                container.mux(video.encode(frame))
            frame = av.AudioFrame.from_ndarray(track.samples, format="fltp", layout=layout)
            frame.sample_rate = track.sample_rate_hz
            frame.pts = round(delay_seconds * track.sample_rate_hz)
            container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
            if video is not None:
                container.mux(video.encode(None))
        return path

    return encode
