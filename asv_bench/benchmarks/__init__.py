"""Speed as a graph. The names of the benchmarks and their parameters are an API: do not rename."""
