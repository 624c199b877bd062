// SPDX-License-Identifier: Apache-2.0
#include "base/npy.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <string_view>

#include "base/checked.h"
#include "base/error.h"
#include "base/file.h"

namespace pluq {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";

// The value of 'key' in the header's Python dict, up to `end`.
std::string_view field(std::string_view header, std::string_view key, char end,
                       const std::string& path) {
  const size_t at = header.find(key);
  if (at == std::string_view::npos) fail_input("{}: the .npy header has no {}", path, key);
  std::string_view rest = header.substr(at + key.size());
  rest.remove_prefix(std::min(rest.find_first_not_of(": "), rest.size()));
  return rest.substr(0, rest.find(end));
}

std::vector<int64_t> parse_shape(std::string_view text, const std::string& path) {
  std::vector<int64_t> shape;
  while (true) {
    const size_t digit = text.find_first_of("0123456789");
    if (digit == std::string_view::npos) return shape;
    int64_t value = 0;
    const auto [next, ec] = std::from_chars(text.data() + digit, text.data() + text.size(), value);
    if (ec != std::errc()) fail_input("{}: the .npy header's shape is out of range", path);
    shape.push_back(value);
    text = text.substr(static_cast<size_t>(next - text.data()));
  }
}

}  // namespace

Matrix read_npy(const std::string& path) {
  const std::string bytes = read_file(path, size_t{16} << 30);
  if (bytes.size() < 12 || std::string_view(bytes).substr(0, 6) != kMagic) {
    fail_input("{}: not a .npy file", path);
  }
  const int major = static_cast<unsigned char>(bytes[6]);
  if (major < 1 || major > 3)
    fail_input("{}: .npy version {} is not known; 1 to 3 are", path, major);
  const auto byte = [&](size_t i) {
    return static_cast<size_t>(static_cast<unsigned char>(bytes[i]));
  };
  const size_t length_bytes = major == 1 ? 2 : 4;
  size_t header_size = byte(8) | byte(9) << 8;
  if (length_bytes == 4) header_size |= byte(10) << 16 | byte(11) << 24;
  const size_t start = 8 + length_bytes;
  if (header_size > bytes.size() - start) fail_input("{}: the .npy header is cut off", path);
  const std::string_view header = std::string_view(bytes).substr(start, header_size);

  const std::string_view type = field(header, "'descr'", ',', path);
  if (type != "'<f4'")
    fail_input("{}: holds {}, expected '<f4' (little-endian float32)", path, printable(type));
  if (field(header, "'fortran_order'", ',', path) != "False") {
    fail_input("{}: is in Fortran order, expected C order", path);
  }
  const std::vector<int64_t> shape = parse_shape(field(header, "'shape'", ')', path), path);
  if (shape.size() != 2) fail_input("{}: has {} dimensions, expected 2", path, shape.size());

  Matrix out{shape[0], shape[1], {}};
  const int64_t count = checked_mul(out.rows, out.cols, path);
  const auto want = checked_mul(checked_cast<uint64_t>(count, path), sizeof(float), path);
  if (want != bytes.size() - start - header_size) {
    fail_input("{}: shape [{}, {}] needs {} bytes of data, the file has {}", path, out.rows,
               out.cols, want, bytes.size() - start - header_size);
  }
  out.data.resize(static_cast<size_t>(count));
  if (want > 0) std::memcpy(out.data.data(), bytes.data() + start + header_size, want);
  return out;
}

void write_npy(const std::string& path, int64_t rows, int64_t cols, std::span<const float> data) {
  std::string header =
      fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", rows, cols);
  const size_t unpadded = 10 + header.size() + 1;
  header.append((64 - unpadded % 64) % 64, ' ');
  header += '\n';
  std::string bytes(kMagic);
  bytes += '\x01';
  bytes += '\0';
  bytes += static_cast<char>(header.size() & 0xff);
  bytes += static_cast<char>(header.size() >> 8);
  bytes += header;
  bytes.append(reinterpret_cast<const char*>(data.data()), data.size_bytes());
  write_file_durably(path, bytes);
}

}  // namespace pluq
