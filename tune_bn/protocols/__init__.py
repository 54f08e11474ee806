"""What can be replaced: trainer, runner, sampler, observer, and what passes between them."""
