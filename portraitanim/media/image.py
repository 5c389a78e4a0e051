"""Pictures in and out: any photo a person has becomes upright 8-bit RGB."""

from __future__ import annotations

import io
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from portraitanim.errors import InputError, MediaError, ShapeError
from portraitanim.media.files import existing_file, whole_file

logger = logging.getLogger(__name__)

MAX_IMAGE_PIXELS = 120_000_000
"""Largest picture read; the largest phone sensors in wide use give 108 million."""

# Named one by one, because Pillow's full list has formats that start other programs (EPS).
READABLE_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "PPM", "JPEG2000")

WRITABLE_SUFFIXES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}

KERNELS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_image(
    path: str | Path,
    *,
    background: tuple[int, int, int] = (255, 255, 255),
    max_pixels: int = MAX_IMAGE_PIXELS,
) -> np.ndarray:
    """Read a picture as people see it: upright, in sRGB, 8 bits per channel.

    The EXIF orientation is applied, transparency is laid over ``background``; greyscale, palette, CMYK, 16-bit pictures
    and embedded colour profiles are converted. Of an animation the first picture is taken, with a word in the log.

    Args:
        path: JPEG, PNG, WebP, AVIF, TIFF, BMP, GIF, PPM or JPEG 2000.
        background: RGB in 0..255 that shows through transparent places.
        max_pixels: larger pictures are refused before they are decoded.

    Returns:
        uint8 ``(3, height, width)``.

    Raises:
        MediaError: absent, damaged, cut short, too large or of another format.
    """
    path = existing_file(path, "picture")
    try:
        with warnings.catch_warnings():
            # Pillow warns of large pictures and odd metadata; our own limit and errors speak instead.
            warnings.simplefilter("ignore")
            with Image.open(path, formats=_installed_formats()) as picture:
                _check_size(picture, path, max_pixels)
                if getattr(picture, "n_frames", 1) > 1 and picture.format != "MPO":
                    logger.warning("%s holds several pictures; the first is taken.", path)
                orientation = _orientation(picture, path)
                picture.load()
                rgb = _to_rgb(picture, path, background)
                if orientation in _UPRIGHT:
                    rgb = rgb.transpose(_UPRIGHT[orientation])
                return np.ascontiguousarray(np.asarray(rgb).transpose(2, 0, 1))
    except MediaError:
        raise
    except Image.UnidentifiedImageError as error:
        raise MediaError(_unknown_format(path)) from error
    except Image.DecompressionBombError as error:
        raise MediaError(f"{path} is too large ({_reason(error)}). Scale it down first.") from error
    except Exception as error:  # decoders of damaged files raise anything
        raise MediaError(
            f"{path} is damaged or cut short ({_reason(error)}). Expected a whole picture: export it again."
        ) from error


def save_image(image: np.ndarray, path: str | Path, *, quality: int = 95) -> None:
    """Write a picture; the file appears only when it is whole.

    Args:
        image: uint8 ``(3, height, width)`` RGB or ``(1, height, width)`` grey.
        path: the suffix chooses PNG, JPEG, WebP or TIFF.
        quality: 1..100 for JPEG and WebP; PNG and TIFF lose nothing.

    Raises:
        MediaError: unknown suffix, or the system refuses to write.
        ShapeError: the array is not a picture.
    """
    if image.ndim != 3 or image.dtype != np.uint8 or image.shape[0] not in (1, 3) or 0 in image.shape:
        raise ShapeError(f"A picture must be uint8 (3 or 1, height, width), got {image.dtype} {image.shape}.")
    suffix = Path(path).suffix.lower()
    if suffix not in WRITABLE_SUFFIXES:
        raise MediaError(f"Cannot write {path}: unknown suffix {suffix!r}. Use one of {', '.join(WRITABLE_SUFFIXES)}.")
    file_format = WRITABLE_SUFFIXES[suffix]
    options: dict[str, Any] = {"quality": quality} if file_format in ("JPEG", "WEBP") else {}
    if file_format == "JPEG":
        options["subsampling"] = 0  # full colour resolution: lips are small and red
    pixels = image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0)
    with whole_file(path) as partial:
        Image.fromarray(np.ascontiguousarray(pixels)).save(partial, format=file_format, **options)


