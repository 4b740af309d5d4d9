"""What the benchmarks of GPUs are measured beside, and their table."""
