"""How processes meet, agree and part: real processes, and what one is told of others."""

import json
import signal
import socket
import time
from pathlib import Path

import jax
import pytest
from processes import free_port, running, together

from clip_jax.errors import InputError
from clip_jax.parallel.processes import (
    PARTING_SECONDS,
    ProcessesConfig,
    gather,
    leave,
    same_errors,
    start_processes,
)

PROGRAM = str(Path(__file__).with_name("program.py"))


@pytest.fixture(scope="module")
def meeting():
    """What four processes with four devices each say of a meeting on plain hosts."""
    ended = together([PROGRAM, "meet"], 4, 4)
    assert [process.code for process in ended] == [0] * 4, ended
    return [heard(process) for process in ended]


def heard(process):
    """What a process says."""
    (line,) = (line for line in process.errors.splitlines() if line.startswith(("[", "{")))
    return json.loads(line)


def test_processes_meet_and_hear_each_other(meeting):
    for said in meeting:
        assert said["devices"] == [4, 16]
        assert said["texts"] == ["", "ä", "ää", "äää"]


def test_an_error_on_one_process_is_one_on_all(meeting):
    other = "process 1: no such file"
    assert [said["refusal"] for said in meeting] == [other, "no such file", other, other]


def test_what_holds_for_one_process_does_not_hold_for_all(meeting):
    assert [said["agreed"] for said in meeting] == [[[True, False, False]] * 2] * 4


@pytest.mark.parametrize("mesh", ["data", "tensor inside", "tensor across", "whole", "TPU tensor"])
def test_the_parts_of_all_processes_are_the_batch(meeting, mesh):
    assert [said["rows"][mesh] for said in meeting] == [list(range(16))] * 4


def test_parts_lie_where_a_mesh_has_their_devices(meeting):
    """A process's devices are not next to each other; no row is lost or doubled."""
    parts = [iter(range(4 * process, 4 * process + 4)) for process in range(4)]
    owners = [0, 0, 1, 1, 1, 1, 0, 2, 3, 3, 3, 3, 2, 2, 2, 0]  # of a v5e:4x4's chips
    rows = [next(parts[owner]) for owner in owners]
    assert [said["rows"]["TPU"] for said in meeting] == [rows] * 4


def test_arrays_that_all_have_are_spread(meeting):
    for process, said in enumerate(meeting):
        own = [[4 * process + device] for device in range(4)]
        assert said["tree"] == {"a": own, "b": [[0, 1, 2]] * 4}


def test_tasks_of_a_slurm_step_meet_by_themselves():
    ended = together([PROGRAM, "hear"], 2, 1, slurm=True)
    assert [process.code for process in ended] == [0, 0], ended
    assert [heard(process) for process in ended] == [["x", "x"]] * 2


def test_a_process_that_fails_does_not_wait_for_the_others_nor_they_for_it():
    with running([PROGRAM, "fail"], 2, 1) as group:
        group.processes[1].wait(60)
        failed = time.monotonic()
        group.processes[0].wait(60)
        assert time.monotonic() - failed < 30
        other, failing = group.wait()
    assert failing.code == 2
    assert failing.errors.endswith("program.py: picture 3 is broken\n")
    assert other.code not in (0, 2)
    assert other.errors


def test_a_process_that_is_killed_is_missed():
    """The other one ends by itself, and says why."""
    with running([PROGRAM, "lose", "--processes.heartbeat=4"], 2, 1) as group:
        group.processes[1].wait(60)
        killed = time.monotonic()
        group.processes[0].wait(60)
        assert time.monotonic() - killed < 30
        other, lost = group.wait()
    assert lost.code == -signal.SIGKILL
    assert other.code not in (0, 2)
    assert "another task died" in other.errors or "Connection closed by peer" in other.errors


@pytest.mark.parametrize("index", [0, 1])
def test_others_that_do_not_come_are_one_line(index):
    address = f"localhost:{free_port()}"
    options = [f"--processes.coordinator={address}", "--processes.count=2"]
    options += [f"--processes.index={index}", "--processes.timeout=1"]
    started = time.monotonic()
    (ended,) = together([PROGRAM, "start", *options], 1, 1)
    assert time.monotonic() - started < 30 + PARTING_SECONDS
    assert ended.code == 2
    first, *others = ended.errors.splitlines()
    assert first == f"waiting for the other processes at {address}, for at most 1 s"
    ours = [line for line in others if line.startswith("program.py: ")]  # gRPC may log more
    assert len(ours) == 1
    assert f"the processes did not all meet at {address} within 1 s; " in ours[0]
    assert "Traceback" not in ended.errors


