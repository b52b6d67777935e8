"""Terminal output: progress, and tables of a study, a forecast, an audit and the data."""
