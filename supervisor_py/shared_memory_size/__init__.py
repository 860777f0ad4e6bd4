"""The command shared_memory_size: what processes and pools cost, and how much is shared."""
