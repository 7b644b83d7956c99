// SPDX-License-Identifier: Apache-2.0
// Under AMD's headers: a line per result, "pair|operation|bits", for the argument "layout"; else a line per
// set of operands on stdin, with the results from the highest limb of the last one to the lowest of the
// first.
#include "matrix.hpp"

#include <vector>

#include "record.hpp"

struct Row {
  std::vector<unsigned long long> limbs;
  const char* pair;
  int at;
  bool layout;

  void begin(const char* name) { pair = name; }
  template <int kWidth, bool kSigned>
  void operator()(const char* operation, const ap_int_base<kWidth, kSigned>& value) {
    unsigned long long all[(kWidth + 63) / 64];
    limbs_of(value, all);
    put(operation, all, kWidth);
  }
  template <typename T, std::enable_if_t<std::is_integral<T>::value, int> = 0>
  void operator()(const char* operation, T value) {
    const unsigned long long limb = static_cast<unsigned long long>(value);
    put(operation, &limb, WidthOf<T>::value);
  }
  template <typename T>
  void skip(const char* operation) {
    const unsigned long long none[(WidthOf<T>::value + 63) / 64] = {};
    put(operation, none, WidthOf<T>::value);
  }
  void put(const char* operation, const unsigned long long* all, int width) {
    at = placed(at, width);
    if (layout) std::printf("%s|%s|%d|%d\n", pair, operation, at, width);
    limbs.resize((at + width + 63) / 64);
    for (int i = 0; i < width; i += 64) {
      const unsigned long long limb =
          width - i < 64 ? all[i / 64] & ((1ull << (width - i)) - 1) : all[i / 64];
      limbs[(at + i) / 64] |= limb << (at % 64);
    }
    at += width;
  }
};

int main(int count, char**) {
  unsigned long long a[2], b[2];
  int high, low;
  while (std::scanf("%llx %llx %llx %llx %d %d", &a[1], &a[0], &b[1], &b[0], &high, &low) == 6) {
    Row row{{}, "", 0, count == 2};
    const ap_uint<128> first = (ap_uint<128>(a[1]) << 64) | a[0];
    const ap_uint<128> second = (ap_uint<128>(b[1]) << 64) | b[0];
    all_cases(row, first, second, high, low);
    if (row.layout) continue;
    for (std::size_t i = row.limbs.size(); i-- > 0;) std::printf("%016llx", row.limbs[i]);
    std::printf("\n");
  }
  return 0;
}
