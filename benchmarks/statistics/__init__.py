"""Statistics and searches, around known truths."""
