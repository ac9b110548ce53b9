"""`chainrule cache`: what it shows and what it removes."""

import pytest

from chainrule.cli.app import run
from chainrule.compiler import cache


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(tmp_path))
    for name in ("CHAINRULE_CACHE", "CHAINRULE_CACHE_SIZE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "code"


def ok(capsys, *arguments):
    status = run(["cache", *arguments])
    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    return out.splitlines()


def fill():
    cache.put(cache.key_of("one"), bytes(1_500_000))
    cache.put(cache.key_of("two"), bytes(500_000))
    cache.put("0" * 64, b"code of another version")


def test_shows_what_is_there(capsys, place):
    fill()
    assert ok(capsys) == [
        f"folder   {place}",
        "entries  3, of which 2 fit this processor and version",
        "size     1.9 MiB of at most 512 MiB (CHAINRULE_CACHE_SIZE)",
    ]


def test_shows_a_cache_that_is_empty_or_off(capsys, place, monkeypatch):
    monkeypatch.setenv("CHAINRULE_CACHE", "0")
    assert ok(capsys)[:2] == [
        f"folder   {place} (off: CHAINRULE_CACHE=0)",
        "entries  0, of which 0 fit this processor and version",
    ]
    assert not place.exists()  # looking makes nothing


def test_clear_says_what_it_removed(capsys, place):
    fill()
    assert ok(capsys, "--clear") == [f"removed 3 entries, 1.9 MiB, from {place}"]
    assert list(place.iterdir()) == []
    cache.put(cache.key_of("one"), b"code")
    assert ok(capsys, "--clear") == [f"removed 1 entry, 0.0 MiB, from {place}"]


def test_a_wrong_setting_is_one_line(capsys, monkeypatch):
    monkeypatch.setenv("CHAINRULE_CACHE_SIZE", "big")
    assert run(["cache"]) == 1
    err = capsys.readouterr().err
    assert err == "error: CHAINRULE_CACHE_SIZE must be a whole number of MiB, received 'big'\n"
