"""Any photo a person has becomes upright 8-bit RGB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from portraitanim.errors import InputError, MediaError, ShapeError
from portraitanim.media.image import load_image, resize_image, save_image
from tests.unit.media.generated_media import smooth_picture

PICTURE = smooth_picture(24, 32)


def as_pillow(image: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_lossless_formats_round_trip_exactly(tmp_path: Path, suffix: str) -> None:
    save_image(PICTURE, tmp_path / f"a{suffix}")
    assert np.array_equal(load_image(tmp_path / f"a{suffix}"), PICTURE)


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_lossy_formats_round_trip_closely(tmp_path: Path, suffix: str) -> None:
    save_image(PICTURE, tmp_path / f"a{suffix}")
    difference = np.abs(load_image(tmp_path / f"a{suffix}").astype(int) - PICTURE)
    assert difference.mean() < 3  # quality 95 of a smooth picture; WebP keeps colour at half resolution


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    stored = as_pillow(PICTURE)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    # The eight cases, written out from the EXIF standard: where row 0 and column 0 of the data lie on view.
    x = PICTURE
    shown = {
        1: x,
        2: x[:, :, ::-1],
        3: x[:, ::-1, ::-1],
        4: x[:, ::-1],
        5: x.transpose(0, 2, 1),
        6: x.transpose(0, 2, 1)[:, :, ::-1],
        7: x.transpose(0, 2, 1)[:, ::-1, ::-1],
        8: x.transpose(0, 2, 1)[:, ::-1],
    }[orientation]
    assert np.array_equal(load_image(tmp_path / "a.png"), shown)


def test_transparency_shows_the_background(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:, 2:] = (200, 100, 50, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    white = load_image(tmp_path / "a.png")
    green = load_image(tmp_path / "a.png", background=(0, 255, 0))
    assert tuple(white[:, 0, 0]) == (255, 255, 255)
    assert tuple(green[:, 0, 0]) == (0, 255, 0)
    assert tuple(white[:, 0, 3]) == (200, 100, 50)


def test_half_transparency_is_mixed(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (0, 0, 0, 128)).save(tmp_path / "a.webp", lossless=True)
    assert abs(int(load_image(tmp_path / "a.webp")[0, 0, 0]) - 127) <= 1


def test_palette_with_transparent_colour(tmp_path: Path) -> None:
    picture = Image.new("P", (4, 4), 0)
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putpixel((3, 3), 1)
    picture.save(tmp_path / "a.png", transparency=0)
    image = load_image(tmp_path / "a.png")
    assert tuple(image[:, 0, 0]) == (255, 255, 255)
    assert tuple(image[:, 3, 3]) == (0, 0, 255)


@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_16_bit_grey_is_scaled_by_its_range(tmp_path: Path, name: str) -> None:
    values = np.array([[0, 257, 128 * 257, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / name)
    image = load_image(tmp_path / name)
    assert image.shape == (3, 1, 4)
    assert image[0, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("mode", ["L", "1", "LA", "CMYK"])
def test_other_colour_modes(tmp_path: Path, mode: str) -> None:
    suffix = "jpg" if mode == "CMYK" else "png"
    Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode).save(tmp_path / f"a.{suffix}")
    image = load_image(tmp_path / f"a.{suffix}")
    assert image.shape == (3, 8, 8)
    assert image.min() >= 250  # white stays white, within JPEG's error


def test_embedded_profile_is_converted_to_srgb(tmp_path: Path) -> None:
    from PIL import ImageCms

    lab_like = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    as_pillow(PICTURE).save(tmp_path / "same.png", icc_profile=lab_like)
    as_pillow(PICTURE).save(tmp_path / "broken.png", icc_profile=b"no profile at all")
    assert np.abs(load_image(tmp_path / "same.png").astype(int) - PICTURE).max() <= 1  # rounding in the engine
    assert np.array_equal(load_image(tmp_path / "broken.png"), PICTURE)


def test_float_tiff_with_nan_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0.5, np.nan]], np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(MediaError, match="not numbers"):
        load_image(tmp_path / "a.tiff")


def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    with pytest.raises(MediaError, match="too large"):
        load_image(tmp_path / "bomb.png")
    save_image(PICTURE, tmp_path / "a.png")
    with pytest.raises(MediaError, match="32 x 24"):
        load_image(tmp_path / "a.png", max_pixels=100)


def test_messages_say_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    for name, said in {
        "absent.png": "does not exist",
        ".": "folder",
        "empty.png": "empty",
        "text.jpg": "not a picture",
        "phone.heic": "HEIC",
    }.items():
        with pytest.raises(MediaError, match=said):
            load_image(tmp_path / name)


def test_truncated_picture_is_refused(tmp_path: Path) -> None:
    save_image(smooth_picture(200, 200), tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(MediaError, match="cut short"):
        load_image(tmp_path / "b.jpg")


def test_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    save_image(PICTURE, tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(ShapeError):
        save_image(PICTURE.astype(np.float32), tmp_path / "a.png")
    with pytest.raises(MediaError, match="suffix"):
        save_image(PICTURE, tmp_path / "a.xyz")
    assert (tmp_path / "a.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_resize_keeps_type_range_and_mean() -> None:
    for dtype in (np.uint8, np.float32):
        small = resize_image(PICTURE.astype(dtype), 12, 16, "bilinear")
        assert small.dtype == dtype
        assert small.shape == (3, 12, 16)
        assert abs(small.mean() - PICTURE.mean()) < 1  # an average, up to rounding and borders
    assert np.array_equal(resize_image(PICTURE, 24, 32), PICTURE)


def test_resize_refuses_unknown_kernels_and_sizes() -> None:
    with pytest.raises(InputError, match="lanczos"):
        resize_image(PICTURE, 8, 8, "lancsos")
    with pytest.raises(InputError, match="at least 1"):
        resize_image(PICTURE, 0, 8)
    with pytest.raises(ShapeError):
        resize_image(PICTURE[0], 8, 8)


def test_all_real_portraits_load(real_media: Path) -> None:
    for path in sorted((real_media / "portraits").iterdir()) + sorted((real_media / "portraits_hard").iterdir()):
        image = load_image(path)
        assert image.dtype == np.uint8
        assert image.shape[0] == 3
        assert min(image.shape[1:]) >= 64
