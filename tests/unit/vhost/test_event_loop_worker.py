"""What the worker with an event loop makes of the system's limits."""

import pytest

from supervisor_py.vhost.event_loop_worker import DESCRIPTORS, descriptors

LIMITS = """\
Limit                     Soft Limit           Hard Limit           Units
Max cpu time              unlimited            unlimited            seconds
Max open files            {}                 524288               files
Max locked memory         8388608              8388608              bytes
"""


@pytest.mark.parametrize(("soft", "count"), [("1024", 1024), ("unlimited", DESCRIPTORS)])
def test_the_limit_of_descriptors_is_the_soft_one(soft: str, count: int) -> None:
    assert descriptors(LIMITS.format(soft)) == count
