"""What trains the runs of a study."""
