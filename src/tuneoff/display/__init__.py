"""What a terminal shows: progress, and tables of a study, a forecast, an audit and the data."""
