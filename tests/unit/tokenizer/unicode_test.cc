// SPDX-License-Identifier: Apache-2.0
#include "tokenizer/unicode.h"

#include <gtest/gtest.h>

#include <string>

#include "tokenizer/byte_alphabet.h"

namespace pluq {
namespace {

TEST(Utf8, EachMaximalInvalidPartBecomesOneReplacement) {
  const std::string r = "\xEF\xBF\xBD";
  EXPECT_EQ(sanitize_utf8("plain"), "plain");
  EXPECT_EQ(sanitize_utf8("\xF0\x9F\x98\x80"), "\xF0\x9F\x98\x80");
  EXPECT_EQ(sanitize_utf8("a\x80z"), "a" + r + "z");
  EXPECT_EQ(sanitize_utf8("\xF0\x9F\x98z"), r + "z");           // truncated: one
  EXPECT_EQ(sanitize_utf8("\xE4\xBD"), r);                      // at the end
  EXPECT_EQ(sanitize_utf8("\xC0\xAF"), r + r);                  // overlong
  EXPECT_EQ(sanitize_utf8("\xED\xA0\x80"), r + r + r);          // surrogate
  EXPECT_EQ(sanitize_utf8("\xF4\x90\x80\x80"), r + r + r + r);  // above U+10FFFF
  EXPECT_EQ(sanitize_utf8("\xE4\xE4\xBD\xA0"), r + "\xE4\xBD\xA0");
  EXPECT_FALSE(is_valid_utf8("\xFF"));
  EXPECT_TRUE(is_valid_utf8("\xE4\xBD\xA0"));
}

TEST(Utf8, CodePointsRoundTripInBothDirections) {
  for (char32_t c = 0; c < 0x110000; c += c < 0x3000 ? 1 : 97) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text = "x";
    append_utf8(text, c);
    size_t pos = 1;
    ASSERT_EQ(next_char(text, pos), c);
    ASSERT_EQ(pos, text.size());
    ASSERT_EQ(previous_char(text, pos), c);
    ASSERT_EQ(pos, 1u);
  }
}

TEST(Unicode, NormalFormsOrderMarks) {
  const std::string marks = "a\xCC\x81\xCC\xA7";  // acute (230), cedilla (202)
  EXPECT_EQ(normalize(marks, NormalForm::kNfd), "a\xCC\xA7\xCC\x81");
  EXPECT_EQ(normalize("e\xCC\x81", NormalForm::kNfc), "\xC3\xA9");
  EXPECT_EQ(normalize("\xEF\xAC\x81", NormalForm::kNfkc), "fi");
  EXPECT_EQ(normalize("\xEF\xAC\x81", NormalForm::kNfc), "\xEF\xAC\x81");
}

TEST(ByteAlphabet, IsABijection) {
  for (int byte = 0; byte < 256; ++byte) {
    std::string token;
    append_as_alphabet(std::string(1, static_cast<char>(byte)), token);
    std::string back;
    append_as_bytes(token, back);
    EXPECT_EQ(back, std::string(1, static_cast<char>(byte)));
  }
  std::string raw;
  append_as_bytes("a b", raw);  // a space is not of the alphabet: an added token's own text
  EXPECT_EQ(raw, "a b");
}

}  // namespace
}  // namespace pluq
