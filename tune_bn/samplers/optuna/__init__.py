"""The sampler on Optuna."""
