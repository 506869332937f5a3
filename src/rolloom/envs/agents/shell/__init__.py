"""File-system tasks in a sandboxed workspace, scored by the tree that is left."""
