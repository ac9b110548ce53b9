"""Object code on the disk: damage, strangers, bounds, several processes."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule.compiler import cache, native
from chainrule.errors import CompileError

ROOT = Path(cr.__file__).parents[2]
posix = pytest.mark.skipif(os.name != "posix", reason="owners and modes are POSIX's")
in_place = settings(
    max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An empty cache of this test's own; the folder of its entries."""
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("CHAINRULE_CACHE", "CHAINRULE_CACHE_SIZE"):
        monkeypatch.delenv(name, raising=False)
    cache._warn.cache_clear()
    return tmp_path / "cache" / "code"


def path_of(key):
    return cache.folder() / key


# -- keys ---------------------------------------------------------------------------------------


def test_keys_tell_parts_apart():
    parts = [("ab",), ("a", "b"), ("b", "a"), (b"ab",), ("",), (), ("", ""), ("a", "b", "")]
    keys = [cache.key_of(*p) for p in parts]
    assert len(set(keys)) == len(parts)
    assert all(cache.NAME.fullmatch(key) for key in keys)
    assert cache.key_of("ab") == keys[0]


@pytest.mark.parametrize("name", ["version", "host_cpu", "host_features"])
def test_keys_depend_on_versions_and_processor(name, monkeypatch):
    before = cache.key_of("ab")
    other = {"host_features": {"new": True}}.get(name, "another")
    monkeypatch.setattr(cache, name, lambda: other)
    cache._fingerprint.cache_clear()
    try:
        assert cache.key_of("ab") != before
    finally:
        monkeypatch.undo()
        cache._fingerprint.cache_clear()
    assert cache.key_of("ab") == before


def test_version_names_llvm():
    assert native.version().startswith("llvmlite ") and "LLVM " in native.version()


# -- entries ------------------------------------------------------------------------------------


@in_place
@given(st.binary(max_size=300))
def test_what_is_put_comes_back(code):
    key = cache.key_of(code)
    cache.put(key, code)
    assert cache.get(key) == code


def test_what_was_not_put_is_none(place):
    assert cache.get(cache.key_of("nothing")) is None
    assert cache.entries() == []


@in_place
@given(st.binary(min_size=1, max_size=60), st.data())
def test_any_wrong_byte_is_found(code, data):
    key = cache.key_of(code)
    cache.put(key, code)
    content = bytearray(path_of(key).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path_of(key).write_bytes(content)
    assert cache.get(key) is None
    assert not path_of(key).exists()
    cache.put(key, code)  # and made again
    assert cache.get(key) == code


@in_place
@given(st.binary(min_size=1, max_size=60), st.data())
def test_any_truncation_or_addition_is_found(code, data):
    key = cache.key_of(code)
    cache.put(key, code)
    content = path_of(key).read_bytes()
    short = content[: data.draw(st.integers(0, len(content) - 1))]
    long = content + data.draw(st.binary(min_size=1, max_size=9))
    for wrong in (short, long):
        path_of(key).write_bytes(wrong)
        assert cache.get(key) is None
        assert not path_of(key).exists()


def test_an_entry_under_another_name_is_found():
    """It is whole, but it is other code than was asked for."""
    one, two = cache.key_of("one"), cache.key_of("two")
    cache.put(one, b"code of one")
    path_of(one).rename(path_of(two))
    assert cache.get(two) is None
    assert cache.entries() == []


def test_object_code_survives():
    from chainrule.compiler.machine import named

    machine = named("portable")
    code = native.object_code("define void @f() {\n  ret void\n}", machine)
    cache.put(cache.key_of("f"), code)
    found = cache.get(cache.key_of("f"))
    assert native.Library(found, machine).address("f")


# -- bounds -------------------------------------------------------------------------------------


def test_least_recently_used_entries_go_first(monkeypatch):
    monkeypatch.setenv("CHAINRULE_CACHE_SIZE", "4")
    keys = [cache.key_of(str(k)) for k in range(5)]
    code = bytes((1 << 20) - 100)
    for k, key in enumerate(keys[:4]):
        cache.put(key, code)
        os.utime(path_of(key), (1000 + k, 1000 + k))
    assert cache.get(keys[0]) == code  # used again, so the next one is the oldest
    cache.put(keys[4], code)
    assert [cache.get(key) is not None for key in keys] == [True, False, True, True, True]
    assert sum(entry.size for entry in cache.entries()) <= 4 << 20


def test_an_entry_beyond_the_bound_is_not_kept(monkeypatch):
    monkeypatch.setenv("CHAINRULE_CACHE_SIZE", "1")
    small, large = cache.key_of("small"), cache.key_of("large")
    cache.put(small, b"code")
    cache.put(large, bytes(1 << 20))
    assert cache.get(large) is None
    assert cache.get(small) == b"code"


def test_what_killed_processes_left_goes(place):
    cache.put(cache.key_of("one"), b"code")
    left = [place / f".{cache.key_of(str(k))}.0123abcd" for k in range(2)]
    for path in left:
        path.write_bytes(b"half")
    os.utime(left[0], (1000, 1000))
    (place / "notes.txt").write_text("not ours")
    cache._written.clear()  # so that the folder is looked at again
    cache.put(cache.key_of("two"), b"code")
    assert [path.exists() for path in left] == [False, True]  # the other may be being written
    assert (place / "notes.txt").exists()


def test_clear_removes_what_is_ours(place):
    for k in range(3):
        cache.put(cache.key_of(str(k)), b"code")
    (place / f".{cache.key_of('x')}.0123abcd").write_bytes(b"half")
    (place / "notes.txt").write_text("not ours")
    size = sum(path.stat().st_size for path in place.iterdir()) - len("not ours")
    assert cache.clear() == (4, size)
    assert cache.clear() == (0, 0)
    assert [path.name for path in place.iterdir()] == ["notes.txt"]


def test_entries_of_other_versions_do_not_fit():
    cache.put(cache.key_of("one"), b"code")
    cache.put("0" * 64, b"code of another version")
    assert sorted(entry.fits for entry in cache.entries()) == [False, True]


# -- settings and folders -----------------------------------------------------------------------


def test_it_can_be_turned_off(monkeypatch, place):
    cache.put(cache.key_of("one"), b"code")
    monkeypatch.setenv("CHAINRULE_CACHE", "0")
    assert cache.get(cache.key_of("one")) is None
    cache.put(cache.key_of("two"), b"code")
    assert len(list(place.iterdir())) == 1


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("CHAINRULE_CACHE", "no", "CHAINRULE_CACHE must be 0 (off) or 1 (on), received 'no'"),
        ("CHAINRULE_CACHE_SIZE", "1.5", "must be a whole number of MiB, received '1.5'"),
        ("CHAINRULE_CACHE_SIZE", "-1", "must be a whole number of MiB, received '-1'"),
        ("CHAINRULE_CACHE_SIZE", "²", "must be a whole number of MiB, received '²'"),
    ],
)
def test_wrong_settings(monkeypatch, name, value, message):
    monkeypatch.setenv(name, value)
    with pytest.raises(CompileError) as raised:
        cache.put(cache.key_of("one"), b"code")
    assert message in str(raised.value)


