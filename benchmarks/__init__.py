"""From a suite to cells, from cells to records, from records to a report."""
