"""Marks in finished files that the encoders cannot write: XMP in MP4, comments and XMP in GIF."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# The UUID under which ISO base media files carry XMP (XMP Specification, part 3, MPEG-4).
_XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")


def append_mp4_xmp(path: Path, xmp: str) -> None:
    """Put an XMP packet into an MP4 or MOV file as a box of its own behind the others."""
    payload = _XMP_UUID + xmp.encode("utf-8")
    with path.open("ab") as file:
        file.write(struct.pack(">I4s", len(payload) + 8, b"uuid") + payload)


def append_gif_marks(path: Path, comment: str, xmp: str | None) -> None:
    """Put a comment and an XMP packet into a GIF, before its closing byte (GIF89a; XMP, part 3)."""
    blocks = b""
    if comment:
        text = comment.encode("utf-8")
        pieces = (text[start : start + 255] for start in range(0, len(text), 255))
        blocks += b"\x21\xfe" + b"".join(bytes([len(piece)]) + piece for piece in pieces) + b"\x00"
    if xmp:
        # XMP is not cut into blocks; the ramp behind it leads a reader that does not know it to the end.
        ramp = b"\x01" + bytes(range(255, -1, -1)) + b"\x00"
        blocks += b"\x21\xff\x0bXMP DataXMP" + xmp.encode("utf-8") + ramp
    with path.open("r+b") as file:
        file.seek(-1, 2)
        closing = file.read(1)
        if closing == b";":
            file.seek(-1, 2)
        file.write(blocks + b";")
