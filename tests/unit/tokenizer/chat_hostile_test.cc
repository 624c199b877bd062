// SPDX-License-Identifier: Apache-2.0
// Chat templates that are wrong or hostile end with one sentence, soon.
#include <gtest/gtest.h>

#include <chrono>
#include <random>

#include "base/json.h"
#include "support/files.h"
#include "tokenizer/chat/chat_template.h"

namespace pluq {
namespace {

using test::expect_error;

std::string render(const std::string& source) {
  const boost::json::object variables{
      {"messages", boost::json::array{boost::json::object{{"role", "user"}, {"content", "hi"}}}},
      {"n", 3}};
  return ChatTemplate::parse(source, "t.jinja")->render(variables, 0);
}

std::string times(int n, const std::string& s) {
  std::string out;
  for (int i = 0; i < n; ++i) out += s;
  return out;
}

TEST(ChatTemplate, ErrorsNameTheLine) {
  const std::pair<const char*, const char*> wrong[] = {
      {"a\n{% if x %}\nb", "t.jinja: line 3: the template ends before 'elif' or 'else' or 'endif'"},
      {"\n{{ x|nosuch }}", "line 2: there is no filter 'nosuch'"},
      {"{{ x is nosuch }}", "line 1: there is no test 'nosuch'"},
      {"{% include 'a' %}", "'include' is not a statement"},
      {"{{ 1 + }}", "expected an expression, found '}}'"},
      {"{{ 'abc }}", "a string has no closing '"},
      {"{{ (1, 2 }}", "unexpected '}', expected ')'"},
      {"{{ 1", "a tag has no '}}'"},
      {"{# x", "a comment {# has no #}"},
      {"{% raw %}x", "has no {% endraw %}"},
      {"{% break %}", "'break' outside of a for statement"},
      {"{{ 99999999999999999999 }}", "too large for an integer"},
      {"{% set true = 1 %}", "'true' cannot be assigned to"},
      {"\n\n{{ missing.x }}", "line 3: 'missing' is undefined, so it has no 'x'"},
      {"{{ messages[0].content.x.y }}", "a string has no 'x', so it has no 'y'"},
      {"{{ missing() }}", "'missing' is undefined, so it cannot be called"},
      {"{{ n() }}", "an integer cannot be called"},
      {"{{ 'a' + 1 }}", "'+' does not join a string and an integer"},
      {"{{ 'a' < 1 }}", "a string and an integer have no order"},
      {"{{ 1 // 0 }}", "division by zero"},
      {"{{ 9223372036854775807 + 1 }}", "overflows"},
      {"{% for x in n %}{% endfor %}", "an integer cannot be walked over"},
      {"{% set n.x = 1 %}", "an integer is not a namespace"},
      {"{% set a, b = [1] %}", "1 values for 2 names"},
      {"{{ missing|tojson }}", "an undefined value cannot be written as JSON"},
      {"{% macro m(a) %}{% endmacro %}{{ m(b=1) }}", "has no parameter 'b'"},
      {"{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", "m takes at most 1 arguments, 2 are given"},
      {"x\n{{ raise_exception('no \\n way') }}",
       "line 2: the template refuses the conversation: no \\x0a way"},
      {"{{ strftime_now('%Y' * 1000) }}", "longer than 1000"},
  };
  for (const auto& [source, text] : wrong)
    expect_error(ErrorKind::kInput, {text}, [&, s = source] { render(s); });
}

TEST(ChatTemplate, OnlyDataCanBeReached) {
  EXPECT_EQ(render("{{ ''.__class__ is defined }}{{ messages.__init__ is defined }}{{ "
                   "range.__globals__ is defined }}"),
            "FalseFalseFalse");
  EXPECT_EQ(render("{{ messages|map(attribute='__class__')|select('defined')|list|length }}"), "0");
}

TEST(ChatTemplate, HostileTemplatesEndSoon) {
  const std::string hostile[] = {
      "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}x{% endfor "
      "%}{% endfor %}{% endfor %}",
      "{{ range(1000000000)|list }}",
      "{{ range(-9223372036854775807, 9223372036854775807) }}",
      "{{ 'x' * 1000000000000 }}",
      "{{ [1] * 1000000000000 }}",
      "{{ ('x' * 1000000) | replace('x', 'y' * 1000000) }}",
      "{{ '%999999999d' % 1 }}",
      "{{ 'x'|indent(1000000000) }}",
      "{{ 2 ** 1000000000000 }}",
      "{% set ns = namespace(s='x') %}{% for i in range(1000) %}{% set ns.s = ns.s + ns.s %}{% "
      "endfor %}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(1000) %}{% set ns.l = ns.l + ns.l %}{% "
      "endfor %}",
      "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = [ns.l] %}{% endfor "
      "%}{{ ns.l }}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(64) %}{% set ns.l = [ns.l, ns.l] %}{% "
      "endfor %}{{ ns.l == ns.l }}{{ ns.l }}",
      "{% set l = [] %}{{ l.append(l) }}{{ l }}",
      "{% set l = [] %}{{ l.append(l) }}{{ l|tojson }}",
      "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}",
      "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
      "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
      "{{ " + times(100000, "(") + times(100000, ")") + " }}",
      "{{ " + times(100000, "[") + " }}",
      "{{ " + times(100000, "not ") + "1 }}",
      "{{ " + times(100000, "-") + "1 }}",
      "{{ 1" + times(100000, "+1") + " }}",
      "{{ n" + times(100000, ".a") + " }}",
      "{{ n" + times(100000, "|list") + " }}",
      "{{ 1" + times(50000, " if 1 else 1") + " }}",
      times(20000, "{% if 1 %}"),
      times(20000, "{% for x in [1] %}") + times(20000, "{% endfor %}"),
      "{% for " + times(100000, "("),
      std::string((1 << 20) + 1, 'x'),
  };
  for (const std::string& source : hostile) {
    const auto start = std::chrono::steady_clock::now();
    expect_error(ErrorKind::kInput, {"t.jinja: "}, [&] { render(source); });
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20))
        << source.substr(0, 100);
  }
}

