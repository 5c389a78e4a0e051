"""Speech from text with the time of every phoneme, by the espeak-ng library (Debian package espeak-ng)."""

from __future__ import annotations

import ctypes
import ctypes.util
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from portraitanim.data.synthesis.spoken_text import Phoneme, SpokenText
from portraitanim.errors import PortraitAnimError

_RETRIEVAL, _PHONEME_EVENTS, _IPA_NAMES = 1, 1, 2
_UTF8, _PHONEME_EVENT, _LIST_END = 1, 7, 0
_RATE, _PITCH, _RANGE = 1, 3, 4
_BETWEEN_SOUNDS = "_"
_IPA_PARTED = 2 | ord(_BETWEEN_SOUNDS) << 8


@dataclass(frozen=True, kw_only=True)
class Voice:
    """How espeak-ng speaks.

    Attributes:
        name: language, and after ``+`` a variant of the voice, as in ``en-us+f3``.
        words_per_minute: speed, 80 to 450.
        pitch: 0 to 99, 50 is usual.
        pitch_range: 0 (monotone) to 99.
    """

    name: str
    words_per_minute: int = 165
    pitch: int = 50
    pitch_range: int = 50


class _Name(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Name),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@lru_cache(maxsize=1)
def espeak_synthesizer() -> EspeakSynthesizer:
    """The synthesizer of this process; there can be only one, as the library hangs when it is started twice.

    Raises:
        PortraitAnimError: see `EspeakSynthesizer`.
    """
    return EspeakSynthesizer()


class EspeakSynthesizer:
    """The espeak-ng library; get it from `espeak_synthesizer`.

    Raises:
        PortraitAnimError: the library is not installed, or does not start.
    """

    def __init__(self) -> None:
        path = ctypes.util.find_library("espeak-ng") or "libespeak-ng.so.1"
        try:
            self._library = ctypes.CDLL(path)
        except OSError as error:
            raise PortraitAnimError(
                f"Speech synthesis needs espeak-ng, which is not installed ({error}). Run: apt-get install espeak-ng."
            ) from None
        self._rate_hz = self._library.espeak_Initialize(_RETRIEVAL, 0, None, _PHONEME_EVENTS | _IPA_NAMES)
        if self._rate_hz <= 0:
            raise PortraitAnimError("espeak-ng does not start. Reinstall it: apt-get install --reinstall espeak-ng.")
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self._blocks: list[np.ndarray] = []
        self._marks: list[tuple[float, str]] = []
        self._callback = _Callback(self._receive)  # must live as long as the library may call it
        self._library.espeak_SetSynthCallback(self._callback)

    def speak(self, text: str, voice: Voice) -> SpokenText:
        """Read a text aloud.

        Raises:
            PortraitAnimError: espeak-ng has no such voice, or fails.
        """
        self._choose(voice.name)
        for parameter, value in ((_RATE, voice.words_per_minute), (_PITCH, voice.pitch), (_RANGE, voice.pitch_range)):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._blocks.clear()
        self._marks.clear()
        data = text.encode()
        failed = (
            self._library.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, 0, 0, _UTF8, None, None)
            or self._library.espeak_Synchronize()
        )
        if failed or not self._blocks:
            raise PortraitAnimError(f"espeak-ng could not speak {text[:60]!r} with the voice {voice.name!r}.")
        samples = np.concatenate(self._blocks)
        return SpokenText(samples=samples, sample_rate_hz=self._rate_hz, phonemes=self._phonemes(len(samples)))

    def pronounce(self, text: str, voice_name: str) -> list[list[str]]:
        """The sounds of each word of a text in IPA, without speaking it. Stress and length marks are left on them.

        Raises:
            PortraitAnimError: espeak-ng has no such voice.
        """
        self._choose(voice_name)
        data = ctypes.create_string_buffer(text.encode())
        rest = ctypes.c_void_p(ctypes.addressof(data))
        words: list[list[str]] = []
        while rest.value:  # a clause at a time
            clause = self._library.espeak_TextToPhonemes(ctypes.byref(rest), _UTF8, _IPA_PARTED).decode()
            for word in clause.split():
                sounds = [sound for sound in word.split(_BETWEEN_SOUNDS) if sound and not sound.startswith("(")]
                if sounds:
                    words.append(sounds)
        return words

    def _choose(self, voice_name: str) -> None:
        if self._library.espeak_SetVoiceByName(voice_name.encode()) != 0:
            raise PortraitAnimError(f"espeak-ng has no voice {voice_name!r}. List them with 'espeak-ng --voices'.")

    def _receive(self, samples: ctypes._Pointer[ctypes.c_short], count: int, events: ctypes._Pointer[_Event]) -> int:
        if samples and count > 0:
            self._blocks.append(np.ctypeslib.as_array(samples, (count,)).astype(np.float32) / 32768)
        index = 0
        while events[index].type != _LIST_END:
            if events[index].type == _PHONEME_EVENT:
                name = events[index].id.string.decode("utf-8", errors="ignore")
                self._marks.append((events[index].audio_position / 1000, name))
            index += 1
        return 0

    def _phonemes(self, num_samples: int) -> tuple[Phoneme, ...]:
        ends = [*(start for start, _ in self._marks[1:]), num_samples / self._rate_hz]
        return tuple(
            Phoneme(symbol=name.strip("_: "), start_seconds=start, end_seconds=end)
            for (start, name), end in zip(self._marks, ends, strict=True)
            if end > start and not name.startswith("(")  # "(en)": a change of language, not a sound
        )
