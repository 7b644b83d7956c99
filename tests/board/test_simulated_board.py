# SPDX-License-Identifier: Apache-2.0
"""What a simulated board owes to clients that misbehave, and to pynq beside the engine's driver."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import pytest
from e2sim import SimulationError
from e2sim.board import BoardServer
from e2sim.board.clients import is_connected
from e2train.cli.app import main
from e2train.devices import DeviceError, open_device
from e2train.devices.simulated_board import board_model, build_logic
from e2train.overlay import load_board
from e2train.runtime import execute
from e2train.runtime.board_check import mode_call
from pynq.pl_server.remote_device import RemoteDevice, RemoteGPIO
from pynq.remote import buffer_pb2, buffer_pb2_grpc, remote_device_pb2, remote_device_pb2_grpc

BOARD = "pynq_z2"
HOLDER = """
import sys, numpy, pynq
from pynq.pl_server.remote_device import RemoteDevice
device = RemoteDevice(0, "127.0.0.1", int(sys.argv[1]))
held = device.allocate((4 << 20,), numpy.uint32)
print("holding", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def server():
    with BoardServer(board_model(load_board(BOARD)), build_logic, port=0, patience_s=2.0) as running:
        yield running


def test_the_memory_of_clients_that_were_killed_is_given_back(server):
    holders = [
        subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(server.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for holder in holders:
        assert holder.stdout.readline() == "holding\n"
    assert server.board.memory.used_bytes == 3 * 16 << 20
    *killed, alive = holders
    for holder in killed:
        holder.kill()
        holder.wait()
    device = RemoteDevice(0, "127.0.0.1", server.port)
    end = time.monotonic() + 10
    while server.board.memory.used_bytes > (16 << 20) + 4096 and time.monotonic() < end:
        device.allocate((4096,), np.uint8).freebuffer()
        time.sleep(0.1)
    buffer = device.allocate((4096,), np.uint8)
    assert server.board.memory.used_bytes == (16 << 20) + 4096  # that of the living one, and this
    assert alive.poll() is None
    alive.communicate("")
    buffer.freebuffer()


def test_who_is_connected_is_known():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, (host, number) = listening.accept()
        assert is_connected(f"ipv4:{host}:{number}", port=port)
        assert not is_connected(f"ipv4:{host}:{number}", port=port ^ 1)
        client.close()
        end = time.monotonic() + 10
        while is_connected(f"ipv4:{host}:{number}", port=port):
            assert time.monotonic() < end
        accepted.close()
    assert is_connected("unix:", port=port)


def test_uploads_that_stall_are_ended_and_block_nobody(server, overlay):
    """Eight of each kind, where the server once had four threads."""
    go_on = threading.Event()

    def endless(first):
        yield first
        go_on.wait()

    channel = grpc.insecure_channel(f"127.0.0.1:{server.port}")
    files, buffers = (
        remote_device_pb2_grpc.RemoteDeviceStub(channel),
        buffer_pb2_grpc.RemoteBufferStub(channel),
    )
    name = buffers.allocate(buffer_pb2.AllocateRequest(size=4096, dtype="|u1", cacheable=True)).buffer_id
    file_part = remote_device_pb2.WriteFileRequest(file_path="/tmp/x", data=b"x")
    buffer_part = buffer_pb2.BufferWriteRequest(buffer_id=name, data=b"x")
    begin = time.monotonic()
    stalled = [files.writefile.future(endless(file_part)) for _ in range(8)]
    stalled += [buffers.write.future(endless(buffer_part)) for _ in range(8)]
    time.sleep(0.2)
    with open_device(f"pynq:127.0.0.1:{server.port}", config=BOARD, overlay=overlay(BOARD)) as device:
        execute(mode_call("forward", np.random.default_rng(1)), device)
    for upload in stalled:
        assert upload.exception(timeout=10).code() is grpc.StatusCode.CANCELLED
    assert time.monotonic() - begin > 1.9
    assert server.board.files.read("/tmp/x") is None
    go_on.set()
    channel.close()


def test_a_file_whose_client_dies_on_the_way_is_not_kept(server):
    """pynq uploads no bitstream whose name is on the board: half of one would stay there for good."""
    channel = grpc.insecure_channel(f"127.0.0.1:{server.port}")
    part = remote_device_pb2.WriteFileRequest(file_path="/lib/firmware/x.bin", data=bytes(2 << 20))
    go_on = threading.Event()

    def half():
        yield part
        go_on.wait()

    upload = remote_device_pb2_grpc.RemoteDeviceStub(channel).writefile.future(half())
    time.sleep(0.5)
    upload.cancel()
    go_on.set()
    channel.close()
    time.sleep(1.0)
    assert not server.board.files.exists("/lib/firmware/x.bin")
    device = RemoteDevice(0, "127.0.0.1", server.port)
    device.write_file("/lib/firmware/x.bin", bytes(5 << 20))
    assert len(server.board.files.read("/lib/firmware/x.bin")) == 5 << 20


def test_switching_off_in_the_last_slice_of_a_transfer_ends(server, overlay, monkeypatch):
    """The clock forgets that there is work just when it is to stop."""
    open_device(f"pynq:127.0.0.1:{server.port}", config=BOARD, overlay=overlay(BOARD)).close()
    (engine,) = server.board.logic._engines
    clear = engine._work.clear

    def clear_too_late():
        engine._closed = True
        engine._work.set()
        clear()

    monkeypatch.setattr(engine._work, "clear", clear_too_late)
    engine._work.set()  # one idle slice
    engine._thread.join(timeout=10)
    assert not engine._thread.is_alive()


def test_two_handles_of_a_pin_agree(server):
    device = RemoteDevice(0, "127.0.0.1", server.port)
    out, same, other = (RemoteGPIO(pin, way, device) for pin, way in ((400, "out"), (400, "in"), (401, "in")))
    out.write(1)
    assert (same.read(), other.read()) == (1, 0)
    again = RemoteGPIO(400, "out", device)
    assert same.read() == 1
    again.write(0)
    assert same.read() == 0
    out.unexport()
    assert (same.is_exported(), other.is_exported()) == (False, True)


@pytest.mark.parametrize("board", ["pynq_z2", "zcu104"])
def test_registers_have_their_names(overlay, board):
    with (
        BoardServer(board_model(load_board(board)), build_logic, port=0) as server,
        open_device(f"pynq:127.0.0.1:{server.port}", config=board, overlay=overlay(board)) as device,
    ):
        dma, gpio = device._board._overlay.axi_dma_0, device._board._overlay.axi_gpio_0
        status = dma.register_map.S2MM_DMASR
        assert (status.Idle, status.Halted, status.DMAIntErr) == (1, 0, 0)
        assert dma.register_map.MM2S_DMACR.RS == 1
        execute(mode_call("forward", np.random.default_rng(1)), device)
        tails = [getattr(dma.register_map, f"{way}_TAILDESC").Pointer << 6 for way in ("MM2S", "S2MM")]
        assert tails == [dma.mmio.read(0x10), dma.mmio.read(0x40)]
        assert tails[1] - tails[0] == 64  # one piece each way
        gpio.register_map.GPIO_DATA = 5
        assert gpio.register_map.GPIO_DATA.Channel_1_GPIO_DATA == gpio.read(0) == 5


@pytest.mark.parametrize(
    ("bind", "reason"),
    [
        ("no.such.host.invalid", "[^;]+"),
        ("a..b", "[^;]+"),
        ("192.0.2.1", "Cannot assign requested address"),
        ("", "no address"),
    ],
)
def test_an_address_that_is_not_this_machines_is_one_line(bind, reason):
    message = rf"^cannot listen on {bind}:0: {reason}; give --bind an address of this machine$"
    with pytest.raises(SimulationError, match=message):
        BoardServer(board_model(load_board(BOARD)), build_logic, bind=bind, port=0)


def test_a_port_that_cannot_be_had_is_one_line_before_anything_is_built(monkeypatch, capsys):
    monkeypatch.setattr("e2train.devices.simulated_board.prepare_logic", lambda board: pytest.fail("built"))

    def refusal(port):
        monkeypatch.setattr("sys.argv", ["e2train", "board", "serve", "--port", str(port)])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, capsys.readouterr().err

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        for port, reason in (
            (taken, "Address already in use"),
            (-1, "a port must be in 0..65535, where 0 picks a free one"),
            (99999, "a port must be in 0..65535, where 0 picks a free one"),
        ):
            message = f"e2train: cannot listen on 127.0.0.1:{port}: {reason}; choose another --port\n"
            assert refusal(port) == (2, message)


@pytest.mark.parametrize("bind", ["localhost", "::1"])
def test_any_name_of_an_address_can_be_bound(serve, bind):
    board = serve(BOARD, "--bind", bind)
    host = f"[{bind}]" if ":" in bind else bind
    assert board.address.startswith(f"{host}:")
    device = RemoteDevice(0, host, board.port)
    assert device.name == "Pynq-Z2"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "no board answers at 127.0.0.1:1; look at the address and at the board"),
        ("127.0.0.1:0", "device pynq:127.0.0.1:0: give HOST or HOST:PORT with a port in 1..65535, an IPv6"),
        ("127.0.0.1:99999", "device pynq:127.0.0.1:99999: give HOST or HOST:PORT with a port in 1..65535,"),
        ("[::1", "device pynq:[::1: give HOST or HOST:PORT with a port in 1..65535, an IPv6 address in"),
        (
            "no.such.host.invalid",
            "no board at no.such.host.invalid: there is no host 'no.such.host.invalid' (",
        ),
    ],
)
def test_a_wrong_address_is_named_in_one_line(overlay, address, message):
    with pytest.raises(DeviceError) as error:
        open_device(f"pynq:{address}", config=BOARD, overlay=overlay(BOARD))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