// Whatever the pieces, the answer is a text or an Error.
TEST(ChatTemplate, RandomTemplatesDoNotCrash) {
  const char* pieces[] = {
      "{%",       "%}",       "{{",      "}}",       "{%-",    "-%}",         "{#",
      "#}",       " if ",     " for ",   " in ",     " set ",  " x ",         " = ",
      "messages", "[0]",      ".role",   "|",        "tojson", "trim",        "sort",
      "'a'",      "1",        "-",       "+",        "~",      "(",           ")",
      "[",        "]",        "{",       "}",        ",",      ":",           " else ",
      " endif ",  " endfor ", " is ",    "defined",  " not ",  " and ",       "range(9)",
      "loop",     ".index",   "\n",      "\xff",     "\\",     " macro m() ", " endmacro ",
      "m()",      "*",        "**",      "//",       "%",      "[::-1]",      "1.5",
      " raw ",    " endraw ", " set x ", " endset ", "é",      ".items()",    "map(attribute=",
      "join("};
  std::mt19937 random(7);
  size_t rendered = 0;
  for (int i = 0; i < 30000; ++i) {
    // Half of the pieces are in a well-formed frame, so that more than the lexer is reached.
    std::string source = i % 2 ? "{{ " : "";
    for (unsigned n = random() % 12 + 1; n > 0; --n) source += pieces[random() % std::size(pieces)];
    if (i % 2) source += " }}";
    try {
      render(source);
      ++rendered;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kInput) << source;
    }
  }
  EXPECT_GT(rendered, 500u);
}

TEST(ChatTemplate, ListsOfTemplates) {
  const auto pick = [](const char* text) {
    return pick_chat_template(parse_json(text, "test"), "f.json: chat_template");
  };
  EXPECT_EQ(pick("null"), "");
  EXPECT_EQ(pick("\"a\""), "a");
  EXPECT_EQ(
      pick(R"([{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}])"),
      "d");
  EXPECT_EQ(pick(R"([{"name": "only", "template": "o"}])"), "o");
  expect_error(ErrorKind::kInput, {"f.json", "no template is called 'default'", "x, y"}, [&] {
    pick(R"([{"name": "x", "template": "t"}, {"name": "y", "template": "d"}])");
  });
  expect_error(ErrorKind::kInput, {"f.json", "neither a string nor a list"}, [&] { pick("3"); });
}

}  // namespace
}  // namespace pluq
