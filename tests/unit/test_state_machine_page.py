"""docs/state-machine.md draws the machine as it is."""

import re
from pathlib import Path

from supervisor_py import model, options, settings

PAGE = Path(__file__).parents[2] / "docs" / "state-machine.md"


def test_the_picture_has_the_transitions_of_the_machine() -> None:
    drawn = re.findall(r"^    (\S+) --> (\S+) : (.+)$", PAGE.read_text(), re.MULTILINE)
    wanted = [("[*]", model.STARTING, "fork")]
    wanted += [
        (before, "[*]" if after == model.GONE else after, why)
        for (before, after), why in model.TRANSITIONS.items()
    ]
    assert drawn == wanted
    assert all(":" not in why and ";" not in why for *_, why in drawn), "mermaid would stumble"


def test_the_table_of_times_has_the_numbers_of_the_machine() -> None:
    rows = {
        line.split("|")[1].strip(): line for line in PAGE.read_text().splitlines() if "|" in line
    }
    assert f"\N{MULTIPLICATION SIGN} {model.BACKOFF_FACTOR} " in rows["back-off"]
    assert f"{model.BACKOFF_CAP:g} s at most" in rows["back-off"]
    assert f"{model.STEADY:g} s of service" in rows["reset of the back-off"]
    assert f"up to {model.JITTER * 100:g} % more" in rows["AUTO_RESTART_INTERVAL"]
    assert f"up to {model.JITTER * 100:g} % more" in rows["MIN_RESTART_INTERVAL"]
    assert f"looks again every {model.PUT_OFF_CHECK:g} s" in PAGE.read_text()
    policy = settings.from_options(options.parse(settings.OPTIONS, ["prog"])).policy
    assert f"| {policy.memory_wait:g} s |" in rows["`--memory-wait`"]
    assert f"| {policy.memory_interval:g} s |" in rows["`--memory-interval`"]
    assert f"| {policy.min_restart_interval:g} s," in rows["MIN_RESTART_INTERVAL"]
    assert f"| {policy.grace:g} s |" in rows["`--grace`"]
    assert f"{model.DEFAULT_DELAY:g} s with timed restarts" in rows["KILL_OLD_DELAY"]
