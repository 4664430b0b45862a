"""The program of the process that runs a `step.js`: QuickJS, and nothing that it could reach.

A process of its own, since JavaScript is a stranger's engine in C: whatever it does to its memory or
its time, the worker and its connections live on. It reads requests from standard input and answers on
standard output, each a 4-byte length and that many bytes; it ends when its input does.

    first request   {"code", "timeout" (seconds), "memory_limit" (bytes)}     answer: {} or an error
    any other       the event, then its integers too long for JavaScript ([[path, digits], …] or "")
    answer          "=" and the output as JSON, or "!" and {"kind", "message", "line", "stack"}

The code is compiled once, as the body of a function that is called anew for every event: its
variables are made each time, and all that comes with the language is frozen before it first runs. So
nothing of one event is there for the next. It runs as strict code.
"""

from __future__ import annotations

import json
import re
import signal
import sys
from typing import Any, BinaryIO

import quickjs  # type: ignore[import-untyped]  # it has no types

LONGEST_CODE = 100_000
"""Lines; in a stack, what is behind them is ours."""

_STACK = 2_000_000
"""Bytes that calls within calls may take; the process's own stack has 8 MB."""

_CHECKING = 5.0
"""Seconds: code that breaks out of its wrapping would run when it is looked at."""

_FRAME = re.compile(r"<input>:(\d+)")
_SHOWN = 10

_OURS = r"""
(function () {
  "use strict";
  const { parse, stringify } = JSON;
  const seen = new Set();
  const own = Reflect.ownKeys;
  const describe = Object.getOwnPropertyDescriptor;
  const define = Object.defineProperty;

  // A frozen prototype would refuse `error.name = "…"` and `it.toString = …` on what inherits from it.
  function allowOverriding(prototype) {
    for (const key of own(prototype)) {
      const found = describe(prototype, key);
      if (!("value" in found) || !found.configurable) continue;
      const value = found.value;
      define(prototype, key, {
        get() { return value; },
        set(changed) {
          if (this === prototype) throw new TypeError("what comes with the language can't be changed");
          define(this, key, { value: changed, writable: true, enumerable: true, configurable: true });
        },
        enumerable: found.enumerable,
        configurable: false,
      });
    }
  }

  function freeze(value) {
    if ((typeof value !== "object" && typeof value !== "function") || value === null) return;
    if (seen.has(value)) return;
    seen.add(value);
    freeze(Object.getPrototypeOf(value));
    for (const key of own(value)) {
      const found = describe(value, key);
      freeze(found.value); freeze(found.get); freeze(found.set);
    }
    Object.freeze(value);
  }

  // eval could declare globals, and the other two run code between two events.
  for (const name of ["eval", "WeakRef", "FinalizationRegistry"]) delete globalThis[name];
  const errors = [Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError];
  if (typeof AggregateError === "function") errors.push(AggregateError);
  for (const each of [Object, Function, ...errors]) allowOverriding(each.prototype);
  freeze(globalThis);
  for (const hidden of [
    function* () {}, async function () {}, async function* () {}, (function* () {})(),
    (async function* () {})(), [].values(), ""[Symbol.iterator](), new Map().entries(),
    new Set().values(), "".matchAll(/a/g), /a/, new Date(0), Object.getPrototypeOf(Int8Array),
    typeof Iterator === "function" ? Iterator.from({ next() {} }) : null,
    typeof Iterator === "function" ? [].values().map((x) => x) : null,
  ]) freeze(hidden);

  function write(value, key) {
    if (value !== null && typeof value === "object" && typeof value.toJSON === "function") {
      value = value.toJSON(key);
    }
    if (typeof value === "bigint") return String(value);
    if (value === null || typeof value !== "object") return stringify(value);
    if (Array.isArray(value)) {
      const items = [];
      for (let at = 0; at < value.length; at++) items.push(write(value[at], String(at)) ?? "null");
      return "[" + items.join(",") + "]";
    }
    if (value instanceof Number || value instanceof String || value instanceof Boolean) {
      return stringify(value);
    }
    const entries = [];
    for (const name of Object.keys(value)) {
      const text = write(value[name], name);
      if (text !== undefined) entries.push(stringify(name) + ":" + text);
    }
    return "{" + entries.join(",") + "}";
  }

  function text(value) {
    try {
      return stringify(value);
    } catch (error) {
      try { return write(value, ""); } catch { throw error; }
    }
  }

  function context(given) {
    const { attributes, data, change, scope, steps, meta } = given;
    const fields = typeof data === "object" && !Array.isArray(data) ? data : {};
    const event = { ...attributes, data };
    const trigger = { ...attributes, ...fields, data, ...change, event };
    return { ...trigger, ...scope, trigger, steps, meta };
  }

  return function run(make, given, integers) {
    const parsed = parse(given);
    if (integers) {
      for (const [path, digits] of parse(integers)) {
        let at = parsed;
        for (const key of path.slice(0, -1)) at = at[key];
        at[path[path.length - 1]] = BigInt(digits);
      }
    }
    let result;
    try {
      result = make()(context(parsed));
    } catch (error) {
      if (error === null || error instanceof Error) throw error;
      throw new Error("it threw " + (text(error) ?? typeof error));
    }
    if (result instanceof Promise) throw new TypeError("it returned a Promise; there is nothing to wait for here");
    return text(result) ?? "null";
  };
})()
"""


