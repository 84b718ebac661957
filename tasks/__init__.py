"""Where data and ground truth come from: one module per source of data, one per family of simulators."""
