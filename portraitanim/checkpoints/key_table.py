"""Strict translation of a published state dict into ours: every key is used, or named with the reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from portraitanim.checkpoints.recognition import recognize
from portraitanim.errors import CheckpointError

Shape = tuple[int, ...]
Rule = tuple[str, str]

_MAX_SHOWN = 4


@dataclass(frozen=True, kw_only=True)
class KeyTable:
    """What becomes of each key of a published file. Patterns are regular expressions, searched in the published key.

    Attributes:
        what: what the file holds, for messages, such as ``Hallo's denoising UNet``.
        renames: (pattern, replacement), each applied to every key, in order.
        unused: (pattern, reason): published tensors that no result depends on.
        verified: (pattern, check): published tensors that we compute ourselves. The check returns what is wrong with a
            tensor, or ``None``; afterwards the tensor is dropped.
        matrices: pattern of keys (ours) whose published weight may be a 1×1 convolution; it becomes a matrix.
        optional: our keys that a file may lack, with the reason.
        next_step: what to do about a file that does not fit; empty: what the file looks like instead is named.
    """

    what: str
    renames: tuple[Rule, ...] = ()
    unused: tuple[Rule, ...] = ()
    verified: tuple[tuple[str, Callable[[Tensor], str | None]], ...] = ()
    matrices: str | None = None
    optional: Mapping[str, str] = field(default_factory=dict)
    next_step: str = ""

    def reason_unused(self, key: str) -> str | None:
        """Why a published key is not used, or ``None``."""
        return next((reason for pattern, reason in self.unused if re.search(pattern, key)), None)

    def rename(self, key: str) -> str:
        """Our name of a published key."""
        for pattern, replacement in self.renames:
            key = re.sub(pattern, replacement, key)
        return key


def translate(
    published: Mapping[str, Tensor], table: KeyTable, expected: Mapping[str, Sequence[int]], source: str = ""
) -> dict[str, Tensor]:
    """Turn a published state dict into one that our network loads strictly.

    Args:
        published: tensors under their published keys. They are not copied.
        table: what becomes of each key.
        expected: our keys and shapes, as the network's ``state_dict()`` has them.
        source: name of the file, for messages.

    Returns:
        Exactly the keys of ``expected``, less those that ``table.optional`` lets a file lack, in the same order.

    Raises:
        CheckpointError: a key is left over or missing, a shape differs, two keys claim the same place, or a tensor that
            we compute ourselves has other values. The message counts all of these and shows the first.
    """
    found: dict[str, Tensor] = {}
    extra, doubled, other_values = [], [], []
    for key, tensor in published.items():
        if table.reason_unused(key) is not None:
            continue
        check = next((check for pattern, check in table.verified if re.search(pattern, key)), None)
        if check is not None:
            problem = check(tensor)
            if problem:
                other_values.append(f"{key} {problem}")
            continue
        ours = table.rename(key)
        if ours in found:
            doubled.append(f"{key} {shape_text(tensor.shape)}")
        elif ours not in expected:
            extra.append(f"{key} {shape_text(tensor.shape)}")
        else:
            found[ours] = _as_matrix(tensor, ours, table)
    missing = [
        f"{key} {shape_text(expected[key])}" for key in expected if key not in found and key not in table.optional
    ]
    reshaped = [
        f"{key} is {shape_text(tensor.shape)}, not {shape_text(expected[key])}"
        for key, tensor in found.items()
        if tuple(tensor.shape) != tuple(expected[key])
    ]
    problems = {
        "not known": extra,
        "missing": missing,
        "of another shape": reshaped,
        "there twice": doubled,
        "of other values": other_values,
    }
    if any(problems.values()):
        raise CheckpointError(_message(problems, published, table, source))
    return {key: found[key] for key in expected if key in found}


def _as_matrix(tensor: Tensor, key: str, table: KeyTable) -> Tensor:
    if table.matrices and tensor.ndim == 4 and tensor.shape[2:] == (1, 1) and re.search(table.matrices, key):
        return tensor[:, :, 0, 0]
    return tensor


def _message(problems: Mapping[str, list[str]], published: Mapping[str, Tensor], table: KeyTable, source: str) -> str:
    parts = []
    for kind, items in problems.items():
        if items:
            shown = ", ".join(items[:_MAX_SHOWN]) + (", …" if len(items) > _MAX_SHOWN else "")
            parts.append(f"{len(items)} {kind}: {shown}")
    hint = f" {table.next_step}" if table.next_step else _looks_like(published)
    total = sum(map(len, problems.values()))
    what = f"{source} is not {table.what}" if source else f"These are not the weights of {table.what}"
    return f"{what}: {total} of its tensors {'disagrees' if total == 1 else 'disagree'} ({'; '.join(parts)}).{hint}"


def _looks_like(published: Mapping[str, Tensor]) -> str:
    known = recognize({key: tuple(tensor.shape) for key, tensor in published.items()})
    return f" This looks like {known}." if known else " Check that the file is complete and of the right system."


def shape_text(shape: Sequence[int]) -> str:
    """A shape as messages show it, such as ``320x4x3x3``."""
    return "x".join(map(str, shape)) or "scalar"
