"""Apps that share no interpreter: two sites of one Django project, one of which sleeps."""

from __future__ import annotations

import http.client
import re
from urllib.parse import urlencode

from harness.load import Target, load

ASK = """python3 -c '
import socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
connection.sendall(sys.stdin.buffer.read())
print(connection.makefile().readline())
'"""
SITES = {"notes": "Everybody&#x27;s notes", "team": "The team&#x27;s notes"}


def test_two_sites_of_one_django_project_answer_each_from_a_process_of_its_own(vps, host):
    with load(vps.address, [Target("new", "team.example")]):  # it is awake while we look
        pids = {}
        for app, title in SITES.items():
            answer = vps.get(f"{app}.example")
            assert answer.status == 200
            assert title in answer.text
            pids[app] = int(answer.headers["X-Pid"])
            assert host.check_output(f"ps -o comm= -p {pids[app]}") == f"kechi:{app}"
        assert pids["notes"] != pids["team"]
        assert set(pids.values()) <= set(vps.pids("main"))


def test_what_is_written_to_one_site_is_not_on_the_other_and_browsers_may_write(vps):
    """A browser names the port that it uses; Django compares that with what the app is told."""
    name = f"notes.example:{vps.address.rpartition(':')[2]}"
    form = vps.get(name)
    (token,) = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', form.text)
    headers = {
        "Host": name,
        "Origin": f"http://{name}",
        "Cookie": form.headers["Set-Cookie"].partition(";")[0],
        "Content-Type": "application/x-www-form-urlencoded",
    }
    connection = http.client.HTTPConnection(vps.address, timeout=10)
    connection.request(
        "POST", "/", urlencode({"csrfmiddlewaretoken": token, "text": "left here"}), headers
    )
    assert connection.getresponse().status == 302
    assert "left here" in vps.get("notes.example").text
    assert "left here" not in vps.get("team.example").text


def test_a_sleeping_app_has_no_process_and_the_first_request_wakes_it(vps, host):
    vps.wait_until_asleep("main", "team")
    status = "start_server --status --control-socket=/run/kechi-main/control"
    said = "isolated: notes serves, team sleeps"
    vps.wait_within(f"{status} | grep --quiet '{said}'", f"the status says: {said}")
    before, pids = vps.state("main"), vps.pids("main")
    answer = vps.get("team.example")
    assert answer.status == 200
    assert int(answer.headers["X-Pid"]) not in pids
    vps.wait_until_asleep("main", "team")
    assert vps.state("main") == before, "nothing else has been started for that"


def test_an_isolated_apps_socket_answers_for_no_other_app(host):
    for name, status in {"motd.example": 421, "team.example": 421, "notes.example": 200}.items():
        asked = f"GET / HTTP/1.1\\r\\nHost: {name}\\r\\nConnection: close\\r\\n\\r\\n"
        answer = host.check_output(f"printf '{asked}' | {ASK} /run/kechi/main/notes.sock")
        assert answer.startswith(f"HTTP/1.1 {status} "), name