def resize_image(image: np.ndarray, height: int, width: int, kernel: str = "lanczos") -> np.ndarray:
    """Scale a picture; every kernel but ``nearest`` averages when it shrinks, so that nothing flickers.

    Args:
        image: uint8 or float32 ``(channels, height, width)``; float results are not clipped.
        height: new height in pixels.
        width: new width in pixels.
        kernel: one of `KERNELS`.

    Returns:
        The same type, ``(channels, height, width)``.

    Raises:
        InputError: unknown kernel or a size below 1.
        ShapeError: the array is not a picture.
    """
    if kernel not in KERNELS:
        raise InputError(f"Unknown resize kernel {kernel!r}. Expected one of {', '.join(KERNELS)}.")
    if height < 1 or width < 1:
        raise InputError(f"A picture needs at least 1 x 1 pixels, got height {height}, width {width}.")
    if image.ndim != 3 or image.dtype not in (np.uint8, np.float32) or 0 in image.shape:
        raise ShapeError(f"Expected uint8 or float32 (channels, height, width), got {image.dtype} {image.shape}.")
    if image.shape[1:] == (height, width):
        return image.copy()
    # Channel by channel, since Pillow has float pictures of one channel only.
    planes = [Image.fromarray(np.ascontiguousarray(plane)).resize((width, height), KERNELS[kernel]) for plane in image]
    return np.stack([np.asarray(plane) for plane in planes])


def _installed_formats() -> list[str]:
    Image.init()  # some builds lack AVIF or WebP, and Pillow stumbles over unknown names
    return [name for name in READABLE_FORMATS if name in Image.OPEN]


def _check_size(picture: Image.Image, path: Path, max_pixels: int) -> None:
    width, height = picture.size
    if width < 1 or height < 1:
        raise MediaError(f"{path} has no pixels ({width} x {height}). Expected a picture: export it again.")
    if width * height > max_pixels:
        raise MediaError(
            f"{path} is too large: {width} x {height} is {width * height / 1e6:.0f} million pixels, "
            f"at most {max_pixels / 1e6:g} million are read. Scale it down first."
        )


def _orientation(picture: Image.Image, path: Path) -> int:
    try:
        value = picture.getexif().get(_ORIENTATION_TAG, 1)
    except Exception as error:  # damaged metadata must not cost the picture
        logger.warning("%s: the EXIF data cannot be read (%s); the picture is taken as it lies.", path, error)
        return 1
    return value if isinstance(value, int) else 1


def _to_rgb(picture: Image.Image, path: Path, background: tuple[int, int, int]) -> Image.Image:
    if picture.mode.startswith("I") or picture.mode == "F":
        return Image.fromarray(_grey_to_8_bits(picture, path)).convert("RGB")
    profile = picture.info.get("icc_profile")
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        alpha = layer.getchannel("A")
        colours = _to_srgb(layer.convert("RGB"), profile, path)
        return Image.composite(colours, Image.new("RGB", layer.size, background), alpha)
    if picture.mode in ("P", "1"):
        picture = picture.convert("RGB")
    return _to_srgb(picture, profile, path)


def _to_srgb(picture: Image.Image, profile: bytes | None, path: Path) -> Image.Image:
    """Convert from the embedded profile: wide-gamut colours of phones look dull when taken as sRGB."""
    if profile and picture.mode in ("RGB", "CMYK", "L"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted
        except Exception as error:  # profiles of other colour kinds than the pixels are common
            logger.warning("%s: its colour profile cannot be used (%s); it is passed over.", path, error)
    return picture.convert("RGB")


def _grey_to_8_bits(picture: Image.Image, path: Path) -> np.ndarray:
    """Scale 16-bit and float grey to 0..255 by the range of the format, never by the picture's own."""
    values = np.asarray(picture, dtype=np.float64)
    if not np.isfinite(values).all():
        raise MediaError(f"{path} has pixels that are not numbers. Export it as 8-bit PNG.")
    low, high = values.min(), values.max()
    full = 1.0 if picture.mode == "F" and high <= 1.0 else 255.0 if picture.mode == "F" else 65535.0
    if low < 0 or high > full:
        raise MediaError(
            f"{path} has pixel values from {low:g} to {high:g}. Expected 0 to {full:g}: export it as 8-bit."
        )
    return np.rint(values * (255.0 / full)).astype(np.uint8)


def _unknown_format(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"hevc"):
        return f"{path} is an HEIC photo, which cannot be read here. Export it as JPEG or PNG."
    return (
        f"{path} is not a picture that can be read. Expected {', '.join(READABLE_FORMATS)}: "
        "export it as JPEG or PNG, or check that it is not damaged."
    )


def _reason(error: BaseException) -> str:
    return str(error).strip().rstrip(".")[:200] or type(error).__name__
