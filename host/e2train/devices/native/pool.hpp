// SPDX-License-Identifier: Apache-2.0
// Threads that share the samples of one call. Results do not depend on how many there are: each sample's
// results have a place of their own, and what is added up over samples is integers.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace e2 {

class Pool {
 public:
  explicit Pool(int threads) {
    for (int worker = 1; worker < threads; ++worker) {
      workers_.emplace_back([this, worker] { serve(worker); });
    }
  }

  ~Pool() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      closing_ = true;
    }
    wake_.notify_all();
    for (auto& worker : workers_) worker.join();
  }

  int threads() const { return int(workers_.size()) + 1; }

  // Call work(index, thread) for each index below count; the calling thread takes part. A thread that wakes
  // too late to find work is not waited for.
  void run(int count, const std::function<void(int, int)>& work) {
    if (workers_.empty() || count < 2) {
      for (int index = 0; index < count; ++index) work(index, 0);
      return;
    }
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      work_ = &work;
      count_ = count;
      next_ = 0;
      ++round_;
    }
    wake_.notify_all();
    take(work, 0);
    std::unique_lock<std::mutex> lock(mutex_);
    work_ = nullptr;
    lock.unlock();
    soon([this] { return busy_ == 0; });
    lock.lock();
    done_.wait(lock, [this] { return busy_ == 0; });
  }

 private:
  void take(const std::function<void(int, int)>& work, int thread) {
    for (int index = next_++; index < count_; index = next_++) work(index, thread);
  }

  void serve(int thread) {
    long seen = 0;
    for (;;) {
      soon([&] { return closing_ || round_ != seen; });
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [&] { return closing_ || round_ != seen; });
      if (closing_) return;
      seen = round_;
      const auto* work = work_;
      if (!work) continue;
      ++busy_;
      lock.unlock();
      take(*work, thread);
      lock.lock();
      if (--busy_ == 0) done_.notify_one();
    }
  }

  // Operations follow each other closely: to look out for a while costs less than to sleep and be woken.
  template <typename Condition>
  static void soon(Condition condition) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(300);
    while (!condition() && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  }

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  const std::function<void(int, int)>* work_ = nullptr;  // null: nothing is left to take
  std::atomic<int> next_{0}, busy_{0};
  std::atomic<long> round_{0};
  std::atomic<bool> closing_{false};
  int count_ = 0;
};

}  // namespace e2
