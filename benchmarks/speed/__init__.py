"""Speed beside the usual tools, measured in the same run: ratios, not times."""
