// SPDX-License-Identifier: Apache-2.0
// Feed a Verilated kernel from stdin and print what its streams carry. The table of ports is generated.
//
// stdin: seed, idle/256, stall/256, cycle limit, limit of cycles in which no word moves; then per port: name,
// words to expect, words to send, these in hex. stdout: one "port hex" line per word that came out; then
// ".cycles n", or ".stuck n" after n cycles where not all of them came; then one ".moved port n" line per
// port.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "Vkernel.h"
#include "Vkernel___024root.h"
#include "verilated.h"

namespace {

struct Wires {
  void* at;
  int bytes;  // of one storage element: 1, 2, 4, 8, or 0 for an array of 32-bit words
};

Wires wires(CData& pin) { return {&pin, 1}; }
Wires wires(SData& pin) { return {&pin, 2}; }
Wires wires(IData& pin) { return {&pin, 4}; }
Wires wires(QData& pin) { return {&pin, 8}; }
template <std::size_t kWords>
Wires wires(VlWide<kWords>& pin) {
  return {pin.data(), 0};
}

struct Side {
  Wires wires;
  int width;
};

struct Pins {
  Wires data;
  CData* last;
  CData* valid;
  CData* ready;
  std::vector<Side> sides;
};

struct PortInfo {
  const char* name;
  int width;
  bool axis;
  bool output;
  Pins (*pins)(Vkernel&);
};

#include "ports.inc"

using Limbs = std::vector<uint32_t>;

struct Port {
  const PortInfo* info;
  Pins pins;
  std::size_t expected = 0;
  std::size_t moved = 0;
  std::vector<Limbs> words;

  // Data, TLAST and side channels.
  int limbs() const {
    int bits = info->width + 1;
    for (const Side& side : pins.sides) bits += side.width;
    return bits / 32 + 1;
  }

  void drive(const Limbs& word) {
    set(pins.data, cut(word, 0, info->width), info->width);
    int at = info->width;
    if (pins.last) *pins.last = cut(word, at++, 1)[0];
    for (const Side& side : pins.sides) {
      set(side.wires, cut(word, at, side.width), side.width);
      at += side.width;
    }
  }

  Limbs sample() const {
    Limbs word(limbs());
    put(word, 0, get(pins.data, info->width));
    int at = info->width;
    if (pins.last) put(word, at++, {*pins.last});
    for (const Side& side : pins.sides) {
      put(word, at, get(side.wires, side.width));
      at += side.width;
    }
    return word;
  }

  static Limbs cut(const Limbs& word, int at, int width) {
    Limbs part((width + 31) / 32);
    for (int i = 0; i < width; ++i) part[i / 32] |= (word[(at + i) / 32] >> ((at + i) % 32) & 1) << (i % 32);
    return part;
  }
  static void put(Limbs& word, int at, const Limbs& part) {
    for (std::size_t i = 0; i < 32 * part.size(); ++i) {
      if (part[i / 32] >> (i % 32) & 1) word[(at + i) / 32] |= 1u << ((at + i) % 32);
    }
  }
  static void set(const Wires& wires, const Limbs& value, int width) {
    switch (wires.bytes) {
      case 1:
        *static_cast<CData*>(wires.at) = value[0];
        break;
      case 2:
        *static_cast<SData*>(wires.at) = value[0];
        break;
      case 4:
        *static_cast<IData*>(wires.at) = value[0];
        break;
      case 8:
        *static_cast<QData*>(wires.at) = value[0] | uint64_t{value[1]} << 32;
        break;
      default:
        for (int i = 0; i * 32 < width; ++i) static_cast<EData*>(wires.at)[i] = value[i];
    }
  }
  static Limbs get(const Wires& wires, int width) {
    Limbs value((width + 31) / 32);
    switch (wires.bytes) {
      case 1:
        value[0] = *static_cast<CData*>(wires.at);
        break;
      case 2:
        value[0] = *static_cast<SData*>(wires.at);
        break;
      case 4:
        value[0] = *static_cast<IData*>(wires.at);
        break;
      case 8:
        value[0] = uint32_t(*static_cast<QData*>(wires.at));
        value[1] = uint32_t(*static_cast<QData*>(wires.at) >> 32);
        break;
      default:
        for (int i = 0; i * 32 < width; ++i) value[i] = static_cast<EData*>(wires.at)[i];
    }
    return value;
  }
};

Limbs parse(const std::string& hex, int limbs) {
  Limbs word(limbs);
  for (std::size_t i = 0; i < hex.size(); ++i) {
    const uint32_t digit = std::stoul(hex.substr(hex.size() - 1 - i, 1), nullptr, 16);
    if (i / 8 < word.size()) word[i / 8] |= digit << (4 * (i % 8));
  }
  return word;
}

// Whether a model keeps its state from one cycle to the next, all registers and memories.
class Stillness {
 public:
  explicit Stillness(const Vkernel& kernel)
      : state_(reinterpret_cast<const char*>(kernel.rootp)), before_(sizeof(*kernel.rootp)) {}
  bool holds() {
    const bool same = std::memcmp(state_, before_.data(), before_.size()) == 0;
    std::memcpy(before_.data(), state_, before_.size());
    return same;
  }

