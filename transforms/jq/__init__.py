"""jq, compiled to Python."""

from transforms.jq.compiler import Compiled, compile_program

__all__ = ["Compiled", "compile_program"]
