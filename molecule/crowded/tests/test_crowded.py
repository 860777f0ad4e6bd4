"""Thirty apps in one pool: all of them answer, and no request is lost in its restarts."""

from __future__ import annotations

import json

from harness.load import Target

COUNTS = {"blog": 10, "motd": 10, "echo": 7, "notes": 3}
KINDS = {"blog": "keep-alive", "motd": "new", "echo": "new", "notes": "rare"}  # notes sleep
TARGETS = [
    Target(KINDS[app], f"{app}{number}.example")
    for app, count in COUNTS.items()
    for number in range(1, count + 1)
]
RESTARTS = 3
BUDGET_MB = 150  # of one generation of them all; the pool may have 300


def test_thirty_apps_answer_each_in_its_own_directory_within_one_pools_budget(vps, host):
    assert len(TARGETS) == 30
    answers = {one.host: vps.get(one.host) for one in TARGETS}
    assert {answer.status for answer in answers.values()} == {200}
    for number in range(1, COUNTS["motd"] + 1):
        directory = answers[f"motd{number}.example"].headers["X-Directory"]
        assert directory.startswith(f"/srv/www/motd{number}/releases/")
    (line,) = json.loads(host.check_output("shared_memory_size --json main"))
    print(host.check_output("shared_memory_size main"))
    assert line["pss_kb"] / 1024 < BUDGET_MB


def test_no_request_to_any_of_them_fails_in_restarts(vps, proof):
    first = vps.generation("main")
    with proof.load(vps, TARGETS, pools=["main"]) as watch:
        for number in range(1, RESTARTS + 1):
            watch.settle()
            watch.event(f"HUP {number}")
            vps.hup("main")
            vps.wait_for_generation("main", first + number)
        watch.settle()
    most = max(sum(one.pss_kb for one in sample.generations) for sample in watch.samples) / 1024
    print(f"both generations of a restart had {most:.0f} MB at most")
    assert vps.oom_kills("main") == 0
