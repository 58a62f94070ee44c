"""The crash sweep: one fault at each boundary of a launch, recovery, and the ten invariants."""
