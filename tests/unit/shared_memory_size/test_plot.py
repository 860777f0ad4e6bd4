import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from supervisor_py.errors import FatalError
from supervisor_py.shared_memory_size import plot
from supervisor_py.shared_memory_size.history import Point

FROZEN = [Point(at * 100, 90.0, 90_000) for at in range(50)]
NOT = [Point(at * 100, 90.0 - at, 90_000 + 2_000 * at) for at in range(50)]


def test_the_picture_names_its_lines_and_axes(tmp_path: Path) -> None:
    file = tmp_path / "shared.svg"
    plot.draw(file, {"frozen": FROZEN, "not frozen": NOT})
    words = " ".join(text for text in ElementTree.parse(file).getroot().itertext())
    for expected in ("frozen", "not frozen", "memory that the workers share, %", "requests"):
        assert expected in words


def test_the_same_history_is_the_same_picture(tmp_path: Path) -> None:
    pictures = [tmp_path / "one.svg", tmp_path / "two.svg"]
    for file in pictures:
        plot.draw(file, {"frozen": FROZEN})
    assert pictures[0].read_bytes() == pictures[1].read_bytes()


def test_it_is_transparent_so_that_it_fits_light_and_dark_pages(tmp_path: Path) -> None:
    file = tmp_path / "shared.png"
    plot.draw(file, {"frozen": FROZEN, "not frozen": NOT})
    from matplotlib.image import imread  # noqa: PLC0415

    pixels = imread(file)
    assert pixels[0, 0, 3] == 0
    assert pixels[:, :, 3].max() == 1
    inks = pixels[pixels[:, :, 3] == 1][:, :3].mean(axis=1)
    assert inks.min() > 0.2, "nothing is lost on black"
    assert inks.max() < 0.8, "nor on white"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("shared.gif", "its name ends in none of .svg, .png"),
        ("shared", "its name ends in none of .svg, .png"),
        ("missing/shared.svg", "can't be written: No such file"),
    ],
)
def test_a_picture_that_can_not_be_drawn_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(FatalError) as refused:
        plot.draw(tmp_path / name, {"frozen": FROZEN})
    assert reason in str(refused.value)


def test_without_matplotlib_the_way_to_get_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(FatalError, match=r"pip install 'kechi-vps\[plot\]'"):
        plot.draw(tmp_path / "shared.svg", {"frozen": FROZEN})
