"""From the values of each clip to one value per metric, with intervals over clips and words on few samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from safetensors import safe_open

from portraitanim.evaluation.catalogue import METRICS
from portraitanim.evaluation.clip_result import SIDES, ClipResult, features_path
from portraitanim.evaluation.frechet import (
    FeatureStatistics,
    bootstrap_interval,
    frechet_distance,
    small_sample_warning,
)
from portraitanim.evaluation.protocol import EvaluationProtocol
from portraitanim.evaluation.report import MetricValue

_TAILS = (2.5, 97.5)
# Redrawing needs the features of all clips at once; above this there is no interval, and a warning says so.
_MAX_BOOTSTRAP_BYTES = 1 << 30


def summarize(clips: Sequence[ClipResult], protocol: EvaluationProtocol, output: Path) -> dict[str, MetricValue]:
    """Every metric of the protocol.

    Args:
        clips: what was measured, failed clips as well.
        protocol: how.
        output: folder of the run, with the features of each clip.
    """
    measured = [clip for clip in clips if clip.is_measured]
    return {
        name: _distance(name, measured, protocol, output)
        if METRICS[name].scope == "set"
        else _mean_value(name, measured, protocol)
        for name in protocol.metrics
    }


def _mean_value(name: str, clips: Sequence[ClipResult], protocol: EvaluationProtocol) -> MetricValue:
    """Mean over clips, each clip one voice."""
    found = np.array([value for clip in clips if (value := clip.values.get(name)) is not None], dtype=np.float64)
    true = [value for clip in clips if (value := clip.true_values.get(name)) is not None]
    if not len(found):
        return MetricValue(value=None, warnings=("no clip has a value",))
    low = high = None
    if protocol.num_resamples and len(found) > 1:
        random = np.random.default_rng(protocol.seed)
        drawn = found[random.integers(len(found), size=(protocol.num_resamples, len(found)))].mean(axis=1)
        low, high = (float(end) for end in np.percentile(drawn, _TAILS))
    warnings = []
    if len(found) < len(clips):
        warnings.append(f"{len(clips) - len(found)} of {len(clips)} clips have no value")
    return MetricValue(
        value=float(found.mean()),
        low=low,
        high=high,
        num_clips=len(found),
        true_value=float(np.mean(true)) if true else None,
        warnings=tuple(warnings),
    )


def _distance(name: str, clips: Sequence[ClipResult], protocol: EvaluationProtocol, output: Path) -> MetricValue:
    """Fréchet distance of the pooled features of all clips."""
    taking_part = [clip for clip in clips if all(clip.num_features.get(f"{name}.{side}") for side in SIDES)]
    counts = tuple(sum(clip.num_features[f"{name}.{side}"] for clip in taking_part) for side in SIDES)
    if min(counts, default=0) < 2:
        return MetricValue(value=None, warnings=("fewer than two samples",))
    statistics = []
    for side in SIDES:
        gathered: FeatureStatistics | None = None
        for features in _stored(name, side, taking_part, output):
            gathered = gathered or FeatureStatistics(features.shape[1])
            gathered.add(features)
        assert gathered is not None
        statistics.append(gathered)
    distance = frechet_distance(*statistics)
    dimensions = statistics[0].num_dimensions
    warnings = [text for text in (small_sample_warning(min(counts), dimensions),) if text]
    if len(taking_part) < len(clips):
        warnings.append(f"{len(clips) - len(taking_part)} of {len(clips)} clips have no sample")
    low = high = None
    if protocol.num_set_resamples and len(taking_part) > 1:
        if sum(counts) * dimensions * 8 > _MAX_BOOTSTRAP_BYTES:
            warnings.append("no interval: the features of all clips do not fit into a gigabyte")
        else:
            sides = [list(_stored(name, side, taking_part, output)) for side in SIDES]
            interval = bootstrap_interval(sides[0], sides[1], distance, protocol.num_set_resamples, protocol.seed)
            low, high = interval.low, interval.high
    return MetricValue(
        value=distance,
        low=low,
        high=high,
        num_clips=len(taking_part),
        num_samples=(counts[0], counts[1]),
        warnings=tuple(warnings),
    )


def _stored(name: str, side: str, clips: Sequence[ClipResult], output: Path) -> Iterator[np.ndarray]:
    """Features clip by clip, from the disk."""
    for clip in clips:
        with safe_open(features_path(output, clip.name), "np") as file:
            yield file.get_tensor(f"{name}.{side}")
