// SPDX-License-Identifier: Apache-2.0
// The largest magnitude of an operation's results before they saturate, and how many do.
#pragma once

#include <algorithm>
#include <vector>

#include "vectors.hpp"

namespace e2 {

// Of one sample, lane by lane.
struct Extremes {
  Lanes<int32_t> largest = 0, saturations = 0;
};

// Of one thread.
struct Totals {
  int64_t largest = 0, saturations = 0;

  void add(const Extremes& extremes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      largest = std::max<int64_t>(largest, extremes.largest[lane]);
      saturations += extremes.saturations[lane];
    }
  }
};

inline Totals sum(const std::vector<Totals>& parts) {
  Totals whole;
  for (const auto& part : parts) {
    whole.largest = std::max(whole.largest, part.largest);
    whole.saturations += part.saturations;
  }
  return whole;
}

}  // namespace e2
