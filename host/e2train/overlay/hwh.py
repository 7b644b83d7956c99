# SPDX-License-Identifier: Apache-2.0
"""The hardware hand-off (.hwh) of an overlay, as far as pynq reads it.

Vivado writes it on a real build. This one describes the same design for the simulated board.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree import ElementTree as ET
from xml.parsers import expat

from e2train.overlay.description import PROCESSING_SYSTEMS, STARTER_VLNV, BoardDescription
from e2train.overlay.manifest import OverlayError
from e2train.overlay.registers import CDMA_REGISTERS, DMA_REGISTERS, GPIO_REGISTERS, Register, add_registers

__all__ = ["STARTER", "check_hwh", "divisors", "dma_name", "hwh_text", "with_registers"]

_DECLARATION = "<?xml version='1.0' encoding='utf-8'?>"  # whatever the locale
_SCATTER_GATHER = "c_include_sg"
_ADDRESS = re.compile(r"0[xX][0-9a-fA-F]{1,16}")
_AXI = "xilinx.com:interface:aximm:1.0"
_AXIS = "xilinx.com:interface:axis:1.0"
_CONTROL = "s_axi_control"  # the kernel's own registers
_KERNEL = "engine_0"
_FIRST_HP = 2  # among the slave ports of an UltraScale+
_PL_CLOCKS = 4  # pynq asks for all of them
_IO_PLL_MHZ = {"processing_system7": 1000, "zynq_ultra_ps_e": 1500}


STARTER = "axi_cdma_0"
"""What starts several engines at once, as overlays call it."""


def dma_name(engine: int) -> str:
    """The DMA of an engine, as overlays call it.

    >>> dma_name(0)
    'axi_dma_0'
    """
    return f"axi_dma_{engine}"


def hwh_text(board: BoardDescription, registers: tuple[Register, ...] = ()) -> str:
    """The file's content; ``registers`` are those of a kernel in the engine's place."""
    root = ET.Element("EDKSYSTEM", EDWVERSION="1.2", VIVADOVERSION="simulated")
    ET.SubElement(root, "SYSTEMINFO", NAME=f"e2train_{board.name}", DEVICE=board.config.part)
    ET.SubElement(root, "EXTERNALPORTS")
    ET.SubElement(root, "EXTERNALINTERFACES")
    modules = ET.SubElement(root, "MODULES")
    for engine in range(board.engines):
        _dma(modules, board, engine)
        _engine(modules, board, engine, registers)
    if board.starter_base is not None:
        _starter(modules, board)
    _gpio(modules, board)
    _processing_system(modules, board, control=bool(registers))
    ET.indent(root)
    return f"{_DECLARATION}\n{ET.tostring(root, encoding='unicode')}\n"


def with_registers(hwh: bytes, board: BoardDescription, registers: tuple[Register, ...]) -> bytes:
    """Vivado's hand-off with the names of the kernel's registers, which it does not know of a module.

    Raises: OverlayError when the kernel is not in it.
    """
    check_hwh(hwh, control=True)
    root = ET.fromstring(hwh)
    for module in root.iter("MODULE"):
        if module.get("INSTANCE") == _KERNEL:
            for blocks in module.findall("ADDRESSBLOCKS"):
                module.remove(blocks)
            add_registers(module, _CONTROL, registers, size=board.dma_range)
    return f"{_DECLARATION}\n{ET.tostring(root, encoding='unicode')}\n".encode()


def check_hwh(hwh: bytes, *, engines: int = 1, control: bool = False) -> None:
    """Look whether a hand-off can be one of an overlay: its processing system, and each DMA at an address.

    With ``control`` the kernel has registers, at an address too.
    Raises: OverlayError.
    """
    reader = _HwhReader()
    try:
        reader.parser.Parse(hwh, True)
    except expat.ExpatError as error:
        raise OverlayError(f"the .hwh file is no XML: {error}") from None
    if reader.root != "EDKSYSTEM":
        raise OverlayError(f"the .hwh file must hold EDKSYSTEM, not {reader.root[:40]!a}")
    if not set(PROCESSING_SYSTEMS) & set(reader.types.values()):
        raise OverlayError(f"the .hwh file has no module of type {' or '.join(PROCESSING_SYSTEMS)}")
    dmas = {dma_name(engine): "axi_dma" for engine in range(engines)}
    for name, kind in (dmas | ({STARTER: "axi_cdma"} if engines > 1 else {})).items():
        if reader.types.get(name) != kind:
            raise OverlayError(f"the .hwh file has no module {name} of type {kind}; rebuild the overlay")
        if not _ADDRESS.fullmatch(reader.addresses.get(name, "")):
            raise OverlayError(f"the .hwh file gives {name} no address")
        if reader.parameters.get((name, _SCATTER_GATHER)) != "1":
            raise OverlayError(f"the .hwh file's {name} has no scatter-gather port; rebuild the overlay")
    if control and not _ADDRESS.fullmatch(reader.addresses.get(_KERNEL, "")):
        raise OverlayError(f"the .hwh file gives {_KERNEL} no address for its registers")


class _HwhReader:
    """Modules of a hand-off, with their addresses and parameters.

    A document type declaration is refused: only there can entities be defined.
    """

    def __init__(self) -> None:
        self.root = ""
        self.types: dict[str, str] = {}  # by instance
        self.addresses: dict[str, str] = {}
        self.parameters: dict[tuple[str, str], str] = {}  # by instance and lower-case name
        self._module = ""
        self.parser = expat.ParserCreate()  # as in pynq's ElementTree, so that both read the same
        self.parser.XmlDeclHandler = self._xml_declaration
        self.parser.StartDoctypeDeclHandler = self._document_type
        self.parser.StartElementHandler = self._element

    def _xml_declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        if encoding is not None and encoding.lower() != "utf-8":
            raise OverlayError(f"the .hwh file has encoding {encoding[:40]!a}, must be UTF-8")

    def _document_type(self, *declared: object) -> None:
        raise OverlayError("the .hwh file has a document type declaration; a hand-off has none")

    def _element(self, tag: str, attributes: dict[str, str]) -> None:
        self.root = self.root or tag
        instance = attributes.get("INSTANCE", "")
        if tag == "MODULE":
            self._module = instance
            self.types[instance] = attributes.get("MODTYPE", "")
        elif tag == "PARAMETER":
            name = attributes.get("NAME", "").lower()
            self.parameters[self._module, name] = attributes.get("VALUE", "")
        elif tag == "MEMRANGE":
            self.addresses[instance] = attributes.get("BASEVALUE", "")


def _module(
    modules: ET.Element, instance: str, vlnv: str, parameters: Mapping[str, object], kind: str = ""
) -> ET.Element:
    kind = kind or vlnv.split(":")[2]
    module = ET.SubElement(
        modules, "MODULE", FULLNAME=f"/{instance}", INSTANCE=instance, MODTYPE=kind, VLNV=vlnv
    )
    listed = ET.SubElement(module, "PARAMETERS")
    for name, value in parameters.items():
        ET.SubElement(listed, "PARAMETER", NAME=name, VALUE=str(value))
    return module


def _buses(module: ET.Element, *buses: tuple[str, str, str, str]) -> None:
    listed = ET.SubElement(module, "BUSINTERFACES")
    for name, kind, vlnv, bus in buses:
        ET.SubElement(listed, "BUSINTERFACE", NAME=name, TYPE=kind, VLNV=vlnv, BUSNAME=bus)


def _dma(modules: ET.Element, board: BoardDescription, engine: int) -> None:
    parameters = {
        "c_include_sg": 1,
        "c_sg_include_stscntrl_strm": 0,
        "c_micro_dma": 0,
        "c_sg_length_width": board.dma_length_bits,
        **{f"c_include_{way}": 1 for way in ("mm2s", "s2mm")},
        **{f"c_include_{way}_dre": 0 for way in ("mm2s", "s2mm")},
        **{f"c_m_axi_{way}_data_width": board.data_bits for way in ("mm2s", "s2mm")},
    }
    module = _module(modules, dma_name(engine), board.dma_vlnv, parameters)
    add_registers(module, "S_AXI_LITE", DMA_REGISTERS, size=board.dma_range)
    _buses(
        module,
        ("S_AXI_LITE", "SLAVE", _AXI, "control"),
        ("M_AXIS_MM2S", "MASTER", _AXIS, f"words_in_{engine}"),
        ("S_AXIS_S2MM", "SLAVE", _AXIS, f"words_out_{engine}"),
    )


def _starter(modules: ET.Element, board: BoardDescription) -> None:
    parameters = {"C_INCLUDE_SG": 1, "C_ADDR_WIDTH": 32, "C_M_AXI_DATA_WIDTH": 32}
    module = _module(modules, STARTER, STARTER_VLNV, parameters)
    add_registers(module, "S_AXI_LITE", CDMA_REGISTERS, size=board.dma_range)
    _buses(module, ("S_AXI_LITE", "SLAVE", _AXI, "control"))


def _gpio(modules: ET.Element, board: BoardDescription) -> None:
    parameters = {"C_GPIO_WIDTH": 4, "C_IS_DUAL": 0, "C_ALL_INPUTS": 0, "C_ALL_OUTPUTS": 1}
    module = _module(modules, "axi_gpio_0", board.gpio_vlnv, parameters)
    add_registers(module, "S_AXI", GPIO_REGISTERS, size=board.dma_range)
    _buses(module, ("S_AXI", "SLAVE", _AXI, "control"))


def _engine(
    modules: ET.Element, board: BoardDescription, engine: int, registers: tuple[Register, ...]
) -> None:
    vlnv = board.engine_vlnv.replace("engine_axis", "engine_axis_control") if registers else board.engine_vlnv
    module = _module(modules, f"engine_{engine}", vlnv, {})
    if registers:
        add_registers(module, _CONTROL, registers, size=board.dma_range)
    _buses(
        module,
        *([(_CONTROL, "SLAVE", _AXI, "control")] if registers else []),
        ("s_axis", "SLAVE", _AXIS, f"words_in_{engine}"),
        ("m_axis", "MASTER", _AXIS, f"words_out_{engine}"),
    )


def _processing_system(modules: ET.Element, board: BoardDescription, *, control: bool) -> None:
    kind = board.processing_system
    zynq7 = kind == "processing_system7"
    module = _module(
        modules,
        f"{kind}_0",
        board.processing_system_vlnv,
        _zynq7_clocks(board) if zynq7 else _zynqmp_clocks(board),
        kind,
    )
    ranges = ET.SubElement(module, "MEMORYMAP")
    for instance, bus, base in (
        *((dma_name(engine), "S_AXI_LITE", base) for engine, base in enumerate(board.dma_bases)),
        *([(STARTER, "S_AXI_LITE", board.starter_base)] if board.starter_base is not None else []),
        ("axi_gpio_0", "S_AXI", board.gpio_base),
        *([(_KERNEL, _CONTROL, board.control_base)] if control else []),
    ):
        ET.SubElement(
            ranges,
            "MEMRANGE",
            ADDRESSBLOCK="Reg",
            BASEVALUE=f"0x{base:08X}",
            HIGHVALUE=f"0x{base + board.dma_range - 1:08X}",
            INSTANCE=instance,
            MASTERBUSINTERFACE=board.control_port,
            MEMTYPE="REGISTER",
            SLAVEBUSINTERFACE=bus,
        )
    _buses(module, (board.control_port, "MASTER", _AXI, "control"))


def divisors(board: BoardDescription) -> tuple[int, int]:
    """Both divisors that make the engine's clock of the IO PLL."""
    ratio = _IO_PLL_MHZ[board.processing_system] / board.clock_mhz
    for first in range(1, 64):
        if (ratio / first).is_integer() and ratio / first < 64:
            return int(ratio / first), first
    nearest = max(1, min(63, round(ratio)))
    return nearest, 1


