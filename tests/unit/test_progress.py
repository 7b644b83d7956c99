# SPDX-License-Identifier: Apache-2.0
"""What is seen while a run trains: energy saved so far, TensorBoard's events, a line of progress."""

import json
import struct
from dataclasses import replace

import pytest
from e2train.cli.train import _print, _state
from e2train.train import PRESETS, Row, TrainError, run_training
from e2train.train.tensorboard import EventFile, crc32c
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

CONFIG = PRESETS["digits"].changed(steps=4, batch=8, seed=7, test_images=8, execution="resident")
ROW = Row(step=3, steps=9, epoch=0.1, loss=1.234, accuracy=0.875, lr=0.1, blocks_run=0.75)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out, rows = tmp_path_factory.mktemp("run"), []
    summary = run_training(CONFIG.changed(method="smb-int8", log="tensorboard"), out=out, watch=rows.append)
    return out, summary, rows


def event_class():
    """The protocol buffer of TensorBoard's events, as far as it is used."""
    file = descriptor_pb2.FileDescriptorProto(name="events.proto", package="events", syntax="proto3")
    kinds = {"double": 1, "float": 2, "int64": 3, "string": 9, "message": 11}
    for message, fields in {
        "Value": [("tag", 1, "string", 1, ""), ("simple_value", 2, "float", 1, "")],
        "Summary": [("value", 1, "message", 3, ".events.Value")],
        "Event": [
            ("wall_time", 1, "double", 1, ""), ("step", 2, "int64", 1, ""),
            ("file_version", 3, "string", 1, ""), ("summary", 5, "message", 1, ".events.Summary"),
        ],
    }.items():  # fmt: skip
        added = file.message_type.add(name=message)
        for name, number, kind, label, of in fields:
            added.field.add(name=name, number=number, type=kinds[kind], label=label, type_name=of or None)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("events.Event"))


def masked(data):
    value = crc32c(data)
    return ((value >> 15 | (value << 17) & 0xFFFFFFFF) + 0xA282EAD8) & 0xFFFFFFFF


def events_of(path):
    content, kind, found = path.read_bytes(), event_class(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        assert struct.unpack("<I", content[8:12])[0] == masked(content[:8])
        body = content[12 : 12 + length]
        assert struct.unpack("<I", content[12 + length : 16 + length])[0] == masked(body)
        found.append(kind.FromString(body))
        content = content[16 + length :]
    return found


def test_energy_saved_ends_as_the_summary_says(trained):
    _, summary, rows = trained
    shares = [row.energy_saved for row in rows]
    assert len(shares) == 4
    assert shares[-1] == pytest.approx(1 - summary.energy_of_smb_fp32, abs=1e-9)
    assert all(0 < share < 1 for share in shares)


def test_float32_saves_nothing(tmp_path):
    rows = []
    config = CONFIG.changed(method="smb-fp32", execution="offload", steps=2)
    run_training(config, out=tmp_path / "offload", watch=rows.append)
    assert [row.energy_saved for row in rows] == pytest.approx([0, 0], abs=1e-9)
    run_training(config.changed(execution="resident"), out=tmp_path / "resident", watch=rows.append)
    assert [row.energy_saved for row in rows[2:]] == [None, None]


def test_a_small_last_batch_counts_as_the_images_that_it_has(tmp_path):
    rows = []
    config = CONFIG.changed(method="smb-fp32", execution="offload", steps=3, batch=1000)
    run_training(config, out=tmp_path, watch=rows.append)
    assert [row.energy_saved for row in rows] == pytest.approx([0, 0, 0], abs=0.01)  # read weights are few


def test_events_hold_the_metrics(trained):
    out, _, rows = trained
    (path,) = out.glob("events.out.tfevents.*")
    first, *steps = events_of(path)
    assert first.file_version == "brain.Event:2"
    assert [event.step for event in steps] == [1, 2, 3, 4]
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    for event, row, logged in zip(steps, rows, metrics, strict=True):
        values = {value.tag: value.simple_value for value in event.summary.value}
        assert values == pytest.approx({tag: getattr(row, tag) for tag in values}, rel=1e-6)
        assert list(values) == ["loss", "accuracy", "lr", "blocks_run", "energy_saved"]
        assert logged["energy_saved"] == row.energy_saved
        assert abs(event.wall_time - path.stat().st_mtime) < 600


def test_long_records_have_long_lengths(tmp_path):
    file = EventFile(tmp_path)
    file.add(300, {"x" * 200: 0.5})
    event = events_of(file.path)[1]
    assert (event.step, event.summary.value[0].tag) == (300, "x" * 200)


def test_events_are_removed_with_the_run_they_are_of(trained):
    out, _, _ = trained
    (before,) = out.glob("events.out.tfevents.*")
    run_training(CONFIG.changed(method="smb-int8", steps=1), out=out, overwrite=True)
    assert not before.exists()


def test_another_log_is_refused():
    with pytest.raises(TrainError, match=r"^no log 'wandb'; there are: none, tensorboard$"):
        CONFIG.changed(log="wandb")


def test_a_step_in_a_line():
    assert _state(ROW) == "accuracy 88%  loss 1.23"


MEASURED = {"energy_duration_s": 2.04, "energy_source": "measured by log.csv"}
BESIDE = {
    "energy_per_image_j": 0.1275,
    "energy_phases_j": {"forward": 3.0, "backward": 6.0, "idle": 1.2},
    "energy_host_j": 40.0,
    "energy_host_source": "measured by rapl package-0",
}


@pytest.mark.parametrize(
    ("meter", "figures", "line"),
    [
        (
            "csv:log.csv",
            {"energy_measured_j": 10.2, **MEASURED},
            "energy  10.200 J in 2.0 s, measured by log.csv",
        ),
        (
            "auto",
            {"energy_measured_j": 10.2, **MEASURED, **BESIDE},
            "energy  10.200 J in 2.0 s, measured by log.csv; 0.128 J per image; "
            "forward 3 J, backward 6 J, idle 1.2 J; the PC beside it 40.000 J, measured by rapl package-0",
        ),
        ("auto", {"energy_simulated_j": 0.5, **MEASURED}, "energy  0.500 J in 2.0 s, measured by log.csv"),
        ("csv:log.csv", {"energy_reason": "log.csv was silent"}, "energy  not measured: log.csv was silent"),
        ("auto", {}, None),
        ("none", {}, None),
    ],
)
def test_energy_is_shown_where_it_was_asked_for(trained, capsys, meter, figures, line):
    _print(replace(trained[1], **figures), meter=meter)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("test accuracy ")
    assert lines[1:-3] == ([] if line is None else [line])
    assert [each.split()[0] for each in lines[-3:]] == ["weights", "state", "report"]


def test_what_a_meter_noted_is_shown(trained, capsys):
    _print(replace(trained[1], energy_notes="gap of 0.040 s at 0.500 s"), meter="auto")
    assert "meter   gap of 0.040 s at 0.500 s\n" in capsys.readouterr().out