@posix
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o720, 0o702])
def test_a_folder_that_others_may_write_to_is_not_trusted(place, mode):
    key = cache.key_of("one")
    cache.put(key, b"code")
    place.chmod(mode)
    with pytest.warns(UserWarning, match="others may use it.*chmod 700"):
        assert cache.get(key) is None
    cache.put(key, b"other")  # one warning, and nothing is written
    place.chmod(0o700)
    assert cache.get(key) == b"code"


@posix
def test_a_folder_of_another_user_is_not_trusted(monkeypatch):
    key = cache.key_of("one")
    cache.put(key, b"code")
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.warns(UserWarning, match="it belongs to another user"):
        assert cache.get(key) is None


@posix
def test_the_folder_is_ours_alone_whatever_the_umask(place):
    before = os.umask(0)
    try:
        cache.put(cache.key_of("one"), b"code")
    finally:
        os.umask(before)
    assert place.stat().st_mode & 0o777 == 0o700
    assert cache.get(cache.key_of("one")) == b"code"


@posix
def test_a_link_in_place_of_the_folder_is_not_followed(place, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    place.parent.mkdir()
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.warns(UserWarning, match="it is no folder"):
        cache.put(cache.key_of("one"), b"code")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_folder_that_cannot_be_made_means_no_cache(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="compiled code is not kept in .*CHAINRULE_CACHE=0"):
        cache.put(cache.key_of("one"), b"code")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once is enough
        assert cache.get(cache.key_of("one")) is None
    assert cache.entries() == [] and cache.clear() == (0, 0)


def test_a_write_that_fails_means_no_entry(monkeypatch, place):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.warns(UserWarning, match="No space left on device"):
        cache.put(cache.key_of("one"), b"code")
    assert cache.get(cache.key_of("one")) is None
    assert list(place.iterdir()) == []


# -- several processes --------------------------------------------------------------------------


def test_two_processes_write_and_read_at_once(monkeypatch):
    """The same keys, with a bound that both run into; whatever is read is right."""
    monkeypatch.setenv("CHAINRULE_CACHE_SIZE", "1")
    code = """
import random, sys
from chainrule.compiler import cache
draw, hits = random.Random(int(sys.argv[1])), 0
for _ in range(150):
    k = draw.randrange(12)
    content = bytes([k]) * 120_000
    key = cache.key_of(str(k))
    found = cache.get(key)
    assert found in (None, content)
    hits += found is not None
    if draw.random() < 0.5:
        cache.put(key, content)
print(hits)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    running = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", code, str(seed)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for seed in range(2)
    ]  # fmt: skip
    for process in running:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
        assert int(out) > 0
    assert sum(entry.size for entry in cache.entries()) <= 1 << 20
