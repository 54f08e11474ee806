"""Who follows a study: the console and MLflow."""
