# SPDX-License-Identifier: Apache-2.0
"""Every C++ that this flow does not take is one line that says where and why."""

from pathlib import Path

import pytest
from checked_flow import lower
from e2hls.base.errors import HlsError
from e2hls.base.kernel import Kernel
from e2hls.native import build_native

HEAD = "#include <ap_int.h>\n#include <hls_stream.h>\nusing In = hls::stream<ap_int<16>>;\n"
TOP = 'extern "C" void k(In& x_in, In& y_out) {\n'
ECHO = "  y_out.write(x_in.read());\n}\n"

# Name: what follows HEAD (from line 4 on), and the whole message after the file's name.
CASES = {
    "recursion": (
        "static int f(int n) {\n  return n <= 1 ? 1 : f(n - 1) + n;\n}\n"
        + TOP
        + "  y_out.write(f(x_in.read()));\n}\n",
        "5:23: f calls itself; hardware has no call stack: use a loop",
    ),
    "floating point": (
        TOP + "  const float x = x_in.read().to_int();\n  y_out.write(static_cast<int>(x * 1.5f));\n}\n",
        "5:19: floating point is not supported; use ap_int with a scale of your own",
    ),
    "escaping pointer": (
        "static ap_int<16>* where;\n"
        + TOP
        + "  static ap_int<16> a[4];\n  where = &a[x_in.read() & 3];\n  y_out.write(*where);\n}\n",
        "7:9: a pointer escapes; hardware takes arrays and streams, indexed or passed as such",
    ),
    "function pointer": (
        TOP
        + "  static int (*f[2])(int) = {[](int a) { return a; }, [](int a) { return a + 1; }};\n"
        + "  y_out.write(f[x_in.read() & 1](3));\n}\n",
        "6:15: a pointer escapes; hardware takes arrays and streams, indexed or passed as such",
    ),
    "walking pointer": (
        TOP
        + "  static ap_int<16> a[64];\n  const ap_int<16> x = x_in.read();\n  ap_int<16>* p = a;\n"
        + "  while (p != a + (x & 63)) *p++ = x;\n  y_out.write(a[x & 7]);\n}\n",
        "8:31: which variable is accessed here is decided at run time; use one array and an index",
    ),
    "array of variable size": (
        TOP + "  const int n = x_in.read();\n  int a[n];\n  a[n & 3] = n;\n  y_out.write(a[n & 1]);\n}\n",
        "6:3: the size of this array is not constant",
    ),
    "unrolling without end": (
        TOP
        + "  const int n = x_in.read();\n  int sum = 0;\nterms:\n  for (int i = 0; i < n; ++i) {\n"
        + "    #pragma HLS UNROLL\n    sum += i;\n    y_out.write(sum);\n  }\n}\n",
        "8:3: terms must be unrolled (pragma UNROLL, or a PIPELINE around it), "
        "but how often it runs is not constant",
    ),
    "unknown function": (
        "int elsewhere(int);\n" + TOP + "  y_out.write(elsewhere(x_in.read()));\n}\n",
        "6:15: elsewhere is called, which has no body in this kernel",
    ),
    "exception": (
        TOP + "  const ap_int<16> x = x_in.read();\n  if (x < 0) throw 1;\n  y_out.write(x);\n}\n",
        "6:14: cannot use 'throw' with exceptions disabled",
    ),
    "syntax": (TOP + "  y_out.write(x_in.read())\n}\n", "5:27: expected ';' after expression"),
    "unknown pragma": (
        TOP + "  #pragma HLS PROTOCOL mode=fixed\n" + ECHO,
        "5:3: pragma HLS PROTOCOL is not supported; supported: "
        "ARRAY_PARTITION, ARRAY_RESHAPE, DATAFLOW, DEPENDENCE, INTERFACE, PIPELINE, STREAM, UNROLL",
    ),
    "unknown option": (
        TOP + "  #pragma HLS PIPELINE III=1\n" + ECHO,
        "5:3: pragma HLS PIPELINE does not take iii=",
    ),
    "unknown variable": (
        TOP + "  #pragma HLS STREAM variable=nothing depth=4\n" + ECHO,
        "5:3: pragma HLS: use of undeclared identifier 'nothing'",
    ),
    "missing option": (
        TOP + "  #pragma HLS STREAM depth=4\n" + ECHO,
        "5:3: pragma HLS STREAM needs variable=",
    ),
    "unknown word": (
        TOP + "  #pragma HLS PIPELINE II 2\n" + ECHO,
        "5:3: pragma HLS PIPELINE does not take ii",
    ),
    "element of an array in a pragma": (
        TOP + "  static ap_int<16> a[2][4];\n  #pragma HLS ARRAY_PARTITION variable=a[0]\n" + ECHO,
        "6:3: pragma HLS ARRAY_PARTITION names a[0]; name the array and choose a dimension",
    ),
    "variable chosen at run time in a pragma": (
        TOP
        + "  ap_int<16> a[4], b[4];\n  a[0] = b[0] = x_in.read();\n"
        + "  ap_int<16>* const p = a[0] > 3 ? a : b;\n  #pragma HLS ARRAY_PARTITION variable=p\n"
        + "  y_out.write(p[a[0] & 3]);\n}\n",
        "8:3: which variable this pragma names is decided at run time; name the variable",
    ),
    "stream as an array": (
        TOP + "  #pragma HLS ARRAY_PARTITION variable=x_in\n" + ECHO,
        "5:3: pragma HLS ARRAY_PARTITION is for an array, but x_in is none",
    ),
    "array as a stream": (
        TOP
        + "  static ap_int<16> a[4];\n  #pragma HLS STREAM variable=a depth=4\n"
        + "  a[x_in.read() & 3] = 1;\n  y_out.write(a[1]);\n}\n",
        "6:3: pragma HLS STREAM is for an hls::stream, but a is none",
    ),
    "option twice": (
        TOP + "  static ap_int<16> a[2][4];\n  #pragma HLS ARRAY_PARTITION variable=a dim=1 dim=2\n" + ECHO,
        "6:3: pragma HLS ARRAY_PARTITION gives dim= twice; write one pragma for each",
    ),
    "pragma outside of functions": (
        "#pragma HLS PIPELINE II=1\n" + TOP + ECHO,
        "4:1: this pragma cannot stand here; put it first in the body of the loop or function that it is for",
    ),
    "pragma before a function's body": (
        'extern "C" void k(In& x_in, In& y_out)\n#pragma HLS PIPELINE\n{\n' + ECHO,
        "5:1: this pragma cannot stand here; put it first in the body of the loop or function that it is for",
    ),
    "pragma in a class": (
        "struct S {\n  #pragma HLS PIPELINE\n  int x;\n};\n" + TOP + ECHO,
        "5:3: this pragma cannot stand here; put it first in the body of the loop or function that it is for",
    ),
    "pragma after an access specifier": (
        "struct S {\n public:\n  #pragma HLS PIPELINE\n  int x;\n};\n" + TOP + ECHO,
        "6:3: this pragma cannot stand here; put it first in the body of the loop or function that it is for",
    ),
    "pragma in a loop's header": (
        TOP + "  for (int i = 0;\n    #pragma HLS PIPELINE\n    i < 3; ++i) y_out.write(1);\n" + ECHO,
        "6:5: this pragma cannot stand here; put it first in the body of the loop or function that it is for",
    ),
    "pragma in an expression": (
        TOP + "  y_out.write(x_in.read() > 0 ? 1 :\n    #pragma HLS PIPELINE\n    2);\n}\n",
        "6:5: this pragma cannot stand here; put it first in the body of the loop or function that it is for",
    ),
    "pragma before else": (
        TOP
        + "  const int x = x_in.read();\n  if (x) {\n    y_out.write(1);\n  }\n"
        + "  #pragma HLS PIPELINE\n  else\n    y_out.write(2);\n}\n",
        "9:3: this pragma cannot stand here; put it first in the body of the loop or function that it is for",
    ),
    "pragma from a macro": (
        '#define FAST _Pragma("HLS PIPELINE III=1")\n' + TOP + "  FAST\n" + ECHO,
        "6:3: pragma HLS PIPELINE does not take iii=",
    ),
    **{
        f"DEPENDENCE {promise}": (
            TOP + f"  static int a[4];\n  #pragma HLS DEPENDENCE {promise}\n  a[0] = 1;\n" + ECHO,
            f"6:3: pragma HLS{message}",
        )
        for promise, message in (
            ("variable=a inter fals", " DEPENDENCE does not take fals"),
            (
                "variable=a inter type=intra",
                " DEPENDENCE takes one type of inter, intra, not intra and inter",
            ),
            ("variable=a direction=RAR", " DEPENDENCE takes one direction of RAW, WAR, WAW, not RAR"),
            ("inter false", " DEPENDENCE needs either variable= or class="),
            ("variable=a array", " DEPENDENCE needs either variable= or class="),
            ("variable=a true distance=0", " DEPENDENCE distance=0 must be at least 1"),
            ("variable=a,b inter false", ": use of undeclared identifier 'b'"),
        )
    },
    "unrolling by less than one": (
        TOP + "  for (int i = 0; i < 8; ++i) {\n    #pragma HLS UNROLL factor=-1\n" + ECHO + "}\n",
        "6:5: pragma HLS UNROLL factor=-1 must be at least 1",
    ),
    "condition that is no constant": (
        TOP + "  const int n = x_in.read();\n  #pragma HLS if (n > 1) PIPELINE\n  y_out.write(n);\n}\n",
        "6:3: pragma HLS: non-type template argument is not a constant expression",
    ),
    "two kinds of partition": (
        TOP
        + "  static int a[4];\n  #pragma HLS ARRAY_PARTITION variable=a cyclic type=block factor=2\n"
        + ECHO,
        "6:3: pragma HLS ARRAY_PARTITION takes one type of complete, block, cyclic, not cyclic and block",
    ),
    "partition without its factor": (
        TOP + "  static int a[4];\n  #pragma HLS ARRAY_RESHAPE variable=a cyclic\n" + ECHO,
        "6:3: pragma HLS ARRAY_RESHAPE cyclic needs factor=",
    ),
    "partition into less than one part": (
        TOP
        + "  static ap_int<16> a[4];\n  #pragma HLS ARRAY_PARTITION variable=a block factor=0\n"
        + "  a[x_in.read() & 3] = 1;\n  y_out.write(a[1]);\n}\n",
        "6:3: pragma HLS ARRAY_PARTITION factor=0 must be at least 1",
    ),
    "interface of another kind": (
        TOP + "  #pragma HLS INTERFACE m_axi port=x_in depth=16\n" + ECHO,
        "5:3: pragma HLS INTERFACE is taken with axis, and with ap_ctrl_none port=return",
    ),
    "interface of no kind": (
        TOP + "  #pragma HLS INTERFACE port=x_in\n" + ECHO,
        "5:3: pragma HLS INTERFACE takes one mode of ap_ack, ap_ctrl_chain, ap_ctrl_hs, ap_ctrl_none, "
        "ap_fifo, ap_hs, ap_memory, ap_none, ap_ovld, ap_stable, ap_vld, axis, bram, m_axi, s_axilite, "
        "not none",
    ),
    "stream as a shared array": (
        TOP + "  #pragma HLS STREAM variable=x_in type=shared\n" + ECHO,
        "5:3: pragma HLS STREAM is taken with type=fifo and type=pipo only",
    ),
    "partition of a dimension that is not there": (
        TOP
        + "  static ap_int<16> a[4];\n  #pragma HLS ARRAY_PARTITION variable=a dim=2\n"
        + "  a[x_in.read() & 3] = 1;\n  y_out.write(a[1]);\n}\n",
        "6:3: pragma HLS ARRAY_PARTITION dim=2, but a has 1",
    ),
    "no top function": ("void other() {}\n", "1:1: there is no function k in this source"),
    "port of another kind": (
        'extern "C" void k(In& x_in, int n, In& y_out) {\n  y_out.write(x_in.read() + n);\n}\n',
        "4:1: the parameter n of k is no hls::stream&",
    ),
    "port of both ways": (
        TOP + "  x_in.write(x_in.read());\n  y_out.write(1);\n}\n",
        "4:1: the stream x_in is read and written; a port goes one way",
    ),
    "loop without end": (
        TOP
        + "  int s = 0;\n  for (unsigned char i = 0; i < 256; ++i) {\n    s += x_in.read();\n  }\n"
        + "  y_out.write(s);\n}\n",
        "6:3: k never returns, since this loop does not end; the stream y_out is not used before",
    ),
    "loop without end or effect": (
        TOP
        + "  unsigned s = 0;\n  for (unsigned char i = 0; i < 256; ++i) s += i;\n"
        + "  y_out.write(s + x_in.read());\n}\n",
        "6:3: k never returns, since this loop does not end; the stream x_in is not used before",
    ),
    "function without its return": (
        "static int f(int) {}\n" + TOP + "  y_out.write(f(x_in.read()));\n}\n",
        "5:1: k never returns, since it comes to what C++ leaves undefined; the stream y_out is not used "
        "before",
    ),
    "process without end": (
        "static void p(In& x, In& y) {\n  int s = 0;\nterms:\n  while (s < 1 || s > 0) s = x.read() | 1;\n"
        + "  y.write(s);\n}\n"
        + TOP
        + "  #pragma HLS DATAFLOW\n  In m;\n  p(x_in, m);\n  p(m, y_out);\n}\n",
        "7:3: p never returns, since this loop does not end; the stream y_out is not used before",
    ),
    "code in a DATAFLOW function": (
        TOP + "  #pragma HLS DATAFLOW\n" + ECHO,
        "6:20: a DATAFLOW function may only declare variables, compute values and call functions; this one "
        "is no process, as it returns a value or is called elsewhere too",
    ),
    "stream without a reader": (
        "static void p(In& x, In& z, In& y) { y.write(x.read()); z.write(1); }\n"
        + TOP
        + "  #pragma HLS DATAFLOW\n  In mid;\n  p(x_in, mid, y_out);\n}\n",
        "7:6: the stream mid is written but never read",
    ),
    "part of an element": (
        "struct Part { ap_uint<8> v; };\n"
        + TOP
        + "  static ap_int<16> a[4];\n  const ap_int<16> x = x_in.read();\n"
        + "  reinterpret_cast<Part*>(a)[x & 7].v = x;\n  y_out.write(a[1]);\n}\n",
        "8:39: a is not accessed by whole elements; access them one by one",
    ),
    "initialised by code": (
        "static int square(int x) { return x * x; }\nstatic int table[2] = {square(2), square(3)};\n"
        + TOP
        + "  y_out.write(table[x_in.read() & 1]);\n}\n",
        "5:12: this variable is initialised by code, but no code runs before the kernel's first call; "
        "make constexpr what initialises it",
    ),
    "defined elsewhere": (
        "extern int n;\n" + TOP + "  y_out.write(x_in.read() + n);\n}\n",
        "6:27: n is defined in no source of this kernel; define it here",
    ),
    "stream with two readers": (
        "static void p(In& x, In& y) { y.write(x.read()); }\n"
        + "static void q(In& x, In& y) { y.write(x.read() - 1); }\n"
        + 'extern "C" void k(In& x_in, In& y_out, In& z_out) {\n'
        + "  #pragma HLS DATAFLOW\n  p(x_in, y_out);\n  q(x_in, z_out);\n}\n",
        "6:1: the stream x_in is read by p and q; a stream has one end on each side: use a stream for each "
        "of them",
    ),
    "static array between processes": (
        "static void p(In& x, int t[4], In& y) {\n  t[0] = x.read();\n  y.write(t[0]);\n}\n"
        + "static void q(In& x, int t[4], In& y) { y.write(t[x.read() & 3]); }\n"
        + TOP
        + "  #pragma HLS DATAFLOW\n  static int t[4];\n  In m;\n  p(x_in, t, m);\n  q(m, t, y_out);\n}\n",
        "11:1: array t is static, but p and q share it, and work on two copies of it in turn; declare it "
        "without static where it is written as a whole each time",
    ),
    "table between processes": (
        "static int t[4] = {1, 2, 3, 4};\nstatic void p(In& x, In& y) { y.write(t[x.read() & 3]); }\n"
        + TOP
        + "  #pragma HLS DATAFLOW\n  In mid;\n  p(x_in, mid);\n  p(mid, y_out);\n}\n",
        "4:1: array t is read by p and p_1 and never written; declare it const: then each has its own",
    ),
    "stream of floating point": (
        'extern "C" void k(hls::stream<float>& x_in, In& y_out) {\n  y_out.write(x_in.read() > 1);\n}\n',
        "5:19: a stream of floating point is not supported; use ap_int with a scale of your own",
    ),
    "stream of a struct with floating point": (
        "struct Pair {\n  int a[2];\n  float b;\n};\n"
        + 'extern "C" void k(hls::stream<Pair>& x_in, In& y_out) {\n  const Pair x = x_in.read();\n'
        + "  y_out.write(x.a[0]);\n}\n",
        "9:22: a word of a stream consists of integers, enums, ap_int, hls::vector, arrays and plain structs "
        "of these",
    ),
    "no such member": (
        TOP + "  const ap_uint<8> x = x_in.read();\n  y_out.write(x.nothing());\n}\n",
        "6:17: no member named 'nothing' in 'ap_int_base<8, false>'",
    ),
    "new": (
        TOP + "  int* p = new int[4];\n  y_out.write(x_in.read());\n  delete[] p;\n}\n",
        "5:12: memory is allocated here (new, malloc, a container of std), but hardware has no heap: use "
        "an array of constant size",
    ),
    "std::vector": (
        "#include <vector>\n" + TOP + "  std::vector<int> p(4);\n  y_out.write(x_in.read() + p[0]);\n}\n",
        "6:20: memory is allocated here (new, malloc, a container of std), but hardware has no heap: use "
        "an array of constant size",
    ),
    "no such conversion": (
        TOP + "  ap_uint<8> x = x_in.read();\n  x += In();\n  y_out.write(x);\n}\n",
        "6:5: no viable overloaded '+='",
    ),
    "number of no bits": (
        TOP + "  const ap_uint<0> x = x_in.read();\n  y_out.write(x);\n}\n",
        "5:20: ap_int: the width must be positive",
    ),
    "range out of bounds": (
        TOP + "  const ap_uint<8> x = x_in.read();\n  y_out.write(x(8, 0));\n}\n",
        "6:15: bit 8 of a number of 8 bits is accessed; they are counted from 0 to 7",
    ),
    "bit out of bounds in an unrolled loop": (
        TOP
        + "  ap_uint<8> x = x_in.read();\n  for (int i = 0; i < 8; ++i) {\n    #pragma HLS UNROLL\n"
        + "    x[i] = x[i + 1];\n  }\n  y_out.write(x);\n}\n",
        "8:12: bit 8 of a number of 8 bits is accessed; they are counted from 0 to 7",
    ),
    "negative bit": (
        TOP + "  ap_uint<8> x = x_in.read();\n  x.set(-1);\n  y_out.write(x);\n}\n",
        "6:5: bit -1 of a number of 8 bits is accessed; they are counted from 0 to 7",
    ),
    "missing header": (
        '#include "nowhere.hpp"\n' + TOP + ECHO,
        "4:10: 'nowhere.hpp' file not found",
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_unsupported_source_is_one_line(case: tuple[str, str], tmp_path: Path) -> None:
    body, want = case
    source = tmp_path / "k.cpp"
    source.write_text(HEAD + body)
    with pytest.raises(HlsError) as raised:
        lower(Kernel("k", source))
    assert str(raised.value) == f"{source}:{want}"


def test_a_bit_that_is_never_accessed_may_be_out_of_bounds(tmp_path: Path) -> None:
    source = tmp_path / "k.cpp"
    source.write_text(
        HEAD
        + "template <int kWidth>\nap_uint<1> ninth(ap_uint<kWidth> x) {\n  if (kWidth > 8) return x[8];\n"
        + "  return 0;\n}\n"
        + TOP
        + "  const ap_uint<8> x = x_in.read();\n  y_out.write(ninth<8>(x) + ninth<9>(x));\n}\n"
    )
    assert lower(Kernel("k", source)).name == "k"


def test_native_errors_in_the_headers_have_the_users_place(tmp_path: Path) -> None:
    source = tmp_path / "k.cpp"
    for name in ("stream of floating point", "stream of a struct with floating point", "number of no bits"):
        body, want = CASES[name]
        source.write_text((HEAD + body).replace("In&", "hls::stream<ap_int<16>>&"))
        with pytest.raises(HlsError) as raised:
            build_native(Kernel("k", source))
        assert str(raised.value) == f"{source}:{want}"
