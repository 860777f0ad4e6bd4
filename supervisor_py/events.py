"""What happens to the machine (events), and what it wants done (actions)."""

from __future__ import annotations

from .record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .model import Policy

# Events


class Event(Record):
    """Something that happened outside."""


class Boot(Event):
    """The sockets are open: start the first generation."""


class Spawned(Event):
    """The fork that was asked for went well; `jitter` is a random number from 0 to 1."""

    number: int
    pid: int
    jitter: float = 0.0


class SpawnFailed(Event):
    """The fork failed, and why."""

    number: int
    error: str


class Ready(Event):
    """A generation said READY=1, or the probe found that it answers."""

    number: int


class Reported(Event):
    """A generation sent a STATUS= line."""

    number: int
    text: str


class Died(Event):
    """A generation's main process ended, with its raw wait status.

    `left` are processes of it that have not ended; Vanished tells of their end.
    """

    number: int
    status: int
    left: tuple[int, ...] = ()


class Vanished(Event):
    """What a generation had left behind has ended too."""

    number: int


class Measured(Event):
    """A generation's memory with that of all its processes, and what is left for another one.

    In kB. `shared_percent` is the share of the workers' memory that is shared, `where` names the
    limit that `room_kb` is to: the machine's, or a cgroup's.
    """

    number: int
    pss_kb: float
    shared_percent: float
    processes: int
    room_kb: float
    where: str


class RestartAsked(Event):
    """A restart is wanted: `reason` HUP, or a control client (its number; 0 is none)."""

    reason: str
    client: int = 0


class UpgradeAsked(Event):
    """A new version of the super-daemon is to take over: USR2, or a control client."""

    client: int = 0


class UpgradeChecked(Event):
    """Whether the new version would run; `trouble` says why not, and is empty if it would."""

    trouble: str = ""


class Resumed(Event):
    """We are the new version: `text` says from which to which."""

    text: str


class StopAsked(Event):
    """TERM or INT came in."""

    signal: str


class PolicyRead(Event):
    """The environment directory was read again and says something else."""

    policy: Policy


class Tick(Event):
    """The time of `deadline` has come."""


# Actions


class Action(Record):
    """Something to do outside."""


class Spawn(Action):
    """Fork and exec; answered by Spawned or SpawnFailed. `alone`: no other generation serves."""

    number: int
    alone: bool


class Send(Action):
    """Send a signal to a generation's main process, or to what it has left behind."""

    number: int
    signal: int


class Say(Action):
    """Write a line to stderr."""

    text: str


class Measure(Action):
    """Measure a generation, and the memory that is left; answered by Measured."""

    number: int


class CheckUpgrade(Action):
    """Find out whether the new version would run; answered by UpgradeChecked, later."""


class Replace(Action):
    """Become the new version; answered by UpgradeChecked only if that is impossible."""


class Quote(Action):
    """Send a waiting client the last lines that a generation wrote to its stderr."""

    client: int
    number: int


class Tell(Action):
    """Tell a waiting client how the restart goes on."""

    client: int
    text: str


class Answer(Action):
    """Tell a waiting client the outcome of the restart."""

    client: int
    done: bool
    text: str


class Notify(Action):
    """Send a state to systemd, as in sd_notify(3)."""

    text: str


class Exit(Action):
    """End the super-daemon: all generations are gone."""