# --- one process


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 2}, "need --processes.coordinator, --processes.count and --processes.index"),
        ({"index": 0}, "all three"),
        ({"coordinator": "localhost:3000", "count": 2}, "all three"),
        ({"coordinator": "localhost:3000", "count": 2, "index": 2}, "below the count 2, got 2"),
        ({"coordinator": "localhost:3000", "count": 2, "index": -1}, "below the count 2, got -1"),
        ({"coordinator": "localhost:3000", "count": 0, "index": 0}, "count must be at least 1"),
        ({"coordinator": "localhost", "count": 2, "index": 1}, "HOST:PORT, got 'localhost'"),
        ({"coordinator": "localhost:http", "count": 2, "index": 1}, "HOST:PORT"),
        ({"coordinator": ":3000", "count": 2, "index": 1}, "HOST:PORT"),
        ({"coordinator": "localhost:70000", "count": 2, "index": 1}, "HOST:PORT"),
        ({"timeout": 0}, "timeout must be at least 1, got 0"),
        ({"heartbeat": 0}, "heartbeat must be at least 1, got 0"),
    ],
)
def test_settings_that_cannot_be_meant(settings, message):
    with pytest.raises(InputError, match=message) as caught:
        start_processes(ProcessesConfig(**settings))
    assert "\n" not in str(caught.value)


def test_a_port_that_is_taken_is_refused():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} cannot be used here"):
            start_processes(ProcessesConfig(f"localhost:{port}", 2, 0))


@pytest.fixture
def starts(monkeypatch):
    """The arguments with which JAX is told to find other processes, instead of doing so."""
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **arguments: calls.append(arguments))
    jax.devices()
    before = jax.config.jax_platforms
    yield calls
    jax.config.update("jax_platforms", before)


SLURM = {"SLURM_STEP_NODELIST": "host[1-2]", "SLURM_NTASKS": "2"}


@pytest.mark.parametrize(
    ("environment", "platforms", "settings"),
    [
        ({}, "cpu", {}),
        ({}, "cuda,cpu", {}),
        ({}, "cpu", {"count": 1}),
        ({}, "cpu", {"coordinator": "localhost:3000", "count": 1, "index": 0}),
        (SLURM | {"SLURM_NTASKS": "1"}, "cpu", {}),
        ({"SLURM_NTASKS": "2"}, "cpu", {}),  # inside an allocation, but not of a step
        (SLURM, "cpu", {"count": 1}),
        ({"TPU_SKIP_MDS_QUERY": "1"}, "tpu,cpu", {}),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, "tpu,cpu", {}),
        ({"TPU_PROCESS_ADDRESSES": "local"}, "tpu,cpu", {}),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "cpu", {}),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "tpu,cpu", {"count": 1}),
    ],
)
def test_a_run_alone_starts_nothing(starts, monkeypatch, capsys, environment, platforms, settings):
    tell(monkeypatch, environment, platforms)
    start_processes(ProcessesConfig(**settings))
    assert not starts
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("environment", "platforms", "method"),
    [
        (SLURM, "cuda,cpu", "slurm"),
        ({}, "tpu,cpu", None),  # the metadata server knows
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "tpu,cpu", None),
        ({"TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "2"}, "tpu,cpu", None),
    ],
)
def test_what_a_cluster_says_is_left_to_jax(starts, monkeypatch, environment, platforms, method):
    tell(monkeypatch, environment, platforms)
    start_processes(ProcessesConfig())
    (arguments,) = starts
    assert arguments.get("cluster_detection_method") == method
    assert not {"coordinator_address", "num_processes", "process_id"} & arguments.keys()


def tell(monkeypatch, environment, platforms):
    for name in ("TPU_SKIP_MDS_QUERY", "TPU_WORKER_HOSTNAMES", "TPU_PROCESS_ADDRESSES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    jax.config.update("jax_platforms", platforms)


def test_settings_are_preferred_to_what_slurm_says(starts, monkeypatch):
    tell(monkeypatch, SLURM, "cpu")
    start_processes(ProcessesConfig("host:3000", 4, 3))
    (arguments,) = starts
    assert arguments["cluster_detection_method"] == "deactivate"
    assert arguments["coordinator_address"] == "host:3000"
    assert (arguments["num_processes"], arguments["process_id"]) == (4, 3)


def test_why_jax_cannot_find_the_others_is_one_line(monkeypatch):
    def fail(**arguments):
        raise RuntimeError("no metadata\nserver")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(InputError, match=r"cannot meet .*: no metadata \(.*--processes.count 1\)$"):
        start_processes(ProcessesConfig("host:3000", 4, 3))


def test_alone_there_is_nobody_to_hear_or_leave():
    assert gather("text") == ["text"]
    leave(3)
    with pytest.raises(InputError, match="wrong"), same_errors():
        raise InputError("wrong")
