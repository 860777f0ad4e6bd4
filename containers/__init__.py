"""The containers that stand in for a VPS: in the demo, and in the molecule scenarios."""
