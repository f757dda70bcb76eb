"""Networks as `init` and `apply` on plain nested dicts of arrays."""