 private:
  const char* state_;
  std::vector<char> before_;
};

void print(const char* name, const Limbs& word) {
  std::printf("%s ", name);
  for (std::size_t i = word.size(); i-- > 0;) std::printf("%08x", word[i]);
  std::printf("\n");
}

}  // namespace

int main(int argc, char** argv) {
  auto context = std::make_unique<VerilatedContext>();
  context->commandArgs(argc, argv);
  unsigned seed, idle, stall;
  uint64_t limit, quiet_limit;
  std::cin >> seed >> idle >> stall >> limit >> quiet_limit;
  context->randReset(2);
  context->randSeed(int(seed) + 1);
  auto kernel = std::make_unique<Vkernel>(context.get());
  std::vector<Port> ports;
  for (const PortInfo& info : kPorts) {
    Port port{&info, info.pins(*kernel)};
    std::string name, word;
    std::size_t count;
    std::cin >> name >> port.expected >> count;
    for (std::size_t i = 0; i < count; ++i) {
      std::cin >> word;
      port.words.push_back(parse(word, port.limbs()));
    }
    ports.push_back(std::move(port));
  }

  std::mt19937 random(seed);
  kernel->clk = 0;
  kernel->rst_n = 0;
  uint64_t cycle = 0, finished = 0, last_move = 0;
  bool still = false;
  Stillness stillness(*kernel);
  const uint64_t kResetCycles = 4, kGrace = 200, kPatience = 2000;
  for (; cycle < limit + kGrace; ++cycle) {
    kernel->rst_n = cycle >= kResetCycles;
    bool done = kernel->rst_n;
    // Where nothing moves for long, nothing pauses either: does the kernel do anything at all?
    const bool waiting = !finished && cycle > last_move + kPatience;
    for (Port& port : ports) {
      if (port.info->output) {
        *port.pins.ready = kernel->rst_n && (waiting || random() % 256 >= stall);
        done = done && port.moved >= port.expected;
      } else {
        const bool more = kernel->rst_n && port.moved < port.words.size();
        // An offered word stays offered until it is taken.
        const bool offer = more && (*port.pins.valid || waiting || random() % 256 >= idle);
        *port.pins.valid = offer;
        done = done && port.moved >= port.expected;
        if (offer) port.drive(port.words[port.moved]);
      }
    }
    if (done && !finished) finished = cycle;
    if (finished && cycle >= finished + kGrace) break;
    if (!finished && cycle > last_move + quiet_limit) break;
    kernel->eval();
    // Handshakes happen at the rising edge, on what the pins held before it.
    std::vector<bool> moves;
    for (Port& port : ports) {
      const bool moved = kernel->rst_n && *port.pins.valid && *port.pins.ready;
      moves.push_back(moved);
      if (moved) last_move = cycle;
      if (moved && port.info->output) print(port.info->name, port.sample());
    }
    kernel->clk = 1;
    kernel->eval();
    for (std::size_t i = 0; i < ports.size(); ++i) {
      ports[i].moved += moves[i];
      if (moves[i] && !ports[i].info->output) *ports[i].pins.valid = 0;
    }
    kernel->clk = 0;
    kernel->eval();
    still = waiting && cycle % 64 < 2 && stillness.holds() && cycle % 64 == 1;
    if (still) break;
    context->timeInc(1);
    if (context->gotFinish()) return 1;
  }
  kernel->final();
  const uint64_t end = finished ? finished : std::max(last_move, kResetCycles);
  const char* how = finished ? ".cycles" : still ? ".stuck" : ".quiet";
  std::printf("%s %llu\n", how, static_cast<unsigned long long>(end - kResetCycles));
  for (const Port& port : ports) std::printf(".moved %s %zu\n", port.info->name, port.moved);
  return 0;
}
