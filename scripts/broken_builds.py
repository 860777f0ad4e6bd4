"""The broken builds: for each promise a change that breaks it, and the tests that must find it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Patch:
    """A change of a file: what is there exactly once, and what comes instead."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Build:
    """A build that breaks a promise, and the scenario that has to say so."""

    name: str
    promise: str
    patches: tuple[Patch, ...]
    scenario: str
    tests: tuple[str, ...]  # those that must fail, and no others of the scenario
    words: tuple[str, ...]  # regular expressions of what the failure must say


BUILDS = (
    Build(
        "no-readiness",
        "the old generation serves until the new one is ready",
        (
            Patch(
                "supervisor_py/machine.py",
                """\
        self._tell(f"generation {one.number} starts (pid {event.pid})")
""",
                """\
        self._tell(f"generation {one.number} starts (pid {event.pid})")
        if one.phase == model.STARTING:
            self._accept(one.but(pid=event.pid, jitter=event.jitter))
""",
            ),
            Patch(
                "molecule/shared/sites/group_vars/all.yml",
                "supervisor_kill_old_delay_seconds: 1\n",
                "supervisor_kill_old_delay_seconds: 0\n",
            ),
        ),
        scenario="restart_hup",
        tests=("test_no_request_fails_in_restarts_by_hup",),
        words=("has ended old generations before new ones served",),
    ),
    Build(
        "keep-alives-reset",
        "a request on a kept connection is answered, also when the process is about to end",
        (
            Patch(
                "supervisor_py/vhost/worker.py",
                """\
        conn.data_ready = True
        self._running += 1
""",
                """\
        if conn.initialized and not self.alive:
            self._drop(conn)
            return
        conn.data_ready = True
        self._running += 1
""",
            ),
        ),
        scenario="restart_hup",
        tests=("test_no_request_fails_in_restarts_by_hup",),
        words=(r"[1-9]\d* of \d+ requests failed", "ConnectionResetError|RemoteDisconnected"),
    ),
    Build(
        "no-memory-limit",
        "what takes more than its pool may have is killed, alone",
        (
            Patch(
                "roles/vhost_app/templates/limits.conf.j2",
                "MemoryMax={{ item.memory_max_mb }}M\n",
                "",
            ),
        ),
        scenario="memory_limit",
        tests=("test_a_memory_hog_is_killed_alone_and_no_request_of_its_neighbours_fails",),
        words=(r"assert \d+ == \(",),
    ),
    Build(
        "no-tasks-limit",
        "a fork bomb is held by its pool's limit",
        (
            Patch(
                "roles/vhost_app/templates/limits.conf.j2",
                "TasksMax={{ item.tasks_max }}\n",
                "",
            ),
        ),
        scenario="memory_limit",
        tests=("test_a_fork_bomb_is_held_by_its_pools_limit_and_other_pools_do_not_notice",),
        words=(r"assert \d+ == 80",),
    ),
    Build(
        "old-ends-at-once",
        "an old generation goes on beside the new one for KILL_OLD_DELAY",
        (
            Patch(
                "supervisor_py/model.py",
                """\
        return policy.kill_old_delay
    return DEFAULT_DELAY""",
                """\
        return 0.0
    return DEFAULT_DELAY""",
            ),
        ),
        scenario="restart_timed",
        tests=("test_no_request_fails_in_timed_restarts_and_each_comes_in_its_time",),
        words=(r"assert 0\.\d+ > \(2 - 0\.5\)",),
    ),
    Build(
        "no-freeze",
        "what was loaded before the fork stays shared",
        (
            Patch(
                "supervisor_py/vhost/recipe.py",
                """\
    if steps.freeze:
        gc.freeze()
""",
                "",
            ),
        ),
        scenario="memory_shared",
        tests=("test_workers_share_their_memory_after_thousands_of_requests_within_the_budget",),
        words=(r"assert \d+\.\d >= \d+\.\d",),
    ),
    Build(
        "no-rollback",
        "a release that does not serve is taken back",
        (
            Patch(
                "plugins/modules/pool_state.py",
                "{'' if absent else effects.go_back(pool)}",
                "",
            ),
        ),
        scenario="deploy_bad_release",
        tests=(
            "test_a_release_that_does_not_serve_leaves_the_old_one_serving",
            "test_a_run_that_was_cut_off_is_finished_or_taken_back_by_the_next",
        ),
        words=("The releases before serve again",),
    ),
    Build(
        "broken-map-stays",
        "a map of crawlers that nginx refuses is put back",
        (
            Patch(
                "supervisor_py/crawlers/limits.py",
                "                _replace(file, before)\n",
                "                pass\n",
            ),
        ),
        scenario="crawlers",
        tests=("test_a_map_that_nginx_refuses_is_put_back",),
        words=(r"file\(MAP\)\.content_string == empty",),
    ),
)
