"""What was measured, with units, as numbers and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portraitanim.benchmarking.measures import Comparison, Measure
from portraitanim.benchmarking.scenarios import Scenario
from portraitanim.config.schema import from_dict, to_dict
from portraitanim.errors import InputError, PortraitAnimError

if TYPE_CHECKING:
    from portraitanim.benchmarking.machine import Machine

SCHEMA_VERSION = 1

STAGES = {
    "audio": "sound read and encoded",
    "face": "face model loaded, picture read, face found, identity read",
    "reference": "portrait and motion frames through autoencoder and reference network",
    "conditioning": "audio tokens, condition map, keys and values of a clip",
    "denoising": "denoising network",
    "decoding": "latents to pictures",
    "drift_guard": "made frames looked at",
    "encoding": "waiting for the video encoder, and muxing",
    "keeping": "finished clips put on disk for --resume",
}
"""The stages, in the order of a run. What remains of the total is arithmetic and copies between them."""

ENCODER_THREAD = "encoder_thread"
"""Time that the video encoder worked beside the stages, in a thread of its own."""


@dataclass(frozen=True, kw_only=True)
class ScenarioResult:
    """The timed runs of one scenario.

    Attributes:
        scenario: with its resolved values.
        weights: name of the weights.
        machine: where it ran; plain data, as `Machine` has it.
        fps: frames per second of the video.
        num_frames: frames of the video.
        total_seconds: from the first file read to the finished video, without loading weights.
        cpu_seconds: processor time of the same, all threads together.
        first_frame_seconds: until the first frame was there.
        steady_fps: frames per second after the first clip; ``None`` for a single clip, and where all frames of a video
            are finished together.
        stage_seconds: stage → time, see `STAGES`.
        encoder_thread_seconds: time that the video encoder worked beside the stages.
        peak_host_bytes: largest resident size of the process, weights and libraries included.
        peak_device_bytes: most memory that tensors held on a GPU, or ``None``.
        peak_reserved_bytes: most memory that torch took from that GPU, or ``None``.
        load_seconds: time to make or load the networks.
        start_to_first_frame_seconds: from the start of the process, Python's own included, to the first frame.
        stage_flops: stage → operations (two per multiply-add) of one run; the stages on the host are not counted.
        flops_are_exact: whether every call of the networks was counted with its own shape, or only scaled by rows.
        peak_flops_per_second: of a large matrix product in the same process and number format.
        notes: what a reader of the numbers should know.
    """

    scenario: Scenario
    weights: str
    machine: dict[str, Any]
    fps: float
    num_frames: int
    total_seconds: Measure
    cpu_seconds: Measure
    first_frame_seconds: Measure
    steady_fps: Measure | None
    stage_seconds: Mapping[str, Measure]
    encoder_thread_seconds: Measure
    peak_host_bytes: Measure
    peak_device_bytes: Measure | None
    peak_reserved_bytes: Measure | None
    load_seconds: float
    start_to_first_frame_seconds: float
    stage_flops: Mapping[str, float]
    flops_are_exact: bool
    peak_flops_per_second: float
    notes: tuple[str, ...] = ()

    @property
    def seconds_per_frame(self) -> Measure:
        """Everything included."""
        return self.total_seconds.map(lambda seconds: seconds / self.num_frames)

    @property
    def frames_per_second(self) -> Measure:
        """Everything included."""
        return self.total_seconds.map(lambda seconds: self.num_frames / seconds)

    @property
    def compute_seconds_per_video_second(self) -> Measure:
        """Below 1 is faster than the video plays."""
        return self.total_seconds.map(lambda seconds: seconds * self.fps / self.num_frames)

    @property
    def stage_shares(self) -> dict[str, float]:
        """Stage → part of the total, by medians."""
        return {stage: measure.median / self.total_seconds.median for stage, measure in self.stage_seconds.items()}

    @property
    def covered_share(self) -> float:
        """Sum of the stages by the total: what lacks to 1 lies between them; above 1, host and GPU overlapped."""
        return sum(self.stage_shares.values())

    @property
    def flops_per_frame(self) -> float:
        """Operations of the networks, per frame of the video."""
        return sum(self.stage_flops.values()) / self.num_frames

    @property
    def denoiser_utilisation(self) -> float | None:
        """Operations per second of the denoising network, as a part of the measured matrix peak."""
        seconds = self.stage_seconds["denoising"].median if "denoising" in self.stage_seconds else 0.0
        if not seconds or not self.peak_flops_per_second:
            return None
        return self.stage_flops.get("denoising", 0.0) / seconds / self.peak_flops_per_second

    @property
    def utilisation(self) -> float | None:
        """The same of the whole run."""
        if not self.peak_flops_per_second:
            return None
        return sum(self.stage_flops.values()) / self.total_seconds.median / self.peak_flops_per_second

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: the fields, and under ``derived`` what follows from them."""
        values: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Measure):
                value = value.to_dict()
            elif item.name == "stage_seconds":
                value = {stage: measure.to_dict() for stage, measure in value.items()}
            elif isinstance(value, Scenario):
                value = to_dict(value)
            elif isinstance(value, Mapping):
                value = dict(value)
            elif isinstance(value, tuple):
                value = list(value)
            values[item.name] = value
        values["derived"] = {
            "label": self.scenario.label,
            "seconds_per_frame": self.seconds_per_frame.to_dict(),
            "frames_per_second": self.frames_per_second.to_dict(),
            "compute_seconds_per_video_second": self.compute_seconds_per_video_second.to_dict(),
            "stage_shares": self.stage_shares,
            "covered_share": self.covered_share,
            "flops_per_frame": self.flops_per_frame,
            "utilisation": self.utilisation,
            "denoiser_utilisation": self.denoiser_utilisation,
        }
        return values

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ScenarioResult:
        """From what `to_dict` gave.

        Raises:
            KeyError: a field is missing.
        """
        values: dict[str, Any] = {}
        for item in fields(cls):
            value = data[item.name]
            if item.name == "scenario":
                value = from_dict(Scenario, value, "scenario")
            elif item.name == "stage_seconds":
                value = {stage: Measure.from_dict(measure) for stage, measure in value.items()}
            elif "Measure" in str(item.type) and value is not None:
                value = Measure.from_dict(value)
            elif item.name == "notes":
                value = tuple(value)
            values[item.name] = value
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A scenario that gave no numbers.

    Attributes:
        label: of the scenario.
        message: why.
        exit_code: of the error.
    """

    label: str
    message: str
    exit_code: int


@dataclass(frozen=True, kw_only=True)
class BenchmarkReport:
    """The results of a run of ``bench``.

    Attributes:
        results: in the order they were measured.
        created: date and time, ISO 8601 in UTC.
        failures: what could not be measured.
        comparisons: with an earlier report.
    """

    results: tuple[ScenarioResult, ...]
    created: str = ""
    failures: tuple[Failure, ...] = ()
    comparisons: tuple[Comparison, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "schema_version": SCHEMA_VERSION,
            "created": self.created,
            "results": [result.to_dict() for result in self.results],
            "failures": [asdict(failure) for failure in self.failures],
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BenchmarkReport:
        """From what `to_dict` gave; comparisons are left out, they can be made again.

        Raises:
            KeyError: a field is missing.
        """
        return cls(
            results=tuple(ScenarioResult.from_dict(result) for result in data["results"]),
            created=data["created"],
            failures=tuple(Failure(**failure) for failure in data["failures"]),
        )


def load_report(path: str | Path) -> BenchmarkReport:
    """Read a report that ``bench --output`` wrote.

    Raises:
        InputError: the file is absent, or no such report.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}). Expected a report of bench --output.") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}). Expected a report of bench --output.") from error
    found = data.get("schema_version") if isinstance(data, dict) else None
    if found != SCHEMA_VERSION:
        raise InputError(
            f"{path} is no report of bench (schema_version {found}, expected {SCHEMA_VERSION}). "
            "Make it anew with bench --output."
        )
    try:
        return BenchmarkReport.from_dict(data)
    except (KeyError, TypeError, AttributeError, PortraitAnimError) as error:
        raise InputError(f"{path} is damaged ({type(error).__name__}: {error}). Make it anew.") from error


