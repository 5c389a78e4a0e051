"""Marks that say, to machines and people, that a video is synthetic and how it was made."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from portraitanim.media.files import sha256_of, whole_file
from portraitanim.media.video_formats import video_format

DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's term for media made by a trained model."""

_TITLE = "Synthetic video"
_NOTICE = "This video was generated from a still portrait by a trained model (portraitanim). It shows no real event."


def sidecar_path(output: Path) -> Path:
    """The JSON file beside a video: ``talk.mp4`` has ``talk.mp4.json``."""
    return output.with_name(f"{output.name}.json")


def container_metadata(output: Path, facts: dict[str, Any]) -> dict[str, str]:
    """What the container is told, as far as its format stores it.

    Args:
        output: the video; its suffix says which keys are stored.
        facts: tool, version, weights, seed and hashes, as plain data.
    """
    allowed = video_format(output).metadata_keys
    marks = {"notice": _NOTICE, "digital_source_type": DIGITAL_SOURCE_TYPE, **facts}
    values = {"title": _TITLE, "comment": json.dumps(marks, sort_keys=True)}
    return {key: value for key, value in values.items() if allowed is None or key in allowed}


def xmp_packet(facts: dict[str, Any]) -> str:
    """An XMP packet with IPTC's DigitalSourceType, the tool that made the video, and the notice."""
    tool = escape(f"{facts.get('tool', 'portraitanim')} {facts.get('version', '')}".strip(), {'"': "&quot;"})
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n'
        '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
        ' xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"'
        f' Iptc4xmpExt:DigitalSourceType="{DIGITAL_SOURCE_TYPE}" xmp:CreatorTool="{tool}">\n'
        f'<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{escape(_NOTICE)}</rdf:li></rdf:Alt>'
        "</dc:description>\n</rdf:Description></rdf:RDF></x:xmpmeta>\n"
        '<?xpacket end="w"?>'
    )


def write_sidecar(output: Path, record: dict[str, Any]) -> Path:
    """Write all that is known of a video to the JSON file beside it."""
    path = sidecar_path(output)
    text = json.dumps({"notice": _NOTICE, "digital_source_type": DIGITAL_SOURCE_TYPE, **record}, indent=2)
    with whole_file(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")
    return path


def content_sha256(path: str | Path) -> str:
    """Hash of a file's bytes; of a folder, of its files' names and hashes."""
    path = Path(path)
    if path.is_dir():
        lines = [
            f"{file.relative_to(path).as_posix()} {sha256_of(file)}"
            for file in sorted(path.rglob("*"))
            if file.is_file()
        ]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return sha256_of(path)
