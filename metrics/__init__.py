"""Plain functions of tensors, one value per seed; they know nothing of generators or algorithms."""
