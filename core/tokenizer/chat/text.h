// SPDX-License-Identifier: Apache-2.0
// Text as Python's str sees it: positions count code points. Input is valid UTF-8 (templates and
// messages are made so at the door).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pluq::chat {

int64_t text_length(std::string_view s);
// The code points [begin, end) as one text; both within [0, length].
std::string_view text_range(std::string_view s, int64_t begin, int64_t end);
std::vector<std::string_view> characters(std::string_view s);

std::string upper(std::string_view s);
std::string lower(std::string_view s);
std::string capitalize(std::string_view s);
// Python's title(): every run of letters begins with a capital.
std::string title(std::string_view s);
bool is_letter(char32_t c);

// Removes white space, or the characters of `chars` when not null, at the chosen ends.
std::string_view strip(std::string_view s, const std::string* chars, bool left, bool right);
// Python's split: without a separator at runs of white space. most < 0: no limit.
std::vector<std::string_view> split(std::string_view s, const std::string* separator, int64_t most,
                                    bool from_right);
std::vector<std::string_view> split_lines(std::string_view s);
// Replaces at most `most` times (all when negative). Throws std::length_error above max_bytes.
std::string replace(std::string_view s, std::string_view from, std::string_view to, int64_t most,
                    size_t max_bytes);

std::string quoted(std::string_view s);       // Python's repr
std::string json_quoted(std::string_view s);  // json.dumps(ensure_ascii=False)

}  // namespace pluq::chat
