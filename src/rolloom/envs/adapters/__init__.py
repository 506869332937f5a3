"""Environments of other projects: Gymnasium, reasoning-gym, verifiers, NeMo Gym, OpenEnv, MCP."""
