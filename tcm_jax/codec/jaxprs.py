"""What of JAX's traces (jaxprs) those that run them otherwise must know."""

from typing import Any

# Primitives that run a function once, and the parameters that it may be.
_CALLS = {"pjit", "jit", "closed_call", "custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"}
_FUNCTIONS = ("jaxpr", "call_jaxpr", "fun_jaxpr")


def function_of(equation: Any) -> Any:
    """The closed jaxpr that an equation runs once; None for one that is an operation."""
    if equation.primitive.name not in _CALLS:
        return None
    return next(equation.params[key] for key in _FUNCTIONS if hasattr(equation.params.get(key), "jaxpr"))
