"""The client's side of served environments."""
