"""The broken builds: for each promise a change that breaks it, and the tests that must find it.

`README` says which build breaks which of the README's promises.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Patch:
    """A change of a file: what is there exactly once, and what comes instead."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Build:
    """A build that breaks a promise, and who has to say so: a scenario, or a file of tests."""

    name: str
    promise: str
    patches: tuple[Patch, ...]
    tests: tuple[str, ...]  # those that must fail, and no others that are run
    words: tuple[str, ...]  # regular expressions of what the failure must say
    scenario: str = ""  # of molecule
    file: str = ""  # of tests that need no container
    only: str = ""  # pytest's -k: of a file with many processes not all tests are run

    @property
    def found_by(self) -> str:
        """Where its tests are."""
        return self.scenario or self.file


SCENARIOS = (
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
        self._running += 1
""",
                """\
        if conn.initialized and not self.alive:
            self._drop(conn)
            return
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
    if newer.told:""",
                """\
        return 0.0
    if newer.told:""",
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
                '"" if absent else effects.go_back(pool, steps, was_off=was_off)',
                '""',
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
    Build(
        "notes-in-the-apps-hands",
        "no run goes by what an app could have written, or writes where that could have put a link",
        (
            Patch(
                "plugins/modules/pool_state.py",
                """\
            path = RUNNING / f"{name}.{kind}"
            found[kind]""",
                """\
            path = Path(f"/run/kechi-{name}/{name}.{kind}")
            found[kind]""",
            ),
            Patch(
                "plugins/modules/pool_state.py",
                """\
        releases.write_atomically(RUNNING / f"{name}.{kind}", note, mode=0o600)
""",
                """\
        Path(f"/run/kechi-{name}/{name}.{kind}").write_text(note)
""",
            ),
            Patch(
                "roles/supervisor/templates/kechi@.service.j2",
                "ExecStartPost=+/usr/bin/install -D -m 0600 --target-directory=/run/kechi/notes ",
                "ExecStartPost=/bin/cp --target-directory=/run/kechi-%i ",
            ),
            Patch(
                "roles/supervisor/templates/restart.conf.j2",
                "ExecReload=+/usr/bin/install -D -m 0600 --target-directory=/run/kechi/notes ",
                "ExecReload=/bin/cp --target-directory=/run/kechi-%i ",
            ),
        ),
        scenario="hostile",
        tests=("test_what_runs_is_not_noted_where_an_app_can_put_links",),
        words=("changed=2 ", "what is not the app's was touched"),
    ),
    Build(
        "static-files-by-a-link",
        "nginx serves no file of others through a link of an app's",
        (
            Patch(
                "roles/frontend/templates/kechi.conf.j2",
                "from={{ static.untrusted_below }};",
                "from={{ static.directory }};",
            ),
        ),
        scenario="hostile",
        tests=("test_the_root_of_static_files_is_no_way_out",),
        words=(r"assert 200 in \(403, 404\)",),
    ),
    Build(
        "directories-by-name",
        "root gives no directory away that an app's link leads to",
        (
            Patch(
                "plugins/modules/files.py",
                "fd, made = safe_paths.open_directory(str(path)), False",
                "fd, made = os.open(path, os.O_RDONLY), False",
            ),
        ),
        scenario="hostile",
        tests=(
            "test_the_root_of_static_files_is_no_way_out",
            "test_a_directory_swapped_for_a_link_while_site_yml_runs_leads_nowhere",
        ),
        words=("was not refused", "what is not the app's was touched"),
    ),
    Build(
        "any-control-socket",
        "root's commands ask no super-daemon that a link of an app's leads to",
        (
            Patch(
                "supervisor_py/clients.py",
                "    if os.geteuid() != _ROOT:  # who may connect",
                "    if True:  # who may connect",
            ),
        ),
        scenario="hostile",
        tests=("test_what_an_app_puts_into_its_runtime_directory_misleads_no_command",),
        words=(r"assert 0 != 0",),
    ),
)

SUPERVISOR, VHOST, COLLECTION = (
    "tests/process/supervisor",
    "tests/process/vhost",
    "tests/unit/collection",
)
FILES = (
    Build(
        "way-open-before-what-is-beside-it",
        "code is its pool's to read, and what nginx serves of it is everybody's",
        (
            Patch(
                "plugins/module_utils/access.py",
                "            if entry not in shown and entry not in ways:\n",
                "            if False:\n",
            ),
        ),
        file=f"{COLLECTION}/test_access.py",
        only="public_directories or is_its_pools",
        tests=("test_public_directories_are_everybodys_and_what_is_beside_them_is_not",),
        words=(r"settings.py",),
    ),
    Build(
        "releases-of-before-stay-open",
        "a run closes the releases of before",
        (
            Patch(
                "plugins/modules/release.py",
                "        return not access.differs(top, group, access.top_mode(public))\n",
                "        return True\n",
            ),
        ),
        file=f"{COLLECTION}/test_access.py",
        only="releases_of_before or its_name",
        tests=("test_releases_of_before_are_closed_by_the_next_run",),
        words=("whoever has opened it since",),
    ),
    Build(
        "ready-at-once",
        "a generation serves when it says that it is ready, and not before",
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
        ),
        file=f"{SUPERVISOR}/test_promises.py",
        only="while_a_new or nothing_is_deleted",
        tests=("test_while_a_new_generation_is_not_ready_the_old_one_serves",),
        words=(r"assert .*",),
    ),
    Build(
        "failed-start-ends-the-old",
        "a generation that fails to start costs no request",
        (
            Patch(
                "supervisor_py/machine.py",
                """\
            self._say(f"new worker {one.pid} seems to have failed to start, exit status:{status}")
""",
                """\
            self._say(f"new worker {one.pid} seems to have failed to start, exit status:{status}")
            if old := model.serving(self.state):
                self._send(old, signals.TERM)
""",
            ),
        ),
        file=f"{SUPERVISOR}/test_promises.py",
        only="fails_to_start or nothing_is_deleted",
        tests=("test_a_generation_that_fails_to_start_never_costs_a_request",),
        words=(r"assert .*",),
    ),
    Build(
        "restart-lost",
        "all restarts that are asked for during one are one more",
        (
            Patch(
                "supervisor_py/machine.py",
                "self._set(queued=model.Restart(event.reason, True, waiting + clients))",
                "self._set(queued=queued and queued.but(clients=waiting + clients))",
            ),
        ),
        file=f"{SUPERVISOR}/test_promises.py",
        only="at_most_one or nothing_is_deleted",
        tests=(
            "test_at_most_one_restart_is_under_way_and_all_that_is_asked_meanwhile_is_one_more",
        ),
        words=(r"waited [\d.]+ s for: \(3,\)",),
    ),
    Build(
        "term-waits-for-the-start",
        "a TERM is acted on at once, also while a generation starts",
        (
            Patch(
                "supervisor_py/machine.py",
                "        if self.state.stopping:\n            return  # a second TERM",
                "        if self.state.stopping or self._is_starting():\n"
                "            return  # a second TERM",
            ),
        ),
        file=f"{SUPERVISOR}/test_promises.py",
        only="a_death_and_a_term or nothing_is_deleted",
        tests=("test_a_death_and_a_term_are_acted_on_at_once_whatever_goes_on",),
        words=(r"TimeoutExpired|assert .*",),
    ),
    Build(
        "grace-without-end",
        "what does not end in time is killed",
        (Patch("supervisor_py/machine.py", "            self._send(one, signals.KILL)\n", ""),),
        file=f"{SUPERVISOR}/test_stops.py",
        only="ignores_the_signal or leaves_no_process",
        tests=("test_a_worker_that_ignores_the_signal_is_killed_when_the_grace_is_over",),
        words=(r"TimeoutExpired|waited|assert .*",),
    ),
    Build(
        "sockets-lost-in-an-upgrade",
        "the listening sockets outlive a new version of start_server",
        (
            Patch(
                "supervisor_py/upgrade.py",
                "            state = handover.write(handed)\n"
                "            _set_inheritable([*kept, state], True)\n",
                "            state = handover.write(handed)\n"
                "            _set_inheritable([state], True)\n",
            ),
        ),
        file=f"{SUPERVISOR}/test_promises.py",
        only="outlive_everything or nothing_is_deleted",
        tests=("test_the_listening_sockets_outlive_everything_but_a_stop",),
        words=(r"assert .*",),
    ),
    Build(
        "upgrade-untried",
        "a new version of start_server that does not run changes nothing",
        (Patch("supervisor_py/upgrade.py", "        elif status:\n", "        elif False:\n"),),
        file=f"{SUPERVISOR}/test_upgrade.py",
        only="would_not_run or says_what_it_needs",
        tests=(
            "test_a_new_version_that_would_not_run_changes_nothing_and_the_next_one_is_tried_anew",
        ),
        words=(r"assert .*",),
    ),
    Build(
        "orphans-stay",
        "what a dead start_server has left does not hold the address against the next one",
        (
            Patch(
                "supervisor_py/takeover.py",
                "    if not held.orphans:\n        return held\n",
                "    return held\n",
            ),
        ),
        file=f"{SUPERVISOR}/test_orphans.py",
        only="never_hold_the_address or live_super_daemon",
        tests=("test_workers_of_a_dead_super_daemon_never_hold_the_address_against_the_next_one",),
        words=(r"another server listens there|Address already in use|in use",),
    ),
    Build(
        "short-of-disk-is-the-end",
        "what is short or broken around start_server is survived",
        (
            Patch(
                "supervisor_py/loop.py",
                "self._status.write(accepted)\n        except OSError as error:\n",
                "self._status.write(accepted)\n        except KeyError as error:\n",
            ),
        ),
        file=f"{SUPERVISOR}/test_promises.py",
        only="short_or_broken or nothing_is_deleted",
        tests=("test_what_is_short_or_broken_around_it_is_said_and_survived",),
        words=(r"assert .*|waited",),
    ),
    Build(
        "deletes-what-is-not-its-own",
        "nothing is deleted that start_server has not made",
        (
            Patch(
                "supervisor_py/unixpath.py",
                "        return (now.st_dev, now.st_ino) == (self.device, self.inode)\n",
                "        return bool(now)\n",
            ),
        ),
        file=f"{SUPERVISOR}/test_promises.py",
        only="nothing_is_deleted or no_process_outlives",
        tests=("test_nothing_is_deleted_that_was_not_made_here",),
        words=(r"FileNotFoundError",),
    ),
    Build(
        "stopped-and-still-there",
        "no process outlives its server",
        (
            Patch(
                "supervisor_py/machine.py",
                "            if state.generations or state.over:\n",
                "            if state.over:\n",
            ),
        ),
        file=f"{SUPERVISOR}/test_promises.py",
        only="no_process_outlives or nothing_is_deleted",
        tests=("test_no_process_outlives_its_server",),
        words=(r"assert not \[\d+",),
    ),
    Build(
        "all-at-once",
        "timed restarts come after the interval and its jitter",
        (
            Patch(
                "supervisor_py/model.py",
                "state.policy.auto_restart_interval * (1 + JITTER * one.jitter)",
                "state.policy.auto_restart_interval",
            ),
        ),
        file="tests/unit/test_machine.py",
        tests=("test_timed_restarts_come_after_the_interval_and_its_jitter",),
        words=(r"assert .*",),
    ),
    Build(
        "budget-forgotten",
        "a generation that is over its budget of memory is replaced",
        (
            Patch(
                "supervisor_py/model.py",
                "one.pss_kb > policy.memory_budget_kb:",
                "one.pss_kb > 1000 * policy.memory_budget_kb:",
            ),
        ),
        file=f"{SUPERVISOR}/test_memory.py",
        only="over_its_budget or share_too_little",
        tests=("test_a_generation_over_its_budget_is_replaced_and_one_below_it_is_not",),
        words=(r"waited [\d.]+ s",),
    ),
    Build(
        "no-room-is-room",
        "no second generation is started that does not fit into memory",
        (
            Patch(
                "supervisor_py/machine.py",
                "        if needed <= event.room_kb:\n",
                "        if needed:\n",
            ),
        ),
        file=f"{SUPERVISOR}/test_memory.py",
        only="never_fits or does_not_fit or nobody_serves",
        tests=(
            "test_a_restart_that_does_not_fit_asks_for_room_and_goes_on_when_there_is",
            "test_a_restart_that_never_fits_is_put_off_says_why_and_gives_the_workers_back",
        ),
        words=("waited .* for: it is asked to shrink",),
    ),
    Build(
        "other-words-than-perls",
        "start_server does what Server::Starter does",
        (
            Patch(
                "supervisor_py/status.py",
                r""""".join(f"{number}:{pid}\n" for number, pid in generations)""",
                r""""".join(f"{number} {pid}\n" for number, pid in generations)""",
            ),
        ),
        file="tests/conformance/test_conformance.py",
        only="test_ours_does_what_perls_does and (status or backlog)",
        tests=("test_ours_does_what_perls_does",),
        words=(r"status",),
    ),
    Build(
        "any-answer-is-ready",
        "a probe takes a generation for ready by its own answer alone",
        (
            Patch(
                "supervisor_py/probe_attempts.py",
                "    if bears is not None and bears.strip() != str(target.number):\n",
                "    if bears is not None and not bears.strip():\n",
            ),
        ),
        file=f"{SUPERVISOR}/test_probe.py",
        only="another_generation or below_400 or tcp_probe",
        tests=("test_the_answer_of_another_generation_on_a_shared_listener_never_counts",),
        words=(r"assert .*",),
    ),
    Build(
        "failure-without-its-lines",
        "a restart that fails shows the last lines of the one that failed",
        (
            Patch(
                "supervisor_py/machine.py",
                "            self._do(events.Quote(client, one.number))\n",
                "            pass\n",
            ),
        ),
        file=f"{SUPERVISOR}/test_logs.py",
        only="shows_the_traceback or never_mix",
        tests=("test_a_restart_that_fails_shows_the_traceback",),
        words=(r"Traceback|assert .*",),
    ),
    Build(
        "heavy-super-daemon",
        "the super-daemon takes less than 4 MB, as it loads nothing heavy",
        (
            Patch(
                "supervisor_py/machine.py",
                "from . import events, model, signals\n",
                "import logging  # noqa: F401\n\nfrom . import events, model, signals\n",
            ),
        ),
        file=f"{SUPERVISOR}/test_footprint.py",
        only="loads_nothing_heavy or never_wakes_up",
        tests=("test_the_super_daemon_loads_nothing_heavy",),
        words=("logging",),
    ),
    Build(
        "host-of-nobody",
        "a host that nobody has reaches no app",
        (
            Patch(
                "supervisor_py/vhost/hosts.py",
                "        raise UnknownHostError(name)\n",
                "        return next(iter(self._hosts.values()))\n",
            ),
        ),
        file=f"{VHOST}/test_hosts.py",
        tests=("test_an_unknown_host_or_path_never_reaches_a_neighbour",),
        words=(r"assert .*421",),
    ),
    Build(
        "one-directory-for-all",
        "each app runs in its own directory, also in threads and while streaming",
        (
            Patch(
                "supervisor_py/vhost/directory.py",
                "        _unshare(CLONE_FS)\n        _thread",
                "        _thread",
            ),
        ),
        file=f"{VHOST}/test_apps.py",
        only="own_directory or nonsense",
        tests=("test_each_app_runs_in_its_own_directory_also_in_threads_and_while_streaming",),
        words=(r"assert .*",),
    ),
    Build(
        "modules-mixed",
        "two apps may both have an app.py",
        (
            Patch(
                "supervisor_py/vhost/modules.py",
                "if type(other) is ModuleKey else context.current() is self.app\n",
                "if type(other) is ModuleKey else True\n",
            ),
        ),
        file="tests/unit/vhost/test_modules.py",
        tests=(
            "test_a_key_is_equal_to_its_name_for_its_app_alone",
            "test_a_module_put_in_by_hand_is_its_apps_where_its_file_is",
        ),
        words=(r"assert .*",),
    ),
    Build(
        "broken-app-deployed",
        "a broken app refuses a deploy",
        (
            Patch(
                "supervisor_py/vhost/cli.py",
                "    apps, missing = member.load(group, strict=not at_boot)\n",
                "    apps, missing = member.load(group, strict=False)\n",
            ),
        ),
        file=f"{VHOST}/test_broken.py",
        only="refuses_a_deploy or takes_only_itself or pool_file",
        tests=("test_a_broken_app_refuses_a_deploy",),
        words=(r"assert .*|TimeoutExpired",),
    ),
    Build(
        "leak-goes-on",
        "a worker that alone holds more than max_private_mb is replaced",
        (
            Patch(
                "supervisor_py/vhost/recycling.py",
                "    if limits.private_kb and life.private_kb > limits.private_kb:\n",
                "    if limits.private_kb and life.private_kb > 1000 * limits.private_kb:\n",
            ),
        ),
        file=f"{VHOST}/test_recycling.py",
        only="leaking_app or after_its_requests",
        tests=("test_a_leaking_app_is_recycled_under_load_and_no_request_is_lost",),
        words=(r"assert .*",),
    ),
    Build(
        "one-death-ends-all",
        "a killed process of a group is started again alone",
        (
            Patch(
                "supervisor_py/vhost/groups.py",
                "            elif not group.settled and not self._at_boot:\n",
                "            elif not self._at_boot:\n",
            ),
        ),
        file=f"{VHOST}/test_groups.py",
        only="killed_process or own_socket",
        tests=("test_a_killed_process_of_a_group_is_started_again_alone",),
        words=(r"assert .*|Error",),
    ),
    Build(
        "insomnia",
        "an isolated app that nobody asks falls asleep",
        (
            Patch(
                "supervisor_py/vhost/pool_worker.py",
                "        elif self.alive and 0 < self.idle_seconds <= now - self.idle_since:\n",
                "        elif self.alive and 0 < self.idle_seconds < 0:\n",
            ),
        ),
        file=f"{VHOST}/test_sleep.py",
        only="first_request_wakes or tried_at_the_start",
        tests=("test_the_first_request_wakes_an_app_and_idleness_sends_it_to_sleep",),
        words=(r"assert .*",),
    ),
    Build(
        "group-outlives-its-parent",
        "no group outlives the parent",
        (
            Patch(
                "supervisor_py/vhost/worker.py",
                "        if not super().is_parent_alive():\n",
                "        if False:\n",
            ),
        ),
        file=f"{VHOST}/test_groups.py",
        only="outlives_the_parent or own_socket",
        tests=("test_no_group_outlives_the_parent",),
        words=(r"assert .*",),
    ),
    Build(
        "the-same-dice",
        "each worker has random numbers of its own",
        (
            Patch(
                "supervisor_py/vhost/hygiene.py",
                "    os.register_at_fork(after_in_child=_seed_again)\n",
                "",
            ),
        ),
        file=f"{VHOST}/test_fork.py",
        only="random_numbers or generator_with_a_seed",
        tests=("test_each_worker_has_random_numbers_of_its_own",),
        words=(r"assert .*",),
    ),
    Build(
        "cold-start",
        "an app is asked for its warm_up pages once, before the workers are forked",
        (
            Patch(
                "supervisor_py/vhost/loader.py",
                "                    warm_up = app.warm_up if pool.memory.warm_up else ()\n",
                "                    warm_up = ()\n",
            ),
        ),
        file=f"{VHOST}/test_fork.py",
        only="happens_once or left_out",
        tests=("test_a_warm_up_happens_once_before_the_fork_and_takes_the_whole_answer",),
        words=(r"assert .*",),
    ),
    Build(
        "mistake-without-its-place",
        "a mistake in the inventory is told with its file and line",
        (
            Patch(
                "plugins/plugin_utils/settings.py",
                """    return f"{shown}:{origin.line_num}" if origin.line_num else str(shown)
""",
                """    return ""
""",
            ),
        ),
        file=f"{COLLECTION}/test_settings.py",
        tests=("test_a_mistake_is_told_with_the_file_and_line_that_it_was_set_in",),
        words=(r"assert .*",),
    ),
    Build(
        "more-than-there-is",
        "pools whose limits do not fit into the machine together are refused",
        (
            Patch(
                "plugins/plugin_utils/memory_budget.py",
                "        return self.pools_mb <= self.allowed_mb\n",
                "        return bool(self.pools_mb)\n",
            ),
        ),
        file=f"{COLLECTION}/test_memory_budget.py",
        tests=(
            "test_a_pool_that_is_to_go_takes_nothing",
            "test_a_reserve_below_nothing_is_refused",
            "test_pools_may_take_together_what_memory_and_swap_hold_beside_the_machine",
            "test_pools_that_do_not_fit_are_refused_with_the_sum_and_what_is_allowed",
        ),
        words=(r"assert .*",),
    ),
    Build(
        "locked-out",
        "rules of the firewall stay only when a new connection has come in",
        (
            Patch(
                "plugins/action/firewall.py",
                """        if not reason and before and found["connection"] == before:
""",
                """        if not reason and before and not found["connection"]:
""",
            ),
        ),
        file=f"{COLLECTION}/test_firewall.py",
        tests=("test_the_old_connection_confirms_nothing",),
        words=(r"assert .*|DID NOT RAISE",),
    ),
    Build(
        "certificate-of-nobody",
        "a site is self-signed until the ACME server answers",
        (
            Patch(
                "plugins/module_utils/certificates.py",
                "    return source if fits else SELF_SIGNED\n",
                "    return source\n",
            ),
        ),
        file=f"{COLLECTION}/test_certificates.py",
        tests=(
            "test_a_given_certificate_is_served_and_a_broken_one_is_told_and_not_served",
            "test_a_machine_without_openssl_says_so",
            "test_a_site_is_self_signed_until_the_acme_server_answers_and_then_has_its_certificate",
        ),
        words=(r"assert .*",),
    ),
    Build(
        "any-status-is-healthy",
        "a deploy looks at each app, and a wrong answer fails it",
        (
            Patch(
                "plugins/module_utils/health.py",
                "    if status in allowed if allowed else status < FAILURE:\n",
                "    if status:\n",
            ),
        ),
        file=f"{COLLECTION}/test_health.py",
        tests=("test_a_wrong_status_is_told_with_the_begin_of_the_answer",),
        words=("DID NOT RAISE",),
    ),
    Build(
        "torn-database",
        "SQLite databases are copied as databases, while their app writes",
        (
            Patch(
                "backup_py/database.py",
                "    return head.startswith(MAGIC)\n",
                "    return not head\n",
            ),
        ),
        file="tests/unit/backup/test_tree.py",
        tests=(
            "test_a_database_rewritten_under_its_old_time_is_new",
            "test_a_file_is_a_database_by_its_content_and_not_by_its_name",
            "test_unchanged_files_and_databases_are_on_the_disk_once",
            "test_what_sqlite_keeps_beside_a_database_is_part_of_its_copy_alone",
        ),
        words=(r"assert .*",),
    ),
    Build(
        "impostors-believed",
        "a crawler is verified by its address, and not by what it says",
        (
            Patch(
                "supervisor_py/crawlers/classify.py",
                "_by_ranges(claim.crawler, where, facts) or _by_name(claim.crawler, facts)",
                "Verdict(VERIFIED, claim.name, claim.name)",
            ),
        ),
        file="tests/unit/crawlers/test_classify.py",
        tests=(
            "test_a_claimed_crawler_is_verified_by_a_name_that_leads_back",
            "test_an_impostors_reason_says_what_it_is_and_what_it_should_be",
            "test_published_ranges_verify_without_a_name",
            "test_ranges_that_may_be_old_prove_nobody_an_impostor_and_fetched_ones_do",
        ),
        words=(r"assert .*",),
    ),
    Build(
        "group-for-all-alone",
        "`robots explain` says which group a crawler really obeys",
        (
            Patch(
                "supervisor_py/crawlers/robots.py",
                "        yield from said.also\n",
                "        pass\n",
            ),
        ),
        file="tests/unit/crawlers/test_robots.py",
        tests=(
            "test_applebot_obeys_googlebots_group_when_none_names_it",
            "test_the_group_is_the_one_that_a_crawler_really_obeys",
            "test_yandex_robots_obey_the_group_of_all_of_them",
        ),
        words=(r"assert .*",),
    ),
    Build(
        "shared-is-private",
        "each process's memory is told, and how much of it is shared",
        (
            Patch(
                "supervisor_py/memory.py",
                """            shared=sizes["Shared_Clean"] + sizes["Shared_Dirty"],
""",
                """            shared=sizes["Shared_Clean"],
""",
            ),
        ),
        file="tests/unit/test_memory.py",
        tests=("test_shared_and_private_are_clean_and_dirty_together",),
        words=(r"assert .*",),
    ),
    Build(
        "plays-at-once",
        "one play at a time changes a machine",
        (
            Patch(
                "plugins/module_utils/play_lock.py",
                """\
    if other or not (keep or take_over) or module.check_mode or os.geteuid() != 0:
        return other
""",
                """\
    if not (keep or take_over) or module.check_mode or os.geteuid() != 0:
        return other
    take_over = other["token"] if other else take_over
""",
            ),
        ),
        file="tests/unit/collection/test_play_lock.py",
        tests=(
            "test_a_second_play_is_told_who_has_the_machine_since_when_and_what_to_do",
            "test_the_same_play_takes_the_machine_as_often_as_it_likes_and_has_it_since_the_first_time",
        ),
        words=("NoneType",),
        only="second_play or as_often",
    ),
    Build(
        "timer-by-old-settings",
        "what a timer starts while a play changes its settings goes by the new ones",
        (
            Patch(
                "plugins/module_utils/certificates.py",
                """\
        with locks.held(locks.CERTIFICATES, NAME, tell=_say):
            certificates = wanted()  # not before: a play may have held the lock, and changed them
""",
                """\
        certificates = wanted()
        with locks.held(locks.CERTIFICATES, NAME, tell=_say):
""",
            ),
        ),
        file="tests/process/collection/test_locks.py",
        tests=("test_a_timers_look_at_certificates_that_meets_a_play_goes_by_the_plays_settings",),
        words=("autorenew = False",),
        only="certificates or certbot",
    ),
    Build(
        "failures-unseen",
        "a report says which requests failed, and has not passed then",
        (
            Patch(
                "harness/results.py",
                "        if self.failures:\n            found",
                "        if len(self.failures) > 1:\n            found",
            ),
        ),
        file="tests/unit/harness/test_results.py",
        tests=(
            "test_one_failed_request_fails_the_run",
            "test_only_what_a_killed_process_had_in_work_is_lost_with_it",
        ),
        words=(r"assert .*",),
    ),
    Build(
        "letter-by-letter",
        "a report can be read, on a narrow screen, too",
        (
            Patch(
                "harness/templates/base.html.j2",
                "  overflow-wrap: break-word; /*",
                "  overflow-wrap: anywhere; /*",
            ),
            Patch(
                "harness/templates/base.html.j2",
                "th, td.verdict-word { white-space: nowrap; }\n",
                "",
            ),
        ),
        file="tests/process/harness/test_pages_in_a_browser.py",
        tests=(
            "test_a_verdict_in_a_table_is_one_line_high",
            "test_no_word_is_broken_outside_or_faint_on_any_page",
        ),
        words=(r"FAILED in", r"assert \{.*\} == \{1\}"),
    ),
)

BUILDS = (*FILES, *SCENARIOS)

# what README.md promises, in its words, and the builds that break it
README: Mapping[str, tuple[str, ...]] = {
    "restarts them with no request lost": (
        "no-readiness",
        "keep-alives-reset",
        "ready-at-once",
        "failed-start-ends-the-old",
    ),
    "Host header picks the app": ("host-of-nobody", "one-directory-for-all", "modules-mixed"),
    "a process and a socket of its own": ("one-death-ends-all", "group-outlives-its-parent"),
    "isolated, asleep: a socket, and nothing else": ("insomnia",),
    "HTTPS, by Let's Encrypt; self-signed until it answers": ("certificate-of-nobody",),
    "ssh, 80 and 443, and you are never locked out": ("locked-out",),
    "a worker that alone holds more is replaced, between requests": ("leak-goes-on",),
    "what goes over it is killed, alone": ("no-memory-limit", "no-tasks-limit"),
    "asked for once, before the workers are forked": ("cold-start",),
    "what apps of one process share, and what not": ("the-same-dice", "modules-mixed"),
    "A mistake in the inventory is found before anything changes, with its file and line": (
        "mistake-without-its-place",
    ),
    "So is more than the machine can hold": ("more-than-there-is",),
    "what fails leaves the old release serving": (
        "no-rollback",
        "any-status-is-healthy",
        "broken-app-deployed",
    ),
    "One play at a time changes a machine": ("plays-at-once",),
    "none meets what its timers start": ("timer-by-old-settings",),
    "a fresh generation, with no request lost": ("no-readiness", "restart-lost"),
    "asked for all its sites from yours, and leaves a report": ("failures-unseen",),
    "request's time, each generation's memory and what failed": (
        "failures-unseen",
        "letter-by-letter",
    ),
    "an app is taken for hostile": (
        "notes-in-the-apps-hands",
        "static-files-by-a-link",
        "directories-by-name",
        "any-control-socket",
        "way-open-before-what-is-beside-it",
        "releases-of-before-stay-open",
    ),
    "a host that nobody has gets 421": ("host-of-nobody",),
    "a weekly report of who visits, limits for impostors": (
        "broken-map-stays",
        "impostors-believed",
    ),
    "SQLite databases and files, each night, here and elsewhere, and back": ("torn-database",),
    "fails, and says why, if that does not become ready": ("failure-without-its-lines",),
    "each process's memory, how much of it is shared": ("shared-is-private",),
    "loading before the fork is not enough": ("no-freeze", "cold-start"),
    "a drop-in for Perl's Server::Starter": ("other-words-than-perls",),
    "It hears `READY=1`, or probes, instead of guessing": ("ready-at-once", "any-answer-is-ready"),
    "shows the last lines of one that failed": ("failure-without-its-lines",),
    "kills what does not end in time": ("grace-without-end", "stopped-and-still-there"),
    "what a dead one left behind": ("orphans-stay",),
    "restarts by the clock, or by the memory that is used": (
        "old-ends-at-once",
        "all-at-once",
        "budget-forgotten",
    ),
    "starts no second generation that does not fit into memory": ("no-room-is-room",),
    "replaces itself by a new version without a request lost": (
        "sockets-lost-in-an-upgrade",
        "upgrade-untried",
    ),
    "what it promises, each sentence the name of a test": (
        "restart-lost",
        "term-waits-for-the-start",
        "short-of-disk-is-the-end",
        "deletes-what-is-not-its-own",
    ),
    "Python 3.11 or newer on Linux, and nothing else": ("heavy-super-daemon",),
    "says which group of a robots.txt a crawler really obeys": ("group-for-all-alone",),
}
