// SPDX-License-Identifier: Apache-2.0
// Feed a Verilated kernel from stdin and print what its streams carry. The table of ports is generated.
//
// stdin: seed, idle/256, stall/256, cycle limit; then per port: name, words to expect, words to send, these in hex.
// stdout: one "port hex" line per word that came out, then "cycles n".
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "Vkernel.h"
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
Wires wires(VlWide<kWords>& pin) { return {pin.data(), 0}; }

struct Pins {
  Wires data;
  CData* last;
  CData* valid;
  CData* ready;
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

  int limbs() const { return info->width / 32 + 1; }  // one bit more, for TLAST

  void drive(const Limbs& word) {
    const uint64_t low = word[0] | (word.size() > 1 ? uint64_t{word[1]} << 32 : 0);
    const uint64_t mask = info->width >= 64 ? ~uint64_t{0} : (uint64_t{1} << info->width) - 1;
    switch (pins.data.bytes) {
      case 1: *static_cast<CData*>(pins.data.at) = low & mask; break;
      case 2: *static_cast<SData*>(pins.data.at) = low & mask; break;
      case 4: *static_cast<IData*>(pins.data.at) = low & mask; break;
      case 8: *static_cast<QData*>(pins.data.at) = low & mask; break;
      default:
        for (int i = 0; i * 32 < info->width; ++i) {
          const int left = info->width - i * 32;
          static_cast<EData*>(pins.data.at)[i] = left >= 32 ? word[i] : word[i] & ((1u << left) - 1);
        }
    }
    if (pins.last) *pins.last = word[info->width / 32] >> (info->width % 32) & 1;
  }

  Limbs sample() const {
    Limbs word(limbs());
    switch (pins.data.bytes) {
      case 1: word[0] = *static_cast<CData*>(pins.data.at); break;
      case 2: word[0] = *static_cast<SData*>(pins.data.at); break;
      case 4: word[0] = *static_cast<IData*>(pins.data.at); break;
      case 8:
        word[0] = uint32_t(*static_cast<QData*>(pins.data.at));
        word[1] = uint32_t(*static_cast<QData*>(pins.data.at) >> 32);
        break;
      default:
        for (int i = 0; i * 32 < info->width; ++i) word[i] = static_cast<EData*>(pins.data.at)[i];
    }
    if (pins.last && *pins.last) word[info->width / 32] |= 1u << (info->width % 32);
    return word;
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
  uint64_t limit;
  std::cin >> seed >> idle >> stall >> limit;
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
  uint64_t cycle = 0, finished = 0;
  constexpr uint64_t kResetCycles = 4, kGrace = 200;
  for (; cycle < limit + kGrace; ++cycle) {
    kernel->rst_n = cycle >= kResetCycles;
    bool done = kernel->rst_n;
    for (Port& port : ports) {
      if (port.info->output) {
        *port.pins.ready = kernel->rst_n && random() % 256 >= stall;
        done = done && port.moved >= port.expected;
      } else {
        const bool more = kernel->rst_n && port.moved < port.words.size();
        // An offered word stays offered until it is taken.
        const bool offer = more && (*port.pins.valid || random() % 256 >= idle);
        *port.pins.valid = offer;
        if (offer) port.drive(port.words[port.moved]);
      }
    }
    if (done && !finished) finished = cycle;
    if (finished && cycle >= finished + kGrace) break;
    kernel->eval();
    // Handshakes happen at the rising edge, on what the pins held before it.
    std::vector<bool> moves;
    for (Port& port : ports) {
      const bool moved = kernel->rst_n && *port.pins.valid && *port.pins.ready;
      moves.push_back(moved);
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
    context->timeInc(1);
    if (context->gotFinish()) return 1;
  }
  kernel->final();
  if (!finished) {
    for (const Port& port : ports) {
      std::fprintf(stderr, "%s: %zu words moved\n", port.info->name, port.moved);
    }
    std::fprintf(stderr, "no end within %llu cycles\n", static_cast<unsigned long long>(limit));
    return 1;
  }
  std::printf("cycles %llu\n", static_cast<unsigned long long>(finished - kResetCycles));
  return 0;
}
