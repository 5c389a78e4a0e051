"""The end of a preparation: judge all outcomes together, split, write manifest and list of rejects."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from portraitanim.config.preparation import PreparationConfig, SplitConfig
from portraitanim.config.schema import to_dict
from portraitanim.data.preparation.clip_features import (
    ClipFeatures,
    audio_file,
    identity_of,
    stored_features,
)
from portraitanim.data.preparation.clip_split import hold_out
from portraitanim.data.preparation.copies import Fingerprint, find_nearest
from portraitanim.data.preparation.coverage import CoverageRow, ListedSource, coverage, fingerprint
from portraitanim.data.preparation.filters import Failure, judge
from portraitanim.data.preparation.identity_split import merge_identities
from portraitanim.data.preparation.speech import SAMPLE_RATE_HZ
from portraitanim.data.preparation.state import ClipOutcome, PreparationState, SourceScan
from portraitanim.data.records import (
    AUDIO,
    FACE,
    FORMAT_VERSION,
    LATENTS,
    REJECTED,
    SETTINGS,
    VIDEO,
    ClipRecord,
    write_manifest,
)
from portraitanim.errors import InputError
from portraitanim.media.files import whole_file

logger = logging.getLogger(__name__)

UNREADABLE = "unreadable"
"""Reason of sources and clips that could not be measured."""


@dataclass(frozen=True, kw_only=True)
class Reject:
    """A clip that is not in the manifest, or a source that could not be scanned.

    Attributes:
        clip_id: name of the clip or source.
        reason: the first score whose limit it does not keep, or `UNREADABLE`.
        message: what was measured and what is needed, or the error.
        failed: all scores whose limits it does not keep.
        scores: what was measured.
        source: as in `ClipRecord`.
    """

    clip_id: str
    reason: str
    message: str
    failed: tuple[str, ...] = ()
    scores: dict[str, float]
    source: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class DatasetSummary:
    """What a preparation came to.

    Attributes:
        root: the dataset.
        num_candidates: clips that were measured.
        num_kept: clips in the manifest.
        kept_seconds: their length.
        num_identities: persons among them.
        num_test_clips: clips that are held out.
        held_out_are: what those clips are, or why there are none.
        identities_are: how persons were told apart.
        fingerprint: of the kept clips, see `portraitanim.data.preparation.coverage.fingerprint`.
        coverage: listed, found and kept, for each list.
        reasons: reason → number of rejects.
    """

    root: Path
    num_candidates: int
    num_kept: int
    kept_seconds: float
    num_identities: int
    num_test_clips: int
    held_out_are: str
    identities_are: str
    fingerprint: str
    coverage: tuple[CoverageRow, ...]
    reasons: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """The summary as plain data."""
        return {**asdict(self), "root": str(self.root)}


def list_dataset(state: PreparationState, config: PreparationConfig, listing: Sequence[ListedSource]) -> DatasetSummary:
    """Write ``manifest.jsonl``, ``rejected.jsonl`` and ``dataset.json`` from the outcomes on disk.

    Args:
        state: of the dataset.
        config: the limits and the split.
        listing: all sources, found or not.

    Raises:
        InputError: a source was found and not scanned, or a candidate was not measured.
    """
    outcomes, rejects = _read_outcomes(state, listing)
    num_candidates = len(outcomes)
    kept, rejected = _judged(outcomes, config)
    features = {outcome.clip_id: stored_features(state, outcome.clip_id) for outcome in kept}
    identities, how = _identities(state, kept, features, config.split)
    records = [_record(outcome, features[outcome.clip_id], identities[outcome.identity], config) for outcome in kept]
    held_out = hold_out(records, config.split)
    records = [replace(record, split="test" if record.clip_id in held_out.clip_ids else "train") for record in records]
    rejects = sorted([*rejects, *rejected], key=lambda reject: reject.clip_id)
    summary = DatasetSummary(
        root=state.root,
        num_candidates=num_candidates,
        num_kept=len(records),
        kept_seconds=round(sum(record.duration_seconds for record in records), 3),
        num_identities=len({record.identity for record in records}),
        num_test_clips=len(held_out.clip_ids),
        held_out_are=held_out.are,
        identities_are=how,
        fingerprint=fingerprint(records),
        coverage=tuple(coverage(listing, records)),
        reasons=dict(Counter(reject.reason for reject in rejects).most_common()),
    )
    _write(state.root, config, records, rejects, summary)
    return summary


def read_rejects(root: Path) -> list[Reject]:
    """The lines of ``rejected.jsonl``."""
    lines = (root / REJECTED).read_text(encoding="utf-8").splitlines()
    return [Reject(**{**json.loads(line), "failed": tuple(json.loads(line)["failed"])}) for line in lines]


def _read_outcomes(state: PreparationState, listing: Sequence[ListedSource]) -> tuple[list[ClipOutcome], list[Reject]]:
    outcomes, rejects = [], []
    for source in listing:
        if not source.is_found:
            continue
        scan = state.scan(source.name)
        if scan is None:
            raise InputError(f"{source.name} was not scanned yet. Run prep on it before the shards are merged.")
        if scan.error:
            rejects.append(_unreadable(source, scan))
        for candidate in scan.candidates:
            outcome = state.outcome(f"{source.name}-{candidate.index:04d}")
            if outcome is None:
                raise InputError(f"{source.name}-{candidate.index:04d} was not measured yet. Run prep on it again.")
            outcomes.append(outcome)
    return sorted(outcomes, key=lambda outcome: outcome.clip_id), rejects


def _judged(outcomes: Sequence[ClipOutcome], config: PreparationConfig) -> tuple[list[ClipOutcome], list[Reject]]:
    """Clips that keep all limits, and the others; of copies, the first is kept."""
    good, rejects = [], []
    for outcome in outcomes:
        failures = judge(outcome.scores, config, has_sound=outcome.has_sound)
        if outcome.error:
            rejects.append(_reject(outcome, [Failure(score=UNREADABLE, message=outcome.error)]))
        elif failures:
            rejects.append(_reject(outcome, failures))
        else:
            good.append(outcome)
    limit = config.filters.min_copy_distance or 0.0
    prints = [Fingerprint(clip_id=o.clip_id, picture_hash=o.picture_hash, mouth=o.mouth) for o in good]
    copies = find_nearest(prints, limit)
    kept = []
    for outcome in good:
        copy = copies.get(outcome.clip_id)
        if copy is None:
            kept.append(outcome)
            continue
        outcome = replace(outcome, scores={**outcome.scores, "copy_distance": copy.distance})
        if copy.distance < limit:
            message = f"shows what {copy.of} shows (copy_distance is {copy.distance:.4g}, needs at least {limit:g})"
            rejects.append(_reject(outcome, [Failure(score="copy_distance", message=message)]))
        else:
            kept.append(outcome)
    return kept, rejects


def _identities(
    state: PreparationState, kept: Sequence[ClipOutcome], features: dict[str, ClipFeatures], config: SplitConfig
) -> tuple[dict[str, str], str]:
    """Name of the person by the source → name that is used, and how that was found."""
    names = {outcome.identity for outcome in kept}
    with_embedding = [outcome for outcome in kept if features[outcome.clip_id].has_identity]
    if not kept or len(with_embedding) < len(kept):
        return {name: name for name in names}, "source videos (no identity encoder was used)"
    embeddings: dict[str, list[Any]] = {}
    for outcome in with_embedding:
        embeddings.setdefault(outcome.identity, []).append(identity_of(state.root / "clips" / outcome.clip_id))
    return merge_identities(embeddings, config.same_identity_cosine), "source videos, joined where the faces agree"


def _record(outcome: ClipOutcome, features: ClipFeatures, identity: str, config: PreparationConfig) -> ClipRecord:
    folder = f"clips/{outcome.clip_id}"
    return ClipRecord(
        clip_id=outcome.clip_id,
        identity=identity,
        split="train",
        video=f"{folder}/{VIDEO}",
        face=f"{folder}/{FACE}",
        audio=f"{folder}/{AUDIO}" if outcome.has_sound else None,
        audio_states={name: f"{folder}/{audio_file(name)}" for name in features.audio_states},
        latents=None if features.latents_by is None else f"{folder}/{LATENTS}",
        num_frames=outcome.num_frames,
        fps=config.fps,
        size_px=config.crop.size_px,
        scores=outcome.scores,
        source=outcome.source,
        sha256={f"{folder}/{name}": value for name, value in {**outcome.sha256, **features.sha256}.items()},
    )


def _reject(outcome: ClipOutcome, failures: Sequence[Failure]) -> Reject:
    return Reject(
        clip_id=outcome.clip_id,
        reason=failures[0].score,
        message="; ".join(failure.message for failure in failures),
        failed=tuple(failure.score for failure in failures),
        scores=outcome.scores,
        source=outcome.source,
    )


def _unreadable(source: ListedSource, scan: SourceScan) -> Reject:
    return Reject(
        clip_id=source.name,
        reason=UNREADABLE,
        message=scan.error or "",
        failed=(UNREADABLE,),
        scores={},
        source={"dataset": source.dataset, "name": source.name, "path": source.path},
    )


def _write(
    root: Path,
    config: PreparationConfig,
    records: Sequence[ClipRecord],
    rejects: Iterable[Reject],
    summary: DatasetSummary,
) -> None:
    settings = {
        "format_version": FORMAT_VERSION,
        "size_px": config.crop.size_px,
        "fps": config.fps,
        "sample_rate_hz": SAMPLE_RATE_HZ,
        "audio_encoders": sorted({name for record in records for name in record.audio_states}),
        "identities_are": summary.identities_are,
        "held_out_are": summary.held_out_are,
        "fingerprint": summary.fingerprint,
        "coverage": [row.to_dict() for row in summary.coverage],
        "prepared_with": to_dict(config),
    }
    with whole_file(root / REJECTED) as partial:
        lines = (json.dumps(asdict(reject), sort_keys=True, ensure_ascii=False) + "\n" for reject in rejects)
        partial.write_text("".join(lines), encoding="utf-8")
    with whole_file(root / SETTINGS) as partial:
        partial.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    write_manifest(root, records)
