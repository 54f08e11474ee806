"""Benchmarks of the pipeline: everything is real but the training, which is drawn around known truths."""
