"""MLflow as an observer, and as a source of scores."""
