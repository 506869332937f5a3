"""What the room `math` has, for the registry; nothing is imported before it is made."""

from __future__ import annotations

from rolloom.envs.spec import EnvSpec

SPECS: tuple[EnvSpec, ...] = (
    EnvSpec(
        "math/affine_chain-v0",
        "rolloom.envs.math.affine_chain:AffineChain",
        "math",
        "follow a chain of affine maps modulo m with a scratchpad",
    ),
    EnvSpec(
        "math/arithmetic-v0",
        "rolloom.envs.math.arithmetic:Arithmetic",
        "math",
        "evaluate an expression: precedence, brackets, negatives, fractions",
    ),
    EnvSpec(
        "math/linear_equations-v0",
        "rolloom.envs.math.linear_equations:LinearEquations",
        "math",
        "solve one linear equation, or systems of up to four with rational solutions",
    ),
    EnvSpec(
        "math/number_theory-v0",
        "rolloom.envs.math.number_theory:NumberTheory",
        "math",
        "divisors, remainders, bases, congruences, Diophantine equations",
    ),
)
