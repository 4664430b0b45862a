"""Builtins that are written in jq: what takes programs and is not worth code of its own.

They are compiled when a program uses them. `_PATHS` are those that lead to places of their input and
so may stand in a path expression, whatever else makes their values fast elsewhere.
"""

from __future__ import annotations

import re
from functools import cache

from transforms.jq.parser import parse_function
from transforms.jq.scope import Definition, Scope, define

_PATHS = """
def first: .[0];
def last: .[-1];
def nth($n): .[$n];
def nth($n; f):
  if $n < 0 then error("nth doesn't support negative indices") else first(skip($n; f)) end;
def recurse: def r: ., (.[]? | r); r;
def recurse(f): def r: ., (f | r); r;
def recurse(f; cond): def r: ., (f | select(cond) | r); r;
def values: select(. != null);
def nulls: select(. == null);
def booleans: select(type == "boolean");
def numbers: select(type == "number");
def strings: select(type == "string");
def arrays: select(type == "array");
def objects: select(type == "object");
def iterables: select(type | . == "array" or . == "object");
def scalars: select(type | . != "array" and . != "object");
def finites: select(isfinite);
def normals: select(isnormal);
def while(cond; update): def w: if cond then ., (update | w) else empty end; w;
def until(cond; update): def u: if cond then . else (update | u) end; u;
def repeat(f): def r: f, r; r;
def skip($n; f):
  if $n > 0 then foreach f as $item ($n; . - 1; if . < 0 then $item else empty end)
  elif $n == 0 then f
  else error("skip doesn't support negative count") end;
def limit($n; f):
  if $n > 0 then
    label $out | foreach f as $item ($n; . - 1; $item, if . <= 0 then break $out else empty end)
  elif $n == 0 then empty
  else error("limit doesn't support negative count") end;
def first(f): label $out | f | ., break $out;
"""

_VALUES = """
def any(generator; condition): isempty(first(generator | condition or empty)) | not;
def all(generator; condition): isempty(first(generator | condition and empty));
def in(xs): . as $x | xs | has($x);
def inside(xs): . as $x | xs | contains($x);
def combinations:
  if length == 0 then [] else .[0][] as $x | (.[1:] | combinations) as $w | [$x] + $w end;
def combinations(n): . as $dot | [range(n) | $dot] | combinations;
def with_entries(f): to_entries | map(f) | from_entries;
def walk(f): def w: if type == "object" then map_values(w) elif type == "array" then map(w) else . end | f; w;
def pick(pathexps): . as $in | reduce path(pathexps) as $p (null; setpath($p; $in | getpath($p)));
def paths(f): path(recurse | select(f)) | select(length > 0);
def truncate_stream(stream):
  . as $n | null | stream | . as $in | if (.[0] | length) > $n then setpath([0]; $in[0][$n:]) else empty end;
def fromstream(f): { x: null, e: false } as $init
  | foreach f as $i ($init;
      if .e then $init else . end
      | if $i | length == 2
        then setpath(["e"]; $i[0] | length == 0) | setpath(["x"] + $i[0]; $i[1])
        else setpath(["e"]; $i[0] | length == 1) end;
      if .e then .x else empty end);
def INDEX(stream; idx): reduce stream as $row ({}; .[$row | idx | tostring] = $row);
def INDEX(idx): INDEX(.[]; idx);
def JOIN($idx; idx_expr): [.[] | [., $idx[idx_expr]]];
def JOIN($idx; stream; idx_expr): stream | [., $idx[idx_expr]];
def JOIN($idx; stream; idx_expr; join_expr): stream | [., $idx[idx_expr]] | join_expr;
def IN(s): any(s == .; .);
def IN(src; s): any(src == s; .);
def sub($re; str): sub($re; str; "");
def sub($re; str; $flags): . as $in
  | (reduce (match($re; $flags) | . as $edit | ($edit.captures | map(select(.name != null) | { key: .name, value: .string }) | from_entries) as $names | [$edit, $names]) as [$edit, $names]
      ({result: [], previous: 0};
       $in[.previous: $edit.offset] as $gap
       | [$names | str] as $inserts
       | reduce range(0; $inserts | length) as $i (.; .result[$i] += $gap + $inserts[$i])
       | .previous = $edit.offset + $edit.length)
     | .result[] + $in[.previous:])
    // $in;
def gsub($re; str): sub($re; str; "g");
def gsub($re; str; $flags): sub($re; str; $flags + "g");
def add(f): reduce f as $x (null; . + $x);
"""


_HEAD = re.compile(r"^def (\w+)(?:\(([^)]*)\))?:", re.MULTILINE)


def _texts(text: str) -> dict[tuple[str, int], str]:
    """Return name and arity → definition. A program needs few of them: each is parsed when used."""
    heads = list(_HEAD.finditer(text))
    ends = [*(head.start() for head in heads[1:]), len(text)]
    return {
        (head[1], len(head[2].split(";")) if head[2] else 0): text[head.start() : end]
        for head, end in zip(heads, ends, strict=True)
    }


_OF_PATHS = _texts(_PATHS)
_OF_ALL = {**_OF_PATHS, **_texts(_VALUES)}


@cache
def prelude(name: str, arity: int) -> Definition | None:
    """Return a builtin that is written in jq."""
    text = _OF_ALL.get((name, arity))
    if text is None:
        return None
    (function,) = parse_function(text)
    return define(Scope(), function)[1]


def path_prelude(name: str, arity: int) -> Definition | None:
    """Return a builtin that may stand in a path expression."""
    return prelude(name, arity) if (name, arity) in _OF_PATHS else None


def prelude_names() -> frozenset[tuple[str, int]]:
    """Return name and arity of all of them."""
    return frozenset(_OF_ALL)
