# ruff: noqa: RUF001 (phonetic signs are meant)
"""When each sound of a recording is heard, by forced alignment with pocketsphinx (PyPI package pocketsphinx).

Its acoustic model knows American English. Other languages are aligned with it too: each of their sounds is sought as
the nearest English one, which finds vowels, closures and hisses well enough for lips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from portraitanim.data.synthesis.spoken_text import Phoneme
from portraitanim.errors import InputError, PortraitAnimError

ALIGNED_RATE_HZ = 16000
_FRAMES_PER_SECOND = 100
_BEAMS = {"beam": 1e-100, "wbeam": 1e-100, "pbeam": 1e-100}
"""Nothing is given up early: the nearest sounds of another language can fit badly."""

_WHOLE = {
    **{"aɪ": "AY", "aʊ": "AW", "eɪ": "EY", "oʊ": "OW", "əʊ": "OW", "ɔɪ": "OY", "ɔø": "OY", "ɜɹ": "ER", "ɜː": "ER"},
    **{"tʃ": "CH", "dʒ": "JH", "tɕ": "CH", "dʑ": "JH", "tʂ": "CH", "dʐ": "JH", "tɹ": "T R", "əl": "AH L"},
}
_SINGLE = {
    **dict.fromkeys("aɑä", "AA"),
    **dict.fromkeys("æ", "AE"),
    **dict.fromkeys("ɐʌəɘɤ", "AH"),
    **dict.fromkeys("ɚɝɜɵøœ", "ER"),
    **dict.fromkeys("ɛeε", "EH"),
    **dict.fromkeys("i", "IY"),
    **dict.fromkeys("ɪɨᵻ", "IH"),
    **dict.fromkeys("ɔɒ", "AO"),
    **dict.fromkeys("o", "OW"),
    **dict.fromkeys("uʉy", "UW"),
    **dict.fromkeys("ʊɯʏ", "UH"),
    **dict.fromkeys("ʃɕʂç", "SH"),
    **dict.fromkeys("ʒʑʐʝ", "ZH"),
    **dict.fromkeys("kqc", "K"),
    **dict.fromkeys("ɡgɣɟ", "G"),
    **dict.fromkeys("xχhɦ", "HH"),
    **dict.fromkeys("rɹɻʁɽ", "R"),
    **dict.fromkeys("lɫɭɬ", "L"),
    **dict.fromkeys("jʎ", "Y"),
    **dict.fromkeys("wɥʍ", "W"),
    **dict.fromkeys("vʋ", "V"),
    **dict.fromkeys("fɸ", "F"),
    **dict.fromkeys("bβɓ", "B"),
    **dict.fromkeys("mɱ", "M"),
    **dict.fromkeys("nɲɳ", "N"),
    **dict.fromkeys("tʈ", "T"),
    **dict.fromkeys("dɖɾ", "D"),
    **{"p": "P", "s": "S", "z": "Z", "θ": "TH", "ð": "DH", "ŋ": "NG"},
}


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """What is heard when.

    Attributes:
        phonemes: in order, without gaps; pauses are empty.
        score: mean log-likelihood of a frame of speech, in the unit of the acoustic model: the more below 0, the less
            the recording sounds like its text.
    """

    phonemes: tuple[Phoneme, ...]
    score: float


def english_phones(sound: str) -> list[str]:
    """The nearest English sounds (ARPAbet) of a sound in IPA; none for what is hardly heard, as a glottal stop."""
    plain = "".join(sign for sign in sound if sign not in "ˈˌ")
    if plain in _WHOLE:
        return _WHOLE[plain].split()
    plain = plain.replace("ː", "")
    if plain in _WHOLE:
        return _WHOLE[plain].split()
    return [_SINGLE[sign] for sign in plain if sign in _SINGLE]


class PhoneAligner:
    """Finds the sounds of a known text in a recording of it.

    Raises:
        PortraitAnimError: pocketsphinx is not installed.
    """

    def __init__(self) -> None:
        try:
            from pocketsphinx import Decoder
        except ImportError:
            raise PortraitAnimError(
                "Recordings are aligned with pocketsphinx, which is not installed. Run: pip install pocketsphinx."
            ) from None
        self._decoder: Any = Decoder(lm=None, dict=None, loglevel="FATAL", bestpath=False, **_BEAMS)
        self._known: dict[str, str] = {}

    def align(self, samples: np.ndarray, words: Sequence[Sequence[str]]) -> Alignment | None:
        """Align one recording.

        Args:
            samples: float32 ``(samples,)`` at 16 kHz.
            words: the sounds of each word in IPA, as `EspeakSynthesizer.pronounce` gives them.

        Returns:
            None where the recording does not sound like the text.

        Raises:
            InputError: the words hold no sound.
        """
        spelled = [[(sound, english_phones(sound)) for sound in word] for word in words]
        spelled = [[(sound, phones) for sound, phones in word if phones] for word in spelled]
        spelled = [word for word in spelled if word]
        if not spelled:
            raise InputError(f"There is no sound to look for in {words!r}.")
        names = [self._word(" ".join(phone for _, phones in word for phone in phones)) for word in spelled]
        data = (np.clip(samples, -1, 1) * 32767).astype(np.int16).tobytes()
        try:
            self._decoder.set_align_text(" ".join(names))
            self._listen(data)
            if self._decoder.hyp() is None:
                return None
            self._decoder.set_alignment()
            self._listen(data)
            found = self._decoder.get_alignment()
        except RuntimeError:  # the way from the first to the last sound does not fit into the recording
            return None
        return None if found is None else _gathered(found, spelled, len(samples) / ALIGNED_RATE_HZ)

    def _word(self, phones: str) -> str:
        if phones not in self._known:
            self._known[phones] = f"word{len(self._known)}"
            self._decoder.add_word(self._known[phones], phones, False)
        return self._known[phones]

    def _listen(self, data: bytes) -> None:
        self._decoder.start_utt()
        self._decoder.process_raw(data, full_utt=True)
        self._decoder.end_utt()


def _gathered(found: Any, spelled: Sequence[Sequence[tuple[str, list[str]]]], seconds: float) -> Alignment | None:
    """The sounds in IPA with the times of their English ones."""
    wanted = [(sound, len(phones)) for word in spelled for sound, phones in word]
    phonemes: list[Phoneme] = []
    total, frames, place, parts = 0.0, 0, 0, 0
    for entry in (phone for word in found for phone in word):
        start = entry.start / _FRAMES_PER_SECOND
        if entry.name == "SIL" or entry.name.startswith("+"):
            if parts or not phonemes or phonemes[-1].symbol:
                phonemes.append(Phoneme(symbol="", start_seconds=start, end_seconds=start))
            continue
        if place >= len(wanted):
            return None
        if parts == 0:
            phonemes.append(Phoneme(symbol=wanted[place][0], start_seconds=start, end_seconds=start))
        parts += 1
        if parts == wanted[place][1]:
            place, parts = place + 1, 0
        total, frames = total + entry.score, frames + entry.duration
    if place != len(wanted) or not frames:
        return None
    ends = [phoneme.start_seconds for phoneme in phonemes[1:]] + [seconds]
    joined = tuple(
        Phoneme(symbol=phoneme.symbol, start_seconds=phoneme.start_seconds, end_seconds=end)
        for phoneme, end in zip(phonemes, ends, strict=True)
    )
    return Alignment(phonemes=joined, score=total / frames)
