r"""Write the tables of results in README.md from the JSON files beside this script.

    portraitanim eval --dataset wild --root HELD_OUT --weights tiny --sweep tiny --output sweep-tiny --json \
        > examples/tiny_sweep.json
    portraitanim bench --speed exact --speed balanced --speed fast --output examples/cpu_bench.json
    portraitanim bench --memory --preset tiny --preset examples/presets/middle.yaml --output examples/cpu_memory.json
    python examples/readme_tables.py            # or --check: say whether the README is up to date

A table stands between ``<!-- results: NAME -->`` and ``<!-- end of results -->``, and shows ``NAME.json``. The last
word of the name says what that is: ``SWEEP_sweep``, ``…_bench`` or ``…_memory``. Without the file there is no table.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from portraitanim.config.sweep import load_sweep
from portraitanim.errors import InputError
from portraitanim.evaluation.report import read_reports
from portraitanim.evaluation.tables import build_table, render

EXAMPLES = Path(__file__).resolve().parent
README = EXAMPLES.parent / "README.md"

_PLACE = re.compile(r"(<!-- results: (?P<name>[\w-]+) -->\n).*?(<!-- end of results -->)", re.DOTALL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if the README is old")
    arguments = parser.parse_args()
    before = README.read_text(encoding="utf-8")
    after = with_tables(before, EXAMPLES)
    if arguments.check:
        print("up to date" if after == before else "README.md is not up to date: run python examples/readme_tables.py")
        return int(after != before)
    README.write_text(after, encoding="utf-8")
    return 0


def with_tables(text: str, folder: Path) -> str:
    """A text whose places of tables hold what the files of a folder say.

    Raises:
        InputError: the text has no such place, one is of no kind that is known, or a file is not of reports.
    """
    if not _PLACE.search(text):
        raise InputError("There is no place for a table: expected <!-- results: NAME --> and <!-- end of results -->.")

    def filled(place: re.Match[str]) -> str:
        path = folder / f"{place['name']}.json"
        subject, _, kind = place["name"].rpartition("_")
        if kind not in _TABLES:
            raise InputError(f"There are no tables of {kind!r}. Known: {', '.join(_TABLES)}.")
        table = _TABLES[kind](subject, path) if path.is_file() else ""
        return f"{place[1]}{table}{place[3]}"

    return _PLACE.sub(filled, text)


def sweep_table(sweep: str, path: Path) -> str:
    """Heading, table and notes of a sweep's reports, as Markdown."""
    config, reports = load_sweep(sweep), read_reports(path)
    lines = [f"### {config.title}", "", config.about, "", render(build_table(reports), "markdown").rstrip()]
    lines += [f"- {note}" for note in dict.fromkeys(note for report in reports for note in report.notes)]
    return "\n".join([*lines, "", ""])


def bench_table(machine_name: str, path: Path) -> str:
    """Medians of a report of ``bench``, lowest and highest beside the first, as Markdown."""
    del machine_name  # the results say it themselves
    results = json.loads(path.read_text(encoding="utf-8"))["results"]
    lines = [
        "| | seconds per frame | frames per second, end to end | steady | first frame | peak memory |",
        "|---|---|---|---|---|---|",
    ]
    for each in results:
        total, count = each["total_seconds"], each["num_frames"]
        low, middle, high = (total[name] / count for name in ("low", "median", "high"))
        lines.append(
            f"| {each['derived']['label']} | {middle:.3f} ({low:.3f} to {high:.3f}) | {1 / middle:.1f} "
            f"| {_number(each['steady_fps'])} | {each['first_frame_seconds']['median']:.1f} s "
            f"| {each['peak_host_bytes']['median'] / 1e9:.2f} GB |"
        )
    machine = results[0]["machine"]
    lines += ["", f"{machine['device']}, {machine['num_threads']} threads, torch {machine['torch']}."]
    return "\n".join([*lines, "", ""])


def memory_table(machine_name: str, path: Path) -> str:
    """What ``bench --memory`` measured beside what was predicted, as Markdown."""
    del machine_name
    checks = json.loads(path.read_text(encoding="utf-8"))
    lines = ["| | parameters | predicted | measured | predicted / measured |", "|---|---|---|---|---|"]
    for each in checks:
        scenario = each["scenario"]
        name = f"{Path(scenario['preset']).stem}, {scenario['size_px']} px, {scenario['dtype']}"
        name += f", {scenario['variant']}" if scenario["variant"] else ""
        sizes = [f"{each[key] / 1e6:.0f} MB" for key in ("parameter_bytes", "predicted_bytes", "measured_bytes")]
        lines.append(f"| {name} | {' | '.join(sizes)} | {each['ratio']:.2f} |")
    return "\n".join([*lines, "", ""])


def _number(spread: dict[str, Any] | None) -> str:
    return "–" if spread is None else f"{spread['median']:.1f}"  # videos of one clip have no steady state


_TABLES: dict[str, Callable[[str, Path], str]] = {
    "sweep": sweep_table,
    "bench": bench_table,
    "memory": memory_table,
}


if __name__ == "__main__":
    sys.exit(main())