def compare(old: BenchmarkReport, new: Sequence[ScenarioResult]) -> tuple[Comparison, ...]:
    """Compare each result with the earlier one of the same scenario.

    Raises:
        InputError: no scenario is in both.
    """
    before = {result.scenario.key: result for result in old.results}
    comparisons: list[Comparison] = []
    for result in new:
        earlier = before.get(result.scenario.key)
        if earlier is not None:
            comparisons += _quantities(earlier, result)
    if not comparisons:
        known = "; ".join(result.scenario.label for result in old.results) or "none"
        raise InputError(f"No scenario is in both reports. The earlier one has: {known}.")
    return tuple(comparisons)


def differing_machines(old: BenchmarkReport, new: Sequence[ScenarioResult]) -> list[str]:
    """What differs between the machines of two reports, as sentences: a ratio across machines says little."""
    before = {result.scenario.key: result.machine for result in old.results}
    pairs = [(before[r.scenario.key], r.machine) for r in new if r.scenario.key in before]
    named = {
        f"{name}: {earlier.get(name)} before, {now.get(name)} now"
        for earlier, now in pairs
        for name in ("device", "num_cores", "num_threads", "torch")
        if earlier.get(name) != now.get(name)
    }
    return sorted(named)


def _quantities(old: ScenarioResult, new: ScenarioResult) -> list[Comparison]:
    pairs: dict[str, tuple[Measure | None, Measure | None]] = {
        "seconds per frame": (old.seconds_per_frame, new.seconds_per_frame),
        "seconds to the first frame": (old.first_frame_seconds, new.first_frame_seconds),
        "steady frames per second": (old.steady_fps, new.steady_fps),
        "peak host bytes": (old.peak_host_bytes, new.peak_host_bytes),
        "peak device bytes": (old.peak_device_bytes, new.peak_device_bytes),
    }
    for stage, seconds in new.stage_seconds.items():
        pairs[f"{stage} seconds"] = (old.stage_seconds.get(stage), seconds)
    return [
        Comparison(scenario=new.scenario.label, quantity=quantity, old=before, new=after)
        for quantity, (before, after) in pairs.items()
        if before is not None and after is not None
    ]


def machine_dict(machine: Machine) -> dict[str, Any]:
    """A machine as the plain data that results carry."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(machine).items()}
