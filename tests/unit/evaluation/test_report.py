"""Protocol, fingerprint, reports and tables."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from portraitanim.errors import InputError
from portraitanim.evaluation.catalogue import METRICS, chosen_metrics
from portraitanim.evaluation.clip_list import ClipList
from portraitanim.evaluation.protocol import EvaluationProtocol, Fingerprint
from portraitanim.evaluation.report import (
    EvaluationReport,
    LeftOut,
    MetricValue,
    read_reports,
    write_report,
)
from portraitanim.evaluation.tables import REFERENCE_ROW, build_table, render


def _report(title: str, values: dict[str, float | None], **changes: Any) -> EvaluationReport:
    fingerprint = Fingerprint(
        protocol=EvaluationProtocol(metrics=tuple(values)),
        clips="c0ffee",
        num_clips=3,
        num_frames=75,
        weights={},
        versions={"torch": "2.13"},
    )
    report = EvaluationReport(
        title=title,
        fingerprint=fingerprint,
        metrics={name: MetricValue(value=value, num_clips=3) for name, value in values.items()},
    )
    return replace(report, **changes)


def test_names_of_metrics_are_checked_and_put_in_order() -> None:
    assert chosen_metrics(["ssim", "fid"]) == ("fid", "ssim")
    assert chosen_metrics(["all"]) == tuple(METRICS)
    with pytest.raises(InputError, match="Did you mean lmd_mouth"):
        chosen_metrics(["lmd_moth"])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("fid_flavour", "mine", "pytorch-fid"),
        ("fvd_frames", 8, "at least 9"),
        ("fps", 0, "above 0"),
        ("num_resamples", 1, "0 or at least 2"),
        ("size_px", 16, "at least 32"),
        ("colour", 1, "Unknown field 'colour'"),
    ],
)
def test_protocols_that_make_no_sense_are_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        EvaluationProtocol.from_dict({field: value})


def test_constants_of_i3d_follow_the_flavour() -> None:
    assert [(p.i3d_eps, p.i3d_pool_frames) for p in map(_fvd, ("direct", "short-side", "disco"))] == [
        (1e-5, 2),
        (1e-5, 2),
        (1e-3, 1),
    ]


def _fvd(flavour: str) -> EvaluationProtocol:
    return EvaluationProtocol(fvd_flavour=flavour)


def test_weights_follow_the_choice_of_trunk_and_boxes() -> None:
    protocol = EvaluationProtocol(lpips_trunk="vgg", sync_boxes="s3fd")
    assert protocol.weights_of("lpips") == ("lpips-vgg",)
    assert protocol.weights_of("sync_c") == ("syncnet-v2", "s3fd")
    assert EvaluationProtocol().weights_of("sync_c") == ("syncnet-v2",)


def test_fingerprint_names_what_differs_but_not_the_choice_of_metrics() -> None:
    ours = _report("a", {"ssim": 1.0}).fingerprint
    theirs = replace(ours, protocol=EvaluationProtocol(metrics=("psnr",)), weights={"inception-2015": "ab"})
    assert ours.differences(theirs) == []
    other = replace(ours, protocol=replace(ours.protocol, fps=30.0), clips="beef")
    assert ours.differences(other) == ["clips: c0ffee | beef", "protocol.fps: 25.0 | 30.0"]
    assert ours.short != other.short


def test_a_report_is_the_same_after_it_was_written(tmp_path: Path) -> None:
    report = _report(
        "ours",
        {"fid": 12.5, "ssim": None},
        left_out=(LeftOut(metric="fvd", reason="no weights", command="get them"),),
        num_failed=1,
        notes=("one",),
    )
    report.metrics["fid"] = replace(report.metrics["fid"], num_samples=(3, 4), warnings=("few",))  # type: ignore[index]
    write_report(report, tmp_path / "report.json")
    assert read_reports(tmp_path / "report.json") == [report]
    assert read_reports(tmp_path) == [report]
    assert not report.is_complete


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 1, "title": "x", "fingerprint": {}}'])
def test_files_that_are_no_reports_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(InputError, match="report"):
        read_reports(tmp_path)


def test_table_has_arrows_and_the_best_of_each_column_in_bold() -> None:
    ours = _report("ours", {"fid": 20.0, "ssim": 0.7123, "sync_offset": -1.0})
    theirs = _report("theirs", {"fid": 31.2, "ssim": 0.7123, "sync_offset": 3.0})
    text = render(build_table([ours, theirs]), "markdown")
    assert "| FID ↓ | Sync offset (frames) →0 | SSIM ↑ |" in text
    assert "| ours | **20.00** | **-1.0** | **0.712** |" in text
    assert "| theirs | 31.20 | 3.0 | **0.712** |" in text


def test_nearest_to_the_true_videos_is_best_where_neither_more_nor_less_is() -> None:
    reports = []
    for title, value in (("still", 1.0), ("wild", 30.0)):
        report = _report(title, {"head_pose": value})
        reports.append(replace(report, metrics={"head_pose": MetricValue(value=value, true_value=6.0)}))
    table = build_table(reports)
    assert [row[0].is_best for row in table.rows] == [True, False, False]
    assert table.names[-1] == REFERENCE_ROW
    assert table.rows[-1][0].text == "6.00"


@pytest.mark.parametrize("form", ["markdown", "latex", "csv"])
def test_rows_that_were_not_measured_alike_are_marked_loudly(form: str) -> None:
    ours = _report("ours", {"fid": 20.0})
    theirs = _report("theirs", {"fid": 31.2})
    theirs = replace(theirs, fingerprint=replace(theirs.fingerprint, clips="beef"))
    table = build_table([ours, theirs])
    assert not table.is_comparable
    assert not any(cell.is_best for row in table.rows for cell in row)
    text = render(table, form)
    assert "theirs [NOT COMPARABLE 1]" in text
    if form != "csv":
        assert "clips: c0ffee | beef" in text


def test_what_is_missing_or_weak_is_said_below_the_table() -> None:
    report = _report("ours", {"fid": 20.0}, num_failed=2)
    report = replace(
        report,
        metrics={"fid": MetricValue(value=20.0, warnings=("75 samples for 2048 dimensions",))},
        left_out=(LeftOut(metric="fvd", reason="weights are missing", command="portraitanim weights pull i3d"),),
    )
    table = build_table([report])
    assert table.columns == ("", "FID ↓", "FVD ↓")
    assert table.rows[0][1].text == "–"
    notes = " ".join(table.notes)
    assert "FVD was not measured, weights are missing; run: portraitanim weights pull i3d" in notes
    assert "FID: 75 samples" in notes
    assert "2 of 3 clips" in notes


def test_intervals_are_shown_when_asked_for() -> None:
    report = replace(_report("ours", {"ssim": 0.5}), metrics={"ssim": MetricValue(value=0.5, low=0.4, high=0.6)})
    assert build_table([report]).rows[0][0].text == "0.500"
    assert build_table([report], intervals=True).rows[0][0].text == "0.500 [0.400, 0.600]"


def test_latex_escapes_and_csv_can_be_read_back() -> None:
    report = _report("our_model 50%", {"lmd_mouth": 2.5, "ssim": None})
    latex = render(build_table([report]), "latex")
    assert r"our\_model 50\% & -- & 2.50" in latex
    assert r"LMD mouth (\% of eye distance) $\downarrow$" in latex
    rows = list(csv.reader(io.StringIO(render(build_table([report]), "csv"))))
    assert rows[1] == ["our_model 50%", "", "2.50", "True"]


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(InputError, match="markdown, latex, csv"):
        render(build_table([_report("a", {"ssim": 1.0})]), "html")


def test_where_clips_come_from_is_told_and_does_not_forbid_to_compare(tmp_path: Path) -> None:
    listed = ClipList(
        dataset="hdtf",
        test_share=0.1,
        split_seed=0,
        num_listed=43,
        num_found=12,
        num_used=11,
        num_clips=30,
        fingerprint="0123456789abcdef",
    )
    plain = _report("folders", {"ssim": 0.5})
    ours = replace(plain, title="ours", fingerprint=replace(plain.fingerprint, clip_list=listed))
    write_report(ours, tmp_path / "report.json")
    assert read_reports(tmp_path) == [ours]
    table = build_table([ours, plain])
    assert table.is_comparable
    assert "hdtf: 43 listed, 12 found on disk, 11 used, which give 30 clips" in table.notes[-1]
    assert "0123456789abcdef" in table.notes[-1]


def test_a_file_may_hold_the_reports_of_a_sweep(tmp_path: Path) -> None:
    reports = [_report("one", {"ssim": 0.5}), _report("two", {"ssim": 0.6})]
    (tmp_path / "sweep.json").write_text(json.dumps([report.to_dict() for report in reports]))
    assert read_reports(tmp_path / "sweep.json") == reports
