"""docs/crawlers.md says what there is."""

from pathlib import Path

from supervisor_py.crawlers import claims, classify, cli, known, lines, robots_cli, visits

PAGE = (Path(__file__).parents[3] / "docs" / "crawlers.md").read_text()


def test_the_page_has_every_option() -> None:
    for option in (*cli._OPTIONS, *robots_cli._OPTIONS):
        assert f"--{option.name}" in PAGE or option.name == "help", option.name


def test_the_page_has_every_crawler_that_deviates() -> None:
    table = PAGE[PAGE.index("| crawler | what it does |") :].replace(", -", ", Googlebot-")
    deviating = [
        one.name
        for one in known.MANNERS
        if one.also or one.ignores_star or one.opt_out or one.ignores_all
    ]
    assert len(deviating) > 3
    assert [name for name in deviating if name not in table] == []


def test_the_page_has_the_groups_and_the_bounds() -> None:
    assert all(title in PAGE for title in classify.GROUPS.values())
    assert f"{visits.MOST_CLIENTS:,} clients" in PAGE
    assert f"{visits.MOST_VHOSTS} vhosts" in PAGE


def test_the_page_has_the_keys_of_the_json_log() -> None:
    ours = {names[0] for names in lines._FIELDS} - {"request", "server_name"}
    assert all(f"`{name}`" in PAGE for name in ours | {"host"})


def test_a_user_agent_is_looked_into_once() -> None:
    """Each costs a thousand patterns: a log with 20,000 of them would take minutes otherwise."""
    assert claims.claim.cache_parameters()["maxsize"] >= visits.MOST_CLIENTS
