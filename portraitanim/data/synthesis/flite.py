# ruff: noqa: RUF001 (phonetic signs are meant)
"""Speech from text with the time of every phoneme, by the flite program (Debian package flite): recorded voices."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from portraitanim.data.synthesis.spoken_text import Phoneme, SpokenText
from portraitanim.errors import PortraitAnimError
from portraitanim.media.audio import load_audio, to_mono

FLITE_VOICES = ("awb", "rms", "slt", "kal16")

_TO_IPA = {
    **{
        "aa": "ɑ",
        "ae": "æ",
        "ah": "ʌ",
        "ao": "ɔ",
        "aw": "aʊ",
        "ax": "ə",
        "ay": "aɪ",
        "eh": "ɛ",
        "er": "ɜɹ",
        "ey": "eɪ",
    },
    **{"ih": "ɪ", "iy": "i", "ow": "oʊ", "oy": "ɔɪ", "uh": "ʊ", "uw": "u", "axr": "ɚ", "el": "əl", "en": "ən"},
    **{"b": "b", "ch": "tʃ", "d": "d", "dh": "ð", "dx": "ɾ", "f": "f", "g": "ɡ", "hh": "h", "hv": "h", "jh": "dʒ"},
    **{"k": "k", "l": "l", "m": "m", "n": "n", "ng": "ŋ", "p": "p", "r": "ɹ", "s": "s", "sh": "ʃ", "t": "t"},
    **{"th": "θ", "v": "v", "w": "w", "y": "j", "z": "z", "zh": "ʒ", "pau": "", "ssil": ""},
}


def speak_with_flite(text: str, voice: str, stretch: float) -> SpokenText:
    """Read an English text aloud.

    Args:
        text: English.
        voice: one of `FLITE_VOICES`.
        stretch: duration relative to the voice's own; 1.2 is slower.

    Raises:
        PortraitAnimError: flite is not installed, or fails.
    """
    program = shutil.which("flite")
    if program is None:
        raise PortraitAnimError("This speech needs flite, which is not installed. Run: apt-get install flite.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        command = [program, "-voice", voice, "--setf", f"duration_stretch={stretch}", "-psdur", "-t", text, "-o"]
        done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)
        if done.returncode or not path.is_file():
            raise PortraitAnimError(f"flite could not speak {text[:60]!r} with the voice {voice}: {done.stderr[:200]}")
        track = to_mono(load_audio(path))
    start, phonemes = 0.0, []
    for entry in done.stdout.split():
        name, _, end = entry.rpartition(":")
        if name not in _TO_IPA:
            raise PortraitAnimError(f"flite said {name!r}, which is no phoneme known here. Add it to flite.py.")
        phonemes.append(Phoneme(symbol=_TO_IPA[name], start_seconds=start, end_seconds=float(end)))
        start = float(end)
    return SpokenText(samples=track.samples[0], sample_rate_hz=track.sample_rate_hz, phonemes=tuple(phonemes))
