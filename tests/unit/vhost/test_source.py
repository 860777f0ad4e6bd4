import pytest

from supervisor_py.vhost.source import Source

TEXT = """\
# a pool
[pool]
name = "main"

workers = 2

[[apps]]
name = "a"
hosts = [
  "a.example",
]
text = '''
[[apps]]
workers = 3
'''

[[apps]] # the second
environment.ONE = "1"
[apps.environment.more]
TWO = "2"
"""


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("pool", 2),
        ("pool.name", 3),
        ("pool.workers", 5),
        ("pool.threads", 2),
        ("apps", 7),
        ("apps[0].hosts", 9),
        ("apps[0].wsgi", 7),
        ("apps[1]", 17),
        ("apps[1].environment.ONE", 18),
        ("apps[1].environment.more.TWO", 20),
        ("apps[1].wsgi", 17),
    ],
)
def test_a_place_is_found_in_its_line_or_its_parents(place: str, line: int) -> None:
    assert Source("p.toml", TEXT).where(place) == f"p.toml:{line}"


@pytest.mark.parametrize("place", ["other", "", "apps[7].x.y", "no such thing"])
def test_a_place_that_is_not_there_is_told_without_a_line_of_its_own(place: str) -> None:
    assert Source("p.toml", TEXT).where(place) in ("p.toml", "p.toml:7")
