"""A floor imports only floors below it, and certain libraries stay where they belong (design, section 2)."""

from __future__ import annotations

import pytest

from tests.architecture.source_imports import PACKAGE, Import, all_imports, imports_of, source_files

FLOORS = {
    0: ("errors", "progress", "types", "runtime", "config", "findings", "onnx_session", "tensor_files"),
    1: ("media", "face", "audio", "models", "diffusion"),
    2: ("pipelines", "data"),
    3: ("checkpoints", "training", "evaluation", "benchmarking"),
    4: ("cli",),
}
FLOOR_OF = {part: floor for floor, parts in FLOORS.items() for part in parts}

# Library → the only parts of the package that may import it; none at all for an empty tuple.
HOMES = {
    "typer": ("cli",),
    "rich": ("cli",),
    "mediapipe": ("face", "audio"),
    "insightface": ("face",),
    "onnxruntime": ("onnx_session",),
    "click": (),  # Typer carries its own
    "torchvision": (),  # its wheels must match torch's to the digit; nothing here needs it
}

MAX_LINES = 400


def _part(module: str) -> str:
    """First name below the package: ``models`` of ``portraitanim.models.embedders``."""
    return [*module.split("."), ""][1]


def test_every_part_of_the_package_has_a_floor() -> None:
    parts = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in source_files()}
    assert parts - {"__init__", "__main__"} <= set(FLOOR_OF)


def test_a_floor_imports_only_floors_below_it() -> None:
    assert not [str(found) for found in all_imports() if _climbs(found)]


def _climbs(found: Import) -> bool:
    importer, imported = _part(found.importer), _part(found.imported)
    if not found.imported.startswith("portraitanim.") or importer not in FLOOR_OF or imported not in FLOOR_OF:
        return False  # the package's own __init__ and __main__ are the entrance to all floors
    if importer == imported:
        return False
    # The ground floor is a handful of files that know each other; higher up, neighbours do not.
    return FLOOR_OF[imported] >= FLOOR_OF[importer] > 0 or FLOOR_OF[imported] > FLOOR_OF[importer]


@pytest.mark.parametrize("library", HOMES)
def test_library_is_imported_only_where_it_belongs(library: str) -> None:
    strays = [
        str(found)
        for found in all_imports()
        if found.imported.split(".")[0] == library and _part(found.importer) not in HOMES[library]
    ]
    assert not strays


def test_no_file_is_too_long_to_have_one_idea() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in source_files()}
    assert not {path.name: length for path, length in lengths.items() if length > MAX_LINES}


def test_import_reader_sees_lazy_relative_and_dynamic_imports() -> None:
    text = (
        "def f():\n    import typer\n    from ..face import crop\n    from . import near\n"
        "    importlib.import_module('rich.table')\n"
    )
    names = {name for name, _ in imports_of(text, "portraitanim.models.unet", is_package=False)}
    assert names == {"typer", "portraitanim.face.crop", "portraitanim.models.near", "rich.table"}


def test_floor_rule_tells_up_from_down() -> None:
    assert _climbs(Import("portraitanim.models.a", "portraitanim.cli.app", 1))
    assert _climbs(Import("portraitanim.models.a", "portraitanim.media.video", 1))
    assert not _climbs(Import("portraitanim.models.a", "portraitanim.types.Portrait", 1))
    assert not _climbs(Import("portraitanim.types", "portraitanim.errors.ShapeError", 1))
