"""The doctor: what a run depends on, a check a function, each finding with its remedy."""
