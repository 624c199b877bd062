// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace pluq {

// SHA-256 as 64 hex digits. Throws Error(kFailed) when this OpenSSL has none.
std::string sha256_hex(std::span<const std::byte> bytes);

}  // namespace pluq
