"""docs/vhost_server.md says what the pool file may say."""

import re
import tomllib
from pathlib import Path

import pytest

from supervisor_py.vhost import pool

PAGE = (Path(__file__).parents[3] / "docs" / "vhost_server.md").read_text()


def test_the_pool_file_of_the_page_is_one_and_has_every_key_of_a_pool() -> None:
    document = tomllib.loads(re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)[0])
    assert pool.problems(document) == []
    assert set(document["pool"]) == set(pool.POOL_KEYS)
    assert {key for app in document["apps"] for key in app} == set(pool.APP_KEYS)


@pytest.mark.parametrize("key", pool.APP_KEYS)
def test_every_key_of_an_app_is_explained(key: str) -> None:
    assert f"\n| `{key}` | " in PAGE
