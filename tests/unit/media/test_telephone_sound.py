from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from portraitanim.errors import MediaError
from portraitanim.media.telephone_sound import load_telephone_sound


def test_g722_is_read_at_the_wanted_rate(tmp_path: Path) -> None:
    path = tmp_path / "tone.g722"
    wave = (8000 * np.sin(2 * np.pi * 500 * np.arange(16000) / 16000)).astype(np.int16)
    with av.open(str(path), "w", format="g722") as container:
        stream = container.add_stream("g722", rate=16000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    track = load_telephone_sound(path, 8000)
    assert track.samples.shape == (1, 8000)
    assert np.fft.rfftfreq(8000, 1 / 8000)[np.abs(np.fft.rfft(track.samples[0])).argmax()] == pytest.approx(500, abs=2)


@pytest.mark.parametrize("name", ["empty.g722", "sound.wav"])
def test_what_is_no_telephone_sound_is_an_error(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(MediaError, match=name):
        load_telephone_sound(tmp_path / name, 16000)
