// SPDX-License-Identifier: Apache-2.0
#include "base/hash.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include "base/error.h"

namespace pluq {

std::string sha256_hex(std::span<const std::byte> bytes) {
  unsigned char digest[32];
  unsigned int size = 0;
  if (EVP_Digest(bytes.data(), bytes.size(), digest, &size, EVP_sha256(), nullptr) != 1) {
    fail(ErrorKind::kFailed, "SHA-256 is not available in this OpenSSL");
  }
  std::string out;
  for (const unsigned char c : digest) out += fmt::format("{:02x}", c);
  return out;
}

}  // namespace pluq
