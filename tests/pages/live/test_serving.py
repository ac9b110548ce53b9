"""The server answers this machine's own page and nobody else."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from chainrule.errors import ChainruleError
from chainrule.pages.live.play import handle, play_page
from chainrule.pages.live.server import HOST, LARGEST_MESSAGE, SESSIONS, app, bound
from chainrule.pages.live.session import Session
from chainrule.train import Options, train_digits
from tests.pages.checking import checked

testing = pytest.importorskip("starlette.testclient", reason="no starlette: nothing is served")
PORT, TOKEN = 8577, "secret"
BASE = f"http://{HOST}:{PORT}"


def client(page: Any = play_page, handler: Any = None, base: str = BASE) -> Any:
    chosen = handler or partial(handle, start=Session)
    return testing.TestClient(app(page, chosen, TOKEN, PORT), base_url=base)


def socket(web: Any, token: str = TOKEN, origin: str = BASE) -> Any:
    return web.websocket_connect(
        f"/socket?token={token}", headers={"origin": origin, "host": f"{HOST}:{PORT}"}
    )


def test_the_page_needs_host_and_token() -> None:
    answer = client().get(f"/?token={TOKEN}")
    assert answer.status_code == 200 and "Playground" in answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert client().get("/").status_code == 403
    assert client().get("/?token=wrong").status_code == 403
    assert client(base="http://evil.example:8577").get(f"/?token={TOKEN}").status_code == 403
    assert client().get("/other").status_code == 404


def test_the_page_is_well_made() -> None:
    text = play_page()
    page = checked(text.replace(" selected", "").replace(" checked", "").replace(" hidden", ""))
    assert "{{" not in text and "Playground" in " ".join(page.text)


@pytest.mark.parametrize(("token", "origin"), [
    ("wrong", BASE), ("", BASE), (TOKEN, "http://evil.example"), (TOKEN, "null"),
    (TOKEN, "https://127.0.0.1:8577"), (TOKEN, ""),
])  # fmt: skip
def test_sockets_of_other_pages_are_refused(token: str, origin: str) -> None:
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect), socket(client(), token, origin) as ws:
        ws.receive_json()


def test_a_session_answers_and_survives_bad_messages() -> None:
    with client() as web, socket(web) as ws:
        first = ws.receive_json()
        assert first["data"]["x"] and first["network"]["hidden"] == [4]
        for bad in ("no json", "[" * 100_000, json.dumps({"do": "step", "steps": -1}),
                    " " * (LARGEST_MESSAGE + 1), "NaN"):  # fmt: skip
            ws.send_text(bad)
            assert ws.receive_json()["error"]
        ws.send_json({"do": "step", "steps": 3})
        assert ws.receive_json()["steps"] == 3


def test_sessions_are_counted_and_given_back() -> None:
    from starlette.websockets import WebSocketDisconnect

    with client() as web:
        sockets = [socket(web) for _ in range(SESSIONS)]
        for ws in sockets:
            ws.__enter__()
            ws.receive_json()
        with pytest.raises(WebSocketDisconnect), socket(web) as extra:
            extra.receive_json()
        for ws in sockets:
            ws.__exit__(None, None, None)
        with socket(web) as ws:
            assert ws.receive_json()["data"]


def test_ports() -> None:
    import socket as sockets

    with sockets.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with bound(port) as found:
            assert port < found.getsockname()[1] < port + 20
    with pytest.raises(ChainruleError, match="no port is free"):
        bound(65536)


# -- watching ------------------------------------------------------------------------------------


def test_watching_sends_what_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from chainrule.pages.live import watch

    monkeypatch.setattr(watch, "PERIOD", 0.01)
    folder = tmp_path / "run"
    web = client(partial(watch.watched, folder), partial(watch.handle, folder=folder))
    page = web.get(f"/?token={TOKEN}").text
    checked(page)
    assert "Waiting for a run" in page and "connect-src 'self'" in page
    with web, socket(web) as ws:
        first = ws.receive_json()
        assert first["order"] == ["now"] and "Waiting" in first["sections"][0]["html"]
        train_digits(Options(hidden=(4,), epochs=1), out=folder, progress=False)
        while True:
            found = ws.receive_json()
            changed = {s["id"] for s in found["sections"]}
            if "graph" in found["order"] and "finished" in str(found["sections"]):
                break
        assert changed <= set(found["order"]) and {"now", "curves", "settings"} <= set(
            found["order"]
        )
        (folder / "metrics.csv").write_text((folder / "metrics.csv").read_text() + "\n")
        again = ws.receive_json()
        assert again["sections"] == [] and again["order"] == found["order"]


def test_what_is_watched(tmp_path: Path) -> None:
    from chainrule.pages.live.watch import content, stamp

    assert [s.id for s in content(tmp_path / "none")] == ["now"]
    before = stamp(tmp_path)
    (tmp_path / "metrics.csv").write_text("x")
    assert stamp(tmp_path) != before


def test_a_section_that_is_gone_is_not_in_the_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chainrule.pages.live import watch

    monkeypatch.setattr(watch, "PERIOD", 0.01)
    folder = tmp_path / "run"
    train_digits(Options(hidden=(4,), epochs=1), out=folder, progress=False)
    web = client(partial(watch.watched, folder), partial(watch.handle, folder=folder))
    with web, socket(web) as ws:
        assert "curves" in ws.receive_json()["order"]
        settings = (folder / "run.json").read_bytes()
        (folder / "run.json").unlink()
        assert ws.receive_json()["order"] == ["now"]
        (folder / "run.json").write_bytes(settings)
        again = ws.receive_json()  # all of it, as the page has thrown it away
        assert {x["id"] for x in again["sections"]} == set(again["order"]) > {"now"}


def test_training_is_watched_until_it_is_stopped(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn", reason="no uvicorn: nothing is served")
    command = [
        sys.executable, "-u", "-m", "chainrule", "train", "digits", "--hidden", "4", "--epochs",
        "2", "--quiet", "--watch", "--out", str(tmp_path / "run"),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "open http" in line:
                address = re.findall(r"http://\S+", line)[0]
                with urllib.request.urlopen(address, timeout=20) as answer:
                    assert b"growing while it trains" in answer.read()
            if "until Ctrl-C" in line and "open" not in line:
                with urllib.request.urlopen(address, timeout=20) as answer:
                    assert b"finished" in answer.read()
                process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0, lines
    assert any(line.startswith("report: ") for line in lines), lines