def _zynq7_clocks(board: BoardDescription) -> dict[str, object]:
    one, other = divisors(board)
    parameters: dict[str, object] = {}
    for index in range(_PL_CLOCKS):
        parameters |= {
            f"PCW_FPGA_FCLK{index}_ENABLE": int(index == 0),
            f"PCW_FCLK{index}_PERIPHERAL_DIVISOR0": one,
            f"PCW_FCLK{index}_PERIPHERAL_DIVISOR1": other,
            f"PCW_FCLK{index}_PERIPHERAL_CLKSRC": "IO PLL",
            # pynqmetadata 0.2.0 asks for the UltraScale name on Zynq-7000 too
            f"PSU__CRL_APB__PL{index}_REF_CTRL__ACT_FREQMHZ": board.clock_mhz,
        }
    return parameters


def _zynqmp_clocks(board: BoardDescription) -> dict[str, object]:
    one, other = divisors(board)
    parameters: dict[str, object] = {"C_MAXIGP0_DATA_WIDTH": 32}
    for engine in range(board.engines):
        parameters[f"C_SAXIGP{_FIRST_HP + engine}_DATA_WIDTH"] = board.data_bits
    for index in range(_PL_CLOCKS):
        parameters |= {
            f"PSU__FPGA_PL{index}_ENABLE": int(index == 0),
            f"PSU__CRL_APB__PL{index}_REF_CTRL__DIVISOR0": one,
            f"PSU__CRL_APB__PL{index}_REF_CTRL__DIVISOR1": other,
            f"PSU__CRL_APB__PL{index}_REF_CTRL__SRCSEL": "IOPLL",
            f"PSU__CRL_APB__PL{index}_REF_CTRL__ACT_FREQMHZ": board.clock_mhz,
        }
    return parameters
