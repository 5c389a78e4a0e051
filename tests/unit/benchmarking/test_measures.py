"""When two measured numbers may be called different."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portraitanim.benchmarking.measures import Comparison, Measure
from portraitanim.errors import InputError

VALUES = st.lists(st.floats(0.001, 1e6), min_size=3, max_size=9)


def compared(old: tuple[float, ...], new: tuple[float, ...]) -> Comparison:
    return Comparison(scenario="s", quantity="q", old=Measure(old), new=Measure(new))


def test_median_and_spread() -> None:
    measure = Measure((1.0, 9.0, 2.0, 4.0, 3.0))
    assert (measure.median, measure.low, measure.high, measure.deviation) == (3.0, 1.0, 9.0, 1.0)


def test_measure_without_values_is_refused() -> None:
    with pytest.raises(InputError, match="at least one"):
        Measure(())


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        ((2.0, 2.1, 2.2), (1.0, 1.05, 1.1), "x0.500"),
        ((1.0, 1.1, 1.2), (2.0, 2.2, 2.4), "x2.000"),
        ((2.0, 2.1, 2.2), (1.0, 1.05, 2.01), "no difference seen"),
        ((2.0, 2.1), (1.0, 1.05), "no difference seen"),
        ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "no difference seen"),
    ],
    ids=["faster", "slower", "ranges overlap", "too few repeats", "nothing to divide by"],
)
def test_difference_is_claimed_only_where_ranges_are_apart(
    old: tuple[float, ...], new: tuple[float, ...], verdict: str
) -> None:
    assert compared(old, new).verdict == verdict


@given(VALUES, VALUES)
def test_comparison_is_symmetric_and_no_run_differs_from_itself(old: list[float], new: list[float]) -> None:
    there, back = compared(tuple(old), tuple(new)), compared(tuple(new), tuple(old))
    assert there.is_seen == back.is_seen
    assert not compared(tuple(old), tuple(old)).is_seen


@given(VALUES)
def test_measure_survives_json(values: list[float]) -> None:
    assert Measure.from_dict(Measure(tuple(values)).to_dict()) == Measure(tuple(values))
