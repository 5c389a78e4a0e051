"""Run each scenario in a process of its own, so that its memory and its warm caches are its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from portraitanim.benchmarking.memory_result import MemoryCheck
from portraitanim.benchmarking.report import BenchmarkReport, Failure, ScenarioResult
from portraitanim.benchmarking.scenarios import Scenario
from portraitanim.config.schema import from_dict, to_dict
from portraitanim.errors import OutOfMemoryError, PortraitAnimError

RunScenario = Callable[[Scenario], ScenarioResult]


def encode_scenario(scenario: Scenario) -> str:
    """A scenario as one word of a command line."""
    return json.dumps(to_dict(scenario))


def decode_scenario(text: str) -> Scenario:
    """From what `encode_scenario` gave.

    Raises:
        ConfigError: an unknown key or a value of the wrong type.
    """
    scenario: Scenario = from_dict(Scenario, json.loads(text), "scenario")
    return scenario


def answer(run: Callable[[], ScenarioResult | MemoryCheck]) -> dict[str, Any]:
    """What the process of one scenario prints: its result, or why there is none."""
    try:
        return {"result": run().to_dict()}
    except PortraitAnimError as error:
        return {"error": str(error), "exit_code": error.exit_code}
    except (MemoryError, RuntimeError) as error:
        from portraitanim.pipelines.memory_retry import is_out_of_memory

        if is_out_of_memory(error):
            known = OutOfMemoryError("Not enough memory. Choose a smaller --size or --dtype bf16.")
            return {"error": str(known), "exit_code": known.exit_code}
        raise


class ScenarioError(PortraitAnimError):
    """A scenario's process ended without a result."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def run_apart(command: Sequence[str], read: Callable[[dict[str, Any]], Any] = ScenarioResult.from_dict) -> Any:
    """Run a command that prints what `answer` gives, and read it.

    Args:
        command: the program and its words.
        read: makes the result of plain data.

    Raises:
        ScenarioError: it failed; with the process's own message where it left one.
    """
    import portraitanim

    # The same source as here, wherever the command runs.
    source = str(Path(portraitanim.__file__).resolve().parents[1])
    paths = [source, os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    done = subprocess.run(list(command), stdout=subprocess.PIPE, check=False, env=environment)
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        why = ", most likely for lack of memory" if -done.returncode == signal.SIGKILL else ""
        raise ScenarioError(f"The process was ended by {name}{why}.", OutOfMemoryError.exit_code if why else 1)
    try:
        answered = json.loads(done.stdout.decode("utf-8").splitlines()[-1])
    except (ValueError, IndexError):
        raise ScenarioError(f"The process ended with code {done.returncode} and no result.", 1) from None
    if "error" in answered:
        raise ScenarioError(answered["error"], answered["exit_code"])
    return read(answered["result"])


def run_all(scenarios: Sequence[Scenario], run: RunScenario) -> BenchmarkReport:
    """Measure scenarios one after another; one that fails does not stop the others."""
    results: list[ScenarioResult] = []
    failures: list[Failure] = []
    for scenario in scenarios:
        try:
            results.append(run(scenario))
        except PortraitAnimError as error:
            failures.append(Failure(label=scenario.label, message=str(error), exit_code=error.exit_code))
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return BenchmarkReport(results=tuple(results), failures=tuple(failures), created=created)
