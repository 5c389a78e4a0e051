"""Recordings of people with the texts that they read, as Debian packages install them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from portraitanim.errors import InputError

TUXPAINT_STAMPS = Path("/usr/share/tuxpaint/stamps")
"""Package tuxpaint-stamps-default: a short description of each picture, read aloud in many languages."""

ASTERISK_SOUNDS = Path("/usr/share/asterisk/sounds")
"""Packages asterisk-core-sounds-{en,es,fr,it,ru}-g722 and the like: telephone prompts, of which numbers are used."""

_TUXPAINT_SPOKEN = {
    "en": "en-us",
    **{name: name for name in ("bg", "ca", "da", "el", "es", "fr", "lt", "nl", "ro", "ru")},
}
"""Tux Paint's languages with recordings, and espeak-ng's name of each; it has no dictionary of Belarusian."""

_ASTERISK_SPOKEN = {
    "en_US_f_Allison": "en-us",
    "es_MX_f_Allison": "es-419",
    "es": "es-419",
    "fr_CA_f_June": "fr",
    "fr": "fr",
    "it_IT_f_Menardi": "it",
    "it_IT_m_Carlo": "it",
    "ru_RU_f_IvrvoiceRU": "ru",
}
_SOUND_ENDINGS = (".g722", ".wav", ".gsm")


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A recording and its text.

    Attributes:
        voice: who speaks, or at least in which collection and language.
        path: of the sound.
        text: what is said.
        language: espeak-ng's name of the language.
    """

    voice: str
    path: Path
    text: str
    language: str


def tuxpaint_recordings(folder: Path = TUXPAINT_STAMPS) -> Iterator[Recording]:
    """The spoken descriptions of Tux Paint's stamps, ``NAME_desc_LANGUAGE.ogg`` beside ``NAME.txt``.

    Raises:
        InputError: the folder has no recording with a text.
    """
    found = False
    for path in sorted(folder.rglob("*_desc*.ogg")):
        name, _, language = path.stem.rpartition("_desc")
        language = language.removeprefix("_") or "en"
        texts = path.with_name(f"{name}.txt")
        if language not in _TUXPAINT_SPOKEN or not texts.is_file():
            continue
        text = _stamp_texts(texts).get(language, "")
        if text:
            found = True
            yield Recording(
                voice=f"tuxpaint-{language}",
                path=path,
                text=text,
                language="en-us" if language == "en" else language,
            )
    if not found:
        raise InputError(f"{folder} has no spoken stamps. Run: apt-get install tuxpaint-stamps-default.")


def asterisk_recordings(folder: Path = ASTERISK_SOUNDS) -> Iterator[Recording]:
    """The numbers and letters of Asterisk's voices, whose texts their names tell.

    Raises:
        InputError: the folder has no such recording.
    """
    found = False
    for voice, language in _ASTERISK_SPOKEN.items():
        for kind in ("digits", "letters"):
            for path in _one_of_each(folder / voice / kind):
                if path.stem.isdigit() if kind == "digits" else len(path.stem) == 1:
                    found = True
                    yield Recording(voice=f"asterisk-{voice}", path=path, text=path.stem, language=language)
    if not found:
        raise InputError(f"{folder} has no spoken numbers. Run: apt-get install asterisk-core-sounds-en-g722.")


def _stamp_texts(path: Path) -> dict[str, str]:
    """Language and text; the first line is English."""
    first, *rest = path.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
    texts = {"en": first.strip()}
    for line in rest:
        language, _, text = line.partition(".utf8=")
        texts[language.strip()] = text.strip()
    return texts


def _one_of_each(folder: Path) -> list[Path]:
    """One file for each name, in the best of the formats."""
    chosen: dict[str, Path] = {}
    for ending in reversed(_SOUND_ENDINGS):
        chosen.update({path.stem: path for path in sorted(folder.glob(f"*{ending}"))})
    return [chosen[name] for name in sorted(chosen)]
