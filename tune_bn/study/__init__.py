"""The stages of a study, its folder and its driver."""
