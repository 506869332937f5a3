"""The configuration of a run: schema, reading, checking. No torch, no ray."""
