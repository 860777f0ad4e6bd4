"""The pools' limits as one budget: what fits, what is refused, and how it is shown."""

from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import jinja2
import pytest
import yaml

from ansible_collections.kechi.vps.plugins.action.check_settings import ActionModule
from ansible_collections.kechi.vps.plugins.plugin_utils import checks
from ansible_collections.kechi.vps.plugins.plugin_utils.memory_budget import (
    POOL_MB,
    budget,
    table,
)

ROLE = Path(__file__).parents[3] / "roles" / "vhost_app"
APP = {"name": "blog", "hosts": ["blog.example"], "source": ".", "wsgi": "blog:application"}


def _values(*limits: int | None, reserve_mb: int = 200) -> dict[str, Any]:
    pools = [
        {
            "name": f"p{number}",
            "apps": [APP | {"name": f"a{number}", "hosts": [f"{number}.example"]}],
        }
        | ({} if limit is None else {"memory_max_mb": limit})
        for number, limit in enumerate(limits)
    ]
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    return {**defaults, "vhost_app_pools": pools, "vhost_app_reserve_mb": reserve_mb}


def _problems(values, **machine):
    return list(checks.vhost_app(values, checks.Machine(inventory=Path.cwd(), **machine)))


@pytest.mark.parametrize(
    ("limits", "swap_mb", "fits"),
    [
        ([400, 400], 0, True),
        ([400, 401], 0, False),
        ([400, 401], 1, True),
        ([None, None], 0, True),
        ([None, None, None], 0, False),
        ([None, None, None], 100, True),
    ],
)
def test_pools_may_take_together_what_memory_and_swap_hold_beside_the_machine(
    limits, swap_mb, fits
):
    assert (_problems(_values(*limits), memory_mb=1000, swap_mb=swap_mb) == []) is fits


def test_pools_that_do_not_fit_are_refused_with_the_sum_and_what_is_allowed():
    (sentence,) = _problems(_values(500, 900, reserve_mb=150), memory_mb=1000, swap_mb=250)
    assert sentence == (
        "vhost_app_pools: 1400 MB are more than the pools may take together (memory_max_mb of "
        "each); allowed: 1100 (memory 1000 + swap 250 - vhost_app_reserve_mb 150)"
    )


def test_a_pool_that_is_to_go_takes_nothing():
    values = _values(500, 900)
    assert _problems(values, memory_mb=1000) != []
    values["vhost_app_pools"][1] = {**values["vhost_app_pools"][1], "state": "absent"}
    assert _problems(values, memory_mb=1000) == []


def test_nothing_is_refused_where_the_machines_memory_is_not_known():
    assert _problems(_values(99_999), memory_mb=None) == []


def test_a_reserve_below_nothing_is_refused():
    (sentence,) = _problems(_values(reserve_mb=-1), memory_mb=1000)
    assert sentence.startswith("vhost_app_reserve_mb: -1 is too small")


def test_the_table_shows_what_a_generation_may_have_while_there_are_two():
    pools = [{"name": "main", "memory_max_mb": 400}, {"name": "clock"}]
    assert table(budget(pools, reserve_mb=200, memory_mb=964, swap_mb=512)) == [
        "in MB                           limit  each generation in a restart",
        "pool main                         400  200",
        "pool clock                        300  150",
        "the machine itself, with nginx    200",
        "together                          900",
        "there is: memory 964, swap 512   1476",
    ]


def test_a_pool_without_a_limit_counts_with_the_roles_own():
    specs = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())
    options = specs["argument_specs"]["main"]["options"]["vhost_app_pools"]["options"]
    assert options["memory_max_mb"]["default"] == POOL_MB


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("memory_swap_max_mb", -1, "0 or more"),
        ("tasks_max", 15, "16 or more"),
        ("cpu_weight", 0, "1 to 10000"),
        ("cpu_weight", 10_001, "1 to 10000"),
    ],
)
def test_a_limit_out_of_range_is_refused(key, value, allowed):
    values = _values(300)
    values["vhost_app_pools"][0][key] = value
    (sentence,) = _problems(values, memory_mb=1000)
    assert sentence == (f"vhost_app_pools[0].{key}: {value} is out of range; allowed: {allowed}")


