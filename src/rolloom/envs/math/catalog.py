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
    EnvSpec(
        "math/word_problems-v0",
        "rolloom.envs.math.word_problems:WordProblems",
        "math",
        "word problems from templates: money, motion, mixtures, ages, shapes, counting",
    ),
    EnvSpec(
        "math/polynomials-v0",
        "rolloom.envs.math.polynomials:Polynomials",
        "math",
        "expand, factor, differentiate, integrate; symbolic answers in any equal form",
    ),
    EnvSpec(
        "math/sets-v0",
        "rolloom.envs.math.sets:Sets",
        "math",
        "finite sets, intervals and inequalities; the answer is a set",
    ),
    EnvSpec(
        "math/problems-v0",
        "rolloom.envs.math.problems:Problems",
        "math",
        "problems of a data set, answers verified by math-verify; 1,000 of its own",
    ),
)
