"""The virtual machines that stand in for a VPS where a container is none: swap, reboots, limits."""
