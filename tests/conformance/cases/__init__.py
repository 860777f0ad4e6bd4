"""All scripts, from tables and products; their ids say what they are."""

from ..harness import Case
from . import command_line, environment, files, generations, logs, ports, servers, signals

_MODULES = (command_line, environment, files, generations, logs, ports, servers, signals)
CASES: list[Case] = [case for module in _MODULES for case in module.cases()]
