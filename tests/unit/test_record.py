"""The records that stand in for dataclasses."""

import pytest

from supervisor_py.record import Record


class Point(Record):
    x: int
    y: int = 2


class Named(Point):
    name: str = "p"


def test_fields_come_by_place_by_name_and_by_default() -> None:
    assert Point(1) == Point(x=1, y=2) == Point(1, 2)
    assert Point(1).y == 2
    assert Named(1, 3, "q").name == "q"
    assert repr(Named(1)) == "Named(x=1, y=2, name='p')"


def test_equal_by_value_and_type_and_hashable() -> None:
    assert Point(1) != Point(2)
    assert Point(1) != Named(1)
    assert {Point(1), Point(1)} == {Point(1)}


def test_a_record_never_changes_but_can_be_copied_with_a_change() -> None:
    point = Point(1)
    with pytest.raises(AttributeError):
        point.x = 5  # type: ignore[misc]
    assert point.but(y=9) == Point(1, 9)
    assert point == Point(1, 2)


def test_wrong_fields_are_refused() -> None:
    for wrong in ({}, {"x": 1, "z": 2}):
        with pytest.raises(TypeError):
            Point(**wrong)
    with pytest.raises(TypeError):
        Point(1, 2, 3)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Point(1, x=1)  # type: ignore[misc]
    with pytest.raises(TypeError):
        Point(1).but(z=1)
