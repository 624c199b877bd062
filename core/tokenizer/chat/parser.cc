// SPDX-License-Identifier: Apache-2.0
#include "tokenizer/chat/parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <initializer_list>
#include <utility>

#include "base/error.h"

namespace pluq::chat {
namespace {

constexpr int kMaxHeight = 200;

bool one_of(std::string_view s, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), s) != names.end();
}

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  NodePtr run() {
    NodePtr body = statements({});
    if (here().kind != TokenKind::kEnd) fail("unexpected end of a block");
    return body;
  }

 private:
  // --- tokens
  const Token& here(size_t ahead = 0) const {
    return tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
  }
  bool is(std::string_view op) const {
    return here().kind == TokenKind::kOperator && here().text == op;
  }
  bool is_name(std::string_view name) const {
    return here().kind == TokenKind::kName && here().text == name;
  }
  bool accept(std::string_view op) { return is(op) && ++at_; }
  bool accept_name(std::string_view name) { return is_name(name) && ++at_; }
  [[noreturn]] void fail(std::string text) const {
    throw SyntaxError{here().line, std::move(text)};
  }
  std::string found() const {
    switch (here().kind) {
      case TokenKind::kBlockEnd:
        return "'%}'";
      case TokenKind::kPrintEnd:
        return "'}}'";
      case TokenKind::kEnd:
        return "the end of the template";
      case TokenKind::kString:
        return fmt::format("the string '{}'", printable(here().text, 40));
      default:
        return fmt::format("'{}'", printable(here().text, 40));
    }
  }
  void expect(std::string_view op) {
    if (!accept(op)) fail(fmt::format("expected '{}', found {}", op, found()));
  }
  void expect_name(std::string_view name) {
    if (!accept_name(name)) fail(fmt::format("expected '{}', found {}", name, found()));
  }
  std::string name() {
    if (here().kind != TokenKind::kName) fail(fmt::format("expected a name, found {}", found()));
    return tokens_[at_++].text;
  }
  void block_end() {
    if (here().kind != TokenKind::kBlockEnd) fail(fmt::format("expected '%}}', found {}", found()));
    ++at_;
  }

  // --- nodes
  NodePtr make(Op op) const {
    auto n = std::make_unique<Node>();
    n->op = op;
    n->line = here().line;
    return n;
  }
  void adopt(Node* parent, NodePtr kid) const {
    if (kid != nullptr) {
      parent->height = std::max(parent->height, kid->height + 1);
      if (parent->height > kMaxHeight)
        throw SyntaxError{parent->line,
                          fmt::format("the template is nested deeper than {} levels", kMaxHeight)};
    }
    parent->kids.push_back(std::move(kid));
  }
  template <class... Kids>
  NodePtr make_with(Op op, std::string text, Kids... kids) const {
    NodePtr n = make(op);
    n->text = std::move(text);
    (adopt(n.get(), std::move(kids)), ...);
    return n;
  }
  // Counts the recursion of the parser itself.
  struct Deeper {
    Parser* p;
    explicit Deeper(Parser* parser) : p(parser) {
      if (++p->depth_ > kMaxHeight)
        p->fail(fmt::format("the template is nested deeper than {} levels", kMaxHeight));
    }
    ~Deeper() { --p->depth_; }
    Deeper(const Deeper&) = delete;
    Deeper& operator=(const Deeper&) = delete;
  };

  // --- statements
  // Up to a block that begins with one of `ends`, which is left unread but for its opening.
  NodePtr statements(std::initializer_list<std::string_view> ends) {
    const Deeper deeper(this);
    NodePtr body = make(Op::kBody);
    for (;;) {
      const Token& t = here();
      if (t.kind == TokenKind::kEnd) {
        if (ends.size() > 0)
          fail(fmt::format("the template ends before '{}'", fmt::join(ends, "' or '")));
        return body;
      }
      if (t.kind == TokenKind::kText) {
        adopt(body.get(), make_with(Op::kText, t.text));
        ++at_;
      } else if (t.kind == TokenKind::kPrintBegin) {
        ++at_;
        adopt(body.get(), make_with(Op::kPrint, "", tuple_or_expression(true)));
        if (here().kind != TokenKind::kPrintEnd)
          fail(fmt::format("expected '}}}}', found {}", found()));
        ++at_;
      } else {
        ++at_;  // {%
        if (here().kind == TokenKind::kName &&
            std::find(ends.begin(), ends.end(), here().text) != ends.end())
          return body;
        adopt(body.get(), statement());
      }
    }
  }

  NodePtr statement() {
    const std::string what = name();
    if (what == "if") return if_statement();
    if (what == "for") return for_statement();
    if (what == "set") return set_statement();
    if (what == "macro") return macro_statement();
    if (what == "call") return call_statement();
    if (what == "filter") return filter_statement();
    if (what == "with") return with_statement();
    if (what == "generation") {
      block_end();
      NodePtr n = make_with(Op::kScope, "", statements({"endgeneration"}));
      return close("endgeneration", std::move(n));
    }
    if (what == "break" || what == "continue") {
      if (loops_ == 0) fail(fmt::format("'{}' outside of a for statement", what));
      block_end();
      return make(what == "break" ? Op::kBreak : Op::kContinue);
    }
    --at_;
    fail(
        fmt::format("'{}' is not a statement of chat templates here; there are if, for, set, "
                    "macro, call, filter, with, raw, "
                    "generation, break, continue",
                    printable(what, 40)));
  }

  NodePtr close(std::string_view end, NodePtr n) {
    expect_name(end);
    block_end();
    return n;
  }

  NodePtr if_statement() {
    NodePtr n = make(Op::kIf);
    for (;;) {
      adopt(n.get(), tuple_or_expression(true));
      block_end();
      adopt(n.get(), statements({"elif", "else", "endif"}));
      if (accept_name("elif")) continue;
      if (accept_name("else")) {
        block_end();
        adopt(n.get(), statements({"endif"}));
      }
      return close("endif", std::move(n));
    }
  }

  NodePtr for_statement() {
    NodePtr n = make(Op::kFor);
    adopt(n.get(), target(false));
    expect_name("in");
    adopt(n.get(), tuple_or_expression(false));
    adopt(n.get(), accept_name("if") ? expression(true) : nullptr);
    n->flag = accept_name("recursive");
    block_end();
    ++loops_;
    adopt(n.get(), statements({"else", "endfor"}));
    --loops_;
    NodePtr otherwise;
    if (accept_name("else")) {
      block_end();
      otherwise = statements({"endfor"});
    }
    adopt(n.get(), std::move(otherwise));
    return close("endfor", std::move(n));
  }

  // Names to assign to: one, several, or (for set) an attribute of a namespace.
  NodePtr target(bool attribute) {
    NodePtr first = one_target(attribute);
    if (!is(",")) return first;
    NodePtr n = make_with(Op::kTuple, "", std::move(first));
    while (accept(",")) {
      if (here().kind != TokenKind::kName && !is("(")) break;
      if (is_name("in")) break;
      adopt(n.get(), one_target(attribute));
    }
    return n;
  }
  NodePtr one_target(bool attribute) {
    const Deeper deeper(this);
    if (accept("(")) {
      NodePtr n = target(attribute);
      expect(")");
      return n;
    }
    const std::string text = name();
    if (one_of(text,
               {"true", "false", "none", "True", "False", "None", "not", "in", "if", "loop"}) &&
        !(text == "loop" && attribute)) {
      fail(fmt::format("'{}' cannot be assigned to", text));
    }
    NodePtr n = make_with(Op::kName, text);
    if (attribute && accept(".")) n = make_with(Op::kAttr, name(), std::move(n));
    return n;
  }

  NodePtr set_statement() {
    NodePtr to = target(true);
    if (accept("=")) {
      NodePtr n = make_with(Op::kSet, "", std::move(to), tuple_or_expression(true));
      block_end();
      return n;
    }
    NodePtr filters = is("|") ? filter_chain(make(Op::kInput)) : nullptr;
    block_end();
    NodePtr body = statements({"endset"});
    return close("endset",
                 make_with(Op::kSetBlock, "", std::move(to), std::move(body), std::move(filters)));
  }

  // "(a, b=1)" after a macro's name: names into n, defaults into `defaults`.
  void parameters(Node* n, std::vector<NodePtr>* defaults) {
    expect("(");
    while (!accept(")")) {
      if (!n->names.empty()) expect(",");
      if (accept(")")) break;
      n->names.push_back(name());
      if (accept("=")) {
        defaults->push_back(expression(true));
      } else {
        if (!defaults->empty() && defaults->back() != nullptr)
          fail("a parameter without a default follows one with a default");
        defaults->push_back(nullptr);
      }
    }
  }

  NodePtr macro_statement() {
    NodePtr n = make(Op::kMacro);
    n->text = name();
    return macro_body("endmacro", std::move(n),
                      [this](Node* m, std::vector<NodePtr>* d) { parameters(m, d); });
  }

  template <class Head>
  NodePtr macro_body(std::string_view end, NodePtr n, Head head) {
    std::vector<NodePtr> defaults;
    head(n.get(), &defaults);
    block_end();
    const int loops = std::exchange(loops_, 0);
    adopt(n.get(), statements({end}));
    loops_ = loops;
    for (NodePtr& d : defaults) adopt(n.get(), std::move(d));
    return close(end, std::move(n));
  }

  NodePtr call_statement() {
    NodePtr n = make(Op::kCallBlock), call;
    n->text = "caller";
    n = macro_body("endcall", std::move(n), [&](Node* m, std::vector<NodePtr>* d) {
      if (is("(")) parameters(m, d);
      call = unary(true);
      if (call->op != Op::kCall) fail("a call statement needs a call of a macro");
    });
    adopt(n.get(), std::move(call));
    return n;
  }

  NodePtr filter_statement() {
    NodePtr first = make(Op::kFilter);
    first->text = filter_name();
    adopt(first.get(), make(Op::kInput));
    if (accept("(")) arguments(first.get());
    NodePtr filters = filter_chain(std::move(first));
    block_end();
    NodePtr body = statements({"endfilter"});
    return close("endfilter", make_with(Op::kFilterBlock, "", std::move(filters), std::move(body)));
  }

  NodePtr with_statement() {
    NodePtr n = make(Op::kWith);
    std::vector<NodePtr> pairs;
    while (here().kind != TokenKind::kBlockEnd) {
      if (!pairs.empty()) expect(",");
      pairs.push_back(one_target(false));
      expect("=");
      pairs.push_back(expression(true));
    }
    block_end();
    adopt(n.get(), statements({"endwith"}));
    for (NodePtr& p : pairs) adopt(n.get(), std::move(p));
    return close("endwith", std::move(n));
  }

  // --- expressions, from the loosest to the tightest binding
  NodePtr tuple_or_expression(bool conditional) {
    NodePtr first = expression(conditional);
    if (!is(",")) return first;
    NodePtr n = make_with(Op::kTuple, "", std::move(first));
    while (accept(",")) {
      const TokenKind kind = here().kind;
      if (kind == TokenKind::kBlockEnd || kind == TokenKind::kPrintEnd || is(")") || is_name("if"))
        break;
      adopt(n.get(), expression(conditional));
    }
    return n;
  }

  NodePtr expression(bool conditional) {
    const Deeper deeper(this);
    NodePtr n = either();
    while (conditional && accept_name("if")) {
      NodePtr condition = either();
      n = make_with(Op::kChoose, "", std::move(n), std::move(condition),
                    accept_name("else") ? expression(true) : nullptr);
    }
    return n;
  }
  NodePtr either() {
    NodePtr n = both();
    while (accept_name("or")) n = make_with(Op::kOr, "", std::move(n), both());
    return n;
  }
  NodePtr both() {
    NodePtr n = negated();
    while (accept_name("and")) n = make_with(Op::kAnd, "", std::move(n), negated());
    return n;
  }
  NodePtr negated() {
    const Deeper deeper(this);
    if (accept_name("not")) return make_with(Op::kNot, "", negated());
    return comparison();
  }

  NodePtr comparison() {
    NodePtr n = sum();
    NodePtr chain;
    for (;;) {
      std::string op;
      if (here().kind == TokenKind::kOperator &&
          one_of(here().text, {"==", "!=", "<", "<=", ">", ">="})) {
        op = here().text;
        ++at_;
      } else if (accept_name("in")) {
        op = "in";
      } else if (is_name("not") && here(1).kind == TokenKind::kName && here(1).text == "in") {
        op = "notin";
        at_ += 2;
      } else {
        return chain != nullptr ? std::move(chain) : std::move(n);
      }
      if (chain == nullptr) chain = make_with(Op::kCompare, "", std::move(n));
      chain->names.push_back(op);
      adopt(chain.get(), sum());
    }
  }

  template <class Next>
  NodePtr left_to_right(std::initializer_list<std::string_view> ops, Next next) {
    NodePtr n = next();
    while (here().kind == TokenKind::kOperator && one_of(here().text, ops)) {
      const std::string op = tokens_[at_++].text;
      n = make_with(Op::kBinary, op, std::move(n), next());
    }
    return n;
  }
  NodePtr sum() {
    return left_to_right({"+", "-"}, [this] { return concatenation(); });
  }
  NodePtr concatenation() {
    return left_to_right({"~"}, [this] { return product(); });
  }
  NodePtr product() {
    return left_to_right({"*", "/", "//", "%"}, [this] { return power(); });
  }
  NodePtr power() {
    return left_to_right({"**"}, [this] { return unary(true); });
  }

  NodePtr unary(bool with_filters) {
    const Deeper deeper(this);
    NodePtr n;
    if (accept("-"))
      n = make_with(Op::kNegate, "", unary(false));
    else if (accept("+"))
      n = make_with(Op::kPlus, "", unary(false));
    else
      n = primary();
    n = postfix(std::move(n));
    return with_filters ? filters_and_tests(std::move(n)) : std::move(n);
  }

  NodePtr primary() {
    const Token& t = here();
    switch (t.kind) {
      case TokenKind::kName: {
        ++at_;
        if (one_of(t.text, {"true", "True", "false", "False"})) {
          NodePtr n = make(Op::kConst);
          n->value = boolean(t.text == "true" || t.text == "True");
          return n;
        }
        if (one_of(t.text, {"none", "None"})) return make(Op::kConst);
        return make_with(Op::kName, t.text);
      }
      case TokenKind::kString: {
        NodePtr n = make_with(Op::kString, "");
        while (here().kind == TokenKind::kString) n->text += tokens_[at_++].text;
        return n;
      }
      case TokenKind::kInteger:
      case TokenKind::kFloat:
        return number();
      default:
        break;
    }
    if (accept("(")) {
      if (accept(")")) return make(Op::kTuple);
      NodePtr n = tuple_or_expression(true);
      expect(")");
      return n;
    }
    if (accept("[")) {
      NodePtr n = make(Op::kList);
      while (!accept("]")) {
        if (!n->kids.empty()) expect(",");
        if (accept("]")) break;
        adopt(n.get(), expression(true));
      }
      return n;
    }
    if (accept("{")) {
      NodePtr n = make(Op::kDict);
      while (!accept("}")) {
        if (!n->kids.empty()) expect(",");
        if (accept("}")) break;
        adopt(n.get(), expression(true));
        expect(":");
        adopt(n.get(), expression(true));
      }
      return n;
    }
    fail(fmt::format("expected an expression, found {}", found()));
  }

  NodePtr number() {
    NodePtr n = make(Op::kConst);
    const std::string& text = here().text;
    const char* end = text.data() + text.size();
    if (here().kind == TokenKind::kInteger) {
      int64_t i = 0;
      if (std::from_chars(text.data(), end, i).ec != std::errc())
        fail(fmt::format("{} is too large for an integer", printable(text, 40)));
      n->value = integer(i);
    } else {
      double f = 0;
      if (std::from_chars(text.data(), end, f).ec != std::errc())
        fail(fmt::format("{} is out of range", printable(text, 40)));
      n->value = real(f);
    }
    ++at_;
    return n;
  }

  NodePtr postfix(NodePtr n) {
    for (;;) {
      if (accept(".")) {
        if (here().kind == TokenKind::kInteger) {
          NodePtr index = number();
          n = make_with(Op::kItem, "", std::move(n), std::move(index));
        } else {
          std::string attribute = name();
          n = make_with(Op::kAttr, std::move(attribute), std::move(n));
        }
      } else if (accept("[")) {
        n = subscript(std::move(n));
      } else if (accept("(")) {
        n = call(std::move(n));
      } else {
        return n;
      }
    }
  }

  NodePtr subscript(NodePtr object) {
    NodePtr parts[3];
    int colons = 0;
    while (!is("]")) {
      if (accept(":")) {
        if (++colons > 2) fail("a slice has at most two colons");
      } else {
        if (parts[colons] != nullptr) fail(fmt::format("expected ']', found {}", found()));
        parts[colons] = expression(true);
      }
    }
    expect("]");
    if (colons > 0)
      return make_with(Op::kSlice, "", std::move(object), std::move(parts[0]), std::move(parts[1]),
                       std::move(parts[2]));
    if (parts[0] == nullptr) fail("a subscript needs an index");
    return make_with(Op::kItem, "", std::move(object), std::move(parts[0]));
  }

  // After "(": arguments into kids and names of n, which begin with its input or callee.
  void arguments(Node* n) {
    bool keywords = false;
    while (!accept(")")) {
      if (!n->names.empty()) expect(",");
      if (accept(")")) break;
      if (is("*") || is("**")) fail("unpacking arguments with * is not supported");
      std::string keyword;
      if (here().kind == TokenKind::kName && here(1).kind == TokenKind::kOperator &&
          here(1).text == "=") {
        keyword = here().text;
        at_ += 2;
        keywords = true;
      } else if (keywords) {
        fail("a positional argument follows a keyword argument");
      }
      n->names.push_back(std::move(keyword));
      adopt(n, expression(true));
    }
  }

  NodePtr call(NodePtr callee) {  // after "("
    NodePtr n = make_with(Op::kCall, "", std::move(callee));
    arguments(n.get());
    return n;
  }

  std::string filter_name() {
    std::string filter = name();
    if (!is_filter(filter)) fail(fmt::format("there is no filter '{}'", printable(filter, 40)));
    return filter;
  }

  NodePtr filter_chain(NodePtr n) {
    while (accept("|")) {
      NodePtr filter = make(Op::kFilter);
      filter->text = filter_name();
      adopt(filter.get(), std::move(n));
      if (accept("(")) arguments(filter.get());
      n = std::move(filter);
    }
    return n;
  }

  NodePtr filters_and_tests(NodePtr n) {
    for (;;) {
      if (is("|")) {
        n = filter_chain(std::move(n));
      } else if (accept_name("is")) {
        n = test(std::move(n));
      } else if (accept("(")) {
        n = call(std::move(n));
      } else {
        return n;
      }
    }
  }

  NodePtr test(NodePtr input) {
    const bool negate = accept_name("not");
    NodePtr n = make(Op::kTest);
    n->text = name();
    if (!is_test(n->text)) {
      --at_;
      fail(fmt::format("there is no test '{}'", printable(n->text, 40)));
    }
    adopt(n.get(), std::move(input));
    const Token& t = here();
    if (accept("(")) {
      arguments(n.get());
    } else if ((t.kind == TokenKind::kName &&
                !one_of(t.text, {"else", "or", "and", "is", "if", "in", "not", "recursive"})) ||
               t.kind == TokenKind::kString || t.kind == TokenKind::kInteger ||
               t.kind == TokenKind::kFloat || is("[") || is("{")) {
      n->names.emplace_back();
      adopt(n.get(), postfix(primary()));
    }
    return negate ? make_with(Op::kNot, "", std::move(n)) : std::move(n);
  }

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
  int loops_ = 0;  // for statements around this place
};

}  // namespace

NodePtr parse_template(std::string_view source) { return Parser(tokenize_template(source)).run(); }

}  // namespace pluq::chat