class Sandbox:
    """One engine with the code in it; made anew after whatever may have left something behind."""

    def __init__(self, code: str, timeout: float, memory_limit: int) -> None:
        self._code = code
        self._timeout = timeout
        self._memory_limit = memory_limit
        self._open()

    def _open(self) -> None:
        self._engine = quickjs.Context()
        self._engine.set_max_stack_size(_STACK)
        self._run = self._engine.eval("\n" * LONGEST_CODE + _OURS)
        # The limit is there from here on: before, running out of it could end the process.
        self._engine.set_memory_limit(self._memory_limit)
        self._engine.set_time_limit(self._timeout)
        self._make = self._engine.eval(wrapped(self._code))
        self._fresh = True

    def call(self, given: str, integers: str) -> bytes:
        """Return the answer to one event."""
        try:
            output: str = self._run(self._make, given, integers)
            answer = b"=" + output.encode()
            clean = not self._engine.execute_pending_job()
        except (quickjs.JSException, MemoryError, UnicodeError) as error:
            told = explained(error)
            clean = told["kind"] == "error" and not self._left_behind()
            answer = b"!" + json.dumps(told).encode()
        if not clean:
            self._open()
        return answer

    def _left_behind(self) -> bool:
        """Whether a promise waits to go on: it must not run with the next event's."""
        try:
            return bool(self._engine.execute_pending_job())
        except quickjs.JSException:
            return True


def wrapped(code: str) -> str:
    """Return the code as the body of a function; its first line stays the first."""
    return f'(function () {{"use strict"; {code}\nreturn transform; }})'


def check_syntax(code: str) -> str | None:
    """Return what is wrong with the code and in which line, without running it; None if nothing."""
    engine = quickjs.Context()
    engine.set_time_limit(_CHECKING)
    try:
        engine.eval(wrapped(code))
    except quickjs.JSException as error:
        told = explained(error)
        return f"{told['message']} (line {told['line']})" if told["line"] else str(told["message"])
    return None


def explained(error: BaseException) -> dict[str, Any]:
    """Return what an exception says: kind (error, timeout, memory), message, line, stack."""
    said, _, below = str(error).partition("\n    at ")
    frames = [f"at {frame.strip()}" for frame in below.split("\n    at ") if frame.strip()]
    mine = [frame for frame in frames if _is_mine(frame)]
    lines = [int(m[1]) for frame in mine if (m := _FRAME.search(frame))]
    kind = "error"
    if said.startswith("InternalError: interrupted"):
        kind = "timeout"
    elif said.strip() == "null" or "out of memory" in said or isinstance(error, MemoryError):
        kind = "memory"
    elif isinstance(error, quickjs.StackOverflow):
        kind = "stack"
    return {
        "kind": kind,
        "message": said.strip() or type(error).__name__,
        "line": lines[0] if lines else None,
        "stack": mine[:_SHOWN],
    }


def _is_mine(frame: str) -> bool:
    found = _FRAME.search(frame)
    return found is not None and int(found[1]) <= LONGEST_CODE


def read(stream: BinaryIO) -> bytes | None:
    """Return the next request; None at the end."""
    head = stream.read(4)
    if len(head) < 4:
        return None
    length = int.from_bytes(head, "big")
    body = stream.read(length)
    return body if len(body) == length else None


def write(stream: BinaryIO, body: bytes) -> None:
    """Write one answer."""
    stream.write(len(body).to_bytes(4, "big") + body)
    stream.flush()


def main() -> None:
    """Answer until the input ends."""
    # A Ctrl-C or a stop of the whole group is for the worker: it still drains, and then ends us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    first = read(source)
    if first is None:
        return
    try:
        sandbox = Sandbox(**json.loads(first))
    except (quickjs.JSException, MemoryError) as error:
        write(sink, b"!" + json.dumps(explained(error)).encode())
        return
    write(sink, b"=")
    while (given := read(source)) is not None:
        integers = read(source)
        if integers is None:
            return
        write(sink, sandbox.call(given.decode(), integers.decode()))


if __name__ == "__main__":
    main()
