"""What the room `tools` has, for the registry; nothing is imported before it is made."""

from __future__ import annotations

from rolloom.envs.spec import EnvSpec

SPECS: tuple[EnvSpec, ...] = (
    EnvSpec(
        "tools/lookup-v0",
        "rolloom.envs.tools.lookup:Lookup",
        "tools",
        "answer by chained JSON-schema function calls over several turns",
    ),
    EnvSpec(
        "tools/function_call-v0",
        "rolloom.envs.tools.function_call:FunctionCall",
        "tools",
        "choose functions and their arguments for a request, in one turn, scored by call equivalence",
    ),
    EnvSpec(
        "tools/multi_step-v0",
        "rolloom.envs.tools.multi_step:MultiStep",
        "tools",
        "dependent calls over a generated shop, with changes to make, pages and tools that fail",
    ),
    EnvSpec(
        "tools/calculator-v0",
        "rolloom.envs.tools.calculator:Calculator",
        "tools",
        "exact arithmetic on numbers too large for the head, with calculator functions",
    ),
    EnvSpec(
        "tools/search-v0",
        "rolloom.envs.tools.search:Search",
        "tools",
        "one to three hop questions over a generated corpus, with search and open",
    ),
    EnvSpec(
        "tools/mcp-v0",
        "rolloom.envs.tools.mcp_stockroom:McpStockroom",
        "tools",
        "look up and change a stockroom through the tools of a real MCP server",
        requires=("mcp:mcp",),
    ),
)
