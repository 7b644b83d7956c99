# SPDX-License-Identifier: Apache-2.0
"""The configurations and the C++ header made of them."""

import hashlib
import re

import pytest
from e2train.config import BOARDS_FILE, ConfigError, config_header, config_names, load_config

KEYS = "part, family, engines, ic_lanes, oc_lanes, x_depth, w_depth, period_ns, dsp, bram36, lut, ff"


def boards(tmp_path, **changes):
    """A boards.toml with [pynq_z2] alone, some lines replaced (None: left out)."""
    lines = BOARDS_FILE.read_text().split("[pynq_z2]")[1].split("[")[0].strip().splitlines()
    values = dict(line.split(" = ") for line in lines) | changes
    path = tmp_path / "boards.toml"
    path.write_text("\n".join(["[pynq_z2]", *(f"{k} = {v}" for k, v in values.items() if v is not None)]))
    return path


@pytest.mark.parametrize("name", config_names())
def test_every_configuration_loads_and_fits_its_part(name):
    cfg = load_config(name)
    assert cfg.name == name
    assert cfg.multipliers == 128
    assert cfg.macs_per_cycle <= cfg.dsp


def test_the_engines_are_as_wide_as_promised():
    assert {name: load_config(name).macs_per_cycle for name in config_names()} == {
        "pynq_z2": 128,
        "zcu104": 512,
        "kv260": 256,
    }


def test_hashes_tell_configurations_apart():
    assert len({load_config(name).hash32 for name in config_names()}) == len(config_names())


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ConfigError) as error:
        load_config("pynq_z1")
    assert str(error.value) == "no configuration 'pynq_z1' in boards.toml; there are: pynq_z2, zcu104, kv260"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dsp": None, "ff": None}, f"boards.toml [pynq_z2] lacks dsp, ff; the keys are: {KEYS}"),
        ({"lanes": 4}, f"boards.toml [pynq_z2] has unknown 'lanes'; the keys are: {KEYS}"),
        ({"dsp": "'many'"}, "boards.toml [pynq_z2] dsp must be of type int, not 'many'"),
        ({"dsp": "true"}, "boards.toml [pynq_z2] dsp must be of type int, not True"),
        ({"family": "'ice40'"}, "[pynq_z2] family must be one of xc7, xcup, not 'ice40'"),
        *(
            (
                {"ic_lanes": ic, "oc_lanes": oc},
                f"[pynq_z2] ic_lanes must be 16 and oc_lanes 8, not {ic} and {oc}; "
                "a larger part takes more engines",
            )
            for ic, oc in ((8, 4), (8, 8), (16, 16), (32, 16))
        ),
        *(({"engines": n}, f"[pynq_z2] engines must be in 1..16, not {n}") for n in (0, 17)),
        ({"x_depth": 1000}, "[pynq_z2] x_depth must be a power of two in 64..32768, not 1000"),
        ({"w_depth": 64}, "[pynq_z2] w_depth must be a power of two in 128..32768, not 64"),
        ({"period_ns": -1}, "[pynq_z2] period_ns must be above 0, not -1"),
    ],
)
def test_a_wrong_section_is_refused_with_what_is_right(tmp_path, changes, message):
    with pytest.raises(ConfigError) as error:
        load_config("pynq_z2", boards(tmp_path, **changes))
    assert str(error.value) == message


@pytest.mark.parametrize("name", config_names())
def test_the_header_says_what_the_configuration_says(name):
    cfg = load_config(name)
    header = config_header(cfg)
    digest = hashlib.sha256(BOARDS_FILE.read_bytes()).hexdigest()
    assert header.splitlines()[0] == f"// boards.toml sha256 {digest}"
    values = {key: int(value.rstrip("u"), 0) for key, value in re.findall(r"(k\w+) = (\w+);", header)}
    assert values == {
        "kIcLanes": cfg.ic_lanes,
        "kOcLanes": cfg.oc_lanes,
        "kXDepth": cfg.x_depth,
        "kWDepth": cfg.w_depth,
        "kConfigHash": cfg.hash32,
    }
