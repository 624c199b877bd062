// SPDX-License-Identifier: Apache-2.0
// The printable alphabet of byte-level tokenizers: each byte has one visible character. Bytes that
// are visible in Latin-1 stand for themselves, the other 68 follow from U+0100 in order.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "tokenizer/unicode.h"

namespace pluq {

constexpr bool stands_for_itself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) ||
         (byte >= 0xAE && byte <= 0xFF);
}

constexpr std::array<char32_t, 256> make_byte_chars() {
  std::array<char32_t, 256> table{};
  char32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    table[static_cast<size_t>(byte)] =
        stands_for_itself(byte) ? static_cast<char32_t>(byte) : next++;
  }
  return table;
}
inline constexpr std::array<char32_t, 256> kByteChars = make_byte_chars();

// The byte of a character, or -1.
constexpr std::array<int, 0x144> make_char_bytes() {
  std::array<int, 0x144> table{};
  for (int& entry : table) entry = -1;
  for (int byte = 0; byte < 256; ++byte) table[kByteChars[static_cast<size_t>(byte)]] = byte;
  return table;
}
inline constexpr std::array<int, 0x144> kCharBytes = make_char_bytes();

inline void append_as_alphabet(std::string_view bytes, std::string& out) {
  for (const char c : bytes) append_utf8(out, kByteChars[static_cast<unsigned char>(c)]);
}

// The bytes a token of this alphabet stands for. A token with any other character (an added token)
// is its own text.
inline void append_as_bytes(std::string_view token, std::string& out) {
  const size_t start = out.size();
  for (size_t pos = 0; pos < token.size();) {
    const char32_t c = next_char(token, pos);
    if (c >= kCharBytes.size() || kCharBytes[c] < 0) {
      out.resize(start);
      out.append(token);
      return;
    }
    out.push_back(static_cast<char>(kCharBytes[c]));
  }
}

}  // namespace pluq
