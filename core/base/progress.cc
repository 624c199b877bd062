// SPDX-License-Identifier: Apache-2.0
#include "base/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "base/error.h"

namespace pluq {
namespace {
using Clock = std::chrono::steady_clock;
constexpr int kBarWidth = 24;
double seconds(Clock::duration d) { return std::chrono::duration<double>(d).count(); }
}  // namespace

Progress::Progress(std::string what, int64_t total, bool quiet)
    : what_(std::move(what)),
      total_(std::max<int64_t>(total, 1)),
      quiet_(quiet),
      terminal_(::isatty(STDERR_FILENO) == 1),
      start_(Clock::now()),
      drawn_(start_) {}

Progress::~Progress() {
  if (!quiet_ && terminal_ && done_ > 0) std::fputs("\r\x1b[K", stderr);
}

void Progress::step(std::string_view detail) {
  ++done_;
  if (quiet_) return;
  const bool last = done_ >= total_;
  const double since = seconds(Clock::now() - drawn_);
  if (last || since > (terminal_ ? 0.1 : 5.0)) draw(detail, last);
}

void Progress::draw(std::string_view detail, bool last) {
  drawn_ = Clock::now();
  const double spent = seconds(drawn_ - start_);
  const double left = spent / static_cast<double>(done_) * static_cast<double>(total_ - done_);
  std::string line;
  if (terminal_) {
    const auto filled = static_cast<size_t>(kBarWidth * std::min(done_, total_) / total_);
    line = fmt::format("\r\x1b[K{} [{:=<{}}{:{}}] {}/{} {:.0f}s left  {}", what_, "", filled, "",
                       kBarWidth - filled, done_, total_, left, printable(detail, 50));
  } else {
    line = fmt::format(
        "{}: {}/{} in {:.1f}s{}\n", what_, done_, total_, spent,
        last ? std::string() : fmt::format(", {:.0f}s left, {}", left, printable(detail, 80)));
  }
  std::fputs(line.c_str(), stderr);
  std::fflush(stderr);
}

}  // namespace pluq