@pytest.mark.parametrize(
    ("changes", "swap_mb"),
    [
        ({}, 1024),
        ({"swap_size_mb": "700"}, 700),
        ({"swap_file": "no"}, 0),
        ({"swap_zram": True}, 1024 + 341),
        ({"swap_zram": "yes", "swap_zram_size_mb": 300, "swap_file": False}, 200),
        ({"swap_state": "absent", "swap_zram": True}, 0),
    ],
)
def test_swap_counts_that_the_run_will_have_made(changes, swap_mb):
    defaults = yaml.safe_load((ROLE.parent / "swap" / "defaults" / "main.yml").read_text())
    assert checks.planned_swap_mb({**defaults, **changes}, 964) == swap_mb


@pytest.mark.parametrize(
    ("facts", "roles", "swap_mb"),
    [
        ({"memtotal_mb": 964}, ["swap"], 700),
        ({"memtotal_mb": 964, "swaptotal_mb": 900}, ["swap"], 900),
        ({"memtotal_mb": 964}, [], 0),
        ({"memtotal_mb": 964, "swaptotal_mb": 50}, [], 50),
        # its swap is its host's
        ({"memtotal_mb": 964, "virtualization_tech_guest": ["container"]}, ["swap"], 0),
        ({}, ["swap"], 0),
    ],
)
def test_swap_counts_in_a_play_that_makes_it(facts, roles, swap_mb):
    templar = MagicMock()
    templar.template = lambda value: value
    action = ActionModule(*(MagicMock() for _ in range(4)), templar, MagicMock())
    variables = {"ansible_facts": facts, "swap_size_mb": 700}
    played = {"ansible_play_role_names": [f"kechi.vps.{role}" for role in roles]}
    assert action._machine(["vhost_app"], variables | played).swap_mb == swap_mb
    assert action._machine(["vhost_app", *roles], variables).swap_mb == swap_mb


@pytest.mark.parametrize(
    ("run", "skipped", "swap_mb"),
    [
        (["all"], [], 700),
        (["swap", "vhost_app"], [], 700),
        (["vhost_app"], [], 50),
        (["all", "vhost_app"], [], 700),
        (["all"], ["swap"], 50),
        (["all"], ["vhost_app"], 700),
        (["tagged"], [], 700),
        # of a playbook of somebody's own: what it has under them nobody knows here
        (["mine"], [], 700),
    ],
)
def test_swap_does_not_count_that_a_run_of_some_roles_leaves_as_it_is(run, skipped, swap_mb):
    templar = MagicMock()
    templar.template = lambda value: value
    action = ActionModule(*(MagicMock() for _ in range(4)), templar, MagicMock())
    facts = {"memtotal_mb": 964, "swaptotal_mb": 50}
    tags = {"ansible_run_tags": run, "ansible_skip_tags": skipped}
    variables = {"ansible_facts": facts, "swap_size_mb": 700, **tags}
    assert action._machine(["swap", "vhost_app"], variables).swap_mb == swap_mb


@pytest.mark.parametrize(
    ("limits", "lines"),
    [
        ({}, ["MemoryMax=300M", "TasksMax=100", "CPUWeight=50"]),
        ({"memory_high_mb": 250}, ["MemoryMax=300M", "MemoryHigh=250M"]),
        ({"memory_swap_max_mb": 0}, ["MemoryMax=300M", "MemorySwapMax=0M"]),
    ],
)
def test_each_limit_of_a_pool_is_its_units(limits, lines):
    none = {"memory_high_mb": None, "memory_swap_max_mb": None}
    pool = {"name": "main", "memory_max_mb": 300, "tasks_max": 100, "cpu_weight": 50, **none}
    template = (ROLE / "templates" / "limits.conf.j2").read_text()
    environment = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined)
    found = environment.from_string(template).render(item=pool | limits).splitlines()
    assert set(lines) <= set(found)
    assert len([line for line in found if "=" in line]) == 3 + len(limits)
