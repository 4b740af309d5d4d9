"""The texts in Triton. Importing a module of this package imports Triton."""
