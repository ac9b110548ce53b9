"""A run that is killed at any moment, and resumed until it is done, is the unbroken run."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import chainrule as cr
from chainrule.train import load_run

PROGRAM = """
from chainrule.train import compiling, loop
compiling.CALLS = 0  # also of few steps
loop.CHECKPOINT_SECONDS = 0.0  # after each step, so that there is much to be killed in
from chainrule.cli import main
main()
"""
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(cr.__file__).parents[1])}
TINY = ["digits", "--hidden", "4", "--epochs", "3", "--batch", "120", "--average", "0.9"]
LONGER = [
    "digits", "--model", "cnn", "--channels", "2", "--hidden", "8", "--epochs", "4",
    "--augment", "shift,noise", "--schedule", "plateau", "--clip", "1", "--accumulate", "2",
]  # fmt: skip


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "train", *map(str, arguments), "--quiet"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip


def finish(process):
    out, err = process.communicate()
    assert (process.returncode, err) == (0, ""), err
    return out


def kill_after(process, file, changes):
    """Kill the process when a file has changed so many times, or let it end before that."""
    last, seen = stamp(file), 0
    while process.poll() is None and seen < changes:
        now = stamp(file)
        seen, last = seen + (now != last), now
        time.sleep(0.0002)
    process.kill()
    process.communicate()


def stamp(file):
    try:
        status = os.stat(file)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def outcome(folder):
    """All that a run leaves, without the seconds."""
    settings = json.loads((folder / "run.json").read_text())
    assert settings["result"]["state"] == "finished"
    del settings["result"]["seconds"]
    lines = (folder / "metrics.csv").read_text().splitlines()
    metrics = [line.rsplit(",", 1)[0] for line in lines]
    names = sorted(path.name for path in folder.iterdir())
    return settings, metrics, names, (folder / "model.safetensors").read_bytes()


def killed_and_resumed(folder, options, moments):
    """Run a training in `folder`, killed after each of these numbers of checkpoints."""
    kills = 0
    for changes in moments:
        begun = (folder / "run.json").exists()
        process = start("--resume", folder) if begun else start(*options, "--out", folder)
        kill_after(process, folder / "checkpoint.safetensors", changes)
        kills += process.returncode == -signal.SIGKILL
        if (folder / "run.json").exists():
            load_run(folder)  # whatever the moment
    said = finish(start("--resume", folder))
    return kills, said


@pytest.mark.parametrize("mode", ["--compiled", "--eager"])
def test_killed_and_resumed_is_unbroken(tmp_path, mode):
    finish(start(*TINY, mode, "--out", tmp_path / "whole"))
    moments = random.Random(1).sample(range(1, 10), 4)
    kills, said = killed_and_resumed(tmp_path / "run", [*TINY, mode], moments)
    assert kills >= 3 and "test accuracy: " in said
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")
    assert "is finished: there is nothing" in finish(start("--resume", tmp_path / "run"))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_killed_many_times(tmp_path, seed):
    finish(start(*LONGER, "--out", tmp_path / "whole"))
    moments = random.Random(seed).choices(range(1, 25), k=15)
    kills, _ = killed_and_resumed(tmp_path / "run", LONGER, moments)
    assert kills >= 5
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path, number):
    process = start(*TINY, "--epochs", "500", "--out", tmp_path / "run")
    while stamp(tmp_path / "run" / "metrics.csv") is None and process.poll() is None:
        time.sleep(0.0002)
    process.send_signal(number)
    out, err = process.communicate()
    assert process.returncode == 130 and err == "stopped\n"
    assert f"go on with: chainrule train --resume {tmp_path / 'run'}" in out
    assert load_run(tmp_path / "run").result["state"] == "interrupted"
