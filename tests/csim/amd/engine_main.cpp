// SPDX-License-Identifier: Apache-2.0
// The engine under AMD's headers: one transfer from stdin, its reply to stdout, both as 64-bit words.
#include <cstdio>

#include "engine_top.cpp"

int main() {
  static hls::stream<Beat> s_axis("s_axis"), m_axis("m_axis");
  unsigned long long word, next;
  bool some = std::fread(&word, sizeof word, 1, stdin) == 1;
  while (some) {
    some = std::fread(&next, sizeof next, 1, stdin) == 1;
    Beat beat;
    beat.data = word;
    beat.keep = -1;
    beat.strb = -1;
    beat.last = !some;
    s_axis.write(beat);
    word = next;
  }
  while (!s_axis.empty()) {
    engine(s_axis, m_axis);
  }
  while (!m_axis.empty()) {
    const unsigned long long out = m_axis.read().data.to_uint64();
    std::fwrite(&out, sizeof out, 1, stdout);
  }
  return 0;
}
