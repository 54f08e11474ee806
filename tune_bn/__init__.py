"""Find the initial batch-norm scale γ and the divisor c of its learning rate, and prove that they are better."""

__version__ = "0.1.0"
