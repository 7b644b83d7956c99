# SPDX-License-Identifier: Apache-2.0
"""Downloads from a server of this test on loopback: whole, gone on with, refused in one line."""

import hashlib
import io
import socket
import tarfile
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from e2train.train import DataError
from e2train.train.data.fetch import SOURCES, Source, fetch

FILES = {"set/one": b"1" * 5000, "set/two": bytes(range(256)) * 40}


def archive(files=FILES, *, extra=()):
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in extra:
            tar.addfile(member)
    return held.getvalue()


class Server(ThreadingHTTPServer):
    """Serves one archive; ``cut`` ends an answer early, ``ranges`` says whether it can go on, ``status``."""

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.cut, self.ranges, self.status = content, None, True, 200
        self.asked = []

    @property
    def source(self):
        return Source(
            url=f"http://127.0.0.1:{self.server_port}/set.tar.gz",
            sha256=hashlib.sha256(self.content).hexdigest(),
            nbytes=len(self.content),
            files=tuple(FILES),
        )


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.asked.append(asked)
        start = int(asked[len("bytes=") : -1]) if asked and server.ranges else 0
        body = server.content[start:]
        self.send_response(206 if start else server.status)
        self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header(
                "Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}"
            )
        self.end_headers()
        self.wfile.write(body[: server.cut])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server(archive()) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def refusal(source, to):
    with pytest.raises(DataError) as error:
        fetch(source, to)
    return str(error.value)


def test_an_archive_is_unpacked_and_removed(server, tmp_path):
    seen = []
    folder = fetch(server.source, tmp_path / "data", watch=lambda done, of: seen.append((done, of)))
    assert folder == tmp_path / "data" / "set"
    assert {f"set/{path.name}": path.read_bytes() for path in folder.iterdir()} == FILES
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["set"]
    assert seen[-1] == (len(server.content),) * 2
    fetch(server.source, tmp_path / "data")
    assert server.asked == [None]  # what is there is not asked for again


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_goes_on(server, tmp_path, ranges):
    server.cut, server.ranges = 100, ranges
    url, total = server.source.url, len(server.content)
    part = tmp_path / "set.tar.gz.part"
    rest = f"the next call goes on after {part}, or unpack set.tar.gz into {tmp_path} yourself"
    output = refusal(server.source, tmp_path)
    assert output in (
        f"{url} ended after 100 of {total} bytes; {rest}",
        f"{url} stopped after 0 bytes: IncompleteRead(100 bytes read, {total - 100} more expected); {rest}",
    )
    server.cut = None
    fetch(server.source, tmp_path)
    assert (tmp_path / "set" / "two").read_bytes() == FILES["set/two"]
    assert server.asked == [None, "bytes=100-"]


def test_another_archive_is_refused_and_removed(server, tmp_path):
    source = server.source
    server.content = server.content[:-1] + b"?"
    digest = hashlib.sha256(server.content).hexdigest()
    assert refusal(source, tmp_path) == (
        f"{source.url} gave a file with SHA-256 {digest}, not {source.sha256}; "
        "the file was removed; try again, or use another --url"
    )
    assert list(tmp_path.iterdir()) == []


def test_nothing_but_the_named_files_is_written(server, tmp_path):
    outside, link = tarfile.TarInfo("../outside"), tarfile.TarInfo("set/link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    server.content = archive(extra=[outside, link])
    folder = fetch(server.source, tmp_path / "data")
    assert sorted(path.name for path in folder.iterdir()) == ["one", "two"]
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_link_in_the_place_of_a_file_is_refused(server, tmp_path):
    link = tarfile.TarInfo("set/two")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    server.content = archive({"set/one": b"1"}, extra=[link])
    output = refusal(server.source, tmp_path)
    assert output == f"{tmp_path}/set.tar.gz.part: set/two is no file of at most 256 MiB"


def test_a_server_that_says_no_is_one_line(server, tmp_path):
    server.status = 404
    assert refusal(server.source, tmp_path).startswith(
        f"{server.source.url}: the server says 404 Not Found; the next call goes on after "
    )


def test_no_network_is_one_line(server, tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and listens to nobody
        source = replace(server.source, url=f"http://127.0.0.1:{silent.getsockname()[1]}/set.tar.gz")
        output = refusal(source, tmp_path)
    assert output == (
        f"cannot reach {source.url}: Connection refused; the next call goes on after "
        f"{tmp_path}/set.tar.gz.part, or unpack set.tar.gz into {tmp_path} yourself"
    )


def test_the_command_fetches(server, tmp_path, monkeypatch, capsys):
    from e2train.cli.app import main

    monkeypatch.setitem(SOURCES, "cifar10", server.source)

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["e2train", "data", "fetch", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, capsys.readouterr()

    code, output = call("cifar10", "--to", str(tmp_path))
    assert (code, output.out, output.err.strip()) == (0, f"{tmp_path}/set\n", "")
    code, output = call("cifar10", "--to", str(tmp_path))
    note = "e2train: the files of cifar10 were there already; they were not checked\n"
    assert (code, output.out, output.err) == (0, f"{tmp_path}/set\n", note + "\n")
    code, output = call("mnist", "--to", str(tmp_path))
    assert (code, output.err) == (2, "e2train: no data set 'mnist' to fetch; there are: cifar10, cifar100\n")
    code, output = call("cifar10", "--to", str(tmp_path / "more"), "--url", "file:///etc/passwd")
    message = "e2train: --url must begin with http:// or https://, not 'file:///etc/passwd'\n"
    assert (code, output.err) == (2, message)
