"""Apps that take too much, of memory or of processes: their neighbours live."""

from __future__ import annotations

from harness.load import Target

MB = 1024 * 1024
LIMIT_MB = 220  # as in the inventory
TASKS = 80
RECYCLINGS = 3
HOG_MB = 400  # more than the whole pool may have
BOMB_SECONDS = 8.0
SOCKET = "/run/kechi/main.sock"
CALM = [
    Target("new", "calm.example"),
    Target("keep-alive", "calm.example"),
    Target("slow", "calm.example", "/slow?seconds=2"),
]
NEIGHBOURS = [
    *CALM,
    Target("new", "motd.example"),
    Target("keep-alive", "motd.example"),
    Target("slow", "motd.example", "/slow?seconds=2"),
]
LEAKY = [Target("new", "leaky.example"), Target("keep-alive", "leaky.example")]
STATUS = "start_server --status --control-socket=/run/kechi-main/control"


def test_a_leaking_app_is_recycled_before_the_limit_and_no_request_fails(vps, host, proof):
    before, killed = vps.state("main"), vps.oom_kills("main")
    workers = set()
    direct = [*LEAKY, *NEIGHBOURS[len(CALM) :]]
    with proof.load(vps, [*NEIGHBOURS, *LEAKY], sockets={SOCKET: direct}, pools=["main"]) as watch:
        for number in range(RECYCLINGS + 1):
            vps.wait_until(
                lambda: vps.get("leaky.example").headers["X-Pid"] not in workers,
                f"recycling {number}",
            )
            workers.add(vps.get("leaky.example").headers["X-Pid"])
            watch.event(f"worker {number + 1} was seen")
    assert "private memory" in host.check_output(STATUS)
    assert vps.oom_kills("main") == killed
    assert vps.state("main") == before
    most = max(sum(one.pss_kb for one in sample.generations) for sample in watch.samples) / 1024
    print(f"the pool had {most:.0f} MB at most, of {LIMIT_MB} MB")
    assert most < LIMIT_MB


def test_a_memory_hog_is_killed_alone_and_no_request_of_its_neighbours_fails(vps, host, proof):
    assert vps.memory_limit("main") == LIMIT_MB * MB
    before, killed = vps.state("main"), vps.oom_kills("main")
    assert vps.get("hog.example", "/?megabytes=16").status == 200
    with proof.load(vps, NEIGHBOURS, pools=["main", "quiet"]) as watch:
        watch.settle()
        watch.event(f"a request takes {HOG_MB} MB")
        assert vps.get("hog.example", f"/?megabytes={HOG_MB}").status == 503
        vps.wait_until_answers("hog.example")
        watch.settle()
    assert vps.oom_kills("main") > killed
    assert vps.state("main") == before, "one worker's death was the whole pool's"


def test_a_fork_bomb_is_held_by_its_pools_limit_and_other_pools_do_not_notice(vps, host, proof):
    """Its own pool has no process left to give meanwhile; it serves on when the bomb has gone."""
    assert vps.tasks_limit("main") == TASKS
    before = {pool: vps.main_pid(pool) for pool in ("main", "quiet")}
    refused = vps.tasks_refused("main")
    with proof.load(vps, CALM, pools=["quiet"]) as watch:
        watch.event("a fork bomb")
        assert vps.get("bomb.example", f"/?seconds={BOMB_SECONDS}").status == 200
        vps.wait_until(
            lambda: vps.tasks_refused("main") > refused, "the bomb comes up to the limit"
        )
        vps.wait_until(lambda: vps.tasks("main") < TASKS // 2, "the bomb has gone")
    vps.wait_until_answers("motd.example")
    vps.wait_until_answers("hog.example")
    assert {pool: vps.main_pid(pool) for pool in before} == before
