"""Load: many studies, many runs, many users."""
