"""One run date for every stage of a batch pipeline: dates, plans, records, log capture."""

__version__ = "0.1.0"
