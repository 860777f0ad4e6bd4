"""What is reported of a log: figures by vhost, group and name, and the clients behind them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from . import classify
from .classify import GROUPS, PERSON, REST, Facts, Verdict
from .known import Ranges
from .names import Names
from .visits import Visit, Visits

NAMES_FROM_REQUESTS = 10  # of a browser: from how many requests on its address's name is asked for


@dataclass(frozen=True, slots=True)
class Figures:
    """What some clients cost.

    `app_seconds` is None where the log doesn't have it, `rules_broken` where no robots.txt was
    given.
    """

    requests: int
    bytes: int
    app_seconds: float | None
    app_percent: float | None
    client_errors: int
    server_errors: int
    robots_txt_fetched: int
    rules_broken: int | None


@dataclass(frozen=True, slots=True)
class Named:
    """The clients of a group that say to be the same, on one vhost."""

    name: str
    addresses: int
    figures: Figures


@dataclass(frozen=True, slots=True)
class Group:
    """A group of clients on one vhost, and the names in it, the busiest first."""

    group: str
    figures: Figures
    names: list[Named]


@dataclass(frozen=True, slots=True)
class Site:
    """A vhost."""

    vhost: str
    figures: Figures
    groups: list[Group]


@dataclass(frozen=True, slots=True)
class Client:
    """A client, on all vhosts."""

    group: str
    name: str
    reason: str
    address: str
    agent: str
    address_names: list[str]
    vhosts: list[str]
    figures: Figures


@dataclass(slots=True)
class Report:
    """The whole report. People are in its figures, and not among its clients."""

    first: float
    last: float
    lines: int
    unread_lines: int
    older_lines: int
    clients_not_looked_into: int
    offline: bool
    sites: list[Site] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)


def to_look_up(visits: Visits, most: int) -> list[str]:
    """Return the addresses whose names a verdict depends on, claimed crawlers and busy ones first.

    No more than `most`: the report says of the others that they are unverified.
    """
    wanted: dict[str, tuple[bool, int]] = {}
    for (address, agent), visit in _together(visits).items():
        crawler = classify.checks_names(agent)
        busy = visit.requests >= NAMES_FROM_REQUESTS and classify.is_browser(agent)
        if (crawler or busy) and classify.address(address) is not None:
            before = wanted.get(address, (False, 0))
            wanted[address] = (before[0] or crawler, before[1] + visit.requests)
    return sorted(wanted, key=lambda one: wanted[one], reverse=True)[:most]


def build(  # noqa: PLR0913  # one of each kind of thing that there is to know
    visits: Visits,
    names: Mapping[str, Names | None],
    *,
    lists: Mapping[str, Ranges],
    offline: bool,
    lines: int,
    unread: int,
    older: int,
) -> Report:
    """Put all that is known together."""
    together = _together(visits)
    with_assets = _with_assets(visits)
    verdicts: dict[tuple[str, str], Verdict] = {}
    vhosts = defaultdict(set)
    for key in visits.visits:
        vhosts[key.address, key.agent].add(key.vhost)
    for client, visit in together.items():
        address, agent = client
        facts = Facts(names.get(address), offline, lists, bool(vhosts[client] & with_assets))
        verdicts[client] = classify.verdict(agent, address, visit, facts)
    _excuse_people(visits, verdicts)
    report = Report(visits.first, visits.last, lines, unread, older, visits.rest_clients, offline)
    report.sites = _sites(visits, verdicts)
    report.groups = _groups(_rows(visits, verdicts))
    total = _total(together.values())
    report.clients = [
        Client(
            verdict.group,
            verdict.name,
            verdict.reason,
            address,
            agent,
            list(classify.called(names.get(address))),
            sorted(vhosts[address, agent]),
            _figures(together[address, agent], total),
        )
        for (address, agent), verdict in verdicts.items()
        if verdict.group != PERSON
    ]
    report.clients.sort(key=lambda one: (-one.figures.requests, one.address, one.agent))
    return report


def _excuse_people(visits: Visits, verdicts: Mapping[tuple[str, str], Verdict]) -> None:
    """Forget the rules that people broke: a robots.txt is none of theirs."""
    people = [
        visit
        for key, visit in visits.visits.items()
        if verdicts[key.address, key.agent].group == PERSON
    ]
    for visit in (*people, *visits.rest.values()):
        visit.broken = visit.judged = 0


def _together(visits: Visits) -> dict[tuple[str, str], Visit]:
    """Return what each client did on all vhosts."""
    together: dict[tuple[str, str], Visit] = {}
    for key, visit in visits.visits.items():
        together.setdefault((key.address, key.agent), Visit()).add(visit)
    return together


def _with_assets(visits: Visits) -> set[str]:
    """Return the vhosts whose pages have pictures and the like: somebody has loaded some."""
    found = {key.vhost for key, visit in visits.visits.items() if visit.assets}
    return found | {vhost for vhost, visit in visits.rest.items() if visit.assets}


_Row = tuple[str, str, str, str, Visit]  # vhost, group, name, address, what was done


def _rows(visits: Visits, verdicts: Mapping[tuple[str, str], Verdict]) -> list[_Row]:
    rows: list[_Row] = []
    for key, visit in visits.visits.items():
        verdict = verdicts[key.address, key.agent]
        rows.append((key.vhost, verdict.group, verdict.name, key.address, visit))
    rows += [(vhost, REST, "", "", visit) for vhost, visit in visits.rest.items()]
    return rows


def _sites(visits: Visits, verdicts: Mapping[tuple[str, str], Verdict]) -> list[Site]:
    by_vhost: dict[str, list[_Row]] = defaultdict(list)
    for row in _rows(visits, verdicts):
        by_vhost[row[0]].append(row)
    sites = []
    for vhost, rows in by_vhost.items():
        total = _total(row[-1] for row in rows)
        sites.append(Site(vhost, _figures(total, total), _groups(rows)))
    return sorted(sites, key=lambda site: (-site.figures.requests, site.vhost))


def _groups(rows: Iterable[_Row]) -> list[Group]:
    """Return the groups of some rows, in the order of GROUPS, without the empty ones."""
    by_group: dict[str, dict[str, tuple[set[str], Visit]]] = defaultdict(dict)
    total = Visit()
    for _vhost, group, name, address, visit in rows:
        addresses, sum_ = by_group[group].setdefault(name, (set(), Visit()))
        addresses.add(address)
        sum_.add(visit)
        total.add(visit)
    return [
        Group(
            group,
            _figures(_total(visit for _, visit in by_group[group].values()), total),
            sorted(
                (
                    Named(name, len(addresses), _figures(visit, total))
                    for name, (addresses, visit) in by_group[group].items()
                ),
                key=lambda named: (-named.figures.requests, named.name),
            ),
        )
        for group in GROUPS
        if group in by_group
    ]


def _total(visits: Iterable[Visit]) -> Visit:
    total = Visit()
    for visit in visits:
        total.add(visit)
    return total


def _figures(visit: Visit, total: Visit) -> Figures:
    timed = bool(visit.timed)
    share = 100 * visit.app_seconds / total.app_seconds if total.app_seconds else 0.0
    return Figures(
        visit.requests,
        visit.size,
        round(visit.app_seconds, 3) if timed else None,
        round(share, 1) if timed else None,
        visit.client_errors,
        visit.server_errors,
        visit.robots,
        visit.broken if visit.judged else None,
    )
