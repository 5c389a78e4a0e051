"""The lists of videos that `prep` and `eval` know by name: a plain folder, and what others published."""

from __future__ import annotations

from pathlib import Path

from portraitanim.data.preparation.celebv import celebv_clips
from portraitanim.data.preparation.hdtf import SUBSETS, hdtf_clips
from portraitanim.data.preparation.sources import SourceClip, VideoIndex, folder_clips
from portraitanim.errors import InputError

PUBLISHED = ("hdtf", "celebv")
"""Lists with annotations; ``celebv`` is CelebV-HQ or CelebV-Text."""

_HDTF_FOLDER = "HDTF_dataset"
_CELEBV_FILES = ("celebvhq_info.json", "celebvtext_info.json")


def listed_clips(dataset: str | None, index: VideoIndex, annotations: Path | None = None) -> list[SourceClip]:
    """The clips of a list, each with its video where that is on disk.

    Args:
        dataset: one of `PUBLISHED`; ``None`` takes every video as a whole.
        index: the videos on disk.
        annotations: HDTF's folder, or CelebV's JSON file.

    Raises:
        InputError: there are no such annotations, they are damaged, or there is no video in a plain folder.
    """
    if dataset is None:
        return folder_clips(index)
    if annotations is None:
        raise InputError(f"The list {dataset} needs its annotations. Name them with --annotations.")
    return hdtf_clips(annotations, index) if dataset == "hdtf" else celebv_clips(annotations, index)


def find_annotations(dataset: str, root: Path) -> Path:
    """The annotations that lie in the folder of a dataset, under their published names.

    Args:
        dataset: one of `PUBLISHED`.
        root: is searched itself, and for HDTF its folder ``HDTF_dataset``.

    Raises:
        InputError: there are none, or those of two datasets.
    """
    if dataset == "hdtf":
        folders = (root, root / _HDTF_FOLDER)
        names = [f"{subset}_annotion_time.txt" for subset in SUBSETS]
        found = [folder for folder in folders if any((folder / name).is_file() for name in names)]
        wanted = f"{names[0]} and the like, of github.com/MRzzm/HDTF, there or in {_HDTF_FOLDER}"
    else:
        found = [root / name for name in _CELEBV_FILES if (root / name).is_file()]
        wanted = " or ".join(_CELEBV_FILES)
    if not found:
        raise InputError(
            f"{root} holds no annotations of {dataset} (expected {wanted}), and no manifest.jsonl of prep. "
            "Put them there, or name them with --annotations."
        )
    if len(found) > 1 and dataset == "celebv":
        raise InputError(f"{root} holds {' and '.join(path.name for path in found)}. Choose one with --annotations.")
    return found[0]
