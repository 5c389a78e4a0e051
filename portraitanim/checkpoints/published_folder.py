"""A folder as its publisher laid it out: finds files, says what is missing, opens each file once."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from portraitanim.checkpoints.key_table import shape_text
from portraitanim.checkpoints.layouts import LAYOUTS, Layout, Part
from portraitanim.checkpoints.recognition import recognize
from portraitanim.errors import CheckpointError
from portraitanim.tensor_files import read_tensors

_MAX_LISTED = 8
_MAX_SHOWN = 4


class PublishedFolder:
    """A published folder.

    Args:
        path: the folder.

    Raises:
        CheckpointError: it is no folder.
    """

    def __init__(self, path: Path) -> None:
        if path.is_file():
            raise CheckpointError(f"{path} is a file. Name the folder that holds the published files.")
        if not path.is_dir():
            raise CheckpointError(f"There is no folder {path}. Name the folder that holds the published files.")
        self.path = path
        self._opened: dict[Path, dict[str, Tensor]] = {}

    def find(self, name: str) -> Path | None:
        """A file by its published path: there, in the folder's root, or as ``.safetensors`` in either place."""
        published = self.path / name
        places = (published, self.path / published.name)
        candidates = [file for place in places for file in (place, place.with_suffix(".safetensors"))]
        return next((file for file in candidates if file.is_file()), None)

    def read(self, path: Path) -> dict[str, Tensor]:
        """Tensors of a file; a file that holds several components is opened once."""
        if path not in self._opened:
            self._opened[path] = read_tensors(path)
        return self._opened[path]

    def require_files(self, system: str, layout: Layout) -> None:
        """Check that the files of a system are there.

        Raises:
            CheckpointError: some are not; names the system whose files are there instead.
        """
        missing = [name for name in layout.files if self.find(name) is None]
        if not missing:
            return
        others = [name for name, other in LAYOUTS.items() if all(map(self.find, other.files))]
        hint = f" Its files are those of {' and '.join(others)}: use --system {others[0]}." if others else ""
        raise CheckpointError(
            f"{self.path} is not the published folder of {system}: there is no {', no '.join(missing)}. "
            f"It has {self.listing()}.{hint}"
        )

    def tensors_of(self, part: Part, layout: Layout) -> tuple[dict[str, Tensor], tuple[Path, ...]]:
        """Published tensors of a component, without its prefix, and the files that hold them.

        Raises:
            CheckpointError: a file is damaged, or holds tensors that belong to no component.
        """
        files = tuple(path for name in part.files if (path := self.find(name)) is not None)
        merged: dict[str, Tensor] = {}
        for path in files:
            tensors = self.read(path)
            if part.prefix:
                _check_prefixes(path, tensors, layout)
            merged |= {key[len(part.prefix) :]: value for key, value in tensors.items() if key.startswith(part.prefix)}
        return merged, files

    def listing(self) -> str:
        """What the folder has, in a few words."""
        names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in self.path.iterdir())
        if not names:
            return "nothing in it"
        return ", ".join(names[:_MAX_LISTED]) + (f" and {len(names) - _MAX_LISTED} more" * (len(names) > _MAX_LISTED))


def _check_prefixes(path: Path, tensors: dict[str, Tensor], layout: Layout) -> None:
    """A tensor outside every component is as unknown as one inside."""
    prefixes = tuple(part.prefix for part in layout.parts.values())
    strays = [key for key in tensors if not key.startswith(prefixes)]
    if not strays:
        return
    shown = ", ".join(f"{key} {shape_text(tensors[key].shape)}" for key in strays[:_MAX_SHOWN])
    known = recognize({key: tuple(tensor.shape) for key, tensor in tensors.items()})
    # With its own components in place, the file is what it claims to be, with something added.
    is_other = known is not None and len(strays) == len(tensors)
    hint = f" This looks like {known}." if is_other else f" Expected {', '.join(prefixes)} before every key."
    more = ", …" if len(strays) > _MAX_SHOWN else ""
    raise CheckpointError(
        f"{path} is not {layout.preset}'s: {len(strays)} of its {len(tensors)} tensors belong to no component: "
        f"{shown}{more}.{hint}"
    )
